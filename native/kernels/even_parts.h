// Things shared out evenly.
#pragma once

namespace convgate {

// Static, since kernels for other processors are compiled with these, too.
static inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Where part `part` of `parts` of n things begins, however many they are. (Of the few positions or outputs that a kernel has
// at once it is computed in ints: a division of 64 bits there takes 5 % of a small network's time.)
static inline int even_part(int n, int part, int parts) { return static_cast<int>(static_cast<long long>(n) * part / parts); }

}  // namespace convgate
