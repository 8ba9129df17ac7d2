// How the processor computes with floats: rounding to nearest, denormals kept, whatever the calling thread has set.
#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace convgate {

// While it lives, this thread computes by the default mode. A library that was linked with -ffast-math, or
// `torch.set_flush_denormal`, changes the mode of single threads, and with it what the same network would return.
class DefaultFloatingPoint {
public:
    DefaultFloatingPoint() : before_(get()) { set(standard); }
    ~DefaultFloatingPoint() { set(before_); }
    DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
    DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

private:
#if defined(__SSE__)
    using Mode = unsigned int;
    static constexpr Mode standard = 0x1f80;  // no exception is trapped
    static Mode get() { return _mm_getcsr(); }
    static void set(Mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
    using Mode = std::uint64_t;
    static constexpr Mode standard = 0;
    static Mode get() {
        Mode mode;
        asm volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void set(Mode mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
    using Mode = int;
    static constexpr Mode standard = 0;
    static Mode get() { return 0; }
    static void set(Mode) {}
#endif

    const Mode before_;
};

}  // namespace convgate
