// Kernels for 8-bit integers: every table's results are the definition's, to the bit, and nothing else is touched.
#include <cmath>
#include <memory>

#include "int8_testing.h"

namespace convgate::testing {
namespace {

// What every position reads and writes, each in memory of its own.
struct Positions {
    std::vector<std::unique_ptr<Bytes>> in, add, out;
    std::vector<const std::uint8_t*> rows, addends;
    std::vector<std::uint8_t*> outputs;
    Positions(Random& random, int n, std::size_t read, int width, bool is_signed, bool addend_signed) {
        for (int p = 0; p < n; p++) {
            in.push_back(std::make_unique<Bytes>(random, read));
            add.push_back(std::make_unique<Bytes>(random, width));
            out.push_back(std::make_unique<Bytes>(random, width));
            in.back()->copy(bytes(random, read, is_signed)), add.back()->copy(bytes(random, width, addend_signed));
            rows.push_back(in.back()->data()), addends.push_back(add.back()->data()), outputs.push_back(out.back()->data());
        }
    }
};

void product(Random& random, const Int8Kernels& table) {
    const int taps = random.from(1, 9), count = random.chance(0.2) ? random.from(41, 600) : random.from(1, 40);
    const int all = count + random.from(0, 9), width = random.from(1, table.row), positions = random.chance(0.1) ? random.from(21, 110) : random.from(1, 20);
    const bool kept = random.chance(0.25), adds = kept && random.chance(0.5);  // sums as they are, added to what is there
    const bool listed = random.chance(0.5), is_signed = random.chance(0.5), added = random.chance(0.5), floats = random.chance(0.25);
    Guarded<std::int32_t> list(random, count);
    for (int i = 0; i < count; i++) list[i] = listed ? random.from(0, all - 1) : i;
    // [tap][all][row], with what no place holds left as it is
    const std::size_t rows = static_cast<std::size_t>(taps) * all;
    Guarded<std::int8_t> weights(random, rows * table.row);
    weights.copy(weights_of(random, weights.size(), random.chance(0.3)));
    const auto weight = [&](int t, int r, int o) { return weights[(static_cast<std::size_t>(t) * all + r) * table.row + table.place(o)]; };
    const Finishing how(random, table.row);
    std::vector<std::ptrdiff_t> at;
    for (int t = 0; t < taps; t++) at.push_back(static_cast<std::ptrdiff_t>(t) * count);
    const Positions maps(random, positions, static_cast<std::size_t>(taps) * count, width, is_signed, how.finish.addend_signed);
    Guarded<float> scale(random, table.row);
    scale.copy(numbers(random, table.row));
    std::vector<std::unique_ptr<Guarded<float>>> sums;
    std::vector<float*> to;
    for (int p = 0; p < positions; p++) sums.push_back(std::make_unique<Guarded<float>>(random, width)), to.push_back(sums.back()->data());
    std::vector<std::unique_ptr<Guarded<std::int32_t>>> whole;
    std::vector<std::int32_t*> whole_to;
    std::vector<std::int32_t> before;
    for (int p = 0; p < positions; p++) {
        whole.push_back(std::make_unique<Guarded<std::int32_t>>(random, width)), whole_to.push_back(whole.back()->data());
        for (int o = 0; o < width; o++) before.push_back((*whole.back())[o] = random.from(-(1 << 20), 1 << 20));
    }
    Guarded<std::int32_t> start(random, table.row);
    Int8Product a{};
    a.rows = maps.rows.data(), a.positions = positions;
    a.taps = at.data(), a.tap_count = taps, a.count = count, a.is_signed = is_signed;
    a.weights = weights.data(), a.tap_stride = static_cast<std::ptrdiff_t>(all) * table.row;
    a.weight_rows = listed ? list.data() : nullptr;
    a.width = width, a.finish = how.finish;
    a.addends = added && !floats ? maps.addends.data() : nullptr;
    a.outputs = floats ? nullptr : maps.outputs.data();
    a.floats = floats ? to.data() : nullptr, a.scale = scale.data();
    a.sums = kept ? whole_to.data() : nullptr, a.adds = adds;
    starts(table, a, how.bias.data(), start.data());
    a.start = start.data();
    table.product(a);
    const std::string where = std::string(table.name) + " product of 8-bit integers";
    for (int p = 0; p < positions; p++) {
        for (int o = 0; o < width; o++) {
            std::int64_t sum = how.bias[o];
            for (int t = 0; t < taps; t++)
                for (int i = 0; i < count; i++) sum += value(maps.rows[p][at[t] + i], is_signed) * weight(t, list[i], o);
            if (kept) {
                const std::int64_t wanted = sum + (adds ? before[static_cast<std::size_t>(p) * width + o] : 0);
                require(whole_to[p][o] == static_cast<std::int32_t>(wanted), where, " as sums: ", whole_to[p][o], ", not ", wanted);
            } else if (floats) {
                const float wanted = static_cast<float>(static_cast<std::int32_t>(sum)) * scale[o];
                require(to[p][o] == wanted, where, ": ", to[p][o], ", not ", wanted);
            } else {
                const int found = maps.outputs[p][o], wanted = how.of(sum, o, added ? maps.addends[p] + o : nullptr);
                require(found == wanted, where, ": ", found, ", not ", wanted, " (sum ", sum, ", output ", o, ")");
            }
        }
        require(maps.out[p]->intact() && sums[p]->intact() && whole[p]->intact(), where, ": wrote outside its output");
    }
    require(start.intact(), where, ": wrote outside what sums start at");
}

void depthwise(Random& random, const Int8Kernels& table) {
    // Taps anywhere, or three columns of three lines; positions next to each other or not, by turns.
    const int channels = random.from(1, 140), positions = random.from(1, 20);
    const bool in_columns = random.chance(0.5);
    const int taps = in_columns ? 12 : random.chance(0.1) ? random.from(60, 80) : random.from(1, 9), quads = (taps + 3) / 4;
    const bool is_signed = random.chance(0.5), floats = random.chance(0.25), added = !floats && random.chance(0.5);
    std::vector<std::int8_t> weights = weights_of(random, static_cast<std::size_t>(taps) * channels, random.chance(0.3));
    Guarded<std::int32_t> words(random, static_cast<std::size_t>(quads) * channels), start(random, channels);
    const Finishing how(random, channels);
    for (int c = 0; c < channels; c++) start[c] = how.bias[c];
    for (std::size_t i = 0; i < words.size(); i++) words[i] = 0;
    for (int t = 0; t < taps; t++)
        for (int c = 0; c < channels; c++) {
            std::int8_t& w = weights[static_cast<std::size_t>(t) * channels + c];
            if (in_columns && t % 4 == 3) w = 0;
            words[static_cast<std::size_t>(t / 4) * channels + c] |= static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint8_t>(w)) << t % 4 * 8);
            start[c] -= table.excess(is_signed) * w;
        }
    const SlidingRows lines(random, positions, channels);
    std::vector<std::ptrdiff_t> at;
    for (int t = 0; t < taps; t++) at.push_back(in_columns ? lines.taps[std::min(t % 4, 2) * 3 + t / 4] : static_cast<std::ptrdiff_t>(t) * channels);
    Bytes map(random, lines.size);
    map.copy(bytes(random, map.size(), is_signed));
    Positions maps(random, positions, in_columns ? 0 : static_cast<std::size_t>(taps) * channels, channels, is_signed, how.finish.addend_signed);
    if (in_columns) maps.rows = lines.rows(map.data());
    Guarded<float> scale(random, channels);
    scale.copy(numbers(random, channels));
    std::vector<std::unique_ptr<Guarded<float>>> sums;
    std::vector<float*> to;
    for (int p = 0; p < positions; p++) sums.push_back(std::make_unique<Guarded<float>>(random, channels)), to.push_back(sums.back()->data());
    Int8Depthwise a{};
    a.rows = maps.rows.data(), a.taps = at.data(), a.tap_count = taps;
    a.sliding = in_columns ? lines.sliding : Sliding{}, a.channels = channels, a.is_signed = is_signed;
    a.weights = words.data(), a.start = start.data(), a.finish = how.finish;
    a.addends = added ? maps.addends.data() : nullptr;
    a.outputs = floats ? nullptr : maps.outputs.data();
    a.floats = floats ? to.data() : nullptr, a.scale = scale.data();
    table.depthwise(a, positions);
    for (int p = 0; p < positions; p++) {
        for (int c = 0; c < channels; c++) {
            std::int64_t sum = how.bias[c];
            for (int t = 0; t < taps; t++) sum += value(maps.rows[p][at[t] + c], is_signed) * weights[static_cast<std::size_t>(t) * channels + c];
            if (floats) {
                const float wanted = static_cast<float>(static_cast<std::int32_t>(sum)) * scale[c];
                require(to[p][c] == wanted, table.name, " depthwise of 8-bit integers: ", to[p][c], ", not ", wanted);
                continue;
            }
            const int found = maps.outputs[p][c], wanted = how.of(sum, c, added ? maps.addends[p] + c : nullptr);
            require(found == wanted, table.name, " depthwise of 8-bit integers: ", found, ", not ", wanted);
        }
        require(maps.out[p]->intact() && sums[p]->intact(), table.name, " depthwise of 8-bit integers: wrote outside its output");
    }
}

