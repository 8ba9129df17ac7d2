// Every kernel of every table that this machine has, against the scalar table, in memory that ends where the arguments say.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "../kernels/table.h"
#include "testing.h"

namespace convgate::testing {
namespace {

using Floats = Guarded<float>;

constexpr Activation activations[] = {Activation::none, Activation::relu,    Activation::relu6,      Activation::hardswish,
                                      Activation::silu, Activation::sigmoid, Activation::hardsigmoid};

Function any_function(Random& random, Activation kind) {
    Function f{kind, random.number(), random.number(), 2 * random.number()};
    if (kind == Activation::softplus) f.a = random.pick({0.5f, 1.0f, 3.0f}), f.b = random.pick({2.0f, 20.0f});
    if (kind == Activation::clamp) f.b = f.a + std::abs(f.b);
    return f;
}

class KernelTest {
public:
    KernelTest(const Kernels& table, Random& random) : table(table), random(random) {}

    void all() {
        for (int vectors = 1; vectors <= table.vectors; vectors++) {
            for (int tile = 1; tile <= table.tile[vectors - 1]; tile++) product(vectors, tile);
            columns(vectors);
            element(vectors);
        }
        patches();
        element_weights();
        squares();
        transpose();
        dot();
        depthwise();
        complete();
        windows();
        pack_columns();
        rows();
        functions();
        arithmetic();
        blend();
    }

private:
    // Arrays of the same contents, one for the kernel and one for the scalar kernel to write. Where a kernel must not
    // write, they stay the same.
    struct Twice {
        Floats tested, expected;
        Twice(Random& random, std::size_t n) : tested(random, n), expected(random, n) {
            const std::vector<float> values = numbers(random, n);
            tested.copy(values);
            expected.copy(values);
        }
    };

    int size(int most) { return random.chance(0.1) ? random.from(0, std::min(2, most)) : random.from(0, most); }
    Activation activation() { return activations[random.from(0, 6)]; }

    // `terms`: how many products were summed in another order.
    void compare(const char* kernel, const Twice& out, int terms, const std::string& arguments) {
        for (std::size_t i = 0; i < out.tested.size(); i++) {
            const float a = out.tested[i], b = out.expected[i];
            require(std::abs(a - b) <= 1e-6f * static_cast<float>(terms + 4), table.name, " ", kernel, " (", arguments,
                    "): element ", i, " of ", out.tested.size(), " is ", a, ", the scalar kernel's ", b);
        }
        require(out.tested.intact(), table.name, " ", kernel, " (", arguments, "): wrote outside its output");
    }

    template <typename T>
    std::string text(std::initializer_list<T> values) {
        std::ostringstream out;
        for (const auto& value : values) out << value << ' ';
        return out.str();
    }

    std::vector<int> shuffled(int n) {
        std::vector<int> order(n);
        std::iota(order.begin(), order.end(), 0);
        for (int i = n; i-- > 1;) std::swap(order[i], order[random.from(0, i)]);
        return order;
    }

    // `count` rows of `length` floats one after another in `memory`, in any order.
    template <typename Pointer>
    std::vector<Pointer> scattered(const Floats& memory, int count, int length) {
        std::vector<Pointer> rows;
        for (const int i : shuffled(count)) rows.push_back(memory.data() + static_cast<std::ptrdiff_t>(i) * length);
        return rows;
    }

    std::vector<float*> same_rows(const std::vector<float*>& rows, const Floats& from, const Floats& to) {
        std::vector<float*> moved;
        for (float* row : rows) moved.push_back(to.data() + (row - from.data()));
        return moved;
    }

    struct Taps {
        std::vector<std::ptrdiff_t> at;
        int reach;  // floats that a row must have
    };
    Taps taps(int count, int length) {
        Taps taps{{}, length};
        for (int t = 0; t < count; t++) {
            taps.at.push_back(random.from(0, 40));
            taps.reach = std::max<int>(taps.reach, static_cast<int>(taps.at.back()) + length);
        }
        return taps;
    }

