// Convolutions with few outputs whose taps are computed apart: at each position of the input its products with the weights
// of every tap; then each output adds up those that its taps fall on. The input is read once instead of once for each tap,
// and needs no border, as taps beyond its ends add nothing. For the spatial gates' heads.
#include <algorithm>

#include "convolution.h"
#include "shared.h"

namespace convgate {
namespace {

class TapsApart final : public Convolution {
public:
    TapsApart(const ConvolutionSpec& spec, Needs& needs)
        : Convolution(spec), ins_(spec.in_channels()), outs_(spec.out_channels()), area_(spec.operation->kernel.y * spec.operation->kernel.x) {
        const Operation& op = *spec_.operation;
        Buffer ordered(op.weight.size());
        float* to = ordered.data();
        for (int t = 0; t < area_; t++)
            for (int o = 0; o < outs_; o++)
                for (int i = 0; i < ins_; i++) *to++ = op.weight.data[(static_cast<std::size_t>(o) * ins_ + i) * area_ + t];
        weights_ = SharedBuffer(std::move(ordered));
        for (int row = 0; row < products(); row++) rows_of_weights_.push_back(weights_.data() + static_cast<std::size_t>(row) * ins_);
        nothing_ = Buffer(products());
        bias_ = Buffer(outs_);
        if (op.bias.data) std::copy_n(op.bias.data, outs_, bias_.data());
        Needs mine = needs_for_positions();
        mine.sample_packed = static_cast<std::size_t>(spec_.in->value.positions()) * products();
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        const int positions = spec_.in->value.positions();
        const long long macs = static_cast<long long>(positions) * products() * ins_;
        const int items = static_cast<int>(std::clamp<long long>(macs / costs::dot_macs, 1, std::min(team.threads(), positions)));
        team.run(items, [&](int item, int thread) {
            const int end = even_part(positions, item + 1, items);
            for (int first = even_part(positions, item, items); first < end; first += chunk)
                multiply(run, s, s.scratch[thread], first, std::min(chunk, end - first));
        });
        add_up(run, s.packed.data());
        // As the definition has it, padding included.
        count(s, static_cast<long long>(spec_.out->value.positions()) * area_ * ins_ * outs_);
    }

private:
    int products() const { return area_ * outs_; }

    void multiply(const Run& run, Sample& s, Scratch& scratch, int first, int count) const {
        const std::ptrdiff_t here = 0;
        const int width = spec_.in->value.width;
        for (int i = 0; i < count; i++) {
            scratch.rows[i] = run.in.at((first + i) / width, (first + i) % width);
            scratch.outputs[i] = s.packed.data() + static_cast<std::size_t>(first + i) * products();
        }
        Dot args{};
        args.rows = scratch.rows.data();
        args.taps = &here;
        args.tap_count = 1;
        args.length = ins_;
        args.weights = rows_of_weights_.data();
        args.bias = nothing_.data();
        args.width = products();
        args.outputs = scratch.outputs.data();
        spec_.kernels->dot(args, count);
    }

    void add_up(const Run& run, const float* products_at) const {
        const Operation& op = *spec_.operation;
        const Value &in = spec_.in->value, &out = spec_.out->value;
        for (int y = 0; y < out.height; y++)
            for (int x = 0; x < out.width; x++) {
                float* const to = run.out.at(y, x);
                std::copy_n(bias_.data(), outs_, to);
                for (int t = 0; t < area_; t++) {
                    const int from_y = y - op.top + t / op.kernel.x * op.dilation.y, from_x = x - op.left + t % op.kernel.x * op.dilation.x;
                    if (from_y < 0 || from_y >= in.height || from_x < 0 || from_x >= in.width) continue;
                    const float* from = products_at + (static_cast<std::size_t>(from_y) * in.width + from_x) * products() + t * outs_;
                    for (int o = 0; o < outs_; o++) to[o] += from[o];
                }
                activate(to, outs_);
            }
    }

    const int ins_, outs_, area_;
    SharedBuffer weights_;
    std::vector<const float*> rows_of_weights_;
    Buffer nothing_, bias_;
};

}  // namespace

bool computes_taps_apart(const Program& program, const Operation& op) {
    const Form form = form_of(program, op);
    const int area = op.kernel.y * op.kernel.x;
    const bool gated = op.positions >= 0 || op.in_channels >= 0 || op.out_channels >= 0;
    return op.kind == Kind::conv && form.in == Storage::f32 && form.out == Storage::f32 && op.inputs.size() == 1 && !gated && op.groups == 1 &&
           op.stride == Pair{1, 1} && area > 1 && costs::taps_apart_pay(static_cast<long long>(area) * program.values[op.output].channels, program.values[op.inputs[0]].channels);
}

std::unique_ptr<Layer> make_taps_apart(const ConvolutionSpec& spec, Needs& needs) { return std::make_unique<TapsApart>(spec, needs); }

}  // namespace convgate