void pack(Random& random, const Int8Kernels& table) {
    const int panels = random.from(1, 4), all = random.from(1, 20), rows = random.from(1, 20), row = table.row;
    const bool listed = random.chance(0.5);
    Guarded<std::int8_t> from(random, static_cast<std::size_t>(panels) * all * row);
    from.copy(weights_of(random, from.size(), false));
    std::vector<std::int32_t> list, columns;
    for (int r = 0; r < rows; r++) list.push_back(listed ? random.from(0, all - 1) : std::min(r, all - 1));
    const int count = listed ? rows : std::min(rows, all);
    const double share = random.number() / 2 + 0.5;
    for (int panel = 0; panel < panels; panel++)
        for (int o = 0; o < row && static_cast<int>(columns.size()) < row; o++)
            if (random.chance(share)) columns.push_back(panel * all * row + o);
    Guarded<std::int8_t> to(random, static_cast<std::size_t>(count) * row);
    table.pack_columns(from.data(), listed ? list.data() : nullptr, count, columns.data(), static_cast<int>(columns.size()), to.data());
    for (int r = 0; r < count; r++)
        for (std::size_t j = 0; j < columns.size(); j++) {
            const int panel = columns[j] / row * row, o = columns[j] - panel;
            require(to[static_cast<std::size_t>(r) * row + table.place(static_cast<int>(j))] == from[static_cast<std::size_t>(panel) + static_cast<std::size_t>(list[r]) * row + table.place(o)],
                    table.name, " packed columns of 8-bit integers");
        }
    require(to.intact(), table.name, " packed columns of 8-bit integers: wrote outside");
}