    // Only fetched, wherever that is.
    Ahead ahead(const float* weights, const std::int32_t* rows, int count) {
        return {weights, random.from(0, 100), rows, random.from(0, count)};
    }

    void product(int vectors, int tile) {
        const int row = vectors * table.lanes, position = random.from(0, 3), positions = position + tile;
        const int end = size(40), begin = end ? random.from(0, end) : 0, tap_count = random.from(1, 4);
        const bool listed = random.chance(0.5), first = random.chance(0.5), last = random.chance(0.6);
        const int width = random.chance(0.3) ? row : random.from(1, row), weight_rows = listed ? random.from(1, 50) : end;
        const Taps tap = taps(tap_count, end);
        const Floats inputs(random, static_cast<std::size_t>(positions) * tap.reach), bias(random, row);
        const std::ptrdiff_t tap_stride = static_cast<std::ptrdiff_t>(weight_rows) * row + random.from(0, 1) * row;
        const Floats weights(random,
                             weight_rows ? (tap_count - 1) * tap_stride + static_cast<std::size_t>(weight_rows) * row : 0);
        const Floats addends(random, static_cast<std::size_t>(positions) * width);
        for (const Floats* a : {&inputs, &bias, &weights, &addends}) a->copy(numbers(random, a->size()));
        const Guarded<std::int32_t> list(random, end);
        for (int i = 0; i < end; i++) list[i] = random.from(0, std::max(weight_rows - 1, 0));
        const Twice outputs(random, static_cast<std::size_t>(positions) * width);
        const Twice accumulators(random, static_cast<std::size_t>(positions) * row);
        const auto rows = scattered<const float*>(inputs, positions, tap.reach),
                   added = scattered<const float*>(addends, positions, width);
        const auto to = scattered<float*>(outputs.tested, positions, width);
        const auto expected_to = same_rows(to, outputs.tested, outputs.expected);
        const bool adds = random.chance(0.5);
        const Activation function = activation();
        Product a{};
        a.rows = rows.data();
        a.taps = tap.at.data();
        a.tap_count = tap_count;
        a.begin = begin;
        a.end = end;
        a.weights = weights.data();
        a.tap_stride = tap_stride;
        a.weight_rows = listed ? list.data() : nullptr;
        a.ahead = ahead(weights.data(), listed ? list.data() : nullptr, end);
        a.ahead_tap = random.from(-100, 100);
        a.first = first;
        a.last = last;
        a.accumulators = accumulators.tested.data();
        a.bias = bias.data();
        a.addends = adds ? added.data() : nullptr;
        a.outputs = to.data();
        a.width = width;
        a.activation = function;
        table.product[vectors - 1][tile - 1](a, position);

        // The scalar kernel computes one output channel at one position.
        for (int o = 0; o < row; o++) {
            std::vector<float> column;
            for (int t = 0; t < tap_count; t++)
                for (int r = 0; r < weight_rows; r++)
                    column.push_back(weights[t * tap_stride + static_cast<std::ptrdiff_t>(r) * row + o]);
            for (int p = position; p < positions; p++) {
                std::vector<float> kept(p + 1);
                float& accumulator = accumulators.expected[static_cast<std::size_t>(p) * row + o];
                kept[p] = accumulator;
                const bool writes = last && o < width;
                std::vector<float*> one(p + 1);
                std::vector<const float*> addend(p + 1);
                one[p] = writes ? expected_to[p] + o : nullptr;
                addend[p] = writes ? added[p] + o : bias.data();
                Product b = a;
                b.weights = column.data();
                b.tap_stride = weight_rows;
                b.accumulators = kept.data();
                b.bias = bias.data() + o;
                b.addends = adds ? addend.data() : nullptr;
                b.outputs = one.data();
                b.width = writes;
                scalar_kernels.product[0][0](b, p);
                accumulator = kept[p];
            }
        }
        const std::string arguments = text({vectors, tile, position, begin, end, tap_count, width, +listed, +first, +last,
                                            +adds, static_cast<int>(function)});
        compare("product", outputs, tap_count * (end - begin), arguments);
        compare("product's accumulators", accumulators, tap_count * (end - begin), arguments);
    }

