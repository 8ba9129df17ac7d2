// Convolutions with closed output channels at few positions, where packing weights would not pay. For each panel of output
// channels, whichever is cheaper: positions along the vector's lanes, so that any output channel can be left out, or all
// the panel's lanes computed and those of closed channels dropped, which is best for very few positions. Of the former as
// many panels are computed together as have their weights for a part of the inputs in the first-level cache.
#include <algorithm>
#include <span>

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
          rows_(std::min(run_, costs::transposed_inputs)),
          outs_(spec.out_channels()),
          lanes_(spec.kernels->lanes),
          panel_vectors_(costs::panel_for_threads(spec.kernels->vectors, 1, outs_, lanes_, spec.threads)),
          panel_(panel_vectors_ * lanes_),
          panels_(ceil_div(outs_, panel_)),
          together_(costs::panels_together(ceil_div(run_, ceil_div(run_, costs::transposed_inputs)) * panel_)),
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
        const int together = std::min(together_, panels_) * panel_;
        mine.weights = together;
        const std::size_t most = std::min<std::size_t>(groups_at_once(), ceil_div(positions, static_cast<int>(widest))) * widest;
        mine.columns = rows_ * most;
        mine.accumulators = std::max<std::size_t>(panels_ * panel_ * (most + max_tile), static_cast<std::size_t>(positions) * panel_);
        mine.scattered = std::max<std::size_t>(together * widest, 2 * panel_ * std::max<std::size_t>(widest, positions));
        mine.lists = static_cast<std::size_t>(run_) + 2 * outs_;
        mine.blocks = panels_;
        mine.sample_packed = outs_;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        if (spec_.scatters()) prepare_scatter(run, team);
        list_inputs(run, s);
        const std::int32_t* const columns = list_outputs(run, s);
        const int panels = static_cast<int>(s.blocks.size());
        const int rest_of_lanes = left_over(run.count, static_cast<int>(run.out_open->size()), panels);
        const int vectors = ceil_div(run.count - rest_of_lanes, lanes_);
        const auto [passes, shares] = share_out(vectors, panels, team.threads());
        const int ins = run.in_open ? static_cast<int>(run.in_open->size()) * spec_.joined() : run_;
        const int items = run.count > 0 && panels > 0 ? shares * passes : 0;
        const Chunks rest = fills(run, team);
        auto body = [&, passes = passes, shares = shares](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const int share = item / passes, pass = item % passes;
            const int first = even_part(vectors, pass, passes) * lanes_;
            const bool has_rest = pass + 1 == passes;
            const int last = has_rest ? run.count : even_part(vectors, pass + 1, passes) * lanes_;
            const Item one{.run = run,
                           .scratch = s.scratch[thread],
                           .begin = s.blocks.data() + even_part(panels, share, shares),
                           .end = s.blocks.data() + even_part(panels, share + 1, shares),
                           .first = first,
                           .count = last - first,
                           .columns = columns,
                           .open_inputs = run.in_open ? s.lists.data() : nullptr,
                           .inputs = ins,
                           .parts = std::max(ceil_div(ins, costs::transposed_inputs), 1),
                           .groups = {last - first - (has_rest ? rest_of_lanes : 0), *spec_.kernels}};
            for (const Block* block = one.begin; block != one.end; block++)
                if (whole_is_cheaper(one, *block)) compute_whole(one, *block);
            compute_columns(one);
            count(s, static_cast<long long>(one.count) * taps_ * ins * one.outputs());
        };
        const long long macs = static_cast<long long>(run.count) * taps_ * ins * run.out_open->size();
        team.run_if(macs > costs::along_lanes_macs<float>, items + rest.items, body);
    }

