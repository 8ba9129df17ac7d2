// Which table this machine runs.
#include <cstring>

#include "table.h"

namespace convgate {

extern const Kernels avx512_kernels, avx2_kernels, portable_kernels;

namespace {

struct Candidate {
    const Kernels* table;
    bool (*supported)();
};

// Best first.
const Candidate candidates[] = {
#if defined(__x86_64__) || defined(__i386__)
    {&avx512_kernels,
     [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
     }},
    {&avx2_kernels, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
    {&portable_kernels, [] { return true; }},
    {&scalar_kernels, [] { return true; }},
};

}  // namespace

const char* const* available_kernels() {
    static const char* names[sizeof(candidates) / sizeof(*candidates) + 1];
    static const bool listed = [] {
        int n = 0;
        for (const Candidate& candidate : candidates)
            if (candidate.supported()) names[n++] = candidate.table->name;
        return n > 0;
    }();
    return listed ? names : nullptr;
}

const Kernels* find_kernels(const char* name) {
    const bool any = !*name || !std::strcmp(name, "auto");
    for (const Candidate& candidate : candidates)
        if (candidate.supported() && (any || !std::strcmp(name, candidate.table->name))) return candidate.table;
    return nullptr;
}

}  // namespace convgate
