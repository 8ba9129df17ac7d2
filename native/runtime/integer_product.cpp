// Convolutions of integers as products, as product.cpp's of floats: what is open is computed, and the kernels write the
// results wherever they can. Where some lanes are dropped, or results go to single channels, they are written aside first.
#include <algorithm>

#include "integer_weights.h"
#include "steps.h"

namespace convgate {
namespace {

constexpr long long least_macs = 1 << 17;  // worth an item of its own
constexpr long long worthwhile_macs = 1 << 24;
constexpr std::size_t most_weights = 1 << 19;  // half of a second-level cache

template <typename Out>
class IntegerProduct final : public ConvolutionOf<std::uint8_t, Out> {
    using Base = ConvolutionOf<std::uint8_t, Out>;
    using Base::addend_at_, Base::begin, Base::chunk, Base::count, Base::fill, Base::fills, Base::out_at_, Base::point, Base::position,
        Base::prepare_scatter, Base::spec_;
    using typename Base::Run;

public:
    IntegerProduct(const ConvolutionSpec& spec, Needs& needs) : Base(spec), taps_(spec.taps()), weights_(spec, needs) {
        Needs mine = this->needs_for_positions();
        // Results aside, and what is added to them.
        if (spec_.masks_channels()) mine.scattered = static_cast<std::size_t>(2 * chunk) * row();
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const Run run = begin(s);
        if (spec_.scatters()) prepare_scatter(run, team);
        const std::vector<IntegerBlock>& blocks = weights_.choose(run.in_open, run.out_open, run.count, s);
        if (run.in_open || run.out_open) weights_.prepare(s, team, run.taps);
        const int n = static_cast<int>(blocks.size()), per_block = chunks_per_block(run, blocks, team);
        const int items = run.count > 0 ? n * per_block : 0;
        const bool parts_first = per_block >= team.threads() && weights_of_all_ <= most_weights;
        const Chunks rest = fills(run, team);
        team.run(items + rest.items, [&](int item, int thread) {
            if (item >= items) return fill(run, rest.begin(item - items), rest.end(item - items));
            const int part = parts_first ? item / n : item % per_block;
            const int first = static_cast<int>(static_cast<long long>(run.count) * part / per_block);
            const int last = static_cast<int>(static_cast<long long>(run.count) * (part + 1) / per_block);
            const IntegerBlock& block = blocks[parts_first ? item % n : item / per_block];
            for (int begin = first; begin < last; begin += chunk)
                compute(run, block, s.scratch[thread], begin, std::min(chunk, last - begin));
            count(s, static_cast<long long>(last - first) * taps_ * block.in_channels * block.width);
        });
    }

private:
    int row() const { return spec_.integers->row; }

    int chunks_per_block(const Run& run, const std::vector<IntegerBlock>& blocks, const Team& team) const {
        const int count = static_cast<int>(blocks.size());
        if (team.threads() == 1 || count == 0) return 1;
        const IntegerBlock& block = blocks[0];
        const long long macs = static_cast<long long>(run.count) * taps_ * block.in_channels * block.width;
        // Many items where each is worth a while, so that no thread waits long for the last one.
        const int items = static_cast<int>(std::clamp<long long>(macs * count / worthwhile_macs, 4, 16)) * team.threads();
        const int wanted = std::max(ceil_div(items, count), 1);
        const int sensible = static_cast<int>(std::min<long long>(run.count / 24, macs / least_macs));
        return std::clamp(wanted, 1, std::max(sensible, 1));
    }

    void compute(const Run& run, const IntegerBlock& block, Scratch& scratch, int first, int count) const {
        point(run, scratch, first, count, block.in_begin, spec_.scatters() ? 0 : block.out_begin);
        Int8Product args{};
        weights_.describe(block, run.taps, args);
        args.rows = scratch.bytes.rows.data();
        args.positions = count;
        Places<Out>& places = scratch.places<Out>();
        const bool aside = block.kept || spec_.scatters();
        if (aside) point_aside(run, block, scratch, first, count);
        if constexpr (std::is_same_v<Out, std::uint8_t>) {
            args.addends = spec_.addend ? places.addends.data() : nullptr;
            args.outputs = aside ? places.kept.data() : places.outputs.data();
        } else if constexpr (std::is_same_v<Out, std::int32_t>) {
            args.sums = aside ? places.kept.data() : places.outputs.data();
        } else {
            args.floats = aside ? places.kept.data() : places.outputs.data();
        }
        spec_.integers->product(args);
        if (aside) distribute(run, block, places, first, count);
    }

    // The lane of a block's j-th output, and its channel where outputs lie dense.
    int lane(const IntegerBlock& block, int j) const { return block.kept ? block.kept[j] : j; }
    static int channel(const Run& run, const IntegerBlock& block, int j) { return (*run.out_open)[block.out_begin + j]; }

    void point_aside(const Run& run, const IntegerBlock& block, Scratch& scratch, int first, int count) const {
        Places<Out>& places = scratch.places<Out>();
        Out* at = reinterpret_cast<Out*>(scratch.scattered.data());
        for (int i = 0; i < count; i++, at += row()) places.kept[i] = at;
        if (!spec_.addend) return;
        for (int i = 0; i < count; i++, at += row()) {
            const Out* addend = spec_.scatters() ? run.addend.data + static_cast<std::ptrdiff_t>(addend_at_[position(run, first + i)]) * run.addend.stride
                                                 : places.addends[i];
            std::fill_n(at, row(), Out{});
            for (int j = 0; j < block.width; j++) at[lane(block, j)] = addend[spec_.scatters() ? channel(run, block, j) : j];
            places.addends[i] = at;
        }
    }

    void distribute(const Run& run, const IntegerBlock& block, const Places<Out>& places, int first, int count) const {
        for (int i = 0; i < count; i++) {
            const Out* from = places.kept[i];
            Out* to = spec_.scatters() ? run.out.data + static_cast<std::ptrdiff_t>(out_at_[position(run, first + i)]) * run.out.stride : places.outputs[i];
            for (int j = 0; j < block.width; j++) to[spec_.scatters() ? channel(run, block, j) : j] = from[lane(block, j)];
        }
    }

    const int taps_;
    const std::size_t weights_of_all_ = spec_.operation->weight.size();
    const IntegerWeights weights_;
};

}  // namespace

std::unique_ptr<Layer> make_integer_product(const ConvolutionSpec& spec, Storage results, Needs& needs) {
    if (results == Storage::f32) return std::make_unique<IntegerProduct<float>>(spec, needs);
    if (summed(results)) return std::make_unique<IntegerProduct<std::int32_t>>(spec, needs);
    return std::make_unique<IntegerProduct<std::uint8_t>>(spec, needs);
}

}  // namespace convgate
