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
        const Value& to = spec_.out->value;
        const ViewOf<In> in = s.view_of<In>(*spec_.in[0]);
        const ViewOf<Out> out = s.view_of<Out>(*spec_.out);
        out.clear_border();
        const Chunks lines(to.height, 2048 / (to.width * to.channels) + 1, team);
        team.run(lines.items, [&](int item, int) {
            for (int y = lines.begin(item); y < lines.end(item); y++) line(in, y, out);
        });
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
    explicit GridPooling(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const Value &from = spec_.in[0]->value, &to = spec_.out->value;
        const ViewOf<In> in = s.view_of<In>(*spec_.in[0]);
        const ViewOf<Out> out = s.view_of<Out>(*spec_.out);
        out.clear_border();
        const int line = from.positions() / to.height * from.channels;
        const Chunks lines(to.height, 8192 / std::max(line, 1) + 1, team);
        team.run(lines.items, [&](int item, int) {
            const int at_once = from.width % to.width == 0 ? to.width : 1;
            for (int y = lines.begin(item); y < lines.end(item); y++)
                for (int x = 0; x < to.width; x += at_once) cells(in, y, x, at_once, out.at(y, x));
        });
        if (spec_.in[0]->compact()) spread(s, out);
    }

private:
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
};

}  // namespace

template <template <typename, typename> class Pool>
std::unique_ptr<Layer> make(const SimpleSpec& spec) {
    if (spec.form.in == Storage::f32) return std::make_unique<Pool<float, float>>(spec);
    if (spec.form.out == Storage::f32) return std::make_unique<Pool<Bf16, float>>(spec);
    return std::make_unique<Pool<Bf16, Bf16>>(spec);
}

std::unique_ptr<Layer> make_pool(const SimpleSpec& spec) {
    if (integral(spec.form.in)) return std::make_unique<Pooling<std::uint8_t, std::uint8_t>>(spec);
    return make<Pooling>(spec);
}
std::unique_ptr<Layer> make_pool_to_grid(const SimpleSpec& spec) {
    if (integral(spec.form.in)) return std::make_unique<GridPooling<std::uint8_t, float>>(spec);
    return make<GridPooling>(spec);
}

}  // namespace convgate
