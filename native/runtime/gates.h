// What the gates of one sample decided, in the forms that the layers need.
#pragma once

#include <cstdint>
#include <vector>

#include "program.h"

namespace convgate {

// A gate is open where its logit is not negative, or, if strict, positive; and where it is not a number, so that NaN is
// computed on, not masked away.
inline bool is_open(float logit, bool strict) { return strict ? !(logit <= 0) : !(logit < 0); }

// Along one axis, which tiles are within reach of each position. Of more tiles than positions some are of no position; they
// are within nobody's reach.
struct Axis {
    // Numbers among `tiles`.
    struct Range {
        std::int32_t first, last;
        bool operator==(const Range&) const = default;
    };
    std::vector<std::int32_t> tiles;  // of any position, ascending
    std::vector<Range> within;        // of each position
};

// A tile mask spread over the positions of a height x width map; dilated, a position is open where any of its tiles is.
struct Positions {
    Axis rows, columns;
    std::vector<std::int32_t> open, closed;  // positions y * width + x, ascending
    std::vector<std::uint8_t> joined;        // the tiles of several rows together
};

// Over which map a tile mask is spread, and by how many lines and columns of it the mask is dilated.
struct Spread {
    int height, width;
    Pair reach;
    bool operator==(const Spread&) const = default;
};

// A mask over channel groups spread over single channels.
struct Channels {
    int channels;
    std::vector<std::int32_t> open;  // ascending
};

// Which spreads of a gate are in use; the same for all samples.
struct GateUse {
    Gate gate;
    std::vector<Spread> spreads;
    std::vector<int> channels;

    int positions(int height, int width, Pair reach);  // the number of that spread, a new one if need be
    int spread(int channels);
};

// Masks and logits lie as the gate has them, but for activation gates: there each position's units lie together.
class GateState {
public:
    explicit GateState(const GateUse& use);
    // given: a mask of 0 and 1 [units][rows][columns] that replaces `mask`, or null.
    void decide(const std::uint8_t* given);
    bool open(int use, int y, int x) const;  // that position of a spread
    Pair tile(int use, int y, int x) const;  // the position's own, of a spread without reach
    // To [units][rows][columns].
    void copy_mask(std::uint8_t* to) const;
    void copy_logits(float* to) const;
    // The units at a position of an activation gate.
    const std::uint8_t* at(int position) const { return mask.data() + static_cast<std::ptrdiff_t>(position) * gate_.units; }

    std::vector<std::uint8_t> mask;
    std::vector<float> logits;
    std::vector<Positions> positions;  // as GateUse::spreads
    std::vector<Channels> channels;

private:
    std::size_t lines() const;
    const std::uint8_t* row_of(Positions&, Axis::Range rows) const;
    Gate gate_;
};

}  // namespace convgate
