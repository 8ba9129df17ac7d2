// Some lanes of a vector next to each other, in its first lanes, one by one; for instruction sets without an instruction for it.

inline Vector packed_lanes(Vector v, unsigned kept) {
    Vector to{};
    int n = 0;
    for (int i = 0; i < lanes; i++)
        if (kept >> i & 1) to[n++] = v[i];
    return to;
}
