#include "rest.h"

#include <algorithm>

#include "steps.h"

namespace convgate {

RestBlocks::RestBlocks(const ConvolutionSpec& spec, const Gate& gate, RestShape shape)
    : spec_(spec), gate_(gate), shape_(shape), parts_(spec.operation->groups) {
    // Without its own chunk of inputs a block has less to compute, but must lie within one chunk of outputs, whose last
    // vector may be almost empty.
    const int vectors = ceil_div(outs(), lanes_of_choices), of_chunk = ceil_div(outs() / parts_, lanes_of_choices);
    const bool apart = parts_ > 1 && static_cast<long long>(of_chunk) * (parts_ - 1) < vectors;
    for (const auto& [begin, end] : segments(apart)) cut(begin, end, apart);
}

// Ranges of output channels that no block may leave: chunks if they are computed apart, and units that fill vectors.
std::vector<std::pair<int, int>> RestBlocks::segments(bool apart) const {
    const int chunk = outs() / parts_;
    std::vector<std::pair<int, int>> found;
    for (int begin = 0; begin < outs(); begin = found.back().second) {
        int end = outs();
        if (apart) end = std::min(end, (begin / chunk + 1) * chunk);
        if (within_units()) end = static_cast<int>(std::min<long long>(end, (begin / gate_.group + 1LL) * gate_.group));
        found.push_back({begin, end});
    }
    return found;
}

// A range in blocks; in single vectors where each has several units: the fewer channels, the more often all are closed.
void RestBlocks::cut(int begin, int end, bool apart) {
    const Operation& op = *spec_.operation;
    const int vectors = ceil_div(end - begin, shape_.lanes);
    const int blocks = ceil_div(vectors, within_units() ? shape_.vectors : 1);
    for (int b = 0; b < blocks; b++) {
        const int first = begin + even_part(vectors, b, blocks) * shape_.lanes;
        const int last = std::min(begin + even_part(vectors, b + 1, blocks) * shape_.lanes, end);
        RestBlock block{first, last - first, ceil_div(last - first, shape_.lanes), -1, {}, {}, weights_, 0};
        if (first / gate_.group == (last - 1) / gate_.group) block.unit = first / gate_.group;
        block.macs = static_cast<long long>(ins() - own()) * op.kernel.y * op.kernel.x;
        block.runs = apart ? all_but(first / (outs() / parts_) * own(), own()) : all_inputs();
        for (const Runs& runs : block.runs) {
            weights_ += runs.starts.size() * runs.length * row(block);
            for (const Start& start : runs.starts) {
                const int position = start.y * op.dilation.y * spec_.in->width() + start.x * op.dilation.x;
                block.taps.push_back(static_cast<std::ptrdiff_t>(position) * ins() + start.channel);
            }
        }
        blocks_.push_back(std::move(block));
    }
}

std::vector<Start> RestBlocks::starts(int first_x, int last_x, int channel) const {
    std::vector<Start> found;
    for (int y = 0; y < spec_.operation->kernel.y; y++)
        for (int x = first_x; x < last_x; x++) found.push_back({y, x, channel});
    return found;
}

// The taps of a line are next to each other in memory, if it is not dilated: one run.
std::vector<Runs> RestBlocks::all_inputs() const {
    const int width = spec_.operation->kernel.x;
    if (spec_.operation->dilation.x == 1) return {{starts(0, 1, 0), width * ins()}};
    return {{starts(0, width, 0), ins()}};
}

// But for `n` channels from `begin` on. From what is left of one tap to what the next one begins with is one run.
std::vector<Runs> RestBlocks::all_but(int begin, int n) const {
    const int width = spec_.operation->kernel.x, end = begin + n, last = width - 1;
    std::vector<Runs> all{{starts(0, width, 0), begin}, {starts(0, width, end), ins() - end}};
    if (spec_.operation->dilation.x == 1)
        all = {{starts(0, 1, 0), begin}, {starts(0, last, end), ins() - n}, {starts(last, width, end), ins() - end}};
    std::erase_if(all, [](const Runs& runs) { return runs.length == 0 || runs.starts.empty(); });
    return all;
}

}  // namespace convgate
