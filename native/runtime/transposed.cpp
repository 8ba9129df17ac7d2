// Transposed convolutions. The outputs whose row and column leave the same remainders on division by the stride form a
// phase; within a phase each output reads its inputs at the same distances, with the same weights, so that a phase is a
// product (or, if depthwise, a depthwise sum) with taps of its own.
#include <algorithm>

#include "shared.h"
#include "simple.h"
#include "steps.h"

namespace convgate {
namespace {

constexpr int chunk = costs::positions_at_once;

// Which elements of the kernel one remainder's outputs use along one axis, and how far from output / stride they read.
struct Tap {
    int element, distance;
};

std::vector<Tap> taps_of(int remainder, int stride, int before, int kernel, int dilation) {
    std::vector<Tap> found;
    for (int k = 0; k < kernel; k++) {
        const int from = remainder + before - k * dilation;
        if (from % stride == 0) found.push_back({k, from / stride});
    }
    return found;
}

struct Phase {
    std::vector<std::int32_t> in_at, out_at;  // per output position
    std::vector<std::ptrdiff_t> taps;         // in floats from the input position at output / stride
    std::vector<int> elements;                // of the kernel, per tap
    std::vector<std::size_t> weights;         // per block
};

struct Outputs {
    int group, begin, width, vectors;
};

class Transposed final : public Layer {
public:
    Transposed(SimpleSpec spec, Needs& needs) : spec_(std::move(spec)) {
        const Operation& op = *spec_.operation;
        const Value &in = spec_.in[0]->value, &out = spec_.out->value;
        depthwise_ = op.groups > 1 && op.groups == in.channels && op.groups == out.channels;
        ins_ = in.channels / op.groups;
        outs_ = out.channels / op.groups;
        macs_ = static_cast<long long>(in.positions()) * op.kernel.y * op.kernel.x * in.channels * outs_;
        const int lanes = spec_.kernels->lanes;
        int widest = 1;
        if (depthwise_) {
            blocks_.push_back({0, 0, out.channels, 0});
        } else {
            const int vectors = ceil_div(outs_, lanes), per_group = ceil_div(vectors, spec_.kernels->vectors);
            for (int g = 0; g < op.groups; g++)
                for (int b = 0; b < per_group; b++) {
                    const int first = even_part(vectors, b, per_group) * lanes, last = std::min(even_part(vectors, b + 1, per_group) * lanes, outs_);
                    blocks_.push_back({g, g * outs_ + first, last - first, ceil_div(last - first, lanes)});
                    widest = std::max(widest, blocks_.back().vectors * lanes);
                }
        }
        bias_ = Buffer(out.channels + static_cast<std::size_t>(spec_.kernels->vectors) * lanes);
        if (op.bias.data) std::copy_n(op.bias.data, out.channels, bias_.data());
        for (int y = 0; y < std::min(op.stride.y, out.height); y++)
            for (int x = 0; x < std::min(op.stride.x, out.width); x++) add_phase(y, x);
        if (!untapped_.out_at.empty()) add(std::move(untapped_));
        weights_ = SharedBuffer(ordered());
        Needs mine;
        mine.positions = chunk;
        mine.accumulators = static_cast<std::size_t>(chunk) * widest;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Operation& op = *spec_.operation;
        const View in = s.view(*spec_.in[0]), out = s.view(*spec_.out);
        out.clear_border();
        struct Item {
            const Phase* phase;
            std::size_t block;
            int first;
        };
        const int at_once = team.threads() > 1 ? chunk / 2 : chunk;
        std::vector<Item> items;
        for (const Phase& phase : phases_)
            for (std::size_t b = 0; b < blocks_.size(); b++)
                for (int first = 0; first < static_cast<int>(phase.out_at.size()); first += at_once) items.push_back({&phase, b, first});
        team.run(static_cast<int>(items.size()), [&](int i, int thread) {
            const Item& item = items[i];
            const int count = std::min(at_once, static_cast<int>(item.phase->out_at.size()) - item.first);
            compute(*item.phase, item.block, item.first, count, in, out, s.scratch[thread]);
        });
        s.macs[op.layer].fetch_add(macs_, std::memory_order_relaxed);
    }

private:
    void add_phase(int y, int x) {
        const Operation& op = *spec_.operation;
        const Layout& in = *spec_.in[0];
        const Value& out = spec_.out->value;
        Phase tapped;
        for (const Tap& a : taps_of(y, op.stride.y, op.top, op.kernel.y, op.dilation.y))
            for (const Tap& b : taps_of(x, op.stride.x, op.left, op.kernel.x, op.dilation.x)) {
                tapped.taps.push_back((static_cast<std::ptrdiff_t>(a.distance) * in.width() + b.distance) * in.value.channels);
                tapped.elements.push_back(a.element * op.kernel.x + b.element);
            }
        // Where the stride is wider than the kernel, most phases have no taps: their outputs are alike.
        Phase& phase = tapped.taps.empty() ? untapped_ : tapped;
        for (int oy = y; oy < out.height; oy += op.stride.y)
            for (int ox = x; ox < out.width; ox += op.stride.x) {
                phase.in_at.push_back(in.position(oy / op.stride.y, ox / op.stride.x));
                phase.out_at.push_back(spec_.out->position(oy, ox));
            }
        if (!tapped.taps.empty()) add(std::move(tapped));
    }

