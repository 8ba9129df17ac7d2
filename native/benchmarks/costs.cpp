// What work costs on this machine, beside what the runtime takes it to cost (runtime/costs.h). For `benchmarks/costs.py`: a line
// of JSON for each cost, with the median, p20 and p80 of 15 samples. One thread but for what it costs to share a loop out; arrays that
// fit the second-level cache but for weights from memory; what is measured in another's time takes turns with that.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../kernels/bf16.h"
#include "../kernels/int8.h"
#include "../runtime/buffer.h"
#include "../runtime/costs.h"
#include "../runtime/steps.h"
#include "../runtime/team.h"

namespace {

using namespace convgate;

constexpr int samples = 15;

// How long a call takes, as the mean of calls that take a millisecond or more together.
template <typename Function>
class Timed {
public:
    explicit Timed(Function f) : f_(f) {
        while (once() * calls_ < 1e-3) calls_ *= 2;
    }
    double once() {
        using Clock = std::chrono::steady_clock;
        const auto begin = Clock::now();
        for (int i = 0; i < calls_; i++) f_();
        return std::chrono::duration<double>(Clock::now() - begin).count() / calls_;
    }

private:
    Function f_;
    int calls_ = 1;
};

// Median, p20 and p80.
struct Quantiles {
    double median, p20, p80;
};
Quantiles quantiles(std::array<double, samples>& of) {
    std::sort(of.begin(), of.end());
    return {of[samples / 2], of[samples / 5], of[samples - 1 - samples / 5]};
}

void say(const char* name, const char* kernels, const char* unit, double stands, const Quantiles& q) {
    std::printf("{\"cost\": \"%s\", \"kernels\": \"%s\", \"unit\": \"%s\", \"stands\": %.9g, \"measured\": %.4g, \"p20\": %.4g, \"p80\": %.4g}\n",
                name, kernels, unit, stands, q.median, q.p20, q.p80);
    std::fflush(stdout);
}

// Of work that is worth half a microsecond, and a call that does `each` of it.
template <typename Function>
void say_worth(const char* name, const char* kernels, double stands, double each, Function f) {
    Timed timed(f);
    std::array<double, samples> found;
    for (double& x : found) x = 1e6 * timed.once() * stands / each;
    say(name, kernels, "microseconds", 0.5, quantiles(found));
}

// How many of the second's n take as long as one of the first's m; calls take turns.
template <typename First, typename Second>
void say_ratio(const char* name, const char* kernels, const char* unit, double stands, double m, First first, double n, Second second) {
    Timed a(first);
    Timed b(second);
    std::array<double, samples> found;
    for (double& x : found) x = a.once() / m / (b.once() / n);
    say(name, kernels, unit, stands, quantiles(found));
}

template <typename T>
BufferOf<T> filled(std::size_t n, T value) {
    BufferOf<T> buffer(n);
    std::fill_n(buffer.data(), n, value);
    return buffer;
}

// Rows of a buffer, `step` elements apart.
template <typename T>
std::vector<T*> rows_of(T* from, int n, std::ptrdiff_t step) {
    std::vector<T*> rows;
    for (int i = 0; i < n; i++) rows.push_back(from + i * step);
    return rows;
}

// Every second of so many output channels, as they lie in panels of `panel` rows of weights.
std::vector<std::int32_t> every_second(int outs, int panel, std::ptrdiff_t panel_size) {
    std::vector<std::int32_t> columns;
    for (int o = 0; o < outs; o += 2) columns.push_back(static_cast<std::int32_t>(o / panel * panel_size + o % panel));
    return columns;
}

constexpr int ins = 256, positions = 96;  // of products
const char* const unit = "products of a vector";
constexpr Bf16 half{0x3f00};

// What kernels multiply, and how they are asked to.
template <typename Kernel>
struct KindOf {
    using Number = float;
    using Args = Product;
    static constexpr float number = 0.5f;
};
template <>
struct KindOf<Bf16Kernels> {
    using Number = Bf16;
    using Args = Bf16Product;
    static constexpr Bf16 number = half;
};

// A call that multiplies some vectors of weights with the inputs of each position; `count`: how many products of a vector.
template <typename Kernel>
struct Products {
    using Number = typename KindOf<Kernel>::Number;
    static constexpr Number number = KindOf<Kernel>::number;