    // Squares' inputs lie in blocks of as many channels as there are lanes; the scalar kernel's in blocks of one.
    int blocks(int channels) const { return (channels + table.lanes - 1) / table.lanes; }

    void patches() {
        const int squares = size(9), room = squares + random.from(0, 2), channels = size(50), step_x = channels + random.from(0, 20);
        const int step_y = 3 * step_x + random.from(0, 40), reach = 3 * step_y + 3 * step_x + channels;
        const Floats inputs(random, static_cast<std::size_t>(squares) * reach);
        inputs.copy(numbers(random, inputs.size()));
        const auto from = scattered<const float*>(inputs, squares, reach);
        const std::size_t size = static_cast<std::size_t>(room) * table.lanes * blocks(channels);
        const Twice to(random, elements * size);
        table.patches({from.data(), step_y, step_x, squares, room, channels, to.tested.data()});
        std::vector<float> expected(static_cast<std::size_t>(elements) * squares * channels);
        scalar_kernels.patches({from.data(), step_y, step_x, squares, squares, channels, expected.data()});
        for (int e = 0; e < elements; e++)
            for (int c = 0; c < blocks(channels) * table.lanes; c++)
                for (int s = 0; s < squares; s++)
                    to.expected[e * size + (static_cast<std::size_t>(c / table.lanes) * room + s) * table.lanes + c % table.lanes] =
                        c < channels ? expected[(static_cast<std::size_t>(e) * channels + c) * squares + s] : 0;
        compare("patches", to, 4, text({squares, channels, step_x, step_y}));
    }

    void element_weights() {
        const int row = random.from(1, table.vectors) * table.lanes, count = size(9), rows = count + random.from(0, 5);
        const bool listed = random.chance(0.5);
        const std::ptrdiff_t tap_stride = static_cast<std::ptrdiff_t>(rows) * row + random.from(0, 9);
        const std::ptrdiff_t to_stride = static_cast<std::ptrdiff_t>(count) * row + random.from(0, 9);
        const Floats from(random, 8 * tap_stride + static_cast<std::size_t>(rows) * row);
        from.copy(numbers(random, from.size()));
        const Guarded<std::int32_t> list(random, count);
        for (int n = 0; n < count; n++) list[n] = random.from(0, rows - 1);
        const Twice to(random, count ? (elements - 1) * to_stride + static_cast<std::size_t>(count) * row : 0);
        ElementWeights a{from.data(), tap_stride, listed ? list.data() : nullptr, count, row, to.tested.data(), to_stride};
        table.element_weights(a);
        a.to = to.expected.data();
        scalar_kernels.element_weights(a);
        compare("element_weights", to, 4, text({row, count, rows, +listed}));
    }

