// A vector whose memory never moves, so that pointers into it last as long as it does. To ask it for more than it was made for is
// a mistake of the layer's, which said that it needs less (`Needs`); it ends the call, not the process.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>

namespace convgate {

template <typename T>
class FixedVector {
public:
    explicit FixedVector(std::size_t capacity) : data_(capacity ? new T[capacity]() : nullptr), capacity_(capacity) {}
    FixedVector(const FixedVector&) = delete;

    void clear() { size_ = 0; }
    void push_back(const T& value) {
        check(size_ + 1);
        data_[size_++] = value;
    }
    void resize(std::size_t n) {  // new elements are zero
        check(n);
        if (n > size_) std::fill(data_.get() + size_, data_.get() + n, T{});
        size_ = n;
    }

    T* data() const { return data_.get(); }
    T* begin() const { return data(); }
    T* end() const { return data() + size_; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T& operator[](std::size_t i) const { return data_[i]; }

private:
    void check(std::size_t n) const {
        if (n > capacity_) throw std::logic_error("a layer asked for less memory than it uses: an error in convgate's engine, please report it");
    }

    std::unique_ptr<T[]> data_;
    std::size_t size_ = 0, capacity_;
};

}  // namespace convgate
