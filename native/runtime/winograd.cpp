// 3x3 convolutions by Winograd's F(2x2, 3x3), square of 2x2 outputs by square: 16 products where the definition has 36.
// Gates close whole squares, since their tiles have even sides; closed channels are left out of the 16 products as they
// are of any other. What is counted are the definition's MACs.
#include <algorithm>

#include "convolution.h"
#include "steps.h"
#include "weights.h"

namespace convgate {
namespace {

constexpr int area = 9;                          // taps
constexpr int most_transformed = 1 << 17;        // floats of inputs and products: a part of the second-level cache
constexpr std::size_t most_weights = 3u << 18;   // floats of elements' weights that are kept; more would have to come from memory
constexpr int inputs_at_once = 64;               // whose weights are transformed when they are needed
constexpr long long least_macs = 1 << 17;        // worth sharing out

class WinogradConvolution final : public Convolution {
public:
    WinogradConvolution(const ConvolutionSpec& spec, Needs& needs)
        : Convolution(spec),
          transforms_(static_cast<std::size_t>(spec.in_channels()) * spec.out_channels() * elements > most_weights),
          weights_(transforms_ ? order(spec, {1, spec.out_channels(), 1, spec.in_channels(), area}, definition(spec))
                               : order(spec, {1, spec.out_channels(), elements, spec.in_channels(), 1}, transformed(spec))),
          corner_(spec.out->value.positions()) {
        const int width = spec.out->value.width;
        for (int p = 0; p < spec.out->value.positions(); p++) {
            corner_[p] = p / width % 2 == 0 && p % width % 2 == 0;
            if (corner_[p]) all_.push_back(p);
        }
        const std::size_t widest = weights_.widest(), ins = padded(spec.in_channels());
        Needs mine = needs_for_positions();
        // Fewer open channels leave room for more squares.
        mine.columns = std::max<std::size_t>(elements * ins * room(most_squares(spec.in_channels())), most_transformed);
        mine.accumulators = elements * widest * room(chunk);
        if (transforms_) mine.weights_aside = (elements + (spec.masks_channels() ? area : 0)) * inputs_at_once * widest;
        mine.squares = all_.size() + 1;
        weights_.cover_needs(mine);
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        Run run = begin(s);
        const Chunks rest = fills(run, team);
        point_at_squares(run, s);
        const std::vector<Block>& blocks = weights_.choose(run.in_open, run.out_open, rows(transforms_, run.count), s);
        if (run.out_open && !transforms_) weights_.pack(s, team);
        const int ins = run.in_open ? static_cast<int>(run.in_open->size()) : spec_.in_channels();
        const int outs = run.out_open ? static_cast<int>(run.out_open->size()) : spec_.out_channels();
        const auto [parts, shares] = share_out(run.count, ins, outs, static_cast<int>(blocks.size()), team);
        const int items = parts * shares;
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const auto cut = [](int n, int part, int parts) { return static_cast<int>(static_cast<long long>(n) * part / parts); };
            const int part = item / shares, share = item % shares, n = static_cast<int>(blocks.size());
            const int first = cut(run.count, part, parts), last = cut(run.count, part + 1, parts);
            const Block* block = blocks.data() + cut(n, share, shares);
            const Block* const end = blocks.data() + cut(n, share + 1, shares);
            if (first == last || block == end) return;
            transform_inputs(run, s.scratch[thread], first, last - first, ins);
            for (; block != end; block++) {
                if (transforms_)
                    multiply_transforming(s.scratch[thread], last - first, ins, *block);
                else
                    multiply(s.scratch[thread], last - first, ins, *block);
                transform_products(run, s.scratch[thread], first, last - first, *block);
                count(s, 4LL * area * (last - first) * ins * block->width);
            }
        });
    }

private:
    using Source = std::function<float(int out, int tap, int i)>;

    static BlockedWeights order(const ConvolutionSpec& spec, const WeightShape& shape, const Source& source) {
        return {*spec.kernels, shape, spec.operation->bias, rows(shape.joined == area, spec.out->value.positions() / 4), spec.masks_channels(), spec.threads,
                source};
    }