// Bytes of several rows, each in memory of its own.
struct Rows {
    std::vector<std::unique_ptr<Bytes>> memory;
    std::vector<const std::uint8_t*> begins;
    Rows(Random& random, int n, std::size_t size, bool is_signed) {
        for (int r = 0; r < n; r++) {
            memory.push_back(std::make_unique<Bytes>(random, size));
            memory.back()->copy(bytes(random, size, is_signed));
            begins.push_back(memory.back()->data());
        }
    }
    std::vector<const std::uint8_t*> from(std::size_t offset) const {
        std::vector<const std::uint8_t*> later;
        for (const std::uint8_t* begin : begins) later.push_back(begin + offset);
        return later;
    }
};

// Positions along the lanes, in one part or in two.
void columns(Random& random, const Int8Kernels& table, int vectors) {
    const int width = vectors * table.lanes, quads = random.from(1, 40), outputs = random.from(1, 20), cut = random.from(0, quads);
    Guarded<std::int32_t> inputs(random, static_cast<std::size_t>(quads) * width), sums(random, static_cast<std::size_t>(outputs) * width);
    const std::vector<std::uint8_t> in = bytes(random, 4 * inputs.size(), false);
    std::memcpy(inputs.data(), in.data(), in.size());
    const Rows weights(random, outputs, 4 * quads, true);
    const std::vector<const std::uint8_t*> later = weights.from(4 * cut);
    for (const auto& [begin, end] : {std::pair{0, cut}, {cut, quads}})
        if (begin || end || !cut)
            table.columns[vectors - 1]({inputs.data() + static_cast<std::ptrdiff_t>(begin) * width, end - begin, begin ? later.data() : weights.begins.data(), outputs,
                                        begin == 0, sums.data(), random.chance(0.5) ? weights.begins.data() : nullptr, 0, 4 * quads});
    for (int o = 0; o < outputs; o++)
        for (int p = 0; p < width; p++) {
            std::int32_t sum = 0;
            for (int i = 0; i < 4 * quads; i++) sum += in[(static_cast<std::size_t>(i / 4) * width + p) * 4 + i % 4] * value(weights.begins[o][i], true);
            require(sums[static_cast<std::size_t>(o) * width + p] == sum, table.name, " columns of 8-bit integers");
        }
    require(sums.intact(), table.name, " columns of 8-bit integers: wrote outside");
}

