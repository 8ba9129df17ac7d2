// Convolutions as products of input positions and weights, output channels along the vector's lanes. Closed input channels
// are skipped by a list of the weights' rows; where output channels are closed, the weights that remain are packed first.
#include <algorithm>

#include "convolution.h"
#include "steps.h"

namespace convgate {
namespace {

constexpr long long least_macs = 1 << 15;  // worth an item of its own
constexpr long long worthwhile_macs = 1 << 22;

class ProductConvolution final : public Convolution {
public:
    ProductConvolution(const ConvolutionSpec& spec, Needs& needs)
        : Convolution(spec),
          lanes_(spec.kernels->lanes),
          panel_(spec.kernels->lanes * spec.kernels->vectors),
          run_(spec.in_channels() * spec.joined()),
          taps_(spec.taps()) {
        const int groups = spec_.operation->groups, outs = spec_.out_channels();
        bias_ = Buffer(static_cast<std::size_t>(groups) * (outs + panel_));
        if (spec_.masks_channels())
            order_for_packing();
        else
            order_in_blocks();
        Needs mine = needs_for_positions();
        mine.accumulators = static_cast<std::size_t>(chunk) * panel_;
        mine.blocks = std::max<std::size_t>(blocks_.size(), static_cast<std::size_t>(groups) * ceil_div(outs, lanes_));
        mine.lists = static_cast<std::size_t>(run_) * groups + spec_.out->value.channels;
        if (spec_.masks_channels()) {
            const std::size_t lanes = spec_.out->value.channels + mine.blocks * lanes_;
            mine.sample_packed = lanes + lanes * taps_ * run_ + panel_;
        }
        if (spec_.scatters()) mine.scattered = static_cast<std::size_t>(chunk) * panel_;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        if (spec_.scatters()) prepare_scatter(run, team);
        const std::vector<Block>& blocks = choose_blocks(run, s);
        if (run.out_open) pack(s, team);
        const int per_block = chunks_per_block(run, blocks, team);
        const int items = run.count > 0 ? static_cast<int>(blocks.size()) * per_block : 0;
        const Chunks rest = fills(run, team);
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = item % per_block;
            const int first = static_cast<int>(static_cast<long long>(run.count) * part / per_block);
            const int last = static_cast<int>(static_cast<long long>(run.count) * (part + 1) / per_block);
            const Block& block = blocks[item / per_block];
            for (int begin = first; begin < last; begin += chunk)
                compute(run, block, s.scratch[thread], begin, std::min(chunk, last - begin));
            count(s, static_cast<long long>(last - first) * taps_ * block.in_channels * block.width);
        });
    }

private:
    std::size_t group_size() const { return static_cast<std::size_t>(ceil_div(spec_.out_channels(), panel_)) * panel_size(); }
    std::size_t panel_size() const { return static_cast<std::size_t>(taps_) * run_ * panel_; }

    // Weight of an output channel for the i-th input of a tap's run.
    float weight(int out, int tap, int i) const {
        const Operation& op = *spec_.operation;
        const int ins = spec_.in_channels(), area = op.kernel.y * op.kernel.x;
        return op.weight.data[(static_cast<std::size_t>(out) * ins + i % ins) * area + tap * spec_.joined() + i / ins];
    }

    // [group][panel of output channels][tap][run][panel]: any columns can be packed from here.
    void order_for_packing() {
        const Operation& op = *spec_.operation;
        const int outs = spec_.out_channels();
        weights_ = Buffer(op.groups * group_size());
        for (std::size_t o = 0; o < op.bias.size(); o++) bias_[o] = op.bias.data[o];
        for (int g = 0; g < op.groups; g++)
            for (int o = 0; o < outs; o++) {
                float* to = weights_.data() + g * group_size() + o / panel_ * panel_size() + o % panel_;
                for (int t = 0; t < taps_; t++)
                    for (int i = 0; i < run_; i++, to += panel_) *to = weight(g * outs + o, t, i);
            }
    }