    void element(int vectors) {
        const int row = vectors * table.lanes, squares = size(40), room = squares + random.from(0, 2), channels = size(50);
        const int begin = channels ? random.from(0, blocks(channels) - 1) * table.lanes : 0;
        const int end = random.from(begin, channels), weight_rows = end + random.from(1, 9);
        const bool listed = random.chance(0.5);
        const Floats inputs(random, static_cast<std::size_t>(blocks(channels)) * room * table.lanes);
        const Floats weights(random, static_cast<std::size_t>(weight_rows) * row);
        inputs.copy(numbers(random, inputs.size()));
        weights.copy(numbers(random, weights.size()));
        const Guarded<std::int32_t> list(random, end);
        for (int i = 0; i < end; i++) list[i] = random.from(0, weight_rows - 1);
        const Twice out(random, static_cast<std::size_t>(squares) * row);
        Element a{inputs.data(),
                  squares,
                  room,
                  begin,
                  end,
                  weights.data(),
                  listed ? list.data() : nullptr,
                  ahead(weights.data(), listed ? list.data() : nullptr, end - begin),
                  random.chance(0.5),
                  out.tested.data()};
        table.element[vectors - 1](a);
        std::vector<float> lane(static_cast<std::size_t>(end) * squares);
        for (int i = 0; i < end; i++)
            for (int s = 0; s < squares; s++)
                lane[static_cast<std::size_t>(i) * squares + s] =
                    inputs[(static_cast<std::size_t>(i / table.lanes) * room + s) * table.lanes + i % table.lanes];
        for (int o = 0; o < row; o++) {
            std::vector<float> column(weight_rows), kept(squares);
            for (int r = 0; r < weight_rows; r++) column[r] = weights[static_cast<std::size_t>(r) * row + o];
            for (int s = 0; s < squares; s++) kept[s] = out.expected[static_cast<std::size_t>(s) * row + o];
            Element b = a;
            b.inputs = lane.data();
            b.room = squares;
            b.weights = column.data();
            b.out = kept.data();
            scalar_kernels.element[0](b);
            for (int s = 0; s < squares; s++) out.expected[static_cast<std::size_t>(s) * row + o] = kept[s];
        }
        compare("element", out, end - begin, text({vectors, squares, channels, begin, end, weight_rows, +listed, +a.first}));
    }

    void squares() {
        const bool keeps = random.chance(0.5);
        const int squares = size(9), room = squares + random.from(0, 2), row = random.from(1, keeps ? table.vectors : 20) * table.lanes;
        const int width = random.from(1, row);
        const Floats from(random, static_cast<std::size_t>(elements) * room * row), bias(random, row);
        const Floats addends(random, static_cast<std::size_t>(4) * squares * width);
        for (const Floats* a : {&from, &bias, &addends}) a->copy(numbers(random, a->size()));
        const Twice outputs(random, static_cast<std::size_t>(4) * squares * width);
        const auto added = scattered<const float*>(addends, 4 * squares, width);
        const auto to = scattered<float*>(outputs.tested, 4 * squares, width);
        const auto expected_to = same_rows(to, outputs.tested, outputs.expected);
        const bool adds = random.chance(0.5);
        std::vector<std::int32_t> lanes(row);
        std::iota(lanes.begin(), lanes.end(), 0);
        for (int i = 0; i < row - width; i++) lanes.erase(lanes.begin() + random.from(0, static_cast<int>(lanes.size()) - 1));
        const Guarded<std::int32_t> kept(random, width);
        std::copy(lanes.begin(), lanes.end(), kept.data());
        Squares a{from.data(), squares, room, row, bias.data(), adds ? added.data() : nullptr, to.data(), width, keeps ? kept.data() : nullptr, activation()};
        table.squares(a);
        a.to = expected_to.data();
        scalar_kernels.squares(a);
        compare("squares", outputs, 16, text({squares, row, width, +adds, +keeps, static_cast<int>(a.activation)}));
    }

