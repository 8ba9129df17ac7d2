// What Winograd's F(2x2, 3x3) computes, whatever a vector V holds; included inside the namespaces of the files that use it.

// (x0 - x2, x1 + x2, x2 - x1, x1 - x3): one dimension of B^T x.
template <typename V>
inline void to_elements(V& a, V& b, V& c, V& d) {
    const V first = a - c, second = b + c, third = c - b, fourth = b - d;
    a = first, b = second, c = third, d = fourth;
}

// B^T patch B: of vectors take(y, x) to put(element, vector).
template <typename V, typename Take, typename Put>
__attribute__((always_inline)) inline void elements_of_patch(Take take, Put put) {
    V x[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) x[i][j] = take(i, j);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) to_elements(x[0][j], x[1][j], x[2][j], x[3][j]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        to_elements(x[i][0], x[i][1], x[i][2], x[i][3]);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) put(4 * i + j, x[i][j]);
    }
}

// A^T product A, one dimension (x0 + x1 + x2, x1 - x2 - x3) after the other: of vectors take(element).
template <typename V, typename Take>
__attribute__((always_inline)) inline void corners_of_products(Take take, V (&y)[4]) {
    V x[2][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        V column[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) column[i] = take(4 * i + j);
        x[0][j] = column[0] + column[1] + column[2];
        x[1][j] = column[1] - column[2] - column[3];
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        y[2 * i] = x[i][0] + x[i][1] + x[i][2];
        y[2 * i + 1] = x[i][1] - x[i][2] - x[i][3];
    }
}
