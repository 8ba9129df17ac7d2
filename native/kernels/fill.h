// Entries of a Kernels table that come in several sizes; after simd.h and winograd.h.

// `positions`: 0, 1, .. up to the most that a product computes at once; `squares`: the most for an element's.
template <int vectors, int squares, int... positions>
constexpr void fill(Kernels& table, std::integer_sequence<int, positions...>) {
    ((table.product[vectors - 1][positions] = product<vectors, positions + 1>), ...);
    table.tile[vectors - 1] = sizeof...(positions);
    table.columns[vectors - 1] = columns<vectors, sizeof...(positions)>;
    table.element[vectors - 1] = element<vectors, squares>;
}
