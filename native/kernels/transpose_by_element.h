// Kernels::transpose for instruction sets without one of their own; included inside their namespaces.

void transpose(const float* const* rows, std::ptrdiff_t offset, int count, int n, float* to, std::ptrdiff_t to_stride) {
    for (int r = 0; r < count; r++)
        for (int i = 0; i < n; i++) to[i * to_stride + r] = rows[r][offset + i];
}
