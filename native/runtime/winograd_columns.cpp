// Winograd's F(2x2, 3x3) where squares are few, so that packing weights would take about as long as multiplying with them, or
// weights are many, so that they come from memory. Squares lie along the vector's lanes and weights are taken one by one, so that any
// output channel can be left out; those of an output's open inputs are read in the order in which they lie in memory.
#include <algorithm>

#include "shared.h"
#include "squares.h"
#include "steps.h"

namespace convgate {
namespace {

class WinogradColumns final : public ConvolutionInSquaresOf<float> {
public:
    WinogradColumns(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs)
        : ConvolutionInSquaresOf(spec),
          other_(std::move(other)),
          ins_(spec.in_channels()),
          outs_(spec.out_channels()),
          lanes_(spec.kernels->lanes),
          most_(spec.kernels->vectors * lanes_),
          fetches_(!costs::stays_in_second_cache(static_cast<std::size_t>(elements) * outs_ * ins_ * sizeof(float))),
          bias_(outs_) {
        const auto weight = transformed_weights(spec);
        Buffer ordered(static_cast<std::size_t>(elements) * outs_ * ins_);
        float* to = ordered.data();
        for (int e = 0; e < elements; e++)
            for (int o = 0; o < outs_; o++)
                for (int i = 0; i < ins_; i++) *to++ = weight(o, e, i);
        weights_ = SharedBuffer(std::move(ordered));
        std::copy_n(spec.operation->bias.data, spec.operation->bias.size(), bias_.data());
        Needs mine = needs_for_positions();
        mine.positions = corners * most_;
        mine.weights = std::max(costs::transformed_outputs, most_);
        mine.columns = static_cast<std::size_t>(elements) * padded(ins_) * (room(most_) + most_);
        mine.accumulators = static_cast<std::size_t>(elements) * outs_ * most_;
        mine.scattered = static_cast<std::size_t>(elements * room(most_) + 1) * padded(costs::transformed_outputs);
        mine.lists = outs_;
        mine.squares = squares() + 1;
        mine.sample_packed = outs_ + lanes_;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Chosen chosen = choose_squares(s);
        if (other_ && !winograd_pays(spec_, chosen.count, open_positions(s))) return other_->run(s, team);
        const Run run = begin(s);
        const Chunks rest = fills(run, team);
        const Open open = list(run, s);
        count(s, static_cast<long long>(area) * run.count * open.ins * open.outs);
        const long long macs = static_cast<long long>(chosen.count) * elements * open.ins * open.outs;
        const int threads = macs < costs::winograd_macs<float> ? 1 : team.threads();
        const int all = ceil_div(chosen.count, lanes_), groups = ceil_div(all, spec_.kernels->vectors);
        // Where there are too few squares for all threads, outputs are shared out.
        const int shares = std::min(groups < threads ? threads : 1, open.outs), items = groups * shares;
        auto body = [&](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const int share = item / groups, group = item % groups;
            const int first = even_part(all, group, groups) * lanes_, last = std::min(even_part(all, group + 1, groups) * lanes_, chosen.count);
            compute(run, chosen, open, s.scratch[thread], first, last - first, even_part(open.outs, share, shares), even_part(open.outs, share + 1, shares));
        };
        team.run_if(threads > 1, items + rest.items, body);
    }

private:
    // Open channels: which of an output's weights are read, or null: all; where the outputs' weights begin; biases.
    struct Open {
        int ins, outs;
        const std::int32_t *rows, *columns;
        const float* bias;
    };

    Open list(const Run& run, Sample& s) const {
        const int outs = run.out_open ? static_cast<int>(run.out_open->size()) : outs_;
        s.lists.clear();
        for (int i = 0; i < outs; i++) {
            const int out = run.out_open ? (*run.out_open)[i] : i;
            s.lists.push_back(out * ins_);
            s.packed[i] = bias_[out];
        }
        const int ins = run.in_open ? static_cast<int>(run.in_open->size()) : ins_;
        return {ins, outs, run.in_open ? run.in_open->data() : nullptr, s.lists.data(), s.packed.data()};
    }

    void compute(const Run& run, const Chosen& chosen, const Open& open, Scratch& scratch, int first, int count, int out_begin, int out_end) const {
        const int row = ceil_div(count, lanes_) * lanes_;
        transform_inputs(run, chosen, scratch, first, count, open.ins);
        float* const inputs = transpose_inputs(scratch, count, open.ins, row);
        multiply(inputs, open, scratch, row, out_begin, out_end);
        for (int o = out_begin; o < out_end; o += costs::transformed_outputs)
            transform_products(run, chosen, open, scratch, first, count, row, out_begin, out_end, o, std::min(costs::transformed_outputs, out_end - o));
    }

