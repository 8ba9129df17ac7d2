// The table of one instruction set's kernels for float32; included after all of them.

// The most that a product of so many vectors computes at once: positions, and squares of an element's.
struct AtOnce {
    int positions, squares;
};

template <int vectors, AtOnce most, int... positions>
constexpr void fill(Kernels& table, std::integer_sequence<int, positions...>) {
    ((table.product[vectors - 1][positions] = product<vectors, positions + 1>), ...);
    table.tile[vectors - 1] = most.positions;
    table.columns[vectors - 1] = columns<vectors, most.positions>;
    table.element[vectors - 1] = element<vectors, most.squares>;
}

// For products of 1 to VECTORS vectors.
template <AtOnce... most>
constexpr Kernels table_of(const char* name) {
    static_assert(sizeof...(most) == VECTORS);
    Kernels table{name, lanes, VECTORS, {}, {}, {}, patches<float>, element_weights<float>, {}, squares, transpose, dot, depthwise, windows, complete, pack_columns, activate, apply, arithmetic, blend, deviations, normalize, softmax, reduce, prelu, add, multiply, affine};
    [&]<int... v>(std::integer_sequence<int, v...>) {
        (fill<v + 1, most>(table, std::make_integer_sequence<int, most.positions>()), ...);
    }(std::make_integer_sequence<int, VECTORS>());
    return table;
}
