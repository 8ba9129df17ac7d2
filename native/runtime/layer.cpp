#include "layer.h"

#include <algorithm>

namespace convgate {

template <typename T>
void ViewOf<T>::clear_border(int begin, int end) const {
    const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(layout->width()) * stride;
    const int last = layout->value.height - 1, between = (layout->left + layout->right) * stride;
    const auto after = [&](int y) { return at(y, 0) + static_cast<std::ptrdiff_t>(layout->value.width) * stride; };
    if (begin == 0) std::fill(data, at(0, 0), T{});
    // From the end of one line to the beginning of the next.
    if (between > 0)
        for (int y = begin; y < std::min(end, last); y++) std::fill_n(after(y), between, T{});
    if (begin < end && end > last) std::fill(after(last), data + layout->height() * line, T{});
}

template struct ViewOf<float>;
template struct ViewOf<Bf16>;
template struct ViewOf<std::uint8_t>;
template struct ViewOf<std::int32_t>;

void Needs::cover(const Needs& other) {
    positions = std::max(positions, other.positions);
    weights = std::max(weights, other.weights);
    taps = std::max(taps, other.taps);
    spread = std::max(spread, other.spread);
    accumulators = std::max(accumulators, other.accumulators);
    scattered = std::max(scattered, other.scattered);
    columns = std::max(columns, other.columns);
    weights_aside = std::max(weights_aside, other.weights_aside);
    blocks = std::max(blocks, other.blocks);
    lists = std::max(lists, other.lists);
    squares = std::max(squares, other.squares);
    sample_packed = std::max(sample_packed, other.sample_packed);
}

Chunks::Chunks(int total, int least, const Team& team) : total(total) {
    const int most = team.threads() == 1 ? 1 : costs::items_per_thread * team.threads();
    items = std::clamp(total / std::max(least, 1), total > 0 ? 1 : 0, most);
}

}  // namespace convgate
