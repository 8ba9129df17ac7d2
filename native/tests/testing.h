// What the native tests share: random numbers that a printed seed repeats, memory that notices what lies outside it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../kernels/table.h"

namespace convgate::testing {

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

template <typename... Parts>
void require(bool condition, const Parts&... parts) {
    if (condition) return;
    std::ostringstream message;
    (message << ... << parts);
    throw Failure(message.str());
}

class Random {
public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}
    int from(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }  // both included
    bool chance(double p) { return std::uniform_real_distribution<double>(0, 1)(engine_) < p; }
    float number() { return std::uniform_real_distribution<float>(-1, 1)(engine_); }
    template <typename T>
    T pick(std::initializer_list<T> choices) {
        return choices.begin()[from(0, static_cast<int>(choices.size()) - 1)];
    }
    template <typename T>
    const T& pick(const std::vector<T>& choices) {
        return choices[from(0, static_cast<int>(choices.size()) - 1)];
    }
    template <typename T>
    T& pick(std::vector<T>& choices) {
        return choices[from(0, static_cast<int>(choices.size()) - 1)];
    }

private:
    std::mt19937_64 engine_;
};

// Pages of its own between two that may not be touched. The array lies at the beginning or at the end of them, so that an
// access before or past it is a fault, whatever instruction makes it (sanitizers do not see masked vector accesses); a
// write into the rest of the pages is found by `intact`.
template <typename T>
class Guarded {
public:
    Guarded(Random& random, std::size_t n) : size_(n) {
        const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        inner_ = (n * sizeof(T) + page - 1) / page * page + (n == 0) * page;
        mapped_ = inner_ + 2 * page;
        void* all = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED) throw std::bad_alloc();
        pages_ = static_cast<unsigned char*>(all) + page;
        mprotect(pages_, inner_, PROT_READ | PROT_WRITE);
        std::memset(pages_, canary, inner_);
        data_ = reinterpret_cast<T*>(random.chance(0.75) ? pages_ + inner_ - n * sizeof(T) : pages_);
    }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;
    ~Guarded() { munmap(pages_ - (mapped_ - inner_) / 2, mapped_); }

    T* data() const { return data_; }
    std::size_t size() const { return size_; }
    T& operator[](std::size_t i) const { return data_[i]; }
    void copy(const std::vector<T>& from) const { std::copy_n(from.data(), size_, data_); }
    bool intact() const {
        const unsigned char *begin = reinterpret_cast<unsigned char*>(data_),
                            *end = reinterpret_cast<unsigned char*>(data_ + size_);
        for (const unsigned char* p = pages_; p < pages_ + inner_; p++)
            if ((p < begin || p >= end) && *p != canary) return false;
        return true;
    }

private:
    static constexpr unsigned char canary = 0xa5;
    std::size_t size_, inner_, mapped_;
    unsigned char* pages_;
    T* data_;
};

inline std::vector<float> numbers(Random& random, std::size_t n) {
    std::vector<float> values(n);
    for (float& value : values) value = random.number();
    return values;
}

// The tests, each for one seed.
void test_kernels(Random&);
void test_bf16(Random&);
void test_int8(Random&);
void test_bf16_winograd(Random&);
void test_int8_winograd(Random&);
void test_int8_networks(Random&);
void test_malformed_int8(Random&);
void test_networks(Random&);
void test_wide_networks(Random&);
void test_large_weights(Random&);
void test_bf16_networks(Random&);
void test_wide_bf16_networks(Random&);
void test_shared_network(Random&);
void test_pool(Random&);
void test_shared_buffers(Random&);
void test_fixed_vector(Random&);
void test_malformed(Random&);
void test_borders(Random&);
void test_long_grids(Random&);
void test_many_gates(Random&);
void test_long_products(Random&);
void test_wide_strides(Random&);
void test_wide_windows(Random&);
void test_long_programs(Random&);

// Positions of a 3x3 kernel on three lines of a map, one of which follows the other or is somewhere else.
struct SlidingRows {
    std::vector<std::ptrdiff_t> taps, places;  // in elements
    std::size_t size;                          // of the map
    Sliding sliding;

    SlidingRows(Random& random, int positions, int channels) {
        const int width = 3 + 4 * positions, shift = random.from(1, 3);
        for (int t = 0; t < 9; t++) taps.push_back((t / 3 * width + t % 3) * static_cast<std::ptrdiff_t>(channels));
        size = static_cast<std::size_t>(3) * width * channels;
        sliding = {shift, static_cast<std::ptrdiff_t>(shift) * channels};
        for (int p = 0, x = 0; p < positions; p++) {
            const bool follows = p > 0 && x + shift + 3 <= width && random.chance(0.7);
            x = follows ? x + shift : random.from(0, width - 3);
            places.push_back(static_cast<std::ptrdiff_t>(x) * channels);
        }
    }
    template <typename T>
    std::vector<const T*> rows(const T* map) const {
        std::vector<const T*> to;
        for (const std::ptrdiff_t at : places) to.push_back(map + at);
        return to;
    }
};

}  // namespace convgate::testing
