// Kernels for bfloat16: every table's against sums in double precision, rounded where the definition rounds.
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>

#include "../kernels/bf16_numbers.h"
#include "testing.h"

namespace convgate::testing {
namespace {

// From one number of 8 bits of mantissa to the next.
float unit(float x) { return std::ldexp(1.0f, std::max(std::ilogb(x == 0 ? 1e-30f : x), -100) - 7); }

using Halves = Guarded<Bf16>;

std::vector<Bf16> halves(Random& random, std::size_t n) {
    std::vector<Bf16> values(n);
    for (Bf16& x : values) x = rounded(random.number());
    return values;
}

// Rounding may fall to the other side; where sums cancel, their own errors count.
void near(float found, double wanted, double size, const std::string& what) {
    const float stored = widened(rounded(static_cast<float>(wanted)));
    require(std::abs(found - stored) <= unit(stored) + 1e-6 * size, what, ": ", found, ", not ", stored);
}
void near(Bf16 found, double wanted, double size, const std::string& what) { near(widened(found), wanted, size, what); }

struct Bounds {
    float least, most;
};
Bounds bounds(Random& random) { return random.pick({Bounds{-INFINITY, INFINITY}, Bounds{0, INFINITY}, Bounds{0, 6}}); }

std::vector<std::int32_t> some_of(Random& random, int n, int all) {
    std::vector<std::int32_t> list;
    for (int i = 0; static_cast<int>(list.size()) < n; i++)
        if (all - i == n - static_cast<int>(list.size()) || random.chance(0.7)) list.push_back(i);
    return list;
}

// Weights of any columns of two panels, packed; a product in one or two parts; any subset of the inputs.
void product(Random& random, const Bf16Kernels& table, int vectors, int tile) {
    const bool paired = table.pair_rows[0] && random.chance(0.3);
    const int row = vectors * table.lanes, taps = random.from(1, 3), ins = (paired ? 2 : 1) * (random.chance(0.1) ? random.from(41, 300) : random.from(1, 40));
    const int all = ins + random.from(0, 9) / (paired ? 2 : 1) * (paired ? 2 : 1);
    const int width = random.from(1, row), gap = random.from(0, 3), panel = random.from(1, table.vectors) * table.lanes;
    const int panels = (row + panel - 1) / panel + random.from(0, 1);
    const bool listed = !paired && random.chance(0.5), added = random.chance(0.5);
    const Bounds range = bounds(random);
    Guarded<std::int32_t> inputs(random, ins);
    inputs.copy(listed ? some_of(random, ins, all) : some_of(random, ins, ins));
    const std::vector<std::int32_t> outputs_open = some_of(random, width, panels * panel);
    // [panel][tap][all][panel]
    const std::size_t rows = static_cast<std::size_t>(taps) * all, panel_size = rows * panel;
    Halves weights(random, panels * panel_size), packed(random, rows * row);
    weights.copy(halves(random, weights.size()));
    std::vector<std::int32_t> columns;
    for (const int o : outputs_open) columns.push_back(static_cast<std::int32_t>(o / panel * panel_size + o % panel));
    table.pack_columns(weights.data(), panel, nullptr, static_cast<int>(rows), columns.data(), width, packed.data(), row);
    require(packed.intact(), table.name, " pack_columns: wrote outside");
    const auto weight = [&](int tap, int i, int j) {
        const int o = outputs_open[j];
        const std::size_t at = o / panel * panel_size + (static_cast<std::size_t>(tap) * all + i) * panel;
        return double{widened(weights[at + table.place(o % panel, panel / table.lanes)])};
    };
    Halves pairs(random, packed.size());
    for (std::size_t r = 0; r < rows && paired; r++)
        for (int o = 0; o < row; o++) pairs[r / 2 * 2 * row + 2 * o + r % 2] = packed[r * row + table.place(o, vectors)];
    Guarded<float> bias(random, row), accumulators(random, static_cast<std::size_t>(tile) * row);
    bias.copy(numbers(random, row));
    std::vector<std::ptrdiff_t> at;
    for (int t = 0; t < taps; t++) at.push_back(static_cast<std::ptrdiff_t>(t) * (ins + gap));
    std::vector<std::unique_ptr<Halves>> in, add, out;
    std::vector<const Bf16*> from, addends;
    std::vector<Bf16*> outputs;
    for (int p = 0; p < tile; p++) {
        in.push_back(std::make_unique<Halves>(random, taps * (ins + gap) - gap));
        add.push_back(std::make_unique<Halves>(random, width));
        out.push_back(std::make_unique<Halves>(random, width));
        in.back()->copy(halves(random, in.back()->size())), add.back()->copy(halves(random, width));
        from.push_back(in.back()->data()), addends.push_back(add.back()->data()), outputs.push_back(out.back()->data());
    }
    Bf16Product args{};
    args.rows = from.data();
    args.positions = tile;
    args.taps = at.data();
    args.tap_count = taps;
    args.weights = paired ? pairs.data() : packed.data();
    args.paired = paired;
    args.tap_stride = static_cast<std::ptrdiff_t>(all) * row;
    args.weight_rows = listed ? inputs.data() : nullptr;
    args.ahead = {packed.data(), row, listed ? inputs.data() : nullptr, random.from(0, ins)};
    args.accumulators = accumulators.data();
    args.bias = bias.data();
    args.addends = added ? addends.data() : nullptr;
    args.outputs = outputs.data();
    args.width = width;
    args.least = range.least, args.most = range.most;
    const int cut = random.chance(0.5) ? random.from(0, ins) / 2 * 2 : 0;
    for (const auto& [begin, end] : {std::pair{0, cut}, {cut, ins}}) {
        if (begin == end && begin == 0) continue;
        args.begin = begin, args.end = end;
        args.first = begin == 0, args.last = begin == cut;
        table.product[vectors - 1][tile - 1](args, 0);
    }
    const std::string where = std::string(table.name) + " product " + std::to_string(vectors) + "x" + std::to_string(tile);
    for (int p = 0; p < tile; p++) {
        for (int o = 0; o < width; o++) {
            double sum = bias[o], size = 1;
            for (int t = 0; t < taps; t++)
                for (int i = 0; i < ins; i++) {
                    const double term = double{widened(from[p][at[t] + i])} * weight(t, listed ? inputs[i] : i, o);
                    sum += term, size += std::abs(term);
                }
            if (added) sum += widened(addends[p][o]);
            near((*out[p])[o], std::clamp<double>(sum, range.least, range.most), size, where);
        }
        require(out[p]->intact(), where, ": wrote outside its output");
    }
}

template <typename Out>
Out number(Random& random) {
    if constexpr (std::is_same_v<Out, float>) return random.number();
    else return rounded(random.number());
}
float value(float x) { return x; }
float value(Bf16 x) { return widened(x); }

template <typename Out>
void depthwise(Random& random, const Bf16Kernels& table, void (*kernel)(const Bf16Depthwise<Out>&, int)) {
    const int channels = random.from(1, 50), positions = random.from(1, 20);
    const bool slides = random.chance(0.5);
    const int taps = slides ? 9 : random.from(1, 9);
    const SlidingRows lines(random, positions, channels);
    Guarded<float> weights(random, static_cast<std::size_t>(taps) * channels), bias(random, channels);
    weights.copy(numbers(random, weights.size())), bias.copy(numbers(random, channels));
    std::vector<std::ptrdiff_t> at;
    for (int t = 0; t < taps; t++) at.push_back(slides ? lines.taps[t] : t * channels);
    Halves map(random, lines.size);
    map.copy(halves(random, map.size()));
    std::vector<std::unique_ptr<Halves>> in;
    std::vector<std::unique_ptr<Guarded<Out>>> add, out;
    std::vector<const Bf16*> rows;
    std::vector<const Out*> addends;
    std::vector<Out*> outputs;
    for (int p = 0; p < positions; p++) {
        in.push_back(std::make_unique<Halves>(random, static_cast<std::size_t>(taps) * channels));
        in.back()->copy(halves(random, in.back()->size()));
        add.push_back(std::make_unique<Guarded<Out>>(random, channels));
        out.push_back(std::make_unique<Guarded<Out>>(random, channels));
        for (int c = 0; c < channels; c++) (*add.back())[c] = number<Out>(random);
        rows.push_back(in.back()->data()), addends.push_back(add.back()->data()), outputs.push_back(out.back()->data());
    }
    if (slides) rows = lines.rows(map.data());
    const Bounds range = bounds(random);
    const bool added = random.chance(0.5);
    kernel({rows.data(), at.data(), taps, channels, weights.data(), bias.data(), added ? addends.data() : nullptr, outputs.data(), range.least, range.most, slides ? lines.sliding : Sliding{}}, positions);
    for (int p = 0; p < positions; p++) {
        for (int c = 0; c < channels; c++) {
            double sum = bias[c], size = 1;
            for (int t = 0; t < taps; t++) {
                const double term = double{widened(rows[p][at[t] + c])} * weights[t * channels + c];
                sum += term, size += std::abs(term);
            }
            if (added) sum += value(addends[p][c]);
            near(outputs[p][c], std::clamp<double>(sum, range.least, range.most), size, std::string(table.name) + " depthwise");
        }
        require(out[p]->intact(), table.name, " depthwise: wrote outside");
    }
}

template <typename Out>
void windows(Random& random, const Bf16Kernels& table, void (*kernel)(const Bf16Windows<Out>&)) {
    const int channels = random.from(1, 40), height = random.from(1, 3), width = random.from(1, 3), count = random.from(1, 4);
    const int line = (count + width - 1) * channels;
    Halves from(random, static_cast<std::size_t>(height) * line);
    from.copy(halves(random, from.size()));
    const bool lost = random.chance(0.3), maximum = random.chance(0.5);
    const float special = random.pick({NAN, INFINITY, -INFINITY});
    if (lost) from[random.from(0, static_cast<int>(from.size()) - 1)] = rounded(special);
    Guarded<Out> to(random, static_cast<std::size_t>(count) * channels);
    const float factor = 1.0f / static_cast<float>(height * width);
    kernel({count, from.data(), channels, channels, height, width, line, channels, channels, to.data(), maximum, factor});
    for (int w = 0; w < count; w++)
        for (int c = 0; c < channels; c++) {
            double most = -INFINITY, sum = 0;
            bool unordered = false;
            for (int y = 0; y < height; y++)
                for (int x = 0; x < width; x++) {
                    const double v = widened(from[static_cast<std::size_t>(y) * line + (w + x) * channels + c]);
                    most = std::max(most, v), sum += v, unordered |= v != v;
                }
            const double wanted = !maximum ? sum * factor : unordered ? NAN : most;
            const float found = value(to[static_cast<std::size_t>(w) * channels + c]);
            if (!std::isfinite(wanted))
                require(wanted != wanted ? found != found : found == wanted, table.name, " windows: ", found, ", not ", wanted);
            else
                near(found, wanted, height * width, std::string(table.name) + " windows");
        }
    require(to.intact(), table.name, " windows: wrote outside");
}

// Rows of weights, listed or not, of an even number or not, as words of two.
void pair_rows(Random& random, const Bf16Kernels& table, int vectors) {
    const int row = vectors * table.lanes, all = random.from(1, 30), rows = random.from(0, all);
    const bool listed = random.chance(0.5);
    Guarded<std::int32_t> list(random, rows);
    list.copy(some_of(random, rows, all));
    Halves weights(random, static_cast<std::size_t>(listed ? all : rows) * row);
    weights.copy(halves(random, weights.size()));
    Guarded<float> to(random, static_cast<std::size_t>((rows + 1) / 2) * row);
    table.pair_rows[vectors - 1](weights.data(), listed ? list.data() : nullptr, rows, to.data());
    for (int r = 0; r < (rows + 1) / 2 * 2; r++)
        for (int o = 0; o < row; o++) {
            Bf16 pair[2];
            std::memcpy(pair, &to[static_cast<std::size_t>(r / 2) * row + o], sizeof(pair));
            const int from = listed && r < rows ? list[r] : r;
            const Bf16 wanted = r < rows ? weights[static_cast<std::size_t>(from) * row + table.place(o, vectors)] : Bf16{0};
            require(pair[r % 2].bits == wanted.bits, table.name, " pair_rows: another weight");
        }
    require(to.intact(), table.name, " pair_rows: wrote outside");
}

// Positions along the lanes, in one part or in two, of any outputs of a panel.
void columns(Random& random, const Bf16Kernels& table, int vectors) {
    const int row = vectors * table.lanes, pairs = random.from(1, 40), outputs = random.from(1, 20), cut = random.from(0, pairs);
    const int panel = outputs + random.from(0, 20);
    Guarded<float> inputs(random, static_cast<std::size_t>(pairs) * row), sums(random, static_cast<std::size_t>(outputs) * row);
    Guarded<float> weights(random, static_cast<std::size_t>(pairs) * panel);
    const auto fill = [&](Guarded<float>& words) {
        const std::vector<Bf16> values = halves(random, 2 * words.size());
        std::memcpy(words.data(), values.data(), words.size() * sizeof(float));
        return values;
    };
    const std::vector<Bf16> in = fill(inputs), of = fill(weights);
    Guarded<std::int32_t> list(random, outputs);
    list.copy(some_of(random, outputs, panel));
    Columns args{};
    args.weight_stride = panel;
    args.columns = list.data();
    args.outputs = outputs;
    args.ahead = {weights.data(), panel, nullptr, random.from(0, pairs)};
    args.ahead_lines = random.from(1, 4);
    args.accumulators = sums.data();
    for (const auto& [begin, end] : {std::pair{0, cut}, {cut, pairs}}) {
        args.inputs = inputs.data() + static_cast<std::ptrdiff_t>(begin) * row;
        args.rows = end - begin;
        args.weights = weights.data() + static_cast<std::ptrdiff_t>(begin) * panel;
        args.first = begin == 0;
        if (begin || end || !cut) table.columns[vectors - 1](args);
    }
    for (int o = 0; o < outputs; o++)
        for (int p = 0; p < row; p++) {
            double sum = 0, size = 1;
            for (int i = 0; i < 2 * pairs; i++) {
                const std::size_t at = static_cast<std::size_t>(i / 2) * panel + list[o];
                const double term = double{widened(in[(static_cast<std::size_t>(i / 2) * row + p) * 2 + i % 2])} * widened(of[at * 2 + i % 2]);
                sum += term, size += std::abs(term);
            }
            const float found = sums[static_cast<std::size_t>(o) * row + p];
            require(std::abs(found - sum) <= 1e-6 * size, table.name, " columns: ", found, ", not ", sum);
        }
    require(sums.intact(), table.name, " columns: wrote outside");
}

void numbers_between(Random& random, const Bf16Kernels& table) {
    // NaN and infinity stay what they are, and NaN with nothing in the upper half but its exponent; ties go to even.
    const float given[] = {NAN, std::bit_cast<float>(0x7f800001u), INFINITY, -INFINITY, 1.00390625f, 1.01171875f, -0.0f, 1.0f, 3.3895314e38f, 3.4e38f};
    const std::uint16_t wanted[] = {0x7fc0, 0x7fc0, 0x7f80, 0xff80, 0x3f80, 0x3f82, 0x8000, 0x3f80, 0x7f7f, 0x7f80};
    const std::size_t n = random.from(1, 70);
    Guarded<float> from(random, n), back(random, n);
    Halves to(random, n);
    for (std::size_t i = 0; i < n; i++) from[i] = given[i % std::size(given)];
    table.narrow(to.data(), from.data(), static_cast<std::ptrdiff_t>(n));
    table.widen(back.data(), to.data(), static_cast<std::ptrdiff_t>(n));
    for (std::size_t i = 0; i < n; i++) {
        require(to[i].bits == wanted[i % std::size(wanted)], table.name, ": ", from[i], " is rounded to ", widened(to[i]));
        require(back[i] == widened(to[i]) || back[i] != back[i], table.name, ": ", widened(to[i]), " is widened to ", back[i]);
    }
    require(to.intact() && back.intact(), table.name, " narrow or widen: wrote outside");
}

}  // namespace

void test_bf16(Random& random) {
    for (const char* const* name = available_bf16_kernels(); *name; name++) {
        const Bf16Kernels& table = *find_bf16_kernels(*name);
        for (int vectors = 1; vectors <= table.vectors; vectors++)
            for (int tile = 1; tile <= table.tile[vectors - 1]; tile++) product(random, table, vectors, tile);
        depthwise(random, table, table.depthwise);
        depthwise(random, table, table.depthwise_to_float);
        windows(random, table, table.windows);
        windows(random, table, table.windows_to_float);
        numbers_between(random, table);
        for (int vectors = 1; vectors <= table.vectors && table.columns[0]; vectors++) {
            columns(random, table, vectors);
            pair_rows(random, table, vectors);
        }
    }
}

}  // namespace convgate::testing
