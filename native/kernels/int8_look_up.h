// Tables of 256 bytes; part of int8_quads.h. They are looked up in registers: each row of sixteen entries yields its own for the
// indices that are in it, and zeros for all others.
void look_up(const std::uint8_t* table, const std::uint8_t* from, std::uint8_t* to, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t width = sizeof(Register);
    Register rows[16];
    for (int r = 0; r < 16; r++) rows[r] = sixteen_bytes(table + 16 * r);
    for (std::ptrdiff_t i = 0; i < n; i += width) {
        const int count = static_cast<int>(std::min(n - i, width));
        Register x = load_bytes(from + i, count), found = of_sixteen(rows[0], x);
#pragma GCC unroll 15
        for (int r = 1; r < 16; r++) {
            x = less_sixteen(x);
            found |= of_sixteen(rows[r], x);
        }
        store_bytes(to + i, found, count);
    }
}
