// Convolutions with closed output channels at few positions, where packing weights would not pay. Panel by panel of output
// channels, whichever is cheaper: positions along the vector's lanes, so that any output channel can be left out, or all
// the panel's lanes computed and those of closed channels dropped, which is best for very few positions.
#include <algorithm>

#include "convolution.h"
#include "shared.h"
#include "steps.h"
#include "weights.h"

namespace convgate {
namespace {

class ColumnsConvolution final : public Convolution {
public:
    ColumnsConvolution(const ConvolutionSpec& spec, Needs& needs)
        : Convolution(spec),
          run_(spec.in_channels() * spec.joined()),
          taps_(spec.taps()),
          parts_(ceil_div(run_, costs::transposed_inputs)),
          rows_(ceil_div(run_, parts_)),
          outs_(spec.out_channels()),
          lanes_(spec.kernels->lanes),
          panel_vectors_(costs::panel_for_threads(spec.kernels->vectors, 1, outs_, lanes_, spec.threads)),
          panel_(panel_vectors_ * lanes_),
          panels_(ceil_div(outs_, panel_)),
          fetches_(!costs::stays_in_second_cache(panels_ * panel_size() * sizeof(float))) {
        const Operation& op = *spec_.operation;
        // [panel][tap][run][output channel of the panel]
        Buffer ordered(panels_ * panel_size());
        bias_ = Buffer(static_cast<std::size_t>(panels_) * panel_);
        for (int o = 0; o < outs_; o++) {
            if (op.bias.data) bias_[o] = op.bias.data[o];
            float* to = ordered.data() + o / panel_ * panel_size() + o % panel_;
            for (int t = 0; t < taps_; t++)
                for (int i = 0; i < run_; i++, to += panel_)
                    *to = op.weight.data[spec_.weight_at(o, t, i)];
        }
        weights_ = SharedBuffer(std::move(ordered));
        const std::size_t widest = static_cast<std::size_t>(spec_.kernels->vectors) * lanes_;
        const int positions = spec.out->value.positions();
        Needs mine = needs_for_positions();
        mine.positions = std::max(mine.positions, positions);
        mine.weights = panel_;
        const std::size_t most = std::min<std::size_t>(groups_at_once(), ceil_div(positions, static_cast<int>(widest))) * widest;
        mine.columns = rows_ * most;
        mine.accumulators = std::max<std::size_t>(panels_ * panel_ * (most + max_tile), static_cast<std::size_t>(positions) * panel_);
        mine.scattered = 2 * panel_ * std::max<std::size_t>(widest, positions);
        mine.lists = static_cast<std::size_t>(run_) + parts_ + 1 + outs_;
        mine.blocks = panels_;
        mine.sample_packed = outs_;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        if (spec_.scatters()) prepare_scatter(run, team);
        list_inputs(run, s);
        list_outputs(run, s);
        const int panels = static_cast<int>(s.blocks.size());
        const int rest_of_lanes = left_over(run.count, static_cast<int>(run.out_open->size()), panels);
        const int vectors = ceil_div(run.count - rest_of_lanes, lanes_);
        const auto [passes, shares] = share_out(vectors, panels, team.threads());
        const int ins = run.in_open ? static_cast<int>(run.in_open->size()) * spec_.joined() : run_;
        const int items = run.count > 0 ? shares * passes : 0;
        const Chunks rest = fills(run, team);
        auto body = [&, passes = passes, shares = shares](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const int share = item / passes, pass = item % passes;
            const int first = even_part(vectors, pass, passes) * lanes_;
            const bool has_rest = pass + 1 == passes;
            const int last = has_rest ? run.count : even_part(vectors, pass + 1, passes) * lanes_;
            const Block* const begin = s.blocks.data() + even_part(panels, share, shares);
            const Block* const end = s.blocks.data() + even_part(panels, share + 1, shares);
            for (const Block* block = begin; block != end; block++)
                if (whole_is_cheaper(last - first, block->width))
                    compute_whole(run, s, *block, s.scratch[thread], first, last - first, ins);
            compute_columns(run, s, begin, end, s.scratch[thread], first, last - first, has_rest ? rest_of_lanes : 0);
            for (const Block* block = begin; block != end; block++)
                count(s, static_cast<long long>(last - first) * taps_ * ins * block->width);
        };
        const long long macs = static_cast<long long>(run.count) * taps_ * ins * run.out_open->size();
        team.run_if(macs > costs::along_lanes_macs<float>, items + rest.items, body);
    }

private:
    // Positions along the lanes, in groups of as many vectors as a kernel computes, one after the other; the last lanes may be empty.
    struct Groups {
        int positions, lanes, vectors, count;
        Groups(int positions, const Kernels& k)
            : positions(positions), lanes(k.lanes), vectors(ceil_div(positions, k.lanes)), count(ceil_div(vectors, k.vectors)) {}
        // Not a division of 64 bits: they are asked for around each call of a kernel.
        int begin(int group) const { return vectors * group / count * lanes; }
        int row(int group) const { return begin(group + 1) - begin(group); }  // lanes
        int size(int group) const { return std::min(begin(group + 1), positions) - begin(group); }
    };

