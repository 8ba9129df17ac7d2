// From sums to what is written of them; part of int8_quads.h.

// How a row of sums becomes bytes, ready to be used. With shifts of 17 and more, 32 bits are enough, as the floor of a floor
// is one: with sum = 2^16 high + low, the result is (high * m + (low * m >> 16) + 2^(s-17)) >> (s - 16).
template <bool by_quarters>
class Finish {
    const Int8Finish f;
    Register m[4], s[4], high[4], half[4];
    Register low, most;
    bool in_32_bits, positive;

public:
    Finish(const Int8Finish& finish, int o, int n) : f(finish) {
        load_row<by_quarters>(f.multiplier + o, n, 0, m);
        load_row<by_quarters>(f.shift + o, n, 17, s);
        Numbers small{};
        for (int v = 0; v < 4; v++) small |= Numbers(s[v]) < 17;
        in_32_bits = !any(Register(small));
        if (in_32_bits)
            for (int v = 0; v < 4; v++) {
                high[v] = Register(Numbers(m[v]) << 16);
                const Numbers left = Numbers(s[v]) - 16;
                s[v] = Register(left);
                half[v] = Register((Numbers{} + 1) << (left - 1));
            }
        positive = f.low >= 0;
        low = bytes_of(f.low), most = bytes_of(f.high);
    }

    // An addend, brought to the scale; of a shift over 24, nothing is left.
    void add(Register& to, Register x) const {
        if (f.addend.shift > 24) return;
        const Numbers product = Numbers(x) * f.addend.multiplier;
        to = Register(Numbers(to) + ((product + (1 << (f.addend.shift - 1))) >> f.addend.shift));
    }

    // Sums of `count` positions as `n` bytes from `offset` on, at each: `vectors` registers for each position.
    void write(const Register* sums, int vectors, int count, int n, const std::uint8_t* const* addends, std::uint8_t* const* outputs,
               std::ptrdiff_t offset = 0) const {
        const auto all = [&](auto of) {
            in_32_bits ? write<of.value, true>(sums, count, n, addends, outputs, offset) : write<of.value, false>(sums, count, n, addends, outputs, offset);
        };
        switch (vectors) {
            case 1: return all(std::integral_constant<int, 1>());
            case 2: return all(std::integral_constant<int, 2>());
            case 3: return all(std::integral_constant<int, 3>());
            case 4: return all(std::integral_constant<int, 4>());
        }
    }

private:
    // A function of its own: inlined into every kernel it would be most of the code. What it reads for each position is copied,
    // as bytes that are written could be part of it for all that the compiler knows.
    // Saturating to 16 bits on the way leaves any clamp to 8 bits as it is, also after an addend that has 8 bits. One that
    // is brought to another scale is added in 32 bits.
    template <int vectors, bool in_32_bits>
    [[gnu::noinline]] void write(const Register* sums, int count, int n, const std::uint8_t* const* addends, std::uint8_t* const* outputs,
                                 std::ptrdiff_t offset) const {
        const Register none{}, low = this->low, most = this->most;
        const bool positive = this->positive;
        Register m[vectors], s[vectors], high[vectors], half[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) m[v] = this->m[v], s[v] = this->s[v];
        if constexpr (in_32_bits)
            for (int v = 0; v < vectors; v++) high[v] = this->high[v], half[v] = this->half[v];
        for (int p = 0; p < count; p++, sums += vectors) {
            Register results[4] = {none, none, none, none};
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                if constexpr (in_32_bits) {
                    const Numbers upper = Numbers(add_pairs(half[v], sums[v], high[v])), lower = Numbers(multiply_high(sums[v], m[v]));
                    results[v] = Register((upper + lower) >> Numbers(s[v]));
                } else {
                    results[v] = brought_in_64_bits(sums[v], m[v], s[v]);
                }
            Register first = none, second = none;
            if (addends) {
                Register x = load_bytes(addends[p] + offset, n);
                if constexpr (!by_quarters) x = out_of_order(x);
                const Register sign = f.addend_signed ? signs_of_bytes(x) : none;
                first = low_bytes(x, sign), second = high_bytes(x, sign);
                if (!f.addend.same()) {
                    const Register upper = signs_of_shorts(first), last = signs_of_shorts(second);
                    add(results[0], low_shorts(first, upper)), add(results[1], high_shorts(first, upper));
                    add(results[2], low_shorts(second, last)), add(results[3], high_shorts(second, last));
                    first = second = none;
                }
            }
            const Register a = add_shorts(to_shorts(results[0], results[1]), first);
            const Register b = add_shorts(to_shorts(results[2], results[3]), second);
            Register bytes;
            if (positive)
                bytes = largest_unsigned(smallest_unsigned(to_unsigned_bytes(a, b), most), low);
            else
                bytes = largest(smallest(to_bytes(a, b), most), low);
            store_bytes(outputs[p] + offset, by_quarters ? bytes : in_order(bytes), n);
        }
    }
};

void write_floats(const Register* sums, int vectors, int n, const float* scale, float* to) {
    for (int v = 0; v < vectors && v * lanes < n; v++) store_scaled(to + v * lanes, sums[v], scale + v * lanes, n - v * lanes);
}

Finish<false> finish_of(const Int8Product& a) {
    const Int8Finish none{a.start, a.start, {}, false, 0, 0};
    return Finish<false>(a.outputs ? a.finish : none, 0, a.outputs ? row : 0);
}

void write_all(const Int8Product& a, const Finish<false>& finish, const Register* sums, int vectors, int position, int n) {
    if (!a.sums && a.outputs) return finish.write(sums, vectors, n, a.width, a.addends ? a.addends + position : nullptr, a.outputs + position);
    for (int p = position; p < position + n; p++, sums += vectors) {
        if (a.sums)
            for (int v = 0; v < vectors; v++) store_numbers(a.sums[p] + v * lanes, sums[v], a.width - v * lanes);
        else
            write_floats(sums, vectors, a.width, a.scale, a.floats[p]);
    }
}
