// Memory for numbers, aligned for vectors, in large pages where it is large: weights are read once per call, and with small
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

template <typename T>
class BufferOf {
public:
    BufferOf() = default;
    explicit BufferOf(std::size_t n) : data_(n ? allocate(n) : nullptr, Free{alignment(n)}), size_(n) {}  // zeros
    T* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    T& operator[](std::size_t i) const { return data_.get()[i]; }

private:
    static constexpr std::size_t large_page = std::size_t{1} << 21;

    struct Free {
        Free() : Free(std::align_val_t{64}) {}
        explicit Free(std::align_val_t a) : alignment(a) {}
        std::align_val_t alignment;
        void operator()(T* p) const { ::operator delete(p, alignment); }
    };
    static std::align_val_t alignment(std::size_t n) {
        return std::align_val_t{n * sizeof(T) >= large_page ? large_page : 64};
    }
    static T* allocate(std::size_t n) {
        void* p = ::operator new(n * sizeof(T), alignment(n));
#if defined(MADV_HUGEPAGE)
        if (n * sizeof(T) >= large_page) {
            // Memory that was used before has small pages, which it keeps: they are given back first. Whole large pages, as
            // what follows belongs to others, and a length would be rounded up.
            madvise(p, n * sizeof(T) / large_page * large_page, MADV_DONTNEED);
            madvise(p, n * sizeof(T), MADV_HUGEPAGE);
        }
#endif
        std::memset(p, 0, n * sizeof(T));
        return static_cast<T*>(p);
    }

    std::unique_ptr<T, Free> data_;
    std::size_t size_ = 0;
};

using Buffer = BufferOf<float>;

}  // namespace convgate
