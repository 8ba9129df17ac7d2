// What is done row by row, for any instruction set: plain loops that compilers make vectors of. Included inside an anonymous
// namespace, so that each instruction set has its own; `vector_bytes` is how wide its vectors are.

constexpr int stretch = 64;  // channels at once

inline std::int64_t brought(std::int64_t sum, std::int32_t multiplier, std::int32_t shift) {
    return (sum * multiplier + (std::int64_t{1} << (shift - 1))) >> shift;
}

inline std::int32_t integer(std::uint8_t bits, bool is_signed) { return is_signed ? static_cast<std::int8_t>(bits) : bits; }

template <typename T>
void maxima_of(const Int8Windows<std::uint8_t>& a) {
    for (int w = 0; w < a.windows; w++)
        for (int c = 0; c < a.channels; c += stretch) {
            const int n = std::min(stretch, a.channels - c);
            const T* from = reinterpret_cast<const T*>(a.from + w * a.from_step + c);
            T most[stretch];
            const auto include = [&](int n) {
                std::copy_n(from, n, most);
                for (int y = 0; y < a.count_y; y++)
                    for (int x = 0; x < a.count_x; x++) {
                        const T* at = from + y * a.step_y + x * a.step_x;
                        for (int i = 0; i < n; i++) most[i] = at[i] > most[i] ? at[i] : most[i];
                    }
                std::memcpy(a.to + w * a.to_step + c, most, n);
            };
            n == stretch ? include(stretch) : include(n);
        }
}

void maxima(const Int8Windows<std::uint8_t>& a) { a.is_signed ? maxima_of<std::int8_t>(a) : maxima_of<std::uint8_t>(a); }

// Vectors of n. Of what is longer than a register, compilers keep all in memory.
constexpr int shorts = vector_bytes / sizeof(std::int16_t);
template <typename T, int n>
struct Several {
    typedef T Type __attribute__((vector_size(sizeof(T) * n)));
};

// Of `count` vectors of n channels: rows follow each other in memory, and are read whole if they can be. Sums of up to 128 of
// them fit into 16 bits.
template <typename T, typename Short, int n, int count>
void means_of(const Int8Windows<float>& a, const T* from, float* to) {
    using Bytes = typename Several<T, n>::Type;
    using Shorts = typename Several<Short, n>::Type;
    using Integers = typename Several<std::int32_t, n>::Type;
    using Floats = typename Several<float, n>::Type;
    constexpr int most = 128;
    Integers sums[count] = {};
    const int lines = std::max(most / a.count_x, 1);
    for (int first_y = 0; first_y < a.count_y; first_y += lines)
        for (int first_x = 0; first_x < a.count_x; first_x += most) {
            Shorts some[count] = {};
            for (int y = first_y; y < std::min(first_y + lines, a.count_y); y++)
                for (int x = first_x; x < std::min(first_x + most, a.count_x); x++)
                    for (int i = 0; i < count; i++) {
                        Bytes row;
                        std::memcpy(&row, from + y * a.step_y + x * a.step_x + i * n, sizeof(row));
                        some[i] += __builtin_convertvector(row, Shorts);
                    }
            for (int i = 0; i < count; i++) sums[i] += __builtin_convertvector(some[i], Integers);
        }
    for (int i = 0; i < count; i++) {
        const Floats means = __builtin_convertvector(sums[i], Floats) * a.factor;
        std::memcpy(to + i * n, &means, sizeof(means));
    }
}

// The last vector may begin within the one before it.
template <typename T, typename Short>
void means_of(const Int8Windows<float>& a) {
    constexpr int least = shorts / 2;
    for (int w = 0; w < a.windows; w++) {
        const T* from = reinterpret_cast<const T*>(a.from + w * a.from_step);
        float* to = a.to + w * a.to_step;
        int c = 0;
        for (; c + 8 * shorts <= a.channels; c += 8 * shorts) means_of<T, Short, shorts, 8>(a, from + c, to + c);
        for (; c + 2 * shorts <= a.channels; c += 2 * shorts) means_of<T, Short, shorts, 2>(a, from + c, to + c);
        for (; c + shorts <= a.channels; c += shorts) means_of<T, Short, shorts, 1>(a, from + c, to + c);
        if (a.channels >= least)
            for (; c < a.channels; c += least) {
                const int begin = std::min(c, a.channels - least);
                means_of<T, Short, least, 1>(a, from + begin, to + begin);
            }
        for (; c < a.channels; c++) means_of<T, Short, 1, 1>(a, from + c, to + c);
    }
}