// Single positions, in one part or in two.
void dots(Random& random, const Int8Kernels& table) {
    const int positions = random.from(1, 5), inputs = random.from(1, 300), outputs = random.from(1, 20), cut = random.from(0, inputs), offset = random.from(0, 40);
    const bool is_signed = random.chance(0.5);
    Guarded<std::int32_t> sums(random, static_cast<std::size_t>(positions) * outputs);
    const Rows rows(random, positions, offset + inputs, is_signed), weights(random, outputs, inputs, true);
    const std::vector<const std::uint8_t*> later = weights.from(cut);
    for (const auto& [begin, end] : {std::pair{0, cut}, {cut, inputs}})
        if (begin || end || !cut)
            table.dots({rows.begins.data(), positions, offset + begin, end - begin, is_signed, begin ? later.data() : weights.begins.data(), outputs, begin == 0, sums.data()});
    for (int p = 0; p < positions; p++)
        for (int o = 0; o < outputs; o++) {
            std::int32_t sum = 0;
            for (int i = 0; i < inputs; i++) sum += (value(rows.begins[p][offset + i], is_signed) + table.excess(is_signed)) * value(weights.begins[o][i], true);
            require(sums[static_cast<std::size_t>(p) * outputs + o] == sum, table.name, " dots of 8-bit integers");
        }
    require(sums.intact(), table.name, " dots of 8-bit integers: wrote outside");
}

void pick(Random& random, const Int8Kernels& table) {
    constexpr int behind = 64;
    // Few of many: more stretches of a row than are listed at once.
    const bool sparse = random.chance(0.2);
    const int all = sparse ? random.from(6000, 12000) : random.from(1, 300), count = random.from(1, 9), offset = random.from(0, 20);
    std::vector<std::int32_t> list;
    const double share = sparse ? 0.02 : random.number() / 2 + 0.5;
    for (int i = 0; i < all; i++)
        if (random.chance(share)) list.push_back(i);
    const int n = static_cast<int>(list.size()), stride = n + behind;
    const Rows rows(random, count, offset + all + behind, true);
    Bytes to(random, static_cast<std::size_t>(count) * stride);
    table.pick(rows.begins.data(), offset, count, list.data(), n, to.data(), stride);
    for (int r = 0; r < count; r++) {
        for (int j = 0; j < n; j++) require(to[static_cast<std::size_t>(r) * stride + j] == rows.begins[r][offset + list[j]], table.name, " picked bytes: another one");
        for (int j = n; j % 4; j++) require(to[static_cast<std::size_t>(r) * stride + j] == 0, table.name, " picked bytes: a row is not filled up");
    }
    require(to.intact(), table.name, " picked bytes: wrote outside");
}

void finish(Random& random, const Int8Kernels& table) {
    const int width = random.from(1, 3 * table.row), positions = random.from(1, 40);
    const Finishing how(random, width);
    const Positions maps(random, positions, 1, width, false, false);
    Guarded<std::int32_t> sums(random, static_cast<std::size_t>(positions) * width);
    std::vector<const std::int32_t*> rows;
    for (int p = 0; p < positions; p++) rows.push_back(sums.data() + static_cast<std::ptrdiff_t>(p) * width);
    for (std::size_t i = 0; i < sums.size(); i++) sums[i] = random.chance(0.1) ? random.pick({-(1 << 29), 1 << 29}) : random.from(-(1 << 24), 1 << 24);
    table.finish({rows.data(), positions, how.bias.data(), width, how.finish, maps.outputs.data()});
    for (int p = 0; p < positions; p++) {
        for (int o = 0; o < width; o++) {
            const int found = maps.outputs[p][o], wanted = how.of(std::int64_t{rows[p][o]} + how.bias[o], o, nullptr);
            require(found == wanted, table.name, " finished rows of 8-bit integers: ", found, ", not ", wanted);
        }
        require(maps.out[p]->intact(), table.name, " finished rows of 8-bit integers: wrote outside");
    }
}