    void columns(int vectors) {
        const int lanes = vectors * table.lanes, rows = size(60), outputs = size(random.chance(0.2) ? 60 : 20);
        const int width = random.from(1, 30), stride = width + random.from(0, 20), panels = random.from(1, 3);
        const bool listed = random.chance(0.5);
        const int weight_rows = listed ? random.from(1, rows + 20) : rows;
        const Floats inputs(random, static_cast<std::size_t>(rows) * lanes);
        const int panel = weight_rows * stride;  // outputs may be of several panels of weights
        const Floats weights(random, weight_rows ? static_cast<std::size_t>(panels) * panel - (stride - width) : 0);
        inputs.copy(numbers(random, inputs.size()));
        weights.copy(numbers(random, weights.size()));
        const Guarded<std::int32_t> list(random, rows), channels(random, outputs);
        for (int r = 0; r < rows; r++) list[r] = random.from(0, weight_rows - 1);
        for (int o = 0; o < outputs; o++) channels[o] = random.from(0, panels - 1) * panel + random.from(0, width - 1);
        const Twice accumulators(random, static_cast<std::size_t>(outputs) * lanes);
        Columns a{};
        a.inputs = inputs.data();
        a.rows = rows;
        a.weights = weights.data();
        a.weight_stride = stride;
        a.weight_rows = listed ? list.data() : nullptr;
        a.columns = channels.data();
        a.outputs = outputs;
        a.ahead = ahead(weights.data(), listed ? list.data() : nullptr, rows);
        a.ahead_lines = random.from(1, 40);
        a.first = random.chance(0.5);
        a.accumulators = accumulators.tested.data();
        table.columns[vectors - 1](a);
        for (int p = 0; p < lanes; p++) {
            std::vector<float> lane(rows), kept(outputs);
            for (int r = 0; r < rows; r++) lane[r] = inputs[static_cast<std::size_t>(r) * lanes + p];
            for (int o = 0; o < outputs; o++) kept[o] = accumulators.expected[static_cast<std::size_t>(o) * lanes + p];
            Columns b = a;
            b.inputs = lane.data();
            b.accumulators = kept.data();
            scalar_kernels.columns[0](b);
            for (int o = 0; o < outputs; o++) accumulators.expected[static_cast<std::size_t>(o) * lanes + p] = kept[o];
        }
        compare("columns", accumulators, rows, text({vectors, rows, outputs, stride, +listed, +a.first}));
    }

    void transpose() {
        const int count = random.chance(0.3) ? 3 : size(40), n = size(70), offset = random.from(0, 5);
        const int stride = count + (random.chance(0.5) ? 0 : random.from(1, 5));
        const Floats from(random, static_cast<std::size_t>(count) * (offset + n));
        from.copy(numbers(random, from.size()));
        const auto rows = scattered<const float*>(from, count, offset + n);
        const Twice to(random, n && count ? static_cast<std::size_t>(n - 1) * stride + count : 0);
        table.transpose(rows.data(), offset, count, n, to.tested.data(), stride);
        scalar_kernels.transpose(rows.data(), offset, count, n, to.expected.data(), stride);
        compare("transpose", to, 0, text({count, n, offset, stride}));
    }

    void dot() {
        const int positions = size(9), width = size(14), tap_count = random.from(1, 4), length = size(50);
        const Taps tap = taps(tap_count, length);
        const Floats inputs(random, static_cast<std::size_t>(positions) * tap.reach), bias(random, width);
        const Floats weights(random, static_cast<std::size_t>(width) * tap_count * length),
            addends(random, static_cast<std::size_t>(positions) * width);
        for (const Floats* a : {&inputs, &bias, &weights, &addends}) a->copy(numbers(random, a->size()));
        const Twice outputs(random, static_cast<std::size_t>(positions) * width);
        const auto rows = scattered<const float*>(inputs, positions, tap.reach),
                   added = scattered<const float*>(addends, positions, width);
        const auto pointers = scattered<const float*>(weights, width, tap_count * length);
        const auto to = scattered<float*>(outputs.tested, positions, width);
        const bool adds = random.chance(0.5);
        Dot a{rows.data(),     tap.at.data(), tap_count, length,
              pointers.data(), bias.data(),   width,     adds ? added.data() : nullptr,
              to.data(),       activation()};
        table.dot(a, positions);
        const auto expected_to = same_rows(to, outputs.tested, outputs.expected);
        a.outputs = expected_to.data();
        scalar_kernels.dot(a, positions);
        compare("dot", outputs, tap_count * length,
                text({positions, width, tap_count, length, +adds, static_cast<int>(a.activation)}));
    }