    // To [elements][ins][row].
    float* transpose_inputs(Scratch& scratch, int count, int ins, int row) const {
        const int blocks = ceil_div(ins, lanes_);
        const std::ptrdiff_t block = static_cast<std::ptrdiff_t>(room(count)) * lanes_;
        float* const inputs = scratch.columns.data() + elements * blocks * block;
        for (int i = 0; i < count; i++) scratch.weights[i] = scratch.columns.data() + static_cast<std::ptrdiff_t>(i) * lanes_;
        float* to = inputs;
        for (int e = 0; e < elements; e++)
            for (int b = 0; b < blocks; b++) {
                const int n = std::min(lanes_, ins - b * lanes_);
                spec_.kernels->transpose(scratch.weights.data(), (e * blocks + b) * block, count, n, to, row);
                to += static_cast<std::ptrdiff_t>(n) * row;
            }
        return inputs;
    }

    // To scratch.accumulators: [elements][outs][row].
    void multiply(const float* inputs, const Open& open, Scratch& scratch, int row, int out_begin, int out_end) const {
        const int outs = out_end - out_begin, vectors = row / lanes_, tiles = ceil_div(outs, spec_.kernels->tile[vectors - 1]);
        Columns args{};
        args.rows = open.ins;
        args.weight_rows = open.rows;
        args.weight_stride = 1;
        args.first = true;
        args.ahead.stride = 1;
        args.ahead_lines = ceil_div(ins_, line);
        for (int e = 0; e < elements; e++) {
            args.inputs = inputs + static_cast<std::ptrdiff_t>(e) * open.ins * row;
            args.weights = weights_.data() + static_cast<std::size_t>(e) * outs_ * ins_;
            for (int tile = 0; tile < tiles; tile++) {
                const int begin = even_part(outs, tile, tiles), end = even_part(outs, tile + 1, tiles);
                // Fetched meanwhile: the next tile's weights, or the first one's of the next element.
                const bool last = tile + 1 == tiles;
                const int next = last ? 0 : end, after = last ? outs / tiles : even_part(outs, tile + 2, tiles);
                args.ahead.weights = args.weights + (last ? static_cast<std::ptrdiff_t>(outs_) * ins_ : 0);
                args.ahead.rows = open.columns + out_begin + next;
                args.ahead.count = fetches_ ? after - next : 0;
                args.columns = open.columns + out_begin + begin;
                args.outputs = end - begin;
                args.accumulators = scratch.accumulators.data() + (static_cast<std::ptrdiff_t>(e) * outs + begin) * row;
                spec_.kernels->columns[vectors - 1](args);
            }
        }
    }

    // Of `outs` outputs from `out` on, of those from out_begin to out_end that have been computed.
    void transform_products(const Run& run, const Chosen& chosen, const Open& open, Scratch& scratch, int first, int count, int row,
                            int out_begin, int out_end, int out, int outs) const {
        const Kernels& k = *spec_.kernels;
        const int wide = padded(outs);
        float* const products = scratch.scattered.data();  // [elements][room][wide]
        const float* const from = scratch.accumulators.data() + static_cast<std::ptrdiff_t>(out - out_begin) * row;
        for (int o = 0; o < outs; o++) scratch.weights[o] = from + static_cast<std::ptrdiff_t>(o) * row;
        for (int e = 0; e < elements; e++)
            k.transpose(scratch.weights.data(), static_cast<std::ptrdiff_t>(e) * (out_end - out_begin) * row, outs, count,
                        products + static_cast<std::ptrdiff_t>(e) * room(count) * wide, wide);
        point_corners(run, chosen, scratch, first, count, out, products + static_cast<std::ptrdiff_t>(elements) * room(count) * wide);
        Squares squares{};
        squares.from = products;
        squares.squares = count;
        squares.room = room(count);
        squares.row = wide;
        squares.bias = open.bias + out;
        squares.addends = spec_.addend ? scratch.addends.data() : nullptr;
        squares.to = scratch.outputs.data();
        squares.width = outs;
        squares.activation = spec_.activation();
        k.squares(squares);
    }

    const std::unique_ptr<Layer> other_;
    const int ins_, outs_, lanes_, most_;
    const bool fetches_;  // what is read next
    SharedBuffer weights_;  // [elements][outs][ins]
    Buffer bias_;
};

}  // namespace

bool suits_winograd_columns(const ConvolutionSpec& spec) {
    const Operation& op = *spec.operation;
    const int squares = all_squares(spec), outs = spec.out_channels();
    if (op.groups > 1 || static_cast<long long>(spec.in_channels()) * outs >= 1LL << 31) return false;  // weights are counted in ints
    // Weights that are kept are the same here and there. Others are transformed in another order there, so that lanes must not decide.
    const bool keeps = keeps_elements(spec);
    if (spec.masks_channels()) return costs::winograd_columns_suit(squares, outs, keeps ? spec.kernels->lanes : lanes_of_choices);
    return keeps && costs::winograd_columns_stream(squares, outs, spec.kernels->lanes, elements_weights(spec));
}

std::unique_ptr<Layer> make_winograd_columns(const ConvolutionSpec& spec, std::unique_ptr<Layer> other, Needs& needs) {
    return std::make_unique<WinogradColumns>(spec, std::move(other), needs);
}

}  // namespace convgate