    // By which the weights are cut into blocks: enough for wide ones where it is not the blocks that are shared out.
    static int rows(bool transforms, int squares) { return transforms ? squares : most_transformed; }

    // The weights as they are, all taps of all inputs as one run.
    static Source definition(const ConvolutionSpec& spec) {
        return [weights = spec.operation->weight.data, ins = spec.in_channels()](int out, int, int i) {
            return weights[(static_cast<std::size_t>(out) * ins + i % ins) * area + i / ins];
        };
    }

    // Their elements.
    static Source transformed(const ConvolutionSpec& spec) {
        const int n = spec.in_channels() * spec.out_channels();
        std::vector<float> to(static_cast<std::size_t>(n) * elements), from(spec.operation->weight.data, spec.operation->weight.data + n * area);
        for (int i = 0; i < n; i++)
            scalar_kernels.element_weights({from.data() + i * area, 1, nullptr, 1, 1, to.data() + i * elements, 1});
        return [to = std::move(to), ins = spec.in_channels()](int out, int element, int i) {
            return to[(static_cast<std::size_t>(out) * ins + i) * elements + element];
        };
    }

    int padded(int ins) const { return ceil_div(std::max(ins, 1), spec_.kernels->lanes) * spec_.kernels->lanes; }
    // An odd number, so that no two elements of a square are a power of two apart in memory.
    static int room(int squares) { return squares | 1; }
    // At once, so that all that is transformed stays in the cache; or so many that the weights are not read too often.
    int most_squares(int ins) const {
        return std::clamp(most_transformed / elements / (padded(ins) + weights_.widest()) - 1, 48, chunk);
    }

    // Parts of the squares, shares of the blocks.
    std::pair<int, int> share_out(int squares, int ins, int outs, int blocks, const Team& team) const {
        if (squares == 0 || blocks == 0) return {0, 0};
        const long long macs = static_cast<long long>(squares) * elements * ins * outs;
        const int threads = macs < least_macs ? 1 : team.threads(), parts = ceil_div(squares, most_squares(ins));
        // Weights that have to be transformed for each part are rather shared out.
        if (transforms_ && blocks >= threads) return {parts, threads};
        return {ceil_div(parts, threads) * threads, 1};
    }

    // Makes the run's positions those of the open squares.
    void point_at_squares(Run& run, Sample& s) const {
        if (!run.positions) {
            run.count = static_cast<int>(all_.size());
            run.positions = all_.data();
            return;
        }
        s.squares.resize(all_.size() + 1);
        int n = 0;
        for (int i = 0; i < run.count; i++) {
            s.squares[n] = run.positions[i];
            n += corner_[run.positions[i]];
        }
        run.count = n;
        run.positions = s.squares.data();
    }

    void transform_inputs(const Run& run, Scratch& scratch, int first, int count, int ins) const {
        point(run, scratch, first, count, 0, 0);
        Patches patches{};
        patches.from = scratch.rows.data();
        patches.step_x = run.in.stride;
        patches.step_y = static_cast<std::ptrdiff_t>(spec_.in->width()) * run.in.stride;
        patches.squares = count;
        patches.room = room(count);
        patches.channels = ins;
        patches.to = scratch.columns.data();
        spec_.kernels->patches(patches);
    }

