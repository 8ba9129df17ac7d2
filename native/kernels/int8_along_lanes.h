// Products of 8-bit integers with positions along the lanes, or inputs; part of int8_avx512vnni.cpp.

template <int vectors, int tile>
void columns(const Int8Columns& a) {
    constexpr int width = vectors * lanes;
    for (int o = 0; o < a.outputs; o += tile) {
        const int n = a.outputs - o < tile ? a.outputs - o : tile;
        const std::uint8_t *weights[tile], *ahead[tile];
        Register acc[tile][vectors];
#pragma GCC unroll 8
        for (int j = 0; j < tile; j++) {
            const int output = o + (j < n ? j : 0);
            weights[j] = a.weights[output];
            ahead[j] = a.ahead ? a.ahead[output] + a.ahead_offset : nullptr;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) acc[j][v] = a.first ? Register{} : load(a.sums + static_cast<std::ptrdiff_t>(output) * width + v * lanes);
        }
        const int fetched = a.ahead ? a.ahead_count : 0;
        for (int k = 0; k < a.words; k++) {
            if (k % (row / 4) == 0 && 4 * k < fetched)
                for (int j = 0; j < tile; j++) __builtin_prefetch(ahead[j] + 4 * k, 0, 2);
            Register inputs[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) inputs[v] = load(a.inputs + static_cast<std::ptrdiff_t>(k) * width + v * lanes);
#pragma GCC unroll 8
            for (int j = 0; j < tile; j++) {
                int quad;
                std::memcpy(&quad, weights[j] + 4 * k, sizeof(quad));
                const Register all = numbers_of(quad);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) acc[j][v] = _mm512_dpbusd_epi32(acc[j][v], inputs[v], all);
            }
        }
#pragma GCC unroll 8
        for (int j = 0; j < tile; j++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                if (j < n) _mm512_storeu_si512(a.sums + static_cast<std::ptrdiff_t>(o + j) * width + v * lanes, acc[j][v]);
    }
}

// A tile of outputs at once, so that their sums do not wait for each other. They are added modulo 2^32.
void dots(const Int8Dots& a) {
    constexpr int tile = 8;
    const Register flip = bytes_of(flips(a.is_signed) ? -128 : 0);
    for (int p = 0; p < a.positions; p++) {
        const std::uint8_t* const x = a.rows[p] + a.offset;
        std::int32_t* const sums = a.sums + static_cast<std::ptrdiff_t>(p) * a.outputs;
        for (int o = 0; o < a.outputs; o += tile) {
            const int n = a.outputs - o < tile ? a.outputs - o : tile;
            Register acc[tile] = {};
            const std::uint8_t* weights[tile];
            for (int j = 0; j < tile; j++) weights[j] = a.weights[o + (j < n ? j : 0)];
            for (int i = 0; i < a.count; i += row) {
                const int some = a.count - i;
                const Register inputs = load_bytes(x + i, some) ^ flip;
#pragma GCC unroll 8
                for (int j = 0; j < tile; j++) acc[j] = _mm512_dpbusd_epi32(acc[j], inputs, load_bytes(weights[j] + i, some));
            }
            for (int j = 0; j < n; j++) {
                const std::uint32_t before = a.first ? 0 : static_cast<std::uint32_t>(sums[o + j]);
                sums[o + j] = static_cast<std::int32_t>(before + static_cast<std::uint32_t>(_mm512_reduce_add_epi32(acc[j])));
            }
        }
    }
}

void finish(const Int8Rows& a) {
    constexpr int most = 16;  // positions
    for (int o = 0; o < a.width; o += row) {
        const int n = std::min(row, a.width - o), vectors = (n + lanes - 1) / lanes;
        const Finish<false> rest(a.finish, o, n);
        for (int p = 0; p < a.positions; p += most) {
            const int count = std::min(most, a.positions - p);
            Register sums[most * 4];
            for (int i = 0; i < count; i++)
                for (int v = 0; v < vectors; v++) {
                    const int at = o + v * lanes, some = n - v * lanes;
                    sums[i * vectors + v] = _mm512_add_epi32(load_numbers(a.sums[p + i] + at, some, 0), load_numbers(a.start + at, some, 0));
                }
            rest.write(sums, vectors, count, n, nullptr, a.outputs + p, o);
        }
    }
}

// Stretches of a row's bytes, of which some are listed, each brought together by a permutation.
PERMUTING void pick_by_permuting(const std::uint8_t* const* rows, std::ptrdiff_t offset, int count, const std::int32_t* list, int n, std::uint8_t* to,
                                 std::ptrdiff_t to_stride) {
    constexpr int most = 64;
    alignas(64) std::uint8_t index[most][row];
    int from[most], place[most];
    for (int j = 0; j < n;) {
        int stretches = 0;
        for (; j < n && stretches < most; stretches++) {
            from[stretches] = list[j];
            place[stretches] = j;
            std::fill_n(index[stretches], row, std::uint8_t{0});
            for (int i = 0; j < n && list[j] - from[stretches] < row; i++, j++) index[stretches][i] = static_cast<std::uint8_t>(list[j] - from[stretches]);
        }
        for (int r = 0; r < count; r++) {
            const std::uint8_t* const source = rows[r] + offset;
            const std::uint8_t* const ahead = rows[r + 4 < count ? r + 4 : count - 1] + offset;  // rows come from memory
            std::uint8_t* const target = to + r * to_stride;
            for (int s = 0; s < stretches; s++) {
                __builtin_prefetch(ahead + from[s]);
                // What is behind is written next.
                _mm512_storeu_si512(target + place[s], _mm512_permutexvar_epi8(_mm512_load_si512(index[s]), load(source + from[s])));
            }
            for (int i = n; i % 4; i++) target[i] = 0;
        }
    }
}

void pick(const std::uint8_t* const* rows, std::ptrdiff_t offset, int count, const std::int32_t* list, int n, std::uint8_t* to, std::ptrdiff_t to_stride) {
    if (permutes()) return pick_by_permuting(rows, offset, count, list, n, to, to_stride);
    for (int r = 0; r < count; r++) {
        std::uint8_t* const target = to + r * to_stride;
        for (int j = 0; j < n; j++) target[j] = rows[r][offset + list[j]];
        for (int i = n; i % 4; i++) target[i] = 0;
    }
}

constexpr Int8Kernels with_columns(Int8Kernels table) {
    table.columns[0] = columns<1, 8>;
    table.columns[1] = columns<2, 8>;
    table.columns[2] = columns<3, 8>;
    table.columns[3] = columns<4, 6>;
    table.dots = dots;
    table.finish = finish;
    table.pick = pick;
    return table;
}
