// What work costs on this machine, beside what the runtime takes it to cost (runtime/costs.h). For `benchmarks/costs.py`: a line
// of JSON for each cost. One thread, arrays that fit the second-level cache, the median of 15 times of 2 milliseconds or more.
#include <algorithm>
#include <chrono>
#include <cstdio>
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

template <typename Function>
double seconds(Function f) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> found;
    int calls = 1;
    while (found.size() < 15) {
        const auto begin = Clock::now();
        for (int i = 0; i < calls; i++) f();
        const double time = std::chrono::duration<double>(Clock::now() - begin).count();
        time < 2e-3 ? (void)(calls *= 2) : found.push_back(time / calls);
    }
    std::nth_element(found.begin(), found.begin() + 7, found.end());
    return found[7];
}

void say(const char* name, const char* kernels, const char* unit, double stands, double measured) {
    std::printf("{\"cost\": \"%s\", \"kernels\": \"%s\", \"unit\": \"%s\", \"stands\": %.9g, \"measured\": %.6g}\n", name, kernels, unit, stands, measured);
    std::fflush(stdout);
}

// What takes so many MACs or elements, of which `each` took `time`.
void say_worth(const char* name, const char* kernels, double stands, double each, double time) {
    say(name, kernels, "microseconds", 0.5, 1e6 * time * stands / each);
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
const char* const products = "products of a vector";

// Calls f with one stretch of `n` numbers after the other, of so many that each comes from memory.
template <typename T, typename Function>
double seconds_from_memory(std::size_t n, T value, Function f) {
    constexpr std::size_t bytes = std::size_t{1} << 28;
    const auto all = filled<T>(bytes / sizeof(T), value);
    const std::size_t stretches = bytes / sizeof(T) / n;
    std::size_t next = 0;
    return seconds([&] { f(all.data() + next++ % stretches * n); });
}

// To pack half of the weights of so many vectors: as a kernel finds them in the caches, and as they come from memory.
template <typename T, typename Pack>
void say_packing(const char* name, const char* kernels, double stands, int vectors, std::size_t n, T value, double product, Pack pack) {
    const auto w = filled<T>(n, value);
    const double each = ins * vectors * product;
    say((std::string(name) + " in the caches").c_str(), kernels, products, stands, seconds([&] { pack(w.data()); }) / each);
    say((std::string(name) + " from memory").c_str(), kernels, products, stands, seconds_from_memory<T>(n, value, pack) / each);
}

// A product of one vector of weights with one input at one position, in seconds.
double product_of(const Kernels& k) {
    const int row = k.vectors * k.lanes;
    const auto x = filled<float>(static_cast<std::size_t>(positions) * ins, 0.5f);
    const auto w = filled<float>(static_cast<std::size_t>(ins) * row, 0.5f);
    Buffer out(static_cast<std::size_t>(positions) * row), kept(static_cast<std::size_t>(positions) * row), bias(row);
    const auto rows = rows_of<const float>(x.data(), positions, ins);
    const auto outputs = rows_of(out.data(), positions, row);
    const std::ptrdiff_t tap = 0;
    Product args{};
    args.rows = rows.data(), args.outputs = outputs.data(), args.accumulators = kept.data(), args.bias = bias.data(), args.width = row;
    return seconds([&] { product_in_steps(k, args, &tap, 1, ins, BlockWeights{w.data(), 0, nullptr, k.vectors}, positions); }) /
           (static_cast<double>(ins) * k.vectors * positions);
}

double product_of(const Bf16Kernels& k) {
    const int row = k.vectors * k.lanes;
    const Bf16 half{0x3f00};
    const auto x = filled<Bf16>(static_cast<std::size_t>(positions) * ins, half);
    const auto w = filled<Bf16>(static_cast<std::size_t>(ins) * row, half);
    BufferOf<Bf16> out(static_cast<std::size_t>(positions) * row);
    Buffer kept(static_cast<std::size_t>(positions) * row), bias(row);
    const auto rows = rows_of<const Bf16>(x.data(), positions, ins);
    const auto outputs = rows_of(out.data(), positions, row);
    const std::ptrdiff_t tap = 0;
    Bf16Product args{};
    args.rows = rows.data(), args.outputs = outputs.data(), args.accumulators = kept.data(), args.bias = bias.data(), args.width = row;
    args.least = 0, args.most = 6;
    return seconds([&] { product_in_steps(k, args, &tap, 1, ins, BlockWeightsOf<Bf16>{w.data(), 0, nullptr, k.vectors}, positions); }) /
           (static_cast<double>(ins) * k.vectors * positions);
}

double product_of(const Int8Kernels& k) {
    const auto x = filled<std::uint8_t>(static_cast<std::size_t>(positions) * ins + 64, 3);
    const auto w = filled<std::int8_t>(static_cast<std::size_t>(ins) * k.row + 64, 3);
    BufferOf<std::uint8_t> out(static_cast<std::size_t>(positions) * k.row);
    const std::vector<std::int32_t> start(k.row), multiplier(k.row, 1 << 14), shift(k.row, 24);
    const auto rows = rows_of<const std::uint8_t>(x.data(), positions, ins);
    const auto outputs = rows_of(out.data(), positions, k.row);
    const std::ptrdiff_t tap = 0;
    Int8Product args{};
    args.rows = rows.data(), args.positions = positions, args.taps = &tap, args.tap_count = 1, args.count = ins;
    args.weights = w.data(), args.start = start.data(), args.width = k.row, args.outputs = outputs.data();
    args.finish = {multiplier.data(), shift.data(), {}, false, 0, 255};
    return seconds([&] { k.product(args); }) / (static_cast<double>(ins) * (k.row / k.lanes) * positions);
}

void floats(const Kernels& k) {
    const int row = k.vectors * k.lanes, outs = 2 * row;
    const double product = product_of(k);
    say_worth("product_macs<float>", k.name, costs::product_macs<float>, k.lanes, product);
    {
        Buffer to(static_cast<std::size_t>(ins) * row);
        const auto columns = every_second(outs, row, static_cast<std::ptrdiff_t>(ins) * row);
        say_packing<float>("packing_floats.packing", k.name, costs::packing_floats.packing, 2 * k.vectors, static_cast<std::size_t>(ins) * outs, 0.5f, product,
                           [&](const float* w) { k.pack_columns(w, row, nullptr, ins, columns.data(), row, to.data(), row); });
    }
    {
        const auto from = filled<float>(static_cast<std::size_t>(positions) * row, 0.5f);
        Buffer to(static_cast<std::size_t>(positions) * row);
        const auto kept = every_second(row, row, 0);
        const double time = seconds([&] { k.pack_columns(from.data(), row, nullptr, positions, kept.data(), row / 2, to.data(), row); });
        say("packing_floats.keeping", k.name, products, costs::packing_floats.keeping, time / (positions * k.vectors) / product);
    }
    {
        const int wide = k.vectors * k.lanes;  // positions
        const auto x = filled<float>(static_cast<std::size_t>(ins) * wide, 0.5f);
        const auto w = filled<float>(static_cast<std::size_t>(row) * ins, 0.5f);
        Buffer sums(static_cast<std::size_t>(row) * wide);
        std::vector<std::int32_t> columns(row);
        for (int o = 0; o < row; o++) columns[o] = o * ins;
        Columns args{};
        args.inputs = x.data(), args.rows = ins, args.weights = w.data(), args.weight_stride = 1, args.columns = columns.data();
        args.outputs = row, args.ahead = {w.data(), 0, nullptr, 1, false}, args.ahead_vectors = 1, args.first = true, args.accumulators = sums.data();
        const double time = seconds([&] { k.columns[k.vectors - 1](args); });
        say("whole_is_cheaper", k.name, products, 10.0 / 11, product / (time / (static_cast<double>(ins) * row * k.vectors)));
    }
    {
        constexpr int rows = 64;
        const auto w = filled<float>(static_cast<std::size_t>(9) * rows * row, 0.5f);
        Buffer to(static_cast<std::size_t>(elements) * rows * row);
        ElementWeights args{w.data(), static_cast<std::ptrdiff_t>(rows) * row, nullptr, rows, row, to.data(), static_cast<std::ptrdiff_t>(rows) * row};
        say("transforming", k.name, products, costs::transforming, seconds([&] { k.element_weights(args); }) / (rows * k.vectors) / product);
    }
    {
        const auto x = filled<float>(static_cast<std::size_t>(k.lanes) * ins, 0.5f);
        Buffer to(static_cast<std::size_t>(ins) * k.lanes);
        const auto squares = rows_of<const float>(x.data(), k.lanes, ins);
        const double time = seconds([&] { k.transpose(squares.data(), 0, k.lanes, ins, to.data(), k.lanes); });
        say("transposing", k.name, products, costs::transposing, 2 * time / ins / product);
    }
    constexpr int channels = 128, many = 64;
    const auto x = filled<float>(static_cast<std::size_t>(many + 10) * channels, 0.5f), w = filled<float>(static_cast<std::size_t>(9) * channels, 0.1f);
    Buffer out(static_cast<std::size_t>(many) * channels), bias(channels);
    const auto rows = rows_of<const float>(x.data(), many, channels);
    const auto outputs = rows_of(out.data(), many, channels);
    std::vector<std::ptrdiff_t> taps;
    for (int t = 0; t < 9; t++) taps.push_back(static_cast<std::ptrdiff_t>(t) * channels);
    const Depthwise deep{rows.data(), taps.data(), 9, channels, w.data(), bias.data(), nullptr, outputs.data(), Activation::relu};
    say_worth("depthwise_macs", k.name, costs::depthwise_macs, 9.0 * channels * many, seconds([&] { k.depthwise(deep, many); }));
    const std::vector<const float*> each(4, w.data());
    const Dot dot{rows.data(), taps.data(), 1, channels, each.data(), bias.data(), 4, nullptr, outputs.data(), Activation::none};
    say_worth("dot_macs", k.name, costs::dot_macs, 4.0 * channels * many, seconds([&] { k.dot(dot, many); }));
    const int n = many * channels;
    say_worth("copied_elements", k.name, costs::copied_elements, n, seconds([&] { k.activate(out.data(), x.data(), n, Activation::none); }));
    say_worth("simple_elements", k.name, costs::simple_elements, n, seconds([&] { k.add(out.data(), x.data(), x.data() + channels, n, Activation::relu); }));
    say_worth("complex_elements", k.name, costs::complex_elements, n, seconds([&] { k.activate(out.data(), x.data(), n, Activation::silu); }));
    const Windows windows{many / 2, x.data(), 2 * channels, channels, 3, 3, channels, channels, channels, out.data(), true, 1};
    say_worth("window_elements", k.name, costs::window_elements, many / 2.0 * channels, seconds([&] { k.windows(windows); }));
}

void halves(const Bf16Kernels& k) {
    const int row = k.vectors * k.lanes, outs = 2 * row;
    const double product = product_of(k);
    say_worth("product_macs<Bf16>", k.name, costs::product_macs<Bf16>, k.lanes, product);
    BufferOf<Bf16> to(static_cast<std::size_t>(ins) * row);
    const auto columns = every_second(outs, row, static_cast<std::ptrdiff_t>(ins) * row);
    say_packing("packing_halves.packing", k.name, costs::packing_halves.packing, 2 * k.vectors, static_cast<std::size_t>(ins) * outs, Bf16{0x3f00}, product,
                [&](const Bf16* w) { k.pack_columns(w, row, nullptr, ins, columns.data(), row, to.data(), row); });
}

void bytes(const Int8Kernels& k) {
    const int vectors = k.row / k.lanes, outs = 2 * k.row;
    const double product = product_of(k);
    say_worth("product_macs<uint8_t>", k.name, costs::product_macs<std::uint8_t>, k.lanes, product);
    BufferOf<std::int8_t> to(static_cast<std::size_t>(ins) * k.row + 64);
    const auto columns = every_second(outs, k.row, static_cast<std::ptrdiff_t>(ins) * k.row);
    say_packing<std::int8_t>("packing_bytes.packing", k.name, costs::packing_bytes.packing, 2 * vectors, static_cast<std::size_t>(ins) * outs + 64, 3, product,
                             [&](const std::int8_t* w) { k.pack_columns(w, nullptr, ins, columns.data(), k.row, to.data()); });
}

}  // namespace

int main() {
    say("seconds_to_share", "", "microseconds", 0.5, 1e6 * seconds_to_share(2));
    say("second_cache", "", "bytes", static_cast<double>(costs::second_cache()), static_cast<double>(costs::second_cache()));
    for (const char* const* name = available_kernels(); *name; name++)
        if (name[0][0] == 'a') floats(*find_kernels(*name));
    for (const char* const* name = available_bf16_kernels(); *name; name++)
        if (name[0][0] == 'a') halves(*find_bf16_kernels(*name));
    for (const char* const* name = available_int8_kernels(); *name; name++)
        if (name[0][0] == 'a') bytes(*find_int8_kernels(*name));
}