    void depthwise() {
        const int positions = size(9), channels = size(50);
        const bool slides = random.chance(0.5);
        const int tap_count = slides ? 9 : random.from(1, 9);
        Taps tap = taps(tap_count, channels);
        const SlidingRows sliding(random, positions, channels);
        if (slides) tap.at = sliding.taps;
        const Floats inputs(random, slides ? sliding.size : static_cast<std::size_t>(positions) * tap.reach), bias(random, channels);
        const Floats weights(random, static_cast<std::size_t>(channels) * tap_count),
            addends(random, static_cast<std::size_t>(positions) * channels);
        for (const Floats* a : {&inputs, &bias, &weights, &addends}) a->copy(numbers(random, a->size()));
        const Twice outputs(random, static_cast<std::size_t>(positions) * channels);
        const auto rows = slides ? sliding.rows(inputs.data()) : scattered<const float*>(inputs, positions, tap.reach);
        const auto added = scattered<const float*>(addends, positions, channels);
        const auto to = scattered<float*>(outputs.tested, positions, channels);
        const bool adds = random.chance(0.5);
        Depthwise a{
            rows.data(), tap.at.data(), tap_count, channels, weights.data(), bias.data(), adds ? added.data() : nullptr,
            to.data(),   activation(),  slides ? sliding.sliding : Sliding{}};
        table.depthwise(a, positions);
        const auto expected_to = same_rows(to, outputs.tested, outputs.expected);
        a.outputs = expected_to.data();
        scalar_kernels.depthwise(a, positions);
        compare("depthwise", outputs, tap_count,
                text({positions, tap_count, channels, +adds, static_cast<int>(a.activation)}));
    }

    void complete() {
        const int positions = size(9), width = size(70), stride = width + random.from(0, 9);
        const auto columns = static_cast<std::size_t>(width), all = static_cast<std::size_t>(positions) * width;
        const Floats sums(random, all), rest(random, static_cast<std::size_t>(positions) * stride), addends(random, all);
        const Floats norms[4] = {{random, columns}, {random, columns}, {random, columns}, {random, columns}};
        for (const Floats* a : {&sums, &rest, &addends, &norms[0], &norms[1], &norms[2], &norms[3]}) a->copy(numbers(random, a->size()));
        const Guarded<std::uint8_t> masks(random, all);
        for (std::size_t i = 0; i < all; i++) masks[i] = random.chance(0.5);
        const Twice outputs(random, all);
        const auto from = scattered<const float*>(sums, positions, width), added = scattered<const float*>(addends, positions, width);
        const auto to = scattered<float*>(outputs.tested, positions, width);
        std::vector<const std::uint8_t*> open;
        for (int p = 0; p < positions; p++) open.push_back(masks.data() + static_cast<std::ptrdiff_t>(p) * width);
        const bool adds = random.chance(0.5), completes = random.chance(0.7), masked = random.chance(0.6);
        Completion a{from.data(), completes ? rest.data() : nullptr, stride, masked ? open.data() : nullptr,
                     norms[0].data(), norms[1].data(), norms[2].data(), norms[3].data(),
                     adds ? added.data() : nullptr, to.data(), width, activation()};
        table.complete(a, positions);
        const auto expected_to = same_rows(to, outputs.tested, outputs.expected);
        a.outputs = expected_to.data();
        scalar_kernels.complete(a, positions);
        compare("complete", outputs, 4, text({positions, width, stride, +adds, +completes, +masked, static_cast<int>(a.activation)}));
    }

    void windows() {
        const int windows = random.from(1, 5), channels = size(50), count_y = random.from(1, 4), count_x = random.from(1, 4);
        const int step_x = channels + random.from(0, 20), step_y = count_x * step_x + random.from(0, 20);
        const int from_step = random.from(0, 3) * step_x, to_step = channels + random.from(0, 20);
        const std::size_t one = static_cast<std::size_t>(count_y - 1) * step_y + (count_x - 1) * step_x + channels;
        const Floats from(random, one + (windows - 1) * from_step);
        from.copy(numbers(random, from.size()));
        const Twice to(random, (windows - 1) * to_step + channels);
        Windows a{windows, from.data(),      from_step, to_step,  count_y, count_x, step_y, step_x, channels, to.tested.data(),
                  random.chance(0.5), random.number()};
        table.windows(a);
        a.to = to.expected.data();
        scalar_kernels.windows(a);
        compare("windows", to, count_y * count_x, text({windows, channels, count_y, count_x, +a.maximum}));
    }