    // Products of all elements, in steps whose weights stay in the first-level cache while all squares use them.
    void multiply(Scratch& scratch, int count, int ins, const Block& block) const {
        const Kernels& k = *spec_.kernels;
        const int row = block.vectors * k.lanes, most = std::max(step_floats / row / k.lanes, 1) * k.lanes;
        const int step = padded(ceil_div(ins, ceil_div(std::max(ins, 1), most)));
        const std::ptrdiff_t stride = weights_.tap_stride(block);
        Element args{};
        args.squares = count;
        args.room = room(count);
        args.weight_rows = block.weight_rows;
        args.ahead.stride = row;
        for (int e = 0; e < elements; e++)
            for (int begin = 0; begin == 0 || begin < ins; begin += step) {
                args.inputs = scratch.columns.data() + static_cast<std::ptrdiff_t>(e) * padded(ins) * args.room;
                args.begin = begin;
                args.end = std::min(begin + step, ins);
                args.weights = block.weights + e * stride;
                const bool last = args.end == ins;
                const int next = last ? 0 : args.end;
                args.ahead.rows = block.weight_rows ? block.weight_rows + next : nullptr;
                args.ahead.count = std::min(step, ins - next);
                args.ahead.weights = args.weights + (last ? stride : 0) + (block.weight_rows ? 0 : next * row);
                args.first = begin == 0;
                args.out = scratch.accumulators.data() + static_cast<std::ptrdiff_t>(e) * args.room * row;
                k.element[block.vectors - 1](args);
            }
    }

    // The same where the elements' weights would be too many to read: some inputs' weights, and their products.
    void multiply_transforming(Scratch& scratch, int count, int ins, const Block& block) const {
        const Kernels& k = *spec_.kernels;
        const int row = block.vectors * k.lanes, most = inputs_at_once;
        float* const packed = scratch.weights_aside.data() + static_cast<std::ptrdiff_t>(elements) * inputs_at_once * row;
        ElementWeights weights{};
        weights.row = row;
        weights.to = scratch.weights_aside.data();
        Element args{};
        args.squares = count;
        args.room = room(count);
        args.ahead.count = 1;
        for (int begin = 0; begin == 0 || begin < ins; begin += most) {
            const int n = std::min(most, ins - begin);
            const std::int32_t* rows = block.weight_rows ? block.weight_rows + begin : nullptr;
            weights.count = n;
            weights.to_stride = static_cast<std::ptrdiff_t>(n) * row;
            if (block.columns) {
                weights_.pack_rows(block, begin, n, ins, area, packed);
                weights.from = packed;
                weights.tap_stride = static_cast<std::ptrdiff_t>(n) * row;
            } else {
                weights.from = block.weights + (rows ? 0 : static_cast<std::ptrdiff_t>(begin) * row);
                weights.tap_stride = static_cast<std::ptrdiff_t>(spec_.in_channels()) * row;
                weights.rows = rows;
            }
            k.element_weights(weights);
            for (int e = 0; e < elements; e++) {
                args.inputs = scratch.columns.data() + (static_cast<std::ptrdiff_t>(e) * padded(ins) + begin) * args.room;
                args.end = n;
                args.weights = args.ahead.weights = weights.to + e * weights.to_stride;
                args.first = begin == 0;
                args.out = scratch.accumulators.data() + static_cast<std::ptrdiff_t>(e) * args.room * row;
                k.element[block.vectors - 1](args);
            }
        }
    }

    void transform_products(const Run& run, Scratch& scratch, int first, int count, const Block& block) const {
        point(run, scratch, first, count, 0, block.out_begin);
        Squares squares{};
        squares.from = scratch.accumulators.data();
        squares.squares = count;
        squares.room = room(count);
        squares.row = block.vectors * spec_.kernels->lanes;
        squares.bias = block.bias;
        if (spec_.addend) {
            squares.addends = scratch.addends.data();
            squares.addend_x = run.addend.stride;
            squares.addend_y = static_cast<std::ptrdiff_t>(spec_.addend->width()) * run.addend.stride;
        }
        squares.to = scratch.outputs.data();
        squares.to_x = run.out.stride;
        squares.to_y = static_cast<std::ptrdiff_t>(spec_.out->width()) * run.out.stride;
        squares.width = block.width;
        squares.activation = spec_.operation->activation;
        spec_.kernels->squares(squares);
    }

    const bool transforms_;  // the weights, when they are needed
    const BlockedWeights weights_;
    std::vector<std::uint8_t> corner_;  // per position: is it a square's first?
    std::vector<std::int32_t> all_;     // squares
};

}  // namespace

std::unique_ptr<Layer> make_winograd(const ConvolutionSpec& spec, Needs& needs) {
    return std::make_unique<WinogradConvolution>(spec, needs);
}

}  // namespace convgate
