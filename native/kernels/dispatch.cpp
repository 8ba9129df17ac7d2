// Which table this machine runs: one list of candidates for each type that maps and weights are stored as. CONVGATE_X86 or
// CONVGATE_ARM is defined where the kernels of that architecture are compiled.
#include <bit>
#include <cstring>
#if defined(CONVGATE_X86)
#include <cpuid.h>
#elif defined(CONVGATE_ARM) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(CONVGATE_ARM) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "bf16.h"
#include "int8.h"

namespace convgate {

static_assert(std::endian::native == std::endian::little, "pairs and quads of inputs are read as one integer");

extern const Kernels avx512_kernels, avx2_kernels, neon_kernels, portable_kernels;
extern const Bf16Kernels avx512bf16_bf16_kernels, avx512_bf16_kernels, avx2_bf16_kernels;
extern const Bf16Kernels neonbf16_bf16_kernels, neon_bf16_kernels, portable_bf16_kernels, scalar_bf16_kernels;
extern const Int8Kernels avx512vnni_int8_kernels, avx512_int8_kernels, avxvnni_int8_kernels, avx2_int8_kernels;
extern const Int8Kernels neoni8mm_int8_kernels, neondot_int8_kernels, neon_int8_kernels, portable_int8_kernels, scalar_int8_kernels;

namespace {

#include "processor.h"

template <typename Table>
struct Candidate {
    const Table* table;
    bool (*supported)();
};

// Best first.
const Candidate<Kernels> candidates[] = {
#if defined(CONVGATE_X86)
    {&avx512_kernels, avx512},
    {&avx2_kernels, avx2},
#elif defined(CONVGATE_ARM)
    {&neon_kernels, always},
#endif
    {&portable_kernels, always},
    {&scalar_kernels, always},
};

const Candidate<Bf16Kernels> bf16_candidates[] = {
#if defined(CONVGATE_X86)
    {&avx512bf16_bf16_kernels, avx512bf16},
    {&avx512_bf16_kernels, avx512},
    {&avx2_bf16_kernels, avx2},
#elif defined(CONVGATE_ARM)
    {&neonbf16_bf16_kernels, neonbf16},
    {&neon_bf16_kernels, always},
#endif
    {&portable_bf16_kernels, always},
    {&scalar_bf16_kernels, always},
};

const Candidate<Int8Kernels> int8_candidates[] = {
#if defined(CONVGATE_X86)
    {&avx512vnni_int8_kernels, avx512vnni},
    {&avxvnni_int8_kernels, avxvnni},
    {&avx512_int8_kernels, avx512},
    {&avx2_int8_kernels, avx2},
#elif defined(CONVGATE_ARM)
    {&neoni8mm_int8_kernels, neoni8mm},
    {&neondot_int8_kernels, neondot},
    {&neon_int8_kernels, always},
#endif
    {&portable_int8_kernels, always},
    {&scalar_int8_kernels, always},
};

template <typename Table, std::size_t n>
const char* const* names_of(const Candidate<Table> (&all)[n]) {
    static const char* names[n + 1];
    static const bool listed = [&] {
        int found = 0;
        for (const Candidate<Table>& candidate : all)
            if (candidate.supported()) names[found++] = candidate.table->name;
        return found > 0;
    }();
    return listed ? names : nullptr;
}

template <typename Table, std::size_t n>
const Table* find(const Candidate<Table> (&all)[n], const char* name) {
    const bool any = !*name || !std::strcmp(name, "auto");
    for (const Candidate<Table>& candidate : all)
        if (candidate.supported() && (any || !std::strcmp(name, candidate.table->name))) return candidate.table;
    return nullptr;
}

}  // namespace

const char* const* available_kernels() { return names_of(candidates); }
const char* const* available_bf16_kernels() { return names_of(bf16_candidates); }
const char* const* available_int8_kernels() { return names_of(int8_candidates); }

const Kernels* find_kernels(const char* name) { return find(candidates, name); }
const Bf16Kernels* find_bf16_kernels(const char* name) { return find(bf16_candidates, name); }
const Int8Kernels* find_int8_kernels(const char* name) { return find(int8_candidates, name); }

}  // namespace convgate
