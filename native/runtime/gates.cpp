#include "gates.h"

#include <algorithm>
#include <cmath>

namespace convgate {
namespace {

// The tile of each position along one axis. Uneven tiles: as PyTorch's nearest-neighbour interpolation rounds.
int tile(int position, int tiles, int size) {
    if (size % tiles == 0) return position / (size / tiles);
    const float scale = static_cast<float>(tiles) / static_cast<float>(size);
    return std::min(static_cast<int>(std::floor(static_cast<float>(position) * scale)), tiles - 1);
}

Axis axis(int reach, int tiles, int size) {
    Axis found;
    std::vector<std::int32_t> numbers;  // of each position's own tile
    for (int i = 0; i < size; i++) {
        const int own = tile(i, tiles, size);
        if (found.tiles.empty() || found.tiles.back() != own) found.tiles.push_back(own);
        numbers.push_back(static_cast<std::int32_t>(found.tiles.size()) - 1);
    }
    for (int i = 0; i < size; i++) found.within.push_back({numbers[i - std::min(reach, i)], numbers[i + std::min(reach, size - 1 - i)]});
    return found;
}

bool any(const std::uint8_t* row, const std::vector<std::int32_t>& tiles, Axis::Range of) {
    bool found = row[tiles[of.first]];
    for (int i = of.first + 1; i <= of.last; i++) found |= row[tiles[i]] != 0;
    return found;
}

template <typename T>
int number(std::vector<T>& known, const T& wanted) {
    const auto found = std::find(known.begin(), known.end(), wanted);
    if (found != known.end()) return static_cast<int>(found - known.begin());
    known.push_back(wanted);
    return static_cast<int>(known.size()) - 1;
}

// Of `lines` lines of `n` each, the n-th of all lines together.
template <typename T>
void transposed(const T* from, std::size_t lines, std::size_t n, T* to) {
    for (std::size_t i = 0; i < n; i++)
        for (std::size_t line = 0; line < lines; line++) *to++ = from[line * n + i];
}

// The `count` positions before `to` once more, one line on. Returns how many there are now.
std::size_t repeat(std::int32_t* to, std::size_t count, std::int32_t line, std::size_t there) {
    for (std::size_t i = 0; i < count; i++) to[i] = *(to + i - count) + line;
    return there + count;
}

}  // namespace

int GateUse::positions(int height, int width, Pair reach) { return number(spreads, {height, width, reach}); }
int GateUse::spread(int n) { return number(channels, n); }

GateState::GateState(const GateUse& use) : mask(use.gate.size()), logits(use.gate.size()), gate_(use.gate) {
    for (const auto& [height, width, reach] : use.spreads) {
        Positions p;
        p.rows = axis(reach.y, gate_.rows, height);
        p.columns = axis(reach.x, gate_.columns, width);
        p.joined.resize(gate_.columns);
        p.open.reserve(height * width);
        p.closed.reserve(height * width);
        positions.push_back(std::move(p));
    }
    for (int n : use.channels) {
        channels.push_back({n, {}});
        channels.back().open.reserve(n);
    }
}

void GateState::decide(const std::uint8_t* given) {
    if (given) transposed(given, lines(), mask.size() / lines(), mask.data());
    // Below, what is open is written in any case, and kept if it counts: a branch would be a coin toss.
    for (Positions& p : positions) {
        const std::vector<Axis::Range>&rows = p.rows.within, &columns = p.columns.within;
        const std::size_t total = rows.size() * columns.size();
        p.open.resize(total);
        p.closed.resize(total);
        const std::int32_t width = static_cast<std::int32_t>(columns.size());
        std::size_t open = 0, closed = 0, open_in_line = 0;
        std::int32_t at = 0;
        for (std::size_t y = 0; y < rows.size(); y++) {
            if (y > 0 && rows[y] == rows[y - 1]) {  // as the line before
                open = repeat(p.open.data() + open, open_in_line, width, open);
                closed = repeat(p.closed.data() + closed, width - open_in_line, width, closed);
                at += width;
                continue;
            }
            const std::uint8_t* row = row_of(p, rows[y]);
            open_in_line = open;
            for (const Axis::Range within : columns) {
                const bool is_open = any(row, p.columns.tiles, within);
                p.open[open] = p.closed[closed] = at++;
                open += is_open;
                closed += !is_open;
            }
            open_in_line = open - open_in_line;
        }
        p.open.resize(open);
        p.closed.resize(closed);
    }
    for (Channels& c : channels) {
        c.open.resize(c.channels);
        std::size_t open = 0;
        int unit = 0;
        for (int i = 0; i < c.channels; unit++)
            for (const int end = std::min(i + gate_.group, c.channels); i < end; i++) {
                c.open[open] = i;
                open += mask[unit] != 0;
            }
        c.open.resize(open);
    }
}

// Only an activation gate has both several units and several positions.
std::size_t GateState::lines() const { return gate_.by_activation() ? gate_.units : 1; }

void GateState::copy_mask(std::uint8_t* to) const { transposed(mask.data(), mask.size() / lines(), lines(), to); }
void GateState::copy_logits(float* to) const { transposed(logits.data(), logits.size() / lines(), lines(), to); }

bool GateState::open(int use, int y, int x) const {
    const Axis &rows = positions[use].rows, &columns = positions[use].columns;
    for (int row = rows.within[y].first; row <= rows.within[y].last; row++)
        if (any(mask.data() + rows.tiles[row] * gate_.columns, columns.tiles, columns.within[x])) return true;
    return false;
}

Pair GateState::tile(int use, int y, int x) const {
    const Axis &rows = positions[use].rows, &columns = positions[use].columns;
    return {rows.tiles[rows.within[y].first], columns.tiles[columns.within[x].first]};
}

const std::uint8_t* GateState::row_of(Positions& p, Axis::Range rows) const {
    const auto tiles = [&](int number) { return mask.data() + p.rows.tiles[number] * gate_.columns; };
    if (rows.first == rows.last) return tiles(rows.first);
    std::copy_n(tiles(rows.first), gate_.columns, p.joined.data());
    for (int i = rows.first + 1; i <= rows.last; i++)
        for (int column = 0; column < gate_.columns; column++) p.joined[column] |= tiles(i)[column];
    return p.joined.data();
}

}  // namespace convgate