    // [group][block of output channels][tap][run][lanes], ready for the kernel.
    void order_in_blocks() {
        const Operation& op = *spec_.operation;
        const int outs = spec_.out_channels(), padded = ceil_div(outs, lanes_) * lanes_;
        const std::vector<int> cuts = cut(outs, spec_.out->value.positions());
        weights_ = Buffer(static_cast<std::size_t>(op.groups) * padded * taps_ * run_);
        float* to = weights_.data();
        float* bias = bias_.data();
        for (int g = 0; g < op.groups; g++)
            for (std::size_t b = 0; b + 1 < cuts.size(); b++) {
                const int width = cuts[b + 1] - cuts[b], vectors = ceil_div(width, lanes_), row = vectors * lanes_;
                const int first = g * outs + cuts[b];
                blocks_.push_back({g * spec_.in_channels(), run_, first, width, vectors, to, bias, nullptr, nullptr, g});
                for (int o = 0; o < width && op.bias.data; o++) bias[o] = op.bias.data[first + o];
                bias += row;
                for (int t = 0; t < taps_; t++)
                    for (int i = 0; i < run_; i++, to += row)
                        for (int o = 0; o < width; o++) to[o] = weight(first + o, t, i);
            }
    }

    // Where `outs` output channels are cut into blocks: whole vectors, evenly, and where positions are too few to be
    // shared out, as many blocks as can be shared out evenly.
    std::vector<int> cut(int outs, int positions) const {
        const int vectors = ceil_div(outs, lanes_);
        int blocks = ceil_div(vectors, spec_.kernels->vectors);
        if (positions < 48 * spec_.threads) blocks = std::min(ceil_div(blocks, spec_.threads) * spec_.threads, vectors);
        std::vector<int> cuts{0};
        for (int b = 1; b <= blocks; b++) cuts.push_back(std::min(vectors * b / blocks * lanes_, outs));
        return cuts;
    }

    const std::vector<Block>& choose_blocks(const Run& run, Sample& s) const {
        if (!run.in_open && !run.out_open) return blocks_;
        const int ins = spec_.in_channels(), outs = spec_.out_channels();
        s.blocks.clear();
        s.lists.clear();  // its memory is reserved, so that pointers into it last
        float* to = s.packed.data();  // the blocks' biases, then their packed weights
        auto in_at = run.in_open ? run.in_open->begin() : std::vector<std::int32_t>::const_iterator();
        auto out_at = run.out_open ? run.out_open->begin() : in_at;
        std::size_t block_at = 0;
        for (int g = 0; g < spec_.operation->groups; g++) {
            Block block{g * ins, run_, 0, 0, 0, nullptr, nullptr, nullptr, nullptr, g};
            if (run.in_open) {
                const auto begin = in_at;
                while (in_at != run.in_open->end() && *in_at < (g + 1) * ins) ++in_at;
                block.in_begin = static_cast<int>(begin - run.in_open->begin());
                block.in_channels = static_cast<int>(in_at - begin) * spec_.joined();
                block.weight_rows = s.lists.data() + s.lists.size();
                for (int tap = 0; tap < spec_.joined(); tap++)
                    for (auto c = begin; c != in_at; ++c) s.lists.push_back(tap * ins + *c - g * ins);
            }
            if (!run.out_open) {
                for (; block_at < blocks_.size() && blocks_[block_at].group == g; block_at++) {
                    s.blocks.push_back(blocks_[block_at]);
                    s.blocks.back().in_begin = block.in_begin;
                    s.blocks.back().in_channels = block.in_channels;
                    s.blocks.back().weight_rows = block.weight_rows;
                }
                continue;
            }
            const auto begin = out_at;
            const std::int32_t* columns = s.lists.data() + s.lists.size();
            for (; out_at != run.out_open->end() && *out_at < (g + 1) * outs; ++out_at) {
                const int o = *out_at - g * outs;
                s.lists.push_back(static_cast<std::int32_t>(o / panel_ * panel_size() + o % panel_));
            }
            const std::vector<int>& cuts = cut(static_cast<int>(out_at - begin), run.count);
            for (std::size_t b = 0; b + 1 < cuts.size(); b++) {
                block.out_begin = static_cast<int>(begin - run.out_open->begin()) + cuts[b];
                block.width = cuts[b + 1] - cuts[b];
                block.vectors = ceil_div(block.width, lanes_);
                block.columns = columns + cuts[b];
                block.bias = to;
                for (int o = 0; o < block.width; o++) to[o] = bias_[begin[cuts[b] + o]];
                to += block.vectors * lanes_;
                s.blocks.push_back(block);
            }
        }
        if (run.out_open)
            for (Block& block : s.blocks) {
                block.weights = to;
                to += static_cast<std::size_t>(taps_) * block.in_channels * block.vectors * lanes_;
            }
        return s.blocks;
    }

