// Shared by instruction sets whose rows of weights lie in order; included like bf16_simd.h, before it.

inline Vector largest(Vector a, Vector b) { return a > b ? a : b; }
inline Vector smallest(Vector a, Vector b) { return a < b ? a : b; }
inline Vector all(float x) { return x - Vector{}; }

int place(int o, int) { return o; }

void pack_columns(const Bf16* from, std::ptrdiff_t from_stride, const std::int32_t* rows_list, int rows,
                  const std::int32_t* columns, int n, Bf16* to, std::ptrdiff_t to_stride) {
    for (int r = 0; r < rows; r++) {
        const Bf16* source = from + (rows_list ? rows_list[r] : r) * from_stride;
        for (int j = 0; j < n; j++) to[r * to_stride + j] = source[columns[j]];
    }
}
