// Winograd's kernels in integers: squares of 2x2 outputs are the definition's, to the bit, and nothing else is touched.
#include <memory>

#include "int8_testing.h"

namespace convgate::testing {
namespace {

// The 4x4 patch of each square, in memory of its own.
struct PatchMaps {
    int channels, gap, step_x, step_y;
    std::vector<std::unique_ptr<Bytes>> memory;
    std::vector<const std::uint8_t*> from;
    PatchMaps(Random& random, int squares, int channels, bool is_signed)
        : channels(channels), gap(random.from(0, 5)), step_x(channels + gap), step_y(4 * step_x + random.from(0, 9)) {
        for (int s = 0; s < squares; s++) {
            memory.push_back(std::make_unique<Bytes>(random, 3 * step_y + 3 * step_x + channels));
            memory.back()->copy(bytes(random, memory.back()->size(), is_signed));
            from.push_back(memory.back()->data());
        }
    }
    std::uint8_t at(int square, int y, int x, int channel) const { return from[square][y * step_y + x * step_x + channel]; }
};

template <typename T>
void require_intact(const Guarded<T>& memory, const std::string& where) {
    require(memory.intact(), where, ": wrote outside");
}

void convolve(Random& random, const Int8Kernels& table) {
    const bool greatest = random.chance(0.02);  // sums, of which four times still fit
    const int row = table.row, shorts = 2 * table.lanes, squares = random.from(1, greatest ? 3 : 40), width = random.from(1, row);
    const int ins = greatest ? 1827 : random.chance(0.1) ? 0 : random.chance(0.2) ? random.from(70, 200) : random.from(1, 40), all = ins + random.from(0, 9);
    const bool is_signed = !greatest && random.chance(0.5), listed = random.chance(0.5), added = random.chance(0.5);
    const int room = squares | 1, blocks = (std::max(ins, 1) + shorts - 1) / shorts;
    const std::string where = std::string(table.name) + " squares of 8-bit integers";
    const PatchMaps maps(random, squares, ins, is_signed);
    for (const std::unique_ptr<Bytes>& map : maps.memory)
        if (greatest) std::fill_n(map->data(), map->size(), std::uint8_t{255});

    Guarded<std::int16_t> inputs(random, static_cast<std::size_t>(elements) * blocks * room * shorts);
    std::fill_n(inputs.data(), inputs.size(), std::int16_t{-1});
    table.patches({maps.from.data(), maps.step_y, maps.step_x, squares, room, ins, is_signed, inputs.data()});
    require_intact(inputs, where + ", inputs");

    // Three lines of taps, each of three taps' rows of all inputs; listed ones are any of these.
    const std::size_t line = static_cast<std::size_t>(3) * all * row;
    Guarded<std::int8_t> weights(random, 3 * line);
    weights.copy(weights_of(random, weights.size(), random.chance(0.3)));
    if (greatest) std::fill_n(weights.data(), weights.size(), random.pick<std::int8_t>({-127, 127}));
    Guarded<std::int32_t> list(random, 3 * ins);
    for (int r = 0; r < 3 * ins; r++) list[r] = random.from(0, 3 * all - 1);
    const auto weight = [&](int y, int x, int i, int o) {
        const int r = x * ins + i;
        return weights[y * line + static_cast<std::size_t>(listed ? list[r] : r) * row + table.place(o)];
    };

    Guarded<std::int32_t> products(random, static_cast<std::size_t>(elements) * room * row);
    std::fill_n(products.data(), products.size(), 12345);  // which what is first must not add to
    const int cut = random.chance(0.5) ? random.from(0, ins / shorts) * shorts : 0;
    for (const auto& [begin, end] : {std::pair{0, cut}, {cut, ins}}) {
        const int count = end - begin;
        const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(count + random.from(0, 2)) * row;
        Guarded<std::int16_t> transformed(random, elements * stride);
        table.element_weights({weights.data(), static_cast<std::ptrdiff_t>(line), listed ? list.data() : nullptr, ins, begin, count, width, transformed.data(), stride});
        require_intact(transformed, where + ", weights");
        for (int e = 0; e < elements; e++)
            table.element({inputs.data() + (static_cast<std::size_t>(e) * blocks * shorts + begin) * room, squares, room, count, transformed.data() + e * stride, width,
                           begin == 0, products.data() + static_cast<std::size_t>(e) * room * row});
    }
    require_intact(products, where + ", products");

    const Finishing how(random, row);
    std::vector<std::unique_ptr<Bytes>> add, out;
    std::vector<const std::uint8_t*> addends;
    std::vector<std::uint8_t*> outputs;
    for (int p = 0; p < 4 * squares; p++) {
        add.push_back(std::make_unique<Bytes>(random, width)), out.push_back(std::make_unique<Bytes>(random, width));
        add.back()->copy(bytes(random, width, how.finish.addend_signed));
        addends.push_back(add.back()->data()), outputs.push_back(out.back()->data());
    }
    table.squares({products.data(), squares, room, how.bias.data(), width, how.finish, added ? addends.data() : nullptr, outputs.data()});
    for (int p = 0; p < 4 * squares; p++) {
        const int square = p / 4, y = p % 4 / 2, x = p % 2;
        for (int o = 0; o < width; o++) {
            std::int64_t sum = how.bias[o];
            for (int ky = 0; ky < 3; ky++)
                for (int kx = 0; kx < 3; kx++)
                    for (int i = 0; i < ins; i++) sum += value(maps.at(square, y + ky, x + kx, i), is_signed) * weight(ky, kx, i, o);
            const int found = outputs[p][o], wanted = how.of(sum, o, added ? addends[p] + o : nullptr);
            require(found == wanted, where, ": ", found, ", not ", wanted, " (sum ", sum, ", output ", o, " of ", width, ", ", ins, " inputs)");
        }
        require_intact(*out[p], where);
    }
}

}  // namespace

void test_int8_winograd(Random& random) {
    for (const char* const* name = available_int8_kernels(); *name; name++) {
        const Int8Kernels& table = *find_int8_kernels(*name);
        if (table.element) convolve(random, table);
    }
}

}  // namespace convgate::testing
