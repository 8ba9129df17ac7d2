// Maxima and means over windows and over grids of cells.
#include <algorithm>

#include "simple.h"

namespace convgate {
namespace {

// The kernel for maps that are read as In and written as Out.
template <typename In, typename Out>
void pool_windows(const SimpleSpec& spec, const Bf16Windows<Out>& a) requires std::is_same_v<In, Bf16> {
    if constexpr (std::is_same_v<Out, float>) spec.halves->windows_to_float(a);
    else spec.halves->windows(a);
}
template <typename In, typename Out>
void pool_windows(const SimpleSpec& spec, const Windows& a) requires std::is_same_v<In, float> {
    spec.kernels->windows(a);
}

template <typename In, typename Out>
void pool_windows(const SimpleSpec& spec, Int8Windows<Out> a) requires std::is_same_v<In, std::uint8_t> {
    a.is_signed = spec.in[0]->value.is_signed();
    if constexpr (std::is_same_v<Out, float>) spec.integers->means(a);
    else spec.integers->maxima(a);
}

template <typename In, typename Out>
class Pooling final : public Layer {
public:
    explicit Pooling(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<In> in = s.view_of<In>(*spec_.in[0]);
        const ViewOf<Out> out = s.view_of<Out>(*spec_.out);
        each_line(out, lines_of(spec_.out->value, costs::window_elements, team), team, [&](int y) { line(in, y, out); });
    }

private:
    // The part of a window along one axis that lies inside the input, and how long it is with the padding.
    struct Extent {
        int begin, count, padded;
        Extent(int out, int stride, int kernel, int dilation, int before, int after, int size) : begin(out * stride - before) {
            padded = 0;
            count = 0;
            int first = 0;
            for (int k = kernel - 1; k >= 0; k--) {
                const long long at = begin + static_cast<long long>(k) * dilation;
                padded += at < size + after;
                if (at >= 0 && at < size) first = static_cast<int>(at), count++;
            }
            begin = first;
        }
    };

    // Windows that lie inside the input along the line at once, those that reach past its ends one by one.
    void line(const ViewOf<In>& in, int oy, const ViewOf<Out>& out) const {
        const Operation& op = *spec_.operation;
        const Value &from = spec_.in[0]->value, &to = spec_.out->value;
        const Extent y(oy, op.stride.y, op.kernel.y, op.dilation.y, op.top, op.bottom, from.height);
        const auto across = [&](int x) { return Extent(x, op.stride.x, op.kernel.x, op.dilation.x, op.left, op.right, from.width); };
        const auto inside = [&](int x) { return across(x).count == op.kernel.x; };
        for (int x = 0; x < to.width;) {
            int end = x + 1;
            if (inside(x)) {
                const long long room = from.width - 1LL + op.left - (op.kernel.x - 1LL) * op.dilation.x;
                end = static_cast<int>(std::min<long long>(to.width, room / op.stride.x + 1));
            }
            some(in, y, across(x), end - x, out.at(oy, x));
            x = end;
        }
    }

    void some(const ViewOf<In>& in, const Extent& y, const Extent& x, int windows, Out* to) const {
        const Operation& op = *spec_.operation;
        const std::ptrdiff_t stride = in.stride, line = in.layout->width() * stride;
        if (y.count * x.count == 0) {
            std::fill_n(to, windows * stride, Out{});
            return;
        }
        const int n = op.count_padding ? y.padded * x.padded : y.count * x.count;
        pool_windows<In, Out>(spec_, {.windows = windows,
                                .from = in.at(y.begin, x.begin),
                                .from_step = stride * op.stride.x,
                                .to_step = stride,
                                .count_y = y.count,
                                .count_x = x.count,
                                .step_y = line * op.dilation.y,
                                .step_x = stride * op.dilation.x,
                                .channels = in.stride,
                                .to = to,
                                .maximum = op.maximum,
                                .factor = 1.0f / static_cast<float>(n)});
    }

    SimpleSpec spec_;
};

template <typename In, typename Out>
class GridPooling final : public Layer {
public:
    GridPooling(SimpleSpec spec, Needs& needs) : spec_(std::move(spec)), parts_(choose_parts()) {
        Needs mine;
        if (parts_ > 1) mine.sample_packed = static_cast<std::size_t>(parts_) * spec_.in[0]->value.channels;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const ViewOf<In> in = s.view_of<In>(*spec_.in[0]);
        const ViewOf<Out> out = s.view_of<Out>(*spec_.out);
        parts_ > 1 ? mean_of_parts(in, s.packed.data(), team, out) : all_cells(in, team, out);
        if (spec_.in[0]->compact()) spread(s, out);
    }

private:
    static constexpr int most_exact = 1 << 16;  // integers of 8 bits, whose sum float32 has

    // Of a mean over a whole map: that many parts of its lines, so that threads share it. Never by what is open or by who
    // computes, as sums depend on it in the last bit.
    int choose_parts() const {
        const Value& from = spec_.in[0]->value;
        if (spec_.operation->maximum || spec_.out->value.positions() > 1) return 1;
        if (integral(from.storage) && from.positions() > most_exact) return 1;
        return costs::parts_of_mean(static_cast<long long>(from.positions()) * from.channels, from.positions(), from.height);
    }

