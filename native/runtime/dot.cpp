// Convolutions as dot products, input channels along the vector's lanes: any output channel is as cheap as any other, so
// closed ones cost nothing. For few positions, where packing weights would not pay, and for a few outputs.
#include <algorithm>

#include "convolution.h"
#include "shared.h"

namespace convgate {
namespace {

class DotConvolution final : public Convolution {
public:
    DotConvolution(const ConvolutionSpec& spec, Needs& needs) : Convolution(spec) {
        const Operation& op = *spec_.operation;
        const int area = op.kernel.y * op.kernel.x, ins = spec_.in_channels(), outs = spec_.out_channels();
        length_ = ins * spec_.joined();
        Buffer ordered(op.weight.size());
        bias_ = Buffer(outs);
        for (int o = 0; o < outs; o++) {
            if (op.bias.data) bias_[o] = op.bias.data[o];
            for (int t = 0; t < area; t++)
                for (int i = 0; i < ins; i++)
                    ordered[(static_cast<std::size_t>(o) * area + t) * ins + i] =
                        op.weight.data[(static_cast<std::size_t>(o) * ins + i) * area + t];
        }
        weights_ = SharedBuffer(std::move(ordered));
        Needs mine = needs_for_positions();
        mine.weights = outs;
        mine.sample_packed = outs;
        if (spec_.scatters()) mine.scattered = static_cast<std::size_t>(chunk) * outs;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        if (spec_.scatters()) prepare_scatter(run, team);
        const float* bias = bias_.data();
        int outs = spec_.out_channels();
        if (run.out_open) {
            outs = static_cast<int>(run.out_open->size());
            for (int o = 0; o < outs; o++) s.packed[o] = bias_[(*run.out_open)[o]];
            bias = s.packed.data();
        }
        const long long macs = static_cast<long long>(run.count) * spec_.taps() * length_;
        const int quads = (outs + 3) / 4;
        const Chunks parts(quads, static_cast<int>(costs::dot_macs / std::max<long long>(4 * macs, 1)) + 1, team);
        const int halves = parts.items >= team.threads() ? 1 : static_cast<int>(std::clamp<long long>(macs * outs / costs::dot_macs, 1, team.threads()));
        const int items = run.count > 0 ? parts.items * halves : 0;
        const Chunks rest = fills(run, team);
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = item / halves, half = item % halves;
            const int o = 4 * parts.begin(part), width = std::min(4 * parts.end(part), outs) - o;
            const int begin = even_part(run.count, half, halves), end = even_part(run.count, half + 1, halves);
            for (int first = begin; first < end; first += chunk)
                compute(run, s.scratch[thread], first, std::min(chunk, end - first), o, width, bias);
            count(s, static_cast<long long>(end - begin) * spec_.taps() * length_ * width);
        });
    }

private:
    void compute(const Run& run, Scratch& scratch, int first, int positions, int o, int width, const float* bias) const {
        const bool aside = spec_.scatters();
        point(run, scratch, first, positions, 0, o);
        if (aside) point_aside(scratch, positions, width);
        const std::size_t size = static_cast<std::size_t>(spec_.taps()) * length_;
        for (int j = 0; j < width; j++)
            scratch.weights[j] = weights_.data() + size * (run.out_open ? (*run.out_open)[o + j] : o + j);
        Dot args{};
        args.rows = scratch.rows.data();
        args.taps = run.taps;
        args.tap_count = spec_.taps();
        args.length = length_;
        args.weights = scratch.weights.data();
        args.bias = bias + o;
        args.width = width;
        args.addends = spec_.addend && !aside ? scratch.addends.data() : nullptr;
        args.outputs = aside ? scratch.kept.data() : scratch.outputs.data();
        args.activation = aside ? Activation::none : spec_.activation();
        spec_.kernels->dot(args, positions);
        if (aside) finish(run, scratch, {scratch.scattered.data(), width, o, width}, first, positions);
    }

    int length_;
    SharedBuffer weights_;
    Buffer bias_;
};

}  // namespace

std::unique_ptr<Layer> make_dot(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<DotConvolution>(spec, needs);
}

}  // namespace convgate
