#include "layer.h"

#include <algorithm>

namespace convgate {

template <typename T>
void ViewOf<T>::clear_border() const {
    const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(layout->width()) * stride;
    std::fill_n(data, layout->top * line + layout->left * stride, T{});
    // From the end of one line to the beginning of the next.
    const int between = (layout->left + layout->right) * stride;
    T* end = at(0, 0) + static_cast<std::ptrdiff_t>(layout->value.width) * stride;
    if (between > 0)
        for (int y = 0; y + 1 < layout->value.height; y++, end += line) std::fill_n(end, between, T{});
    else
        end += (layout->value.height - 1) * line;
    std::fill(end, data + layout->height() * line, T{});
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
    const int most = team.threads() == 1 ? 1 : 4 * team.threads();
    items = std::clamp(total / std::max(least, 1), total > 0 ? 1 : 0, most);
}

}  // namespace convgate
