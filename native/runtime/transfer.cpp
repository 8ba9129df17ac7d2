#include "transfer.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "plan.h"

namespace convgate {

namespace {

// Whether the order is the same on both sides.
bool in_order(const Value& value) { return value.channels == 1 || value.positions() == 1; }

// `n` elements as floats, converted in `aside` if they are stored otherwise.
const float* as_floats(const Plan&, const float* from, int, Buffer&) { return from; }
const float* as_floats(const Plan& plan, const Bf16* from, int n, Buffer& aside) {
    plan.halves()->widen(aside.data(), from, n);
    return aside.data();
}

// `count` positions from `from` on: each channel becomes a row of `to`. Few enough rows at once that their lines of the cache stay in
// the first level until they are full, however far apart they are.
void spread_channels(const Kernels& kernels, std::vector<const float*>& positions, const float* from, int count, int channels,
                     float* to, std::ptrdiff_t to_stride) {
    for (int i = 0; i < count; i++) positions[i] = from + static_cast<std::ptrdiff_t>(i) * channels;
    for (int c = 0; c < channels; c += costs::written_rows) {
        const int rows = std::min(costs::written_rows, channels - c);
        kernels.transpose(positions.data(), c, count, rows, to + c * to_stride, to_stride);
    }
}

int written_at_once(const Value& value) { return std::min(costs::written_positions, value.positions()); }

template <typename T>
void write(const Plan& plan, Sample& s, const Layout& layout, float* to, Team& team) {
    const Value& value = layout.value;
    const ViewOf<T> from = s.view_of<T>(layout);
    // Without a border all lines are one.
    const int line = layout.left + layout.right > 0 ? value.width : value.positions();
    const Chunks parts(value.positions(), costs::copied_elements / value.channels + 1, team);
    team.run(parts.items, [&](int item, int thread) {
        Scratch& scratch = s.scratch[thread];
        const int end = parts.end(item);
        for (int p = parts.begin(item), count; p < end; p += count) {
            count = std::min({written_at_once(value), end - p, line - p % line});
            const float* const floats = as_floats(plan, from.at(p / value.width, p % value.width), count * value.channels, scratch.columns);
            if (in_order(value))
                std::copy_n(floats, count * value.channels, to + p);
            else
                spread_channels(plan.kernels(), scratch.rows, floats, count, value.channels, to + p, value.positions());
        }
    });
}

}  // namespace

// A line of it is transposed, and rounded where it is stored so.
Needs needs_of_input(const Value& value) {
    Needs needs;
    needs.weights = value.channels;
    if (value.storage == Storage::bf16) needs.columns = static_cast<std::size_t>(value.width) * value.channels;
    return needs;
}

Needs needs_of_output(const Value& value) {
    Needs needs;
    needs.positions = written_at_once(value);
    if (value.storage == Storage::bf16) needs.columns = static_cast<std::size_t>(written_at_once(value)) * value.channels;
    return needs;
}

void read_input(const Plan& plan, Sample& s, const Layout& layout, const float* from, Team& team) {
    const Value& value = layout.value;
    const bool rounds = value.storage == Storage::bf16;
    rounds ? s.view_of<Bf16>(layout).clear_border() : s.view(layout).clear_border();
    std::atomic<bool> finite{true};
    const Chunks lines = lines_of(value, costs::copied_elements, team);
    team.run(lines.items, [&](int item, int thread) {
        std::uint32_t differences = 0;  // bits of x - x, which is 0 for finite values only
        std::vector<const float*>& sources = s.scratch[thread].weights;
        for (int y = lines.begin(item); y < lines.end(item); y++) {
            for (int c = 0; c < value.channels; c++) {
                sources[c] = from + (static_cast<std::size_t>(c) * value.height + y) * value.width;
                for (int x = 0; x < value.width; x++)
                    differences |= std::bit_cast<std::uint32_t>(sources[c][x] - sources[c][x]);
            }
            float* const line = rounds ? s.scratch[thread].columns.data() : s.view(layout).at(y, 0);
            plan.kernels().transpose(sources.data(), 0, value.channels, value.width, line, value.channels);
            if (rounds) plan.halves()->narrow(s.view_of<Bf16>(layout).at(y, 0), line, static_cast<std::ptrdiff_t>(value.width) * value.channels);
        }
        if (differences) finite = false;
    });
    if (!finite) throw std::domain_error("the input holds values that are not finite");
}

void write_output(const Plan& plan, Sample& s, const Layout& layout, float* to, Team& team) {
    const auto write_as = layout.value.storage == Storage::f32 ? write<float> : write<Bf16>;
    write_as(plan, s, layout, to, team);
}

}  // namespace convgate
