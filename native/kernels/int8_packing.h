// The weights of open outputs, packed; part of int8_quads.h.

// From a panel's row: which of its bytes go where in a row of packed columns.
struct Part {
    int from;
    Permutation permutation;
};

PERMUTING void pack_by_permutation(const std::int8_t* from, const std::int32_t* rows_list, int rows, const std::int32_t* columns,
                                   int n, std::int8_t* to) {
    Part parts[row];
    int count = 0;
    for (int j = 0; j < n;) {
        const int base = columns[j] / row * row;
        Part& part = parts[count++] = {base, {}};
        for (; j < n && columns[j] / row * row == base; j++) part.permutation.take(place(columns[j] - base), place(j));
    }
    for (int r = 0; r < rows; r++) {
        const std::int8_t* source = from + static_cast<std::ptrdiff_t>(rows_list ? rows_list[r] : r) * row;
        const int later = r + 12 < rows ? r + 12 : rows - 1;  // the rows come from memory
        const std::int8_t* ahead = from + static_cast<std::ptrdiff_t>(rows_list ? rows_list[later] : later) * row;
        Register packed{};
        for (int i = 0; i < count; i++) {
            __builtin_prefetch(ahead + parts[i].from);
            packed = parts[i].permutation.apply(load(source + parts[i].from), packed);
        }
        store_bytes(to + static_cast<std::ptrdiff_t>(r) * row, packed, row);
    }
}

void pack_columns(const std::int8_t* from, const std::int32_t* rows_list, int rows, const std::int32_t* columns, int n, std::int8_t* to) {
    if (permutes())
        pack_by_permutation(from, rows_list, rows, columns, n, to);
    else
        pack_in_order(place, row, from, rows_list, rows, columns, n, to);
}