void windows(Random& random, const Int8Kernels& table) {
    const int channels = random.from(1, 140), count_y = random.chance(0.1) ? 40 : random.from(1, 4), count_x = random.from(1, 9), n = random.from(1, 5);
    const bool is_signed = random.chance(0.5), maximum = random.chance(0.5);
    const std::ptrdiff_t step_x = channels, step_y = static_cast<std::ptrdiff_t>(count_x + 2) * channels;
    Bytes from(random, static_cast<std::size_t>(count_y - 1) * step_y + static_cast<std::size_t>(count_x + n - 1) * channels);
    from.copy(bytes(random, from.size(), is_signed));
    Bytes to(random, static_cast<std::size_t>(n) * channels);
    Guarded<float> floats(random, static_cast<std::size_t>(n) * channels);
    const float factor = random.number();
    if (maximum)
        table.maxima({n, from.data(), channels, channels, count_y, count_x, step_y, step_x, channels, to.data(), true, 0, is_signed});
    else
        table.means({n, from.data(), channels, channels, count_y, count_x, step_y, step_x, channels, floats.data(), false, factor, is_signed});
    for (int w = 0; w < n; w++)
        for (int c = 0; c < channels; c++) {
            int most = -1000, sum = 0;
            for (int y = 0; y < count_y; y++)
                for (int x = 0; x < count_x; x++) {
                    const int at = value(from[static_cast<std::size_t>(w + x) * channels + y * step_y + c], is_signed);
                    most = std::max(most, at), sum += at;
                }
            const std::size_t i = static_cast<std::size_t>(w) * channels + c;
            if (maximum) require(value(to[i], is_signed) == most, table.name, " maxima of 8-bit integers");
            else require(floats[i] == static_cast<float>(sum) * factor, table.name, " means of 8-bit integers");
        }
    require(to.intact() && floats.intact(), table.name, " windows of 8-bit integers: wrote outside");
}

// Partial sums, completed or not, with multipliers of either sign.
void completion(Random& random, const Int8Kernels& table) {
    const int width = random.from(1, table.row), positions = random.from(1, 12), stride = width + random.from(0, 9);
    const bool added = random.chance(0.5);
    const Finishing closed(random, width), opened(random, width);
    for (const Finishing* f : {&closed, &opened})
        for (int o = 0; o < width; o++)
            if (random.chance(0.5)) f->multiplier[o] = -f->multiplier[o];
    const int mode = random.from(0, 2);  // nothing, everything or something is open
    const Positions maps(random, positions, 1, width, false, closed.finish.addend_signed);
    Guarded<std::int32_t> rest(random, static_cast<std::size_t>(positions) * stride), sums(random, static_cast<std::size_t>(positions) * width);
    Bytes open(random, static_cast<std::size_t>(positions) * width);
    for (std::size_t i = 0; i < rest.size(); i++) rest[i] = random.from(-(1 << 24), 1 << 24);
    for (std::size_t i = 0; i < sums.size(); i++) sums[i] = random.from(-(1 << 24), 1 << 24), open[i] = random.chance(0.5);
    std::vector<const std::int32_t*> sums_at;
    std::vector<const std::uint8_t*> open_at;
    for (int p = 0; p < positions; p++) sums_at.push_back(sums.data() + p * width), open_at.push_back(open.data() + p * width);
    Int8Completion a{};
    a.sums = sums_at.data();
    a.rest = mode > 0 ? rest.data() : nullptr, a.rest_stride = stride;
    a.open = mode == 2 ? open_at.data() : nullptr;
    a.closed = {closed.bias.data(), closed.multiplier.data(), closed.shift.data()};
    a.opened = {opened.bias.data(), opened.multiplier.data(), opened.shift.data()};
    a.addend = closed.finish.addend, a.addend_signed = closed.finish.addend_signed;
    a.low = closed.finish.low, a.high = closed.finish.high;
    a.addends = added ? maps.addends.data() : nullptr;
    a.outputs = maps.outputs.data(), a.width = width;
    table.complete(a, positions);
    for (int p = 0; p < positions; p++) {
        for (int o = 0; o < width; o++) {
            const bool on = mode == 1 || (mode == 2 && open_at[p][o]);
            const Finishing& f = on ? opened : closed;
            const std::int64_t sum = std::int64_t{sums_at[p][o]} + (on ? rest[static_cast<std::size_t>(p) * stride + o] : 0) + f.bias[o];
            std::int64_t wanted = brought(sum, f.multiplier[o], f.shift[o]);
            if (added) wanted += brought(value(maps.addends[p][o], a.addend_signed), a.addend.multiplier, a.addend.shift);
            wanted = std::clamp<std::int64_t>(wanted, a.low, a.high);
            require(maps.outputs[p][o] == static_cast<std::uint8_t>(wanted), table.name, " completion of 8-bit integers: ", int{maps.outputs[p][o]}, ", not ", wanted);
        }
        require(maps.out[p]->intact(), table.name, " completion of 8-bit integers: wrote outside its output");
    }
}