    void add(Phase phase) {
        for (const Outputs& block : blocks_) {
            phase.weights.push_back(floats_);
            const std::size_t row = depthwise_ ? block.width : static_cast<std::size_t>(block.vectors) * spec_.kernels->lanes * ins_;
            floats_ += row * phase.taps.size();
        }
        phases_.push_back(std::move(phase));
    }

    Buffer ordered() const {
        const Operation& op = *spec_.operation;
        const std::size_t area = static_cast<std::size_t>(op.kernel.y) * op.kernel.x;
        Buffer weights(floats_);
        for (const Phase& phase : phases_)
            for (std::size_t b = 0; b < blocks_.size(); b++) {
                const Outputs& block = blocks_[b];
                float* to = weights.data() + phase.weights[b];
                const int row = depthwise_ ? block.width : block.vectors * spec_.kernels->lanes;
                for (const int element : phase.elements)
                    for (int i = 0; i < ins_; i++, to += row)
                        for (int o = 0; o < block.width; o++) {
                            const std::size_t from = depthwise_ ? o : static_cast<std::size_t>(block.group * ins_ + i) * outs_ +
                                                                          (block.begin - block.group * outs_ + o);
                            to[o] = op.weight.data[from * area + element];
                        }
            }
        return weights;
    }

    void compute(const Phase& phase, std::size_t number, int first, int count, const View& in, const View& out, Scratch& scratch) const {
        const Outputs& block = blocks_[number];
        const Kernels& k = *spec_.kernels;
        const Activation activation = spec_.operation->activation.inside();
        const float* bias = bias_.data() + block.begin;
        for (int i = 0; i < count; i++) {
            scratch.rows[i] = in.data + static_cast<std::ptrdiff_t>(phase.in_at[first + i]) * in.stride + block.group * ins_;
            scratch.outputs[i] = out.data + static_cast<std::ptrdiff_t>(phase.out_at[first + i]) * out.stride + block.begin;
        }
        const int taps = static_cast<int>(phase.taps.size());
        if (taps == 0) {
            for (int i = 0; i < count; i++) k.activate(scratch.outputs[i], bias, block.width, activation);
            return;
        }
        if (depthwise_) {
            Depthwise args{};
            args.rows = scratch.rows.data();
            args.taps = phase.taps.data();
            args.tap_count = taps;
            args.channels = block.width;
            args.weights = weights_.data() + phase.weights[number];
            args.bias = bias;
            args.outputs = scratch.outputs.data();
            args.activation = activation;
            return k.depthwise(args, count);
        }
        Product args{};
        args.rows = scratch.rows.data();
        args.accumulators = scratch.accumulators.data();
        args.bias = bias;
        args.outputs = scratch.outputs.data();
        args.width = block.width;
        args.activation = activation;
        const std::ptrdiff_t tap = static_cast<std::ptrdiff_t>(ins_) * block.vectors * k.lanes;
        product_in_steps(k, args, phase.taps.data(), taps, ins_, BlockWeights{weights_.data() + phase.weights[number], tap, nullptr, block.vectors}, count);
    }

    SimpleSpec spec_;
    bool depthwise_ = false;
    int ins_ = 1, outs_ = 1;  // of a group
    long long macs_ = 0;
    std::vector<Outputs> blocks_;
    std::vector<Phase> phases_;
    Phase untapped_;  // until it is one of them
    std::size_t floats_ = 0;
    SharedBuffer weights_;
    Buffer bias_;
};

}  // namespace

void reach_of_transposed(const Operation& op, const Value& in, const Value& out, int* top, int* left, int* bottom, int* right) {
    const auto reach = [](int stride, int padding, int kernel, int dilation, int size, int outputs, int* before, int* after) {
        *before = *after = 0;
        for (int r = 0; r < std::min(stride, outputs); r++) {
            const int last = (outputs - 1 - r) / stride;
            *after = std::max(*after, last - (size - 1));  // where an output without taps would read
            for (const Tap& tap : taps_of(r, stride, padding, kernel, dilation)) {
                *before = std::max(*before, -tap.distance);
                *after = std::max(*after, last + tap.distance - (size - 1));
            }
        }
    };
    reach(op.stride.y, op.top, op.kernel.y, op.dilation.y, in.height, out.height, top, bottom);
    reach(op.stride.x, op.left, op.kernel.x, op.dilation.x, in.width, out.width, left, right);
}

std::unique_ptr<Layer> make_transposed(const SimpleSpec& spec, Needs& needs) { return std::make_unique<Transposed>(spec, needs); }

}  // namespace convgate