    // Passes over the positions, shares of the panels. Where there are many positions for each thread they are shared out, so that each is
    // transposed once; else panels are, and positions, too, where panels are not enough.
    struct Shares {
        int passes, panels;
    };
    Shares share_out(int vectors, int panels, int threads) const {
        const int groups = ceil_div(vectors, spec_.kernels->vectors), least = ceil_div(vectors, groups_at_once() * spec_.kernels->vectors);
        if (groups >= costs::groups_per_thread * threads) return {std::min(ceil_div(least, threads) * threads, groups), 1};
        const int shares = std::max(std::min(panels, threads), 1);
        const int wanted = threads > 2 ? ceil_div(costs::items_of_many * threads, shares) : 1;
        return {std::min(std::max(least, wanted), groups), shares};
    }

    // Of so many vectors of positions as a kernel computes: all at once, as far as their sums stay in the cache, so that weights
    // are read once.
    int groups_at_once() const {
        const int each = spec_.kernels->vectors * lanes_ * (panels_ * panel_ + rows_);
        return std::max(static_cast<int>(costs::kept_in_second_cache() / sizeof(float)) / each, 1);
    }

    std::size_t panel_size() const { return static_cast<std::size_t>(taps_) * run_ * panel_; }

    bool whole_is_cheaper(int positions, int open) const { return costs::whole_is_cheaper(positions, panel_vectors_, open, lanes_); }
    int left_over(int positions, int open, int panels) const {
        return costs::left_over(positions, lanes_, spec_.kernels->tile[panel_vectors_ - 1], panel_vectors_, panels, open);
    }

    // Lists of the open inputs of a run; before them, where each part's list begins.
    void list_inputs(const Run& run, Sample& s) const {
        s.lists.clear();
        if (!run.in_open) return;
        s.lists.resize(parts_ + 1);
        for (int tap = 0; tap < spec_.joined(); tap++)
            for (const std::int32_t c : *run.in_open) {
                const int i = tap * spec_.in_channels() + c;
                s.lists.push_back(i);
                s.lists[i / rows_ + 1]++;
            }
        for (int p = 0; p < parts_; p++) s.lists[p + 1] += s.lists[p];
    }

    // A block for each panel with open channels, and their places in it.
    void list_outputs(const Run& run, Sample& s) const {
        const std::vector<std::int32_t>& open = *run.out_open;
        s.blocks.clear();
        const int n = static_cast<int>(open.size());
        for (int o = 0; o < n;) {
            const int panel = open[o] / panel_;
            Block block{.in_channels = run_,
                        .out_begin = o,
                        .vectors = panel_vectors_,
                        .weights = weights_.data() + panel * panel_size(),
                        .kept = s.lists.data() + s.lists.size()};
            for (; o < n && open[o] / panel_ == panel; o++, block.width++) {
                s.lists.push_back(open[o] % panel_);
                s.packed[o] = bias_[open[o]];
            }
            block.bias = s.packed.data() + block.out_begin;
            s.blocks.push_back(block);
        }
    }

