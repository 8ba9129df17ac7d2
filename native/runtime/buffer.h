// Memory for floats, aligned for vectors, in large pages where it is large: weights are read once per call, and with small
// pages a good part of that time went into looking up addresses.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace convgate {

class Buffer {
public:
    Buffer() = default;
    explicit Buffer(std::size_t n) : data_(n ? allocate(n) : nullptr, Free{alignment(n)}), size_(n) {}  // zeros
    float* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    float& operator[](std::size_t i) const { return data_.get()[i]; }

private:
    static constexpr std::size_t large_page = std::size_t{1} << 21;

    struct Free {
        Free() : Free(std::align_val_t{64}) {}
        explicit Free(std::align_val_t a) : alignment(a) {}
        std::align_val_t alignment;
        void operator()(float* p) const { ::operator delete(p, alignment); }
    };
    static std::align_val_t alignment(std::size_t n) {
        return std::align_val_t{n * sizeof(float) >= large_page ? large_page : 64};
    }
    static float* allocate(std::size_t n) {
        void* p = ::operator new(n * sizeof(float), alignment(n));
#if defined(MADV_HUGEPAGE)
        if (n * sizeof(float) >= large_page) madvise(p, n * sizeof(float), MADV_HUGEPAGE);
#endif
        std::memset(p, 0, n * sizeof(float));
        return static_cast<float*>(p);
    }

    std::unique_ptr<float, Free> data_;
    std::size_t size_ = 0;
};

}  // namespace convgate