    const Kernel& k;
    int row = k.vectors * k.lanes;
    BufferOf<Number> x = filled(static_cast<std::size_t>(positions) * ins, number), w = filled(static_cast<std::size_t>(ins) * row, number);
    BufferOf<Number> out{static_cast<std::size_t>(positions) * row};
    Buffer sums{static_cast<std::size_t>(positions) * row}, bias{static_cast<std::size_t>(row)};
    std::vector<const Number*> rows = rows_of<const Number>(x.data(), positions, ins);
    std::vector<Number*> outputs = rows_of(out.data(), positions, row);
    double count = static_cast<double>(ins) * k.vectors * positions;
    void operator()() {
        const std::ptrdiff_t tap = 0;
        typename KindOf<Kernel>::Args args{};
        args.rows = rows.data(), args.outputs = outputs.data(), args.accumulators = sums.data(), args.bias = bias.data(), args.width = row;
        if constexpr (requires { args.least; }) args.least = 0, args.most = 6;
        product_in_steps(k, args, &tap, 1, ins, BlockWeightsOf<Number>{w.data(), 0, nullptr, k.vectors}, positions);
    }
};

template <>
struct Products<Int8Kernels> {
    const Int8Kernels& k;
    BufferOf<std::uint8_t> x = filled<std::uint8_t>(static_cast<std::size_t>(positions) * ins + 64, 3);
    BufferOf<std::int8_t> w = filled<std::int8_t>(static_cast<std::size_t>(ins) * k.row + 64, 3);
    BufferOf<std::uint8_t> out{static_cast<std::size_t>(positions) * k.row};
    std::vector<std::int32_t> start = std::vector<std::int32_t>(k.row), multiplier = std::vector<std::int32_t>(k.row, 1 << 14), shift = std::vector<std::int32_t>(k.row, 24);
    std::vector<const std::uint8_t*> rows = rows_of<const std::uint8_t>(x.data(), positions, ins);
    std::vector<std::uint8_t*> outputs = rows_of(out.data(), positions, k.row);
    double count = static_cast<double>(ins) * (k.row / k.lanes) * positions;
    void operator()() {
        const std::ptrdiff_t tap = 0;
        Int8Product args{};
        args.rows = rows.data(), args.positions = positions, args.taps = &tap, args.tap_count = 1, args.count = ins;
        args.weights = w.data(), args.start = start.data(), args.width = k.row, args.outputs = outputs.data();
        args.finish = {multiplier.data(), shift.data(), {}, false, 0, 255};
        k.product(args);
    }
};

// To pack half of the weights of so many vectors, in stretches of n: as a kernel finds them in the caches, and as they come
// from memory.
template <typename T, typename Kernel, typename Pack>
void say_packing(const char* name, const Kernel& k, double stands, int vectors, std::size_t n, T value, Pack pack) {
    constexpr std::size_t bytes = std::size_t{1} << 28;
    Products<Kernel> products{k};
    const auto call = [&] { products(); };
    const auto all = filled<T>(bytes / sizeof(T), value);
    const std::size_t stretches = bytes / sizeof(T) / n;
    std::size_t next = 0;
    const double packed = static_cast<double>(ins) * vectors;
    say_ratio((std::string(name) + " in the caches").c_str(), k.name, unit, stands, packed, [&] { pack(all.data()); }, products.count, call);
    say_ratio((std::string(name) + " from memory").c_str(), k.name, unit, stands, packed, [&] { pack(all.data() + next++ % stretches * n); }, products.count, call);
}

void floats(const Kernels& k) {
    const int row = k.vectors * k.lanes, outs = 2 * row;
    Products<Kernels> products{k};
    const auto product = [&] { products(); };
    say_worth("product_macs<float>", k.name, costs::product_macs<float>, products.count * k.lanes, product);
    {
        Buffer to(static_cast<std::size_t>(ins) * row);
        const auto columns = every_second(outs, row, static_cast<std::ptrdiff_t>(ins) * row);
        say_packing("packing_floats.packing", k, costs::packing_floats.packing, 2 * k.vectors, static_cast<std::size_t>(ins) * outs, 0.5f,
                    [&](const float* w) { k.pack_columns(w, row, nullptr, ins, columns.data(), row, to.data(), row); });
    }
    {
        const auto from = filled(static_cast<std::size_t>(positions) * row, 0.5f);
        Buffer to(static_cast<std::size_t>(positions) * row);
        const auto kept = every_second(row, row, 0);
        const auto keep = [&] { k.pack_columns(from.data(), row, nullptr, positions, kept.data(), row / 2, to.data(), row); };
        say_ratio("packing_floats.keeping", k.name, unit, costs::packing_floats.keeping, positions * k.vectors, keep, products.count, product);
    }
    {
        // As columns.cpp has them: outputs are lanes of several panels; inputs are transposed once for all of them.
        constexpr int n = costs::transposed_inputs;
        const int panel = n * row, outs = costs::panels_together(panel) * row;
        const auto x = filled(static_cast<std::size_t>(row) * n, 0.5f), w = filled(static_cast<std::size_t>(n) * outs, 0.5f);
        Buffer inputs(static_cast<std::size_t>(n) * row), sums(static_cast<std::size_t>(outs) * row);
        const auto from = rows_of<const float>(x.data(), row, n);
        std::vector<std::int32_t> columns(outs);
        for (int o = 0; o < outs; o++) columns[o] = o / row * panel + o % row;
        Columns args{};
        args.inputs = inputs.data(), args.rows = n, args.weights = w.data(), args.weight_stride = row, args.columns = columns.data();
        args.outputs = outs, args.first = true, args.accumulators = sums.data();
        const auto others = [&] {
            k.transpose(from.data(), 0, row, n, inputs.data(), row);
            k.columns[k.vectors - 1](args);
        };
        say_ratio("whole_is_cheaper", k.name, unit, 1.1, static_cast<double>(n) * outs * k.vectors, others, products.count, product);
    }
    {
        constexpr int rows = costs::transformed_inputs;
        const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(rows) * row + k.lanes;  // between elements, as winograd.cpp has it
        const auto w = filled(static_cast<std::size_t>(9) * rows * row, 0.5f);
        Buffer to(static_cast<std::size_t>(elements * stride));
        const ElementWeights args{w.data(), static_cast<std::ptrdiff_t>(rows) * row, nullptr, rows, row, to.data(), stride};
        say_ratio("transforming", k.name, unit, costs::transforming, rows * k.vectors, [&] { k.element_weights(args); }, products.count, product);
    }
    {
        const auto x = filled(static_cast<std::size_t>(k.lanes) * ins, 0.5f);
        Buffer to(static_cast<std::size_t>(ins) * k.lanes);
        const auto squares = rows_of<const float>(x.data(), k.lanes, ins);
        // Of an input and of an output.
        const auto both = [&] { for (int i = 0; i < 2; i++) k.transpose(squares.data(), 0, k.lanes, ins, to.data(), k.lanes); };
        say_ratio("transposing", k.name, unit, costs::transposing, ins, both, products.count, product);
    }
    // A line of a depthwise convolution of 3x3 and stride 1, and what takes one element after the other.
    constexpr int channels = 128, many = 64, line = many + 2;
    const auto x = filled(static_cast<std::size_t>(3) * line * channels, 0.5f), w = filled(static_cast<std::size_t>(9) * channels, 0.1f);
    Buffer out(static_cast<std::size_t>(many) * channels), bias(channels);
    const auto rows = rows_of<const float>(x.data(), many, channels);
    const auto outputs = rows_of(out.data(), many, channels);
    std::vector<std::ptrdiff_t> taps;
    for (int t = 0; t < 9; t++) taps.push_back(static_cast<std::ptrdiff_t>(t / 3 * line + t % 3) * channels);
    const Depthwise deep{rows.data(), taps.data(), 9, channels, w.data(), bias.data(), nullptr, outputs.data(), Activation::relu, {1, channels}};
    say_worth("depthwise_macs", k.name, costs::depthwise_macs, 9.0 * channels * many, [&] { k.depthwise(deep, many); });
    const std::vector<const float*> each(4, w.data());
    const Dot dot{rows.data(), taps.data(), 1, channels, each.data(), bias.data(), 4, nullptr, outputs.data(), Activation::none};
    say_worth("dot_macs", k.name, costs::dot_macs, 4.0 * channels * many, [&] { k.dot(dot, many); });
    const int n = many * channels;
    say_worth("copied_elements", k.name, costs::copied_elements, n, [&] { k.activate(out.data(), x.data(), n, Activation::none); });
    say_worth("simple_elements", k.name, costs::simple_elements, n, [&] { k.add(out.data(), x.data(), x.data() + channels, n, Activation::relu); });
    say_worth("complex_elements", k.name, costs::complex_elements, n, [&] { k.activate(out.data(), x.data(), n, Activation::silu); });
    const Windows windows{many / 2, x.data(), 2 * channels, channels, 3, 3, line * channels, channels, channels, out.data(), true, 1};
    say_worth("window_elements", k.name, costs::window_elements, many / 2.0 * channels, [&] { k.windows(windows); });
}

void halves(const Bf16Kernels& k) {
    const int row = k.vectors * k.lanes, outs = 2 * row;
    Products<Bf16Kernels> products{k};
    say_worth("product_macs<Bf16>", k.name, costs::product_macs<Bf16>, products.count * k.lanes, [&] { products(); });
    BufferOf<Bf16> to(static_cast<std::size_t>(ins) * row);
    const auto columns = every_second(outs, row, static_cast<std::ptrdiff_t>(ins) * row);
    say_packing("packing_halves.packing", k, costs::packing_halves.packing, 2 * k.vectors, static_cast<std::size_t>(ins) * outs, half,
                [&](const Bf16* w) { k.pack_columns(w, row, nullptr, ins, columns.data(), row, to.data(), row); });
    if (k.element_weights) {
        constexpr int count = costs::transformed_inputs;
        const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(count) * row + k.lanes;  // between elements, as winograd.cpp has it
        BufferOf<Bf16> w(static_cast<std::size_t>(9) * count * row);
        std::fill_n(w.data(), w.size(), half);
        Buffer transformed(static_cast<std::size_t>(elements * stride));
        const ElementWeightsOf<Bf16> args{w.data(), static_cast<std::ptrdiff_t>(count) * row, nullptr, count, row, transformed.data(), stride};
        say_ratio("transforming_halves", k.name, unit, costs::transforming_halves, count * k.vectors, [&] { k.element_weights(args); }, products.count, [&] { products(); });
    }
    if (!k.columns[0]) return;
    // Pairs of inputs, all outputs of a panel.
    const int pairs = ins / 2;
    const auto x = filled(static_cast<std::size_t>(pairs) * row, 0.5f), w = filled(static_cast<std::size_t>(pairs) * row, 0.5f);
    Buffer sums(static_cast<std::size_t>(row) * row);
    std::vector<std::int32_t> all(row);
    for (int o = 0; o < row; o++) all[o] = o;
    Columns args{};
    args.inputs = x.data(), args.rows = pairs, args.weights = w.data(), args.weight_stride = row, args.columns = all.data();
    args.outputs = row, args.first = true, args.accumulators = sums.data();
    const auto say_along = [&](const char* name, double stands, int vectors) {
        say_ratio(name, k.name, unit, stands, 2.0 * pairs * row * vectors, [&] { k.columns[vectors - 1](args); }, products.count, [&] { products(); });
    };
    say_along("product_along_one_vector", costs::product_along_one_vector, 1);
    say_along("product_along_vectors", costs::product_along_vectors, k.vectors);
}

void bytes(const Int8Kernels& k) {
    const int outs = 2 * k.row;
    Products<Int8Kernels> products{k};
    say_worth("product_macs<uint8_t>", k.name, costs::product_macs<std::uint8_t>, products.count * k.lanes, [&] { products(); });
    BufferOf<std::int8_t> to(static_cast<std::size_t>(ins) * k.row + 64);
    const auto columns = every_second(outs, k.row, static_cast<std::ptrdiff_t>(ins) * k.row);
    say_packing<std::int8_t>("packing_bytes.packing", k, costs::packing_bytes.packing, 2 * k.row / k.lanes, static_cast<std::size_t>(ins) * outs + 64, 3,
                             [&](const std::int8_t* w) { k.pack_columns(w, nullptr, ins, columns.data(), k.row, to.data()); });
    if (!k.element_weights) return;
    constexpr int rows = costs::transformed_inputs;
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(rows + 1) * k.row;  // between elements, as integer_winograd.cpp has it
    BufferOf<std::int8_t> w(static_cast<std::size_t>(9) * rows * k.row);
    std::fill_n(w.data(), w.size(), std::int8_t{3});
    BufferOf<std::int16_t> transformed(static_cast<std::size_t>(elements * stride));
    const Int8ElementWeights args{w.data(), static_cast<std::ptrdiff_t>(3) * rows * k.row, nullptr, rows, 0, rows, k.row, transformed.data(), stride};
    say_ratio("transforming_bytes", k.name, unit, costs::transforming_bytes, rows * k.row / k.lanes, [&] { k.element_weights(args); }, products.count, [&] { products(); });
}

// What any processor can run is no processor's own.
bool is_own(const char* name) { return std::strcmp(name, "scalar") && std::strcmp(name, "portable"); }

}  // namespace

int main() {
    std::array<double, samples> sharing;
    for (double& x : sharing) x = 1e6 * seconds_to_share(2);
    say("seconds_to_share", "", "microseconds", 0.5, quantiles(sharing));
    for (const char* const* name = available_kernels(); *name; name++)
        if (is_own(*name)) floats(*find_kernels(*name));
    for (const char* const* name = available_bf16_kernels(); *name; name++)
        if (is_own(*name)) halves(*find_bf16_kernels(*name));
    for (const char* const* name = available_int8_kernels(); *name; name++)
        if (is_own(*name)) bytes(*find_int8_kernels(*name));
}
