// What this processor has, as far as kernels ask. Included inside an anonymous namespace, after system headers.

inline bool always() { return true; }

#if defined(CONVGATE_X86)

#if defined(CONVGATE_EMULATED)  // native/tests/emulated
inline bool avx512() { return true; }
inline bool avx512bf16() { return true; }
inline bool avx512vnni() { return true; }
#else
inline bool avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
inline bool avx512bf16() { return avx512() && __builtin_cpu_supports("avx512bf16"); }
inline bool avx512vnni() { return avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif
inline bool avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
// Asked of the processor, as not all compilers have a name for it.
inline bool avxvnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

#elif defined(CONVGATE_ARM) && defined(__APPLE__)

inline bool has(const char* feature) {
    int found = 0;
    std::size_t size = sizeof(found);
    return sysctlbyname(feature, &found, &size, nullptr, 0) == 0 && found;
}
inline bool neondot() { return has("hw.optional.arm.FEAT_DotProd"); }
inline bool neoni8mm() { return has("hw.optional.arm.FEAT_I8MM"); }
inline bool neonbf16() { return has("hw.optional.arm.FEAT_BF16"); }

#elif defined(CONVGATE_ARM) && defined(__linux__)

// Bits of the kernel's lists, which older headers lack.
inline bool neondot() { return getauxval(AT_HWCAP) >> 20 & 1; }
inline bool neoni8mm() { return getauxval(AT_HWCAP2) >> 13 & 1; }
inline bool neonbf16() { return getauxval(AT_HWCAP2) >> 14 & 1; }

#elif defined(CONVGATE_ARM)

inline bool neondot() { return false; }
inline bool neoni8mm() { return false; }
inline bool neonbf16() { return false; }

#endif