private:
    using Blocks = std::span<const Block>;
    static int width_of(Blocks blocks) { return blocks.back().out_begin + blocks.back().width - blocks.front().out_begin; }

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

    int left_over(int positions, int open, int panels) const {
        return costs::left_over(positions, lanes_, spec_.kernels->tile[panel_vectors_ - 1], panel_vectors_, panels, open);
    }

    // The open inputs of a run, at the beginning of the sample's lists; of all inputs none are listed.
    void list_inputs(const Run& run, Sample& s) const {
        s.lists.clear();
        if (!run.in_open) return;
        for (int tap = 0; tap < spec_.joined(); tap++)
            for (const std::int32_t c : *run.in_open) s.lists.push_back(tap * spec_.in_channels() + c);
    }

    // A block for each panel with open channels, and their places in it. Returns where each output's weights begin.
    const std::int32_t* list_outputs(const Run& run, Sample& s) const {
        const std::vector<std::int32_t>& open = *run.out_open;
        s.blocks.clear();
        const int n = static_cast<int>(open.size());
        std::int32_t* const columns = s.lists.data() + s.lists.size();
        for (const std::int32_t o : open) s.lists.push_back(o / panel_ * static_cast<int>(panel_size()) + o % panel_);
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
        return columns;
    }

    // What a thread computes at once: of some blocks `count` positions, of which the last `rest` are in no group of lanes. Along the lanes
    // the inputs of a tap's run are taken in parts.
    struct Item {
        const Run& run;
        Scratch& scratch;
        const Block *begin, *end;
        int first, count;
        const std::int32_t* columns;      // where each output's weights begin
        const std::int32_t* open_inputs;  // or null: all
        int inputs, parts;
        Groups groups;

        int rest() const { return count - groups.positions; }
        int part_begin(int part) const { return even_part(inputs, part, parts); }
        int part_size(int part) const { return part_begin(part + 1) - part_begin(part); }
        const std::int32_t* rows(int part) const { return open_inputs ? open_inputs + part_begin(part) : nullptr; }
        // Sums: of each group [output][lane], one after the other; after all of them those of the rest, of each block [rest][panel].
        int outputs() const { return width_of({begin, end}); }
        float* sums(const Block& block, int group) const {
            return scratch.accumulators.data() + static_cast<std::ptrdiff_t>(outputs()) * groups.begin(group) +
                   static_cast<std::ptrdiff_t>(block.out_begin - begin->out_begin) * groups.row(group);
        }
        float* rests(const Block& block, int panel) const {
            return scratch.accumulators.data() + static_cast<std::ptrdiff_t>(outputs()) * groups.begin(groups.count) +
                   (&block - begin) * static_cast<std::ptrdiff_t>(rest()) * panel;
        }
    };

    bool whole_is_cheaper(const Item& item, const Block& block) const {
        return costs::whole_is_cheaper(item.count, panel_vectors_, block.width, lanes_);
    }

    // The next of an item's blocks from one on that are computed together, if any. No more than there are groups of positions, during
    // each of which weights of one panel are fetched.
    Blocks next(const Item& item, const Block* block) const {
        const int most = fetches_ ? std::min(together_, item.groups.count) : together_;
        while (block != item.end && whole_is_cheaper(item, *block)) block++;
        const Block* after = block;
        while (after != item.end && after - block < most && !whole_is_cheaper(item, *after)) after++;
        return {block, after};
    }
    Blocks after(const Item& item, Blocks blocks) const { return next(item, blocks.data() + blocks.size()); }

    void compute_columns(const Item& item) const {
        const Blocks blocks = next(item, item.begin);
        if (blocks.empty()) return;
        point(item.run, item.scratch, item.first, item.count, 0, 0);
        for (int t = 0; t < taps_; t++)
            for (int p = 0; p < item.parts; p++) multiply(item, blocks, t, p);
        for (Blocks b = blocks; !b.empty(); b = after(item, b)) finish_columns(item, b);
    }

    // A part of a tap's inputs is transposed once for all blocks, of which `begin` are the first.
    void multiply(const Item& item, Blocks begin, int tap, int part) const {
        const Groups& groups = item.groups;
        const auto inputs = [&](int group) { return item.scratch.columns.data() + static_cast<std::ptrdiff_t>(groups.begin(group)) * rows_; };
        Columns args{};
        args.rows = item.part_size(part);
        for (int g = 0; g < groups.count; g++)
            spec_.kernels->transpose(item.scratch.rows.data() + groups.begin(g), item.run.taps[tap] + item.part_begin(part), groups.size(g), args.rows,
                                     inputs(g), groups.row(g));
        args.weight_stride = panel_;
        args.weight_rows = item.rows(part);
        args.ahead_lines = ceil_div(panel_, line);
        args.first = is_first(tap, part);
        args.weights = weights(item, weights_.data(), tap, part);
        for (Blocks blocks = begin; !blocks.empty();) {
            // Fetched meanwhile: the next blocks' weights for this part, or the first ones' for the next part, if there is one.
            const Blocks later = after(item, blocks);
            const bool on = !later.empty();
            const int next_part = on ? part : (part + 1) % item.parts, next_tap = on || next_part ? tap : tap + 1;
            args.columns = item.columns + blocks.front().out_begin;
            args.outputs = width_of(blocks);
            for (int g = 0; g < groups.count; g++) {
                args.ahead = fetches_ && next_tap < taps_ ? ahead(item, on ? later : begin, next_tap, next_part, g) : Ahead{};
                args.inputs = inputs(g);
                args.accumulators = item.sums(blocks.front(), g);
                spec_.kernels->columns[groups.row(g) / lanes_ - 1](args);
            }
            if (item.rest())
                for (const Block& block : blocks) add_rest(item, block, tap, part);
            blocks = later;
        }
    }

    static bool is_first(int tap, int part) { return tap == 0 && part == 0; }

    // Of a panel, or of all of them, for a part of a tap's inputs.
    const float* weights(const Item& item, const float* panel, int tap, int part) const {
        return panel + (static_cast<std::size_t>(tap) * run_ + (item.open_inputs ? 0 : item.part_begin(part))) * panel_;
    }

    // What is fetched during the products of a group of positions: a share of one panel's rows.
    Ahead ahead(const Item& item, Blocks blocks, int tap, int part, int group) const {
        const int panels = static_cast<int>(blocks.size()), groups = item.groups.count, panel = group * panels / groups;
        const int first = ceil_div(panel * groups, panels), sharing = ceil_div((panel + 1) * groups, panels) - first;
        const int size = item.part_size(part), from = size * (group - first) / sharing, to = size * (group - first + 1) / sharing;
        const float* const all = weights(item, blocks[panel].weights, tap, part);
        if (const std::int32_t* const rows = item.rows(part)) return {all, panel_, rows + from, to - from};
        return {all + static_cast<std::ptrdiff_t>(from) * panel_, panel_, nullptr, to - from};
    }

    // From one output channel's positions to one position's output channels.
    void finish_columns(const Item& item, Blocks blocks) const {
        const Block& front = blocks.front();
        Scratch& scratch = item.scratch;
        const int width = width_of(blocks);
        float* const rows = scratch.scattered.data();
        for (int g = 0; g < item.groups.count; g++) {
            const int first = item.first + item.groups.begin(g), size = item.groups.size(g);
            for (int o = 0; o < width; o++) scratch.weights[o] = item.sums(front, g) + static_cast<std::ptrdiff_t>(o) * item.groups.row(g);
            point(item.run, scratch, first, size, 0, spec_.scatters() ? 0 : front.out_begin);
            spec_.kernels->transpose(scratch.weights.data(), 0, width, size, rows, width);
            finish(item.run, scratch, {rows, width, front.out_begin, width, front.bias}, first, size);
        }
        if (item.rest() == 0) return;
        for (const Block& block : blocks) {
            point(item.run, scratch, item.first + item.groups.positions, item.rest(), 0, spec_.scatters() ? 0 : block.out_begin);
            spec_.kernels->pack_columns(item.rests(block, panel_), panel_, nullptr, item.rest(), block.kept, block.width, rows, panel_);
            finish(item.run, scratch, {rows, panel_, block.out_begin, block.width, block.bias}, item.first + item.groups.positions, item.rest());
        }
    }

    // Products of a part of a tap's inputs, of the positions that are not in the lanes.
    void add_rest(const Item& item, const Block& block, int tap, int part) const {
        Product args{};
        args.rows = item.scratch.rows.data() + item.groups.positions;
        args.positions = item.rest();
        args.taps = item.run.taps + tap;
        args.tap_count = 1;
        args.begin = item.part_begin(part);
        args.end = item.part_begin(part + 1);
        args.weights = block.weights + static_cast<std::ptrdiff_t>(tap) * run_ * panel_;
        args.weight_rows = item.open_inputs;
        args.ahead = {};  // they are there
        args.first = is_first(tap, part);
        args.accumulators = item.rests(block, panel_);
        spec_.kernels->product[panel_vectors_ - 1][item.rest() - 1](args, 0);
    }

    void compute_whole(const Item& item, const Block& block) const {
        Scratch& scratch = item.scratch;
        Product args{};
        args.rows = scratch.rows.data();
        args.accumulators = scratch.accumulators.data();
        const BlockWeights weights{block.weights, static_cast<std::ptrdiff_t>(run_) * panel_,
                                   item.open_inputs, panel_vectors_};
        point(item.run, scratch, item.first, item.count, 0, spec_.scatters() ? 0 : block.out_begin);
        if (block.width == panel_ && !spec_.scatters()) {
            args.outputs = scratch.outputs.data();
            args.bias = block.bias;
            args.addends = spec_.addend ? scratch.addends.data() : nullptr;
            args.width = block.width;
            args.activation = spec_.activation();
            product_in_steps(*spec_.kernels, args, item.run.taps, taps_, item.inputs, weights, item.count);
            return;
        }
        // All lanes aside, then the open ones together.
        point_aside(scratch, item.count, panel_);
        args.outputs = scratch.kept.data();
        args.bias = no_bias_.data();
        args.width = panel_;
        args.activation = Activation::none;
        product_in_steps(*spec_.kernels, args, item.run.taps, taps_, item.inputs, weights, item.count);
        Rows rows = keep(scratch, block, item.count, panel_);
        rows.bias = block.bias;
        finish(item.run, scratch, rows, item.first, item.count);
    }

    const int run_, taps_, rows_, outs_, lanes_, panel_vectors_, panel_, panels_;
    const int together_;  // panels
    const bool fetches_;  // what is read next
    SharedBuffer weights_;
    Buffer bias_;
    Buffer no_bias_{static_cast<std::size_t>(panel_)};
};

}  // namespace

bool suits_columns(const ConvolutionSpec& spec) {
    if (spec.operation->groups > 1 || !spec.masks_channels() || spec.out->value.positions() > costs::few_positions) return false;
    const long long outs = spec.out_channels() + spec.kernels->vectors * spec.kernels->lanes;  // whole panels
    return outs * spec.in_channels() * spec.joined() * spec.taps() < 1LL << 31;  // weights are counted in ints
}

std::unique_ptr<Layer> make_columns(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<ColumnsConvolution>(spec, needs);
}

}  // namespace convgate