    // The blocks for which it is cheaper, each part of the inputs being transposed once for all of them. The last `rest`
    // positions are not in the lanes.
    void compute_columns(const Run& run, const Sample& s, const Block* begin, const Block* end, Scratch& scratch, int first,
                         int count, int rest) const {
        const int within = count - rest;
        const Groups groups(within, *spec_.kernels);
        const int lanes = groups.vectors * lanes_;
        const auto next = [&](const Block* block) {
            while (block != end && whole_is_cheaper(count, block->width)) block++;
            return block;
        };
        begin = next(begin);
        if (begin == end) return;
        point(run, scratch, first, count, 0, 0);
        const std::int32_t* const lists = run.in_open ? s.lists.data() + parts_ + 1 : nullptr;
        const auto part_begin = [&](int part) { return lists ? s.lists[part] : std::min(part * rows_, run_); };
        const auto weights = [&](const Block& block, int tap, int part) {
            return block.weights + (static_cast<std::ptrdiff_t>(tap) * run_ + (lists ? 0 : part * rows_)) * panel_;
        };
        // Sums of the rest: after all the others, for each block [rest][panel].
        float* const rests = scratch.accumulators.data() + static_cast<std::ptrdiff_t>(end - begin) * panel_ * lanes;
        const auto rests_of = [&](const Block* block) { return rests + (block - begin) * static_cast<std::ptrdiff_t>(rest) * panel_; };
        // Of each block and group [output][lane], one after the other.
        const auto sums = [&](const Block* block, int group) {
            return scratch.accumulators.data() + static_cast<std::ptrdiff_t>(panel_) * ((block - begin) * lanes + groups.begin(group));
        };
        const auto inputs = [&](int group) { return scratch.columns.data() + static_cast<std::ptrdiff_t>(groups.begin(group)) * rows_; };
        Columns args{};
        args.weight_stride = args.ahead.stride = panel_;
        args.ahead_lines = ceil_div(panel_, line);
        args.first = true;
        for (int t = 0; t < taps_; t++)
            for (int p = 0; p < parts_; p++) {
                args.rows = part_begin(p + 1) - part_begin(p);
                args.weight_rows = lists ? lists + part_begin(p) : nullptr;
                for (int g = 0; g < groups.count; g++)
                    spec_.kernels->transpose(scratch.rows.data() + groups.begin(g), run.taps[t] + part_begin(p), groups.size(g), args.rows,
                                             inputs(g), groups.row(g));
                for (const Block* block = begin; block != end;) {
                    const Block* const after = next(block + 1);
                    // Fetched meanwhile: the next block's weights for this part, or the first one's for the next part.
                    const bool on = after != end;
                    const int part = on ? p : (p + 1) % parts_, tap = on || part ? t : t + 1;
                    const float* const ahead = weights(on ? *after : *begin, tap, part);
                    const int later = fetches_ ? part_begin(part + 1) - part_begin(part) : 0;
                    args.weights = weights(*block, t, p);
                    args.columns = block->kept;
                    args.outputs = block->width;
                    for (int g = 0; g < groups.count; g++) {
                        const int from = later * g / groups.count;
                        args.ahead.weights = lists ? ahead : ahead + static_cast<std::ptrdiff_t>(from) * panel_;
                        args.ahead.rows = lists ? lists + part_begin(part) + from : nullptr;
                        args.ahead.count = later * (g + 1) / groups.count - from;
                        args.inputs = inputs(g);
                        args.accumulators = sums(block, g);
                        spec_.kernels->columns[groups.row(g) / lanes_ - 1](args);
                    }
                    if (rest) add_rest(run, *block, scratch, lists, t, part_begin(p), part_begin(p + 1), within, rest, rests_of(block), args.first);
                    block = after;
                }
                args.first = false;
            }
        // From one output channel's positions to one position's output channels.
        for (const Block* block = begin; block != end; block = next(block + 1)) {
            float* const rows = scratch.scattered.data();
            for (int g = 0; g < groups.count; g++) {
                const int begin_at = first + groups.begin(g), size = groups.size(g);
                for (int o = 0; o < block->width; o++) scratch.weights[o] = sums(block, g) + static_cast<std::ptrdiff_t>(o) * groups.row(g);
                point(run, scratch, begin_at, size, 0, spec_.scatters() ? 0 : block->out_begin);
                spec_.kernels->transpose(scratch.weights.data(), 0, block->width, size, rows, block->width);
                finish(run, scratch, {rows, block->width, block->out_begin, block->width, block->bias}, begin_at, size);
            }
            if (rest == 0) continue;
            point(run, scratch, first + within, rest, 0, spec_.scatters() ? 0 : block->out_begin);
            spec_.kernels->pack_columns(rests_of(block), panel_, nullptr, rest, block->kept, block->width, rows, panel_);
            finish(run, scratch, {rows, panel_, block->out_begin, block->width, block->bias}, first + within, rest);
        }
    }

