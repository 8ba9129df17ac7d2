// Numbers that are written once and read from then on, of which equal ones are kept once in a process: the weights of the
// plans of one program for several sizes of images, of layers that are called several times, of engines of one file.
#pragma once

#include <memory>

#include "buffer.h"

namespace convgate {

// What equals `bytes` bytes at `held` and is still in use, or else `held`.
std::shared_ptr<const void> kept_once(std::shared_ptr<const void> held, std::size_t bytes);

template <typename T>
class SharedBufferOf {
public:
    SharedBufferOf() = default;
    explicit SharedBufferOf(BufferOf<T> filled) : size_(filled.size()) {
        const auto owner = std::make_shared<const BufferOf<T>>(std::move(filled));
        held_ = kept_once(std::shared_ptr<const void>(owner, owner->data()), size_ * sizeof(T));
    }
    const T* data() const { return static_cast<const T*>(held_.get()); }
    std::size_t size() const { return size_; }
    const T& operator[](std::size_t i) const { return data()[i]; }

private:
    std::shared_ptr<const void> held_;
    std::size_t size_ = 0;
};

using SharedBuffer = SharedBufferOf<float>;

}  // namespace convgate