    void pack_columns() {
        const int n = size(table.vectors * table.lanes), rows = size(12),
                  source_rows = random.from(std::max(rows, 1), rows + 8);
        const int stride = std::max(n, 1) + random.from(0, 8), gap = random.pick({1, 1, 2, 5, 100});
        const bool listed = random.chance(0.5);
        const Guarded<std::int32_t> columns(random, n), list(random, rows);
        int column = -1;
        for (int j = 0; j < n; j++) columns[j] = column += random.from(1, gap);
        const int from_stride = column + 1 + random.from(0, 30);
        for (int r = 0; r < rows; r++) list[r] = random.from(0, source_rows - 1);
        // The last row ends with its last column.
        const Floats from(random, static_cast<std::size_t>(source_rows - 1) * from_stride + column + 1);
        from.copy(numbers(random, from.size()));
        const Twice to(random, rows ? static_cast<std::size_t>(rows - 1) * stride + n : 0);
        const std::int32_t* rows_list = listed ? list.data() : nullptr;
        table.pack_columns(from.data(), from_stride, rows_list, rows, columns.data(), n, to.tested.data(), stride);
        scalar_kernels.pack_columns(from.data(), from_stride, rows_list, rows, columns.data(), n, to.expected.data(), stride);
        compare("pack_columns", to, 0, text({n, rows, source_rows, stride, from_stride, gap, +listed}));
    }

    // To 2e-6 of the result, however small; not a number stays one.
    void functions() {
        for (int kind = 0; kind < activation_count; kind++) {
            const Function function = any_function(random, static_cast<Activation>(kind));
            const int n = size(70);
            const Floats a(random, n);
            a.copy(numbers(random, n));
            // Where GELUs are small, an exponent's rounding is all that is left of them.
            const bool gelu = function.kind == Activation::gelu || function.kind == Activation::gelu_tanh;
            for (int i = 0; i < n; i++) a[i] *= random.pick({1e-6f, 0.01f, 1.0f, 3.0f, gelu ? 3.0f : 20.0f});
            if (n > 0 && random.chance(0.3)) a[random.from(0, n - 1)] = NAN;
            const Twice to(random, n);
            table.apply(to.tested.data(), a.data(), n, function);
            scalar_kernels.apply(to.expected.data(), a.data(), n, function);
            for (int i = 0; i < n; i++) {
                const float x = to.tested[i], y = to.expected[i];
                require(std::isnan(a[i]) ? std::isnan(x) : std::abs(x - y) <= 2e-6f * std::abs(y) + 1e-30f, table.name,
                        " apply ", kind, " (", function.a, ' ', function.b, ' ', function.c, "): ", x, " for ", a[i],
                        ", the scalar kernel's ", y);
            }
            require(to.tested.intact(), table.name, " apply ", kind, ": wrote outside its output");
        }
    }

    void arithmetic() {
        for (const Arithmetic function : {Arithmetic::divide, Arithmetic::maximum, Arithmetic::minimum}) {
            const int n = size(70), a_step = random.from(0, 1), b_step = random.from(0, 1);
            const Floats a(random, a_step ? n : 1), b(random, b_step ? n : 1);
            a.copy(numbers(random, a.size()));
            b.copy(numbers(random, b.size()));
            for (std::size_t i = 0; i < b.size(); i++) b[i] += b[i] > 0 ? 1 : -1;
            const Twice to(random, n);
            table.arithmetic(to.tested.data(), a.data(), a_step, b.data(), b_step, n, function);
            scalar_kernels.arithmetic(to.expected.data(), a.data(), a_step, b.data(), b_step, n, function);
            compare("arithmetic", to, 0, text({n, a_step, b_step, static_cast<int>(function)}));
        }
    }