    void mean_of_parts(const ViewOf<In>& in, float* sums, Team& team, const ViewOf<Out>& out) const {
        const Value& from = spec_.in[0]->value;
        const auto begin = [&](int part) { return even_part(from.height, part, parts_); };
        auto body = [&](int part, int) {
            pool_windows<In, float>(spec_, {.windows = 1,
                                            .from = in.at(begin(part), 0),
                                            .from_step = 0,
                                            .to_step = 0,
                                            .count_y = begin(part + 1) - begin(part),
                                            .count_x = from.width,
                                            .step_y = in.layout->width() * static_cast<std::ptrdiff_t>(in.stride),
                                            .step_x = in.stride,
                                            .channels = in.stride,
                                            .to = sums + static_cast<std::ptrdiff_t>(part) * in.stride,
                                            .maximum = false,
                                            .factor = 1.0f});
        };
        const long long bytes = static_cast<long long>(from.positions()) * from.channels * static_cast<int>(sizeof(In));
        team.run_if(bytes >= costs::averaged_bytes, parts_, body);
        for (int part = 1; part < parts_; part++) {
            const float* more = sums + static_cast<std::ptrdiff_t>(part) * in.stride;
            for (int c = 0; c < in.stride; c++) sums[c] += more[c];
        }
        const float scaled = factor(from.positions());
        for (int c = 0; c < in.stride; c++) sums[c] *= scaled;
        out.clear_border();
        if constexpr (std::is_same_v<Out, float>) std::copy_n(sums, in.stride, out.at(0, 0));
        else spec_.halves->narrow(out.at(0, 0), sums, in.stride);
    }

    void all_cells(const ViewOf<In>& in, Team& team, const ViewOf<Out>& out) const {
        const Value &from = spec_.in[0]->value, &to = spec_.out->value;
        const int line = from.positions() / to.height * from.channels;
        const Chunks lines(to.height, costs::simple_elements / std::max(line, 1) + 1, team);
        // Lines of cells are few: cut into pieces, each thread has as many.
        const int pieces = lines.items >= team.threads() ? std::min(team.threads(), to.width) : 1;
        const bool even = from.width % to.width == 0;
        team.run(lines.items * pieces, [&](int item, int) {
            const int begin = even_part(to.width, item % pieces, pieces), end = even_part(to.width, item % pieces + 1, pieces);
            if (begin == 0) out.clear_border(lines.begin(item / pieces), lines.end(item / pieces));
            for (int y = lines.begin(item / pieces); y < lines.end(item / pieces); y++)
                for (int x = begin; x < end; x += even ? end - begin : 1) cells(in, y, x, even ? end - begin : 1, out.at(y, x));
        });
    }

    // More than one: those of a line, all as wide.
    void cells(const ViewOf<In>& in, int cy, int cx, int count, Out* to) const {
        const Value &from = spec_.in[0]->value, &grid = spec_.out->value;
        const auto begin = [](long long cell, int size, int cells) { return static_cast<int>(cell * size / cells); };
        const auto end = [](long long cell, int size, int cells) { return static_cast<int>(((cell + 1) * size + cells - 1) / cells); };
        const int y0 = begin(cy, from.height, grid.height), y1 = end(cy, from.height, grid.height);
        const int x0 = begin(cx, from.width, grid.width), x1 = end(cx, from.width, grid.width);
        const std::ptrdiff_t stride = in.stride, line = in.layout->width() * stride;
        pool_windows<In, Out>(spec_, {.windows = count,
                                .from = in.at(y0, x0),
                                .from_step = (x1 - x0) * stride,
                                .to_step = stride,
                                .count_y = y1 - y0,
                                .count_x = x1 - x0,
                                .step_y = line,
                                .step_x = stride,
                                .channels = in.stride,
                                .to = to,
                                .maximum = spec_.operation->maximum,
                                .factor = factor((y1 - y0) * (x1 - x0))});
    }

    // Of a mean; that of integers is in units of their scale.
    float factor(int n) const {
        if constexpr (std::is_same_v<In, std::uint8_t>) return static_cast<float>(spec_.in[0]->value.scale / n);
        else return 1.0f / static_cast<float>(n);
    }

    // The one cell's open channels to their places, from behind, and zeros between.
    void spread(Sample& s, const ViewOf<Out>& out) const {
        const Layout& layout = *spec_.in[0];
        const std::vector<std::int32_t>& open = s.gates[layout.channels_gate].channels[layout.channels_use].open;
        Out* to = out.at(0, 0);
        int j = static_cast<int>(open.size());
        for (int c = layout.value.channels - 1; c >= 0; c--) to[c] = j > 0 && open[j - 1] == c ? to[--j] : Out{};
    }

    SimpleSpec spec_;
    const int parts_;
};

}  // namespace

template <template <typename, typename> class Pool, typename... More>
std::unique_ptr<Layer> make(const SimpleSpec& spec, More&... more) {
    if (spec.form.in == Storage::f32) return std::make_unique<Pool<float, float>>(spec, more...);
    if (spec.form.out == Storage::f32) return std::make_unique<Pool<Bf16, float>>(spec, more...);
    return std::make_unique<Pool<Bf16, Bf16>>(spec, more...);
}

std::unique_ptr<Layer> make_pool(const SimpleSpec& spec) {
    if (integral(spec.form.in)) return std::make_unique<Pooling<std::uint8_t, std::uint8_t>>(spec);
    return make<Pooling>(spec);
}
std::unique_ptr<Layer> make_pool_to_grid(const SimpleSpec& spec, Needs& needs) {
    if (integral(spec.form.in)) return std::make_unique<GridPooling<std::uint8_t, float>>(spec, needs);
    return make<GridPooling>(spec, needs);
}

}  // namespace convgate