    // Products of a tap's inputs from `begin` to `end`, of the `rest` positions after the first `within`.
    void add_rest(const Run& run, const Block& block, Scratch& scratch, const std::int32_t* inputs, int tap, int begin, int end,
                  int within, int rest, float* sums, bool is_first) const {
        Product args{};
        args.rows = scratch.rows.data() + within;
        args.positions = rest;
        args.taps = run.taps + tap;
        args.tap_count = 1;
        args.begin = begin;
        args.end = end;
        args.weights = block.weights + static_cast<std::ptrdiff_t>(tap) * run_ * panel_;
        args.weight_rows = inputs;
        args.ahead = {};  // they are there
        args.first = is_first;
        args.accumulators = sums;
        spec_.kernels->product[panel_vectors_ - 1][rest - 1](args, 0);
    }

    void compute_whole(const Run& run, const Sample& s, const Block& block, Scratch& scratch, int first, int count, int ins) const {
        Product args{};
        args.rows = scratch.rows.data();
        args.accumulators = scratch.accumulators.data();
        const BlockWeights weights{block.weights, static_cast<std::ptrdiff_t>(run_) * panel_,
                                   run.in_open ? s.lists.data() + parts_ + 1 : nullptr, panel_vectors_};
        point(run, scratch, first, count, 0, spec_.scatters() ? 0 : block.out_begin);
        if (block.width == panel_ && !spec_.scatters()) {
            args.outputs = scratch.outputs.data();
            args.bias = block.bias;
            args.addends = spec_.addend ? scratch.addends.data() : nullptr;
            args.width = block.width;
            args.activation = spec_.activation();
            product_in_steps(*spec_.kernels, args, run.taps, taps_, ins, weights, count);
            return;
        }
        // All lanes aside, then the open ones together.
        point_aside(scratch, count, panel_);
        args.outputs = scratch.kept.data();
        args.bias = no_bias_.data();
        args.width = panel_;
        args.activation = Activation::none;
        product_in_steps(*spec_.kernels, args, run.taps, taps_, ins, weights, count);
        Rows rows = keep(scratch, block, count, panel_);
        rows.bias = block.bias;
        finish(run, scratch, rows, first, count);
    }

    const int run_, taps_, parts_, rows_, outs_, lanes_, panel_vectors_, panel_, panels_;
    const bool fetches_;  // what is read next
    SharedBuffer weights_;
    Buffer bias_;
    Buffer no_bias_{static_cast<std::size_t>(panel_)};
};

}  // namespace

std::unique_ptr<Layer> make_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<ColumnsConvolution>(spec, needs);
}

}  // namespace convgate
