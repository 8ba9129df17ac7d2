// Depthwise convolutions of 8-bit integers, channels along the lanes; part of int8_quads.h.

// Four taps of a row of channels at a time, interleaved; their sums lie by quarters, which packing puts in order.
constexpr int kept_quads = 16, positions_at_once = 8;

// The quads of a kernel's three columns, in registers from one position to the next. (In memory, in a ring, they took as long
// as reading them anew.)
class Columns {
    Inputs quads_[3][4] = {};

    void move(int from, int to) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) quads_[to][v] = quads_[from][v];
    }

public:
    // Those of a position that has columns in common with the one before it, from that one's column `shift` on.
    template <typename Load>
    __attribute__((always_inline)) void read(int shift, Load load) {
        if (shift == 1) {
            move(1, 0), move(2, 1);
        } else {
            shift == 2 ? move(2, 0) : load(0, quads_[0]);
            load(1, quads_[1]);
        }
        load(2, quads_[2]);
    }
    __attribute__((always_inline)) void add(const Weights (&weights)[3][4], Register (&sums)[4]) const {
#pragma GCC unroll 3
        for (int q = 0; q < 3; q++)
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) sums[v] = dot(sums[v], quads_[q][v], weights[q][v]);
    }
};

// A row of channels from c on, at all positions: the sums by `sums_at`, and what follows them, some positions at once, as what
// that needs is read once for all of them.
template <typename Sums>
inline void depthwise_row(const Int8Depthwise& a, int positions, int c, int n, Sums sums_at) {
    Register start[4];
    load_row<true>(a.start + c, n, 0, start);
    const Int8Finish none{a.start, a.start, {}, false, 0, 0};
    const Finish<true> finish(a.outputs ? a.finish : none, c, a.outputs ? n : 0);
    for (int begin = 0; begin < positions; begin += positions_at_once) {
        const int some = std::min(positions_at_once, positions - begin);
        Register done[positions_at_once][4];
        for (int p = 0; p < some; p++) {
            Register sums[4] = {start[0], start[1], start[2], start[3]};
            sums_at(begin + p, sums);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) done[p][v] = sums[v];
        }
        if (a.outputs) {
            finish.write(done[0], 4, some, n, a.addends ? a.addends + begin : nullptr, a.outputs + begin, c);
            continue;
        }
        for (int p = 0; p < some; p++) {
            from_quarters(done[p]);
            write_floats(done[p], 4, n, a.scale + c, a.floats[begin + p] + c);
        }
    }
}

template <bool is_signed, bool in_columns>
void depthwise_of(const Int8Depthwise& a, int positions) {
    const int quads = (a.tap_count + 3) / 4;
    for (int c = 0; c < a.channels; c += row) {
        const int n = std::min(row, a.channels - c);
        const auto load_weights = [&](int q, Weights (&to)[4]) {
            Register numbers[4];
            load_row<true>(a.weights + static_cast<std::ptrdiff_t>(q) * a.channels + c, n, 0, numbers);
            for (int v = 0; v < 4; v++) to[v] = weights_of(numbers[v]);
        };
        const auto tap = [&](const std::uint8_t* from, int t) {
            const Register x = load_bytes(from + a.taps[t] + c, n);
            return flips(is_signed) ? x ^ bytes_of(-128) : x;
        };
        const auto interleaved = [](const Register (&r)[4], Inputs (&to)[4]) {
            Register x[4];
            interleave<4>(r, x);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) to[v] = inputs_of(x[v]);
        };
        if constexpr (in_columns) {
            Weights weights[3][4];
            for (int q = 0; q < 3; q++) load_weights(q, weights[q]);
            Columns columns;
            depthwise_row(a, positions, c, n, [&](int p, Register(&sums)[4]) {
                const std::uint8_t* from = a.rows[p];
                const bool follows = p > 0 && from - a.rows[p - 1] == a.sliding.step;
                columns.read(follows ? a.sliding.shift : 3, [&](int q, Inputs(&to)[4]) {
                    const Register last = tap(from, 4 * q + 2);
                    interleaved({tap(from, 4 * q), tap(from, 4 * q + 1), last, last}, to);
                });
                columns.add(weights, sums);
            });
        } else {
            Weights weights[kept_quads][4];
            for (int q = 0; q < std::min(quads, kept_quads); q++) load_weights(q, weights[q]);
            depthwise_row(a, positions, c, n, [&](int p, Register(&sums)[4]) {
                for (int q = 0; q < quads; q++) {
                    Register r[4];
                    for (int k = 0; k < 4; k++) r[k] = 4 * q + k < a.tap_count ? tap(a.rows[p], 4 * q + k) : Register{};
                    Inputs x[4];
                    interleaved(r, x);
                    Weights others[4];
                    if (q >= kept_quads) load_weights(q, others);
                    const Weights(&w)[4] = q < kept_quads ? weights[q] : others;
                    for (int v = 0; v < 4; v++) sums[v] = dot(sums[v], x[v], w[v]);
                }
            });
        }
    }
}

template <bool is_signed>
void depthwise_of(const Int8Depthwise& a, int positions) {
    a.sliding.shift ? depthwise_of<is_signed, true>(a, positions) : depthwise_of<is_signed, false>(a, positions);
}

void depthwise(const Int8Depthwise& a, int positions) {
    a.is_signed ? depthwise_of<true>(a, positions) : depthwise_of<false>(a, positions);
}