void means(const Int8Windows<float>& a) {
    a.is_signed ? means_of<std::int8_t, std::int16_t>(a) : means_of<std::uint8_t, std::uint16_t>(a);
}

// Bytes brought to another scale. The product has 24 bits with its sign, of which a shift over 24 leaves nothing.
template <typename T>
void bring(const Int8Sum::Term& a, int first, int n, std::int32_t* to) {
    const T* from = reinterpret_cast<const T*>(a.from) + static_cast<std::ptrdiff_t>(first) * a.step;
    const bool gone = a.rescale.shift > 24;
    const std::int32_t multiplier = gone ? 0 : a.rescale.multiplier, shift = gone ? 1 : a.rescale.shift;
    const std::int32_t half = 1 << (shift - 1);
    if (a.step)
        for (int i = 0; i < n; i++) to[i] = (from[i] * multiplier + half) >> shift;
    else
        std::fill_n(to, n, (*from * multiplier + half) >> shift);
}

void bring(const Int8Sum::Term& a, int first, int n, std::int32_t* to) {
    if (!a.from)
        std::fill_n(to, n, 0);
    else
        a.is_signed ? bring<std::int8_t>(a, first, n, to) : bring<std::uint8_t>(a, first, n, to);
}

void sum(const Int8Sum& a, std::uint8_t* to, int n) {
    std::int32_t first[stretch], second[stretch];
    for (int i = 0; i < n; i += stretch) {
        const int count = std::min(stretch, n - i);
        bring(a.a, i, count, first);
        bring(a.b, i, count, second);
        for (int j = 0; j < count; j++) to[i + j] = static_cast<std::uint8_t>(std::clamp(first[j] + second[j], a.low, a.high));
    }
}

// Row by row: what follows is chosen for each output, and computed without a branch.
void complete(const Int8Completion& a, int positions) {
    const auto rows = [&](int p, auto is_open) {
        const std::int32_t* sums = a.sums[p];
        for (int o = 0; o < a.width; o++) {
            const bool on = is_open(o);
            const std::int64_t sum = std::int64_t{sums[o]} + (on ? a.rest[p * a.rest_stride + o] + std::int64_t{a.opened.bias[o]} : a.closed.bias[o]);
            std::int64_t result = brought(sum, on ? a.opened.multiplier[o] : a.closed.multiplier[o], on ? a.opened.shift[o] : a.closed.shift[o]);
            if (a.addends) result += brought(integer(a.addends[p][o], a.addend_signed), a.addend.multiplier, a.addend.shift);
            a.outputs[p][o] = static_cast<std::uint8_t>(std::clamp<std::int64_t>(result, a.low, a.high));
        }
    };
    for (int p = 0; p < positions; p++) {
        if (!a.rest)
            rows(p, [](int) { return false; });
        else if (!a.open)
            rows(p, [](int) { return true; });
        else
            rows(p, [open = a.open[p]](int o) { return open[o] != 0; });
    }
}

// Of a number below 2^22, adding 1.5 * 2^23 leaves the nearest integer in the lower bits, halves to even.
void quantize(const float* from, float factor, int low, int high, std::uint8_t* to, int n) {
    const float least = static_cast<float>(low), most = static_cast<float>(high), magic = 12582912.0f;
    for (int i = 0; i < n; i++) {
        float x = from[i] * factor;
        x = x == x ? x : 0.0f;
        x = x < least ? least : x;
        x = x > most ? most : x;
        to[i] = static_cast<std::uint8_t>(std::bit_cast<std::int32_t>(x + magic));
    }
}

void dequantize(const std::uint8_t* from, bool is_signed, float scale, float* to, int n) {
    if (is_signed)
        for (int i = 0; i < n; i++) to[i] = static_cast<float>(static_cast<std::int8_t>(from[i])) * scale;
    else
        for (int i = 0; i < n; i++) to[i] = static_cast<float>(from[i]) * scale;
}

// The columns' places once, then row by row.
[[maybe_unused]] void pack_in_order(int (*place)(int), int row, const std::int8_t* from, const std::int32_t* rows_list, int rows,
                                    const std::int32_t* columns, int n, std::int8_t* to) {
    std::ptrdiff_t source[64];
    int target[64];
    for (int j = 0; j < n; j++) source[j] = columns[j] / row * row + place(columns[j] % row), target[j] = place(j);
    for (int r = 0; r < rows; r++, to += row) {
        const std::int8_t* at = from + static_cast<std::ptrdiff_t>(rows_list ? rows_list[r] : r) * row;
        std::fill_n(to, row, std::int8_t{0});
        for (int j = 0; j < n; j++) to[target[j]] = at[source[j]];
    }
}