    void blend() {
        const int n = size(70);
        const Floats maps(random, 4 * n), weights(random, 4), slopes(random, n);
        for (const Floats* array : {&maps, &weights, &slopes}) array->copy(numbers(random, array->size()));
        const float* const from[] = {maps.data(), maps.data() + n, maps.data() + 2 * n, maps.data() + 3 * n};
        const Twice to(random, n), other(random, n);
        table.blend(to.tested.data(), from, weights.data(), n);
        scalar_kernels.blend(to.expected.data(), from, weights.data(), n);
        compare("blend", to, 4, text({n}));
        table.prelu(other.tested.data(), maps.data(), slopes.data(), n);
        scalar_kernels.prelu(other.expected.data(), maps.data(), slopes.data(), n);
        compare("prelu", other, 0, text({n}));
        over_channels(maps, n);
    }

    void over_channels(const Floats& maps, int n) {
        const Twice sums(random, n), normed(random, n), shares(random, n);
        const float *a = maps.data(), *b = maps.data() + n, *c = maps.data() + 2 * n;
        table.deviations(sums.tested.data(), a, b, n);
        scalar_kernels.deviations(sums.expected.data(), a, b, n);
        compare("deviations", sums, 4, text({n}));
        if (n == 0) return;
        table.normalize(normed.tested.data(), a, b, c, n, 0.1f);
        scalar_kernels.normalize(normed.expected.data(), a, b, c, n, 0.1f);
        compare("normalize", normed, n, text({n}));
        table.softmax(shares.tested.data(), a, n);
        scalar_kernels.softmax(shares.expected.data(), a, n);
        compare("softmax", shares, 4, text({n}));
        for (const bool maximum : {false, true}) {
            const float x = table.reduce(a, n, maximum), y = scalar_kernels.reduce(a, n, maximum);
            require(std::abs(x - y) <= 1e-6f * static_cast<float>(n), table.name, " reduce: ", x, ", the scalar kernel's ", y);
        }
        maps[random.from(0, n - 1)] = NAN;
        require(std::isnan(table.reduce(a, n, true)), table.name, " reduce: forgets what is not a number");
    }

    void rows() {
        for (const Activation function : activations) {
            const int n = size(70);
            const Floats a(random, n), b(random, n), c(random, n);
            for (const Floats* array : {&a, &b, &c}) {
                array->copy(numbers(random, n));
                for (int i = 0; i < n; i++) array->data()[i] *= random.pick({1.0f, 4.0f, 20.0f});
            }
            const std::string arguments = text({n, static_cast<int>(function)});
            // Into another array, and into the first argument.
            for (const bool in_place : {false, true}) {
                const auto run = [&](const char* name, int terms, auto kernel) {
                    const Twice to(random, n);
                    if (in_place)
                        for (const Floats* array : {&to.tested, &to.expected}) std::copy_n(a.data(), n, array->data());
                    kernel(table, to.tested.data(), in_place ? to.tested.data() : a.data());
                    kernel(scalar_kernels, to.expected.data(), in_place ? to.expected.data() : a.data());
                    compare(name, to, terms, arguments);
                };
                run("activate", 20,
                    [&](const Kernels& k, float* to, const float* from) { k.activate(to, from, n, function); });
                run("add", 40,
                    [&](const Kernels& k, float* to, const float* from) { k.add(to, from, b.data(), n, function); });
                run("multiply", 0,
                    [&](const Kernels& k, float* to, const float* from) { k.multiply(to, from, b.data(), n); });
                run("affine", 400, [&](const Kernels& k, float* to, const float* from) {
                    k.affine(to, from, b.data(), c.data(), n, function);
                });
            }
        }
    }

    const Kernels& table;
    Random& random;
};

}  // namespace

void test_kernels(Random& random) {
    for (const char* const* name = available_kernels(); *name; name++) KernelTest(*find_kernels(*name), random).all();
}

}  // namespace convgate::testing
