// What the layers share: how values lie in memory, the state of one sample, the buffers of one thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "../kernels/even_parts.h"
#include "buffer.h"
#include "costs.h"
#include "fixed_vector.h"
#include "gates.h"
#include "program.h"
#include "team.h"

namespace convgate {

// A value in memory: lines of positions, each with its channels (NHWC), in a border of zeros as wide as the convolutions
// that read it need. A compact value holds only the open channels of its gate.
struct Layout {
    Value value;
    std::size_t offset = 0;  // in the arena, in bytes
    int channels_gate = -1, channels_use = -1;
    int top = 0, left = 0, bottom = 0, right = 0;  // the border
    bool closed_unread = false;  // nothing reads the positions that its gate closes, so they hold anything

    bool compact() const { return channels_gate >= 0; }
    int width() const { return value.width + left + right; }
    int height() const { return value.height + top + bottom; }
    int position(int y, int x) const { return (y + top) * width() + x + left; }
    std::size_t size() const { return static_cast<std::size_t>(height()) * width() * value.channels; }  // elements
    std::size_t bytes() const { return size() * element_size(); }
    std::size_t element_size() const { return integral(value.storage) ? 1 : value.storage == Storage::bf16 ? sizeof(Bf16) : sizeof(float); }
};

// Where rows of maps lie that are stored as T.
template <typename T>
struct Places {
    std::vector<const T*> rows, addends, weights;  // input, added and weight rows
    std::vector<T*> outputs, kept;
};

// One thread's buffers; as large as the largest layer needs.
struct Scratch : Places<float> {
    Places<Bf16> halves;
    Places<std::uint8_t> bytes;
    Places<std::int32_t> sums;  // of integers
    template <typename T>
    Places<T>& places() {
        if constexpr (std::is_same_v<T, float>) return *this;
        else if constexpr (std::is_same_v<T, Bf16>) return halves;
        else if constexpr (std::is_same_v<T, std::int32_t>) return sums;
        else return bytes;
    }
    std::vector<const std::uint8_t*> open;  // per position, which of its channels are
    std::vector<std::uint8_t> spread;
    Buffer accumulators, scattered, columns, weights_aside;
};

// A range of output channels that is computed at once, with weights that are stored as T.
template <typename T>
struct BlockOf {
    int in_begin = 0, in_channels = 0;  // of an input position, as they lie in memory
    int out_begin = 0, width = 0;       // of an output position
    int vectors = 0;
    const T* weights = nullptr;
    const float* bias = nullptr;
    const std::int32_t* weight_rows = nullptr;  // the weights' row of each input, or null: all rows
    const std::int32_t* columns = nullptr;  // where the open output channels are in a row of unpacked weights, or null
    const std::int32_t* kept = nullptr;  // or which of the block's lanes they are, all of which are computed; or null: all
    int group = 0;
};
using Block = BlockOf<float>;

// The same of integers, whose weights lie in rows of Int8Kernels::row. Of depthwise convolutions four taps' in a word.
struct IntegerBlock {
    int in_begin = 0, in_channels = 0;
    int out_begin = 0, width = 0;
    const std::int8_t* weights = nullptr;
    const std::int32_t* words = nullptr;
    std::ptrdiff_t tap_stride = 0;
    const std::int32_t *start = nullptr, *multiplier = nullptr, *shift = nullptr;  // of each output
    const float* scale = nullptr;
    const std::int32_t *weight_rows = nullptr, *columns = nullptr, *kept = nullptr;
    int group = 0, panel = 0;
};

// A value of one sample.
template <typename T>
struct ViewOf {
    T* data;
    int stride;  // elements per position
    const Layout* layout;
    T* at(int y, int x) const { return data + static_cast<std::ptrdiff_t>(layout->position(y, x)) * stride; }
    // What a border's positions must hold before a value is read; of some lines, what lies around those.
    void clear_border(int begin, int end) const;
    void clear_border() const { clear_border(0, layout->value.height); }
};
using View = ViewOf<float>;

// The state of one sample that is being computed.
struct Sample {
    std::byte* arena;
    std::vector<GateState> gates;
    std::vector<std::atomic<long long>>& macs;  // executed, per layer
    std::vector<Scratch>& scratch;              // per thread
    const std::uint8_t* const* given = nullptr;  // per gate, a mask that replaces the decision; or null
    FixedVector<Block> blocks;
    FixedVector<BlockOf<Bf16>> half_blocks;
    FixedVector<IntegerBlock> integer_blocks;
    FixedVector<std::int32_t> lists, squares;
    FixedVector<std::uint8_t> open_in_square;
    FixedVector<std::ptrdiff_t> taps;
    Buffer packed;

    // The value must be stored as T.
    template <typename T>
    ViewOf<T> view_of(const Layout& layout) const {
        ViewOf<T> view{reinterpret_cast<T*>(arena + layout.offset), layout.value.channels, &layout};
        if (layout.compact())
            view.stride = static_cast<int>(gates[layout.channels_gate].channels[layout.channels_use].open.size());
        return view;
    }
    View view(const Layout& layout) const { return view_of<float>(layout); }
    template <typename B>
    FixedVector<B>& blocks_of() {
        if constexpr (std::is_same_v<B, Block>) return blocks;
        else if constexpr (std::is_same_v<B, IntegerBlock>) return integer_blocks;
        else return half_blocks;
    }
};

class Layer {
public:
    virtual ~Layer() = default;
    virtual void run(Sample&, Team&) const = 0;
};

// How much of each buffer of `Scratch` and `Sample` the layers need.
struct Needs {
    int positions = 0, weights = 0, taps = 0;
    std::size_t spread = 0;
    std::size_t accumulators = 0, scattered = 0, columns = 0, weights_aside = 0;
    std::size_t blocks = 0, lists = 0, squares = 0, sample_packed = 0;
    void cover(const Needs& other);
};

// Items of at least `least` elements each, at most a few per thread.
struct Chunks {
    int total, items;
    Chunks(int total, int least, const Team& team);
    int begin(int item) const { return even_part(total, item, items); }
    int end(int item) const { return begin(item + 1); }
};

// Whole lines of a map, of at least so many elements together.
inline Chunks lines_of(const Value& value, int least, const Team& team) {
    return {value.height, least / (value.width * value.channels) + 1, team};
}

// Calls f(y) for each of a map's lines. Who writes a line clears the border around it, too.
template <typename T, typename Function>
void each_line(const ViewOf<T>& out, const Chunks& lines, Team& team, Function f) {
    team.run(lines.items, [&](int item, int) {
        out.clear_border(lines.begin(item), lines.end(item));
        for (int y = lines.begin(item); y < lines.end(item); y++) f(y);
    });
}

}  // namespace convgate