    // The weights of the open channels, in the order in which the kernel reads them.
    void pack(Sample& s, Team& team) const {
        team.run(static_cast<int>(s.blocks.size()) * taps_, [&](int item, int) {
            Block& block = s.blocks[item / taps_];
            const int tap = item % taps_, row = block.vectors * lanes_;
            const float* from = weights_.data() + block.group * group_size() + static_cast<std::size_t>(tap) * run_ * panel_;
            float* to = s.packed.data() + (block.weights - s.packed.data());
            spec_.kernels->pack_columns(from, panel_, block.weight_rows, block.in_channels, block.columns, block.width,
                                        to + static_cast<std::size_t>(tap) * block.in_channels * row, row);
        });
        for (Block& block : s.blocks) block.weight_rows = nullptr;
    }

    int chunks_per_block(const Run& run, const std::vector<Block>& blocks, const Team& team) const {
        const int count = static_cast<int>(blocks.size());
        if (team.threads() == 1 || count == 0) return 1;
        const Block& block = blocks[0];
        const long long macs = static_cast<long long>(run.count) * taps_ * block.in_channels * block.width;
        // Many items where each is worth a while, so that no thread waits long for the last one.
        const int items = static_cast<int>(std::clamp<long long>(macs * count / worthwhile_macs, 4, 16)) * team.threads();
        const int wanted = std::max(ceil_div(items, count), 1);
        const int sensible = static_cast<int>(std::min<long long>(run.count / 24, macs / least_macs));
        return std::clamp(wanted, 1, std::max(sensible, 1));
    }

    void compute(const Run& run, const Block& block, Scratch& scratch, int first, int count) const {
        const bool aside = spec_.scatters();
        const int row = block.vectors * lanes_, in = block.in_channels;
        point(run, scratch, first, count, block.in_begin, block.out_begin);
        if (aside) point_aside(scratch, count, row);
        Product args{};
        args.rows = scratch.rows.data();
        args.accumulators = scratch.accumulators.data();
        args.bias = block.bias;
        args.addends = spec_.addend && !aside ? scratch.addends.data() : nullptr;
        args.outputs = scratch.outputs.data();
        args.width = block.width;
        args.activation = aside ? Activation::none : spec_.operation->activation;
        const std::ptrdiff_t tap_stride = static_cast<std::ptrdiff_t>(block.columns ? in : run_) * row;
        product_in_steps(*spec_.kernels, args, run.taps, taps_, in, {block.weights, tap_stride, block.weight_rows, block.vectors},
                         count);
        if (aside) scatter(run, scratch, first, count, row, run.out_open->data() + block.out_begin, block.width);
    }

    const int lanes_, panel_;  // panel_: the widest block
    const int run_, taps_;     // inputs of a tap, taps
    Buffer weights_, bias_;
    std::vector<Block> blocks_;
};

}  // namespace

std::unique_ptr<Layer> make_product(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<ProductConvolution>(spec, needs);
}

}  // namespace convgate
