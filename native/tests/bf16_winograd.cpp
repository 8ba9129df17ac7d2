// Winograd's kernels for bfloat16: what float32's give of the same numbers, rounded once where a map is written.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "../kernels/bf16_numbers.h"
#include "testing.h"

namespace convgate::testing {
namespace {

// Numbers as they are stored, and the same as floats.
struct Both {
    Guarded<Bf16> halves;
    Guarded<float> floats;
    Both(Random& random, std::size_t n) : halves(random, n), floats(random, n) {
        for (std::size_t i = 0; i < n; i++) {
            const float x = random.chance(0.01) ? random.pick({NAN, INFINITY, -0.0f}) : random.number();
            halves[i] = rounded(x), floats[i] = widened(halves[i]);
        }
    }
};

template <typename T>
std::vector<T*> rows_of(const Guarded<T>& from, int count, std::ptrdiff_t step) {
    std::vector<T*> rows;
    for (int i = 0; i < count; i++) rows.push_back(from.data() + i * step);
    return rows;
}
template <typename T>
std::vector<const T*> read_only(const std::vector<T*>& rows) {
    return {rows.begin(), rows.end()};
}

float number(float x) { return x; }
float number(Bf16 x) { return widened(x); }

// Whichever NaN.
template <typename T>
void require_same(const Guarded<T>& found, const Guarded<T>& wanted, const std::string& where) {
    require(found.intact() && wanted.intact(), where, ": wrote outside");
    for (std::size_t i = 0; i < found.size(); i++) {
        const float x = number(found[i]), y = number(wanted[i]);
        require(x == y || (std::isnan(x) && std::isnan(y)), where, ": ", x, " is not float32's ", y);
    }
}

void patches(Random& random, const Bf16Kernels& table, const std::string& where) {
    const int squares = random.from(1, 9), room = squares + random.from(0, 2), channels = random.from(1, 50), step_x = channels + random.from(0, 9);
    const int step_y = 3 * step_x + random.from(0, 9), reach = 3 * step_y + 3 * step_x + channels;
    const Both maps(random, static_cast<std::size_t>(squares) * reach);
    const std::size_t size = static_cast<std::size_t>(elements) * room * table.lanes * ceil_div(channels, table.lanes);
    const Guarded<float> to(random, size), wanted(random, size);
    for (const Guarded<float>* all : {&to, &wanted}) std::fill_n(all->data(), size, 1.0f);
    table.patches({read_only(rows_of(maps.halves, squares, reach)).data(), step_y, step_x, squares, room, channels, to.data()});
    table.floats->patches({read_only(rows_of(maps.floats, squares, reach)).data(), step_y, step_x, squares, room, channels, wanted.data()});
    require_same(to, wanted, where + " patches");
}

void element_weights(Random& random, const Bf16Kernels& table, const std::string& where) {
    const int row = random.from(1, table.vectors) * table.lanes, count = random.from(0, 9), rows = count + random.from(1, 5);
    const std::ptrdiff_t tap_stride = static_cast<std::ptrdiff_t>(rows) * row + random.from(0, 9), stride = static_cast<std::ptrdiff_t>(count) * row + random.from(0, 9);
    const Both weights(random, 8 * tap_stride + static_cast<std::size_t>(rows) * row);
    const Guarded<std::int32_t> list(random, count);
    for (int n = 0; n < count; n++) list[n] = random.from(0, rows - 1);
    const std::int32_t* const listed = random.chance(0.5) ? list.data() : nullptr;
    const Guarded<float> to(random, elements * stride), wanted(random, elements * stride);
    for (const Guarded<float>* all : {&to, &wanted}) std::fill_n(all->data(), all->size(), 1.0f);
    table.element_weights({weights.halves.data(), tap_stride, listed, count, row, to.data(), stride});
    table.floats->element_weights({weights.floats.data(), tap_stride, listed, count, row, wanted.data(), stride});
    require_same(to, wanted, where + " weights of elements");
}

void squares(Random& random, const Bf16Kernels& table, const std::string& where) {
    const bool keeps = random.chance(0.5), adds = random.chance(0.5);
    const int squares = random.from(1, 9), room = squares + random.from(0, 2), row = random.from(1, keeps ? table.vectors : 5) * table.lanes, width = random.from(1, row);
    const Both products(random, static_cast<std::size_t>(elements) * room * row), bias(random, row), addends(random, static_cast<std::size_t>(4) * squares * width);
    std::vector<std::int32_t> lanes(row);
    std::iota(lanes.begin(), lanes.end(), 0);
    for (int i = 0; i < row - width; i++) lanes.erase(lanes.begin() + random.from(0, static_cast<int>(lanes.size()) - 1));
    const std::int32_t* const kept = keeps ? lanes.data() : nullptr;
    const Bf16Bounds bounds = random.pick({Bf16Bounds{-INFINITY, INFINITY}, Bf16Bounds{0, INFINITY}, Bf16Bounds{0, 6}});
    const Activation activation = bounds.least < 0 ? Activation::none : bounds.most == 6 ? Activation::relu6 : Activation::relu;
    const Guarded<Bf16> to(random, addends.halves.size()), wanted(random, addends.halves.size());
    const Guarded<float> unrounded(random, addends.halves.size());
    const auto added = read_only(rows_of(addends.halves, 4 * squares, width));
    const auto added_floats = read_only(rows_of(addends.floats, 4 * squares, width));
    table.squares({products.floats.data(), squares, room, row, bias.floats.data(), adds ? added.data() : nullptr, rows_of(to, 4 * squares, width).data(), width, kept, bounds});
    table.floats->squares({products.floats.data(), squares, room, row, bias.floats.data(), adds ? added_floats.data() : nullptr,
                           rows_of(unrounded, 4 * squares, width).data(), width, kept, activation});
    for (std::size_t i = 0; i < to.size(); i++) wanted[i] = rounded(unrounded[i]);
    require(unrounded.intact(), where, " squares: float32's wrote outside");
    require_same(to, wanted, where + " squares");
}

}  // namespace

void test_bf16_winograd(Random& random) {
    for (const char* const* name = available_bf16_kernels(); *name; name++) {
        const Bf16Kernels& table = *find_bf16_kernels(*name);
        if (!table.patches) continue;
        const std::string where = std::string(table.name) + " in bfloat16,";
        require(table.lanes == table.floats->lanes && table.vectors <= table.floats->vectors, where, " other vectors than float32's");
        patches(random, table, where), element_weights(random, table, where), squares(random, table, where);
    }
}

}  // namespace convgate::testing