void rows(Random& random, const Int8Kernels& table) {
    const int n = random.from(1, 200);
    const auto term = [&](const Bytes& bytes, bool is_signed) {
        const Rescale rescale{random.from(0, (1 << 15) - 1), random.chance(0.5) ? random.from(1, 46) : random.from(12, 16)};
        return Int8Sum::Term{random.chance(0.2) ? nullptr : bytes.data(), random.from(0, 1), is_signed, rescale};
    };
    const bool first = random.chance(0.5), second = random.chance(0.5), to_signed = random.chance(0.5);
    Bytes a(random, n), b(random, n), to(random, n);
    a.copy(bytes(random, n, first)), b.copy(bytes(random, n, second));
    Int8Sum sum{term(a, first), term(b, second), to_signed ? random.from(-127, 0) : 0, random.from(0, to_signed ? 127 : 255)};
    table.sum(sum, to.data(), n);
    const auto of = [&](const Int8Sum::Term& t, int i) {
        return t.from ? brought(value(t.from[i * t.step], t.is_signed), t.rescale.multiplier, t.rescale.shift) : 0;
    };
    for (int i = 0; i < n; i++)
        require(to[i] == static_cast<std::uint8_t>(std::clamp<std::int64_t>(of(sum.a, i) + of(sum.b, i), sum.low, sum.high)), table.name, " sum of 8-bit integers");
    Guarded<float> floats(random, n);
    const float factor = std::ldexp(1.0f, random.from(-3, 3));
    for (int i = 0; i < n; i++)
        floats[i] = random.chance(0.1) ? random.pick({NAN, 1e30f, -1e30f, INFINITY, 0.5f / factor, 1.5f / factor, -2.5f / factor}) : 300 * random.number();
    const int low = to_signed ? -127 : 0, high = to_signed ? 127 : 255;
    table.quantize(floats.data(), factor, low, high, to.data(), n);
    for (int i = 0; i < n; i++) {
        const float x = std::isnan(floats[i]) ? 0 : std::clamp(floats[i] * factor, static_cast<float>(low), static_cast<float>(high));
        require(value(to[i], to_signed) == static_cast<int>(std::nearbyint(x)), table.name, " to 8-bit integers: ", value(to[i], to_signed), ", not ", x);
    }
    table.dequantize(to.data(), to_signed, factor, floats.data(), n);
    for (int i = 0; i < n; i++) require(floats[i] == static_cast<float>(value(to[i], to_signed)) * factor, table.name, " from 8-bit integers");
    Bytes entries(random, 256);
    entries.copy(bytes(random, 256, false));
    table.look_up(entries.data(), a.data(), to.data(), n);
    for (int i = 0; i < n; i++) require(to[i] == entries[a[i]], table.name, " looks up 8-bit integers");
    require(to.intact() && floats.intact(), table.name, " rows of 8-bit integers: wrote outside");
}

}  // namespace

void test_int8(Random& random) {
    for (const char* const* name = available_int8_kernels(); *name; name++) {
        const Int8Kernels& table = *find_int8_kernels(*name);
        for (int i = 0; i < 10; i++) product(random, table);
        for (int i = 0; i < 5; i++) depthwise(random, table);
        for (int i = 0; i < 5; i++) completion(random, table);
        for (int i = 0; i < 3; i++) pack(random, table), windows(random, table), rows(random, table);
        if (!table.columns[0]) continue;
        for (int vectors = 1; vectors <= max_vectors; vectors++) columns(random, table, vectors);
        dots(random, table), pick(random, table), finish(random, table);
    }
}

}  // namespace convgate::testing
