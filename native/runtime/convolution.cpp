#include "convolution.h"

#include <algorithm>

#include "in_floats.h"

namespace convgate {

template <typename In, typename Out>
ConvolutionOf<In, Out>::ConvolutionOf(const ConvolutionSpec& spec) : spec_(spec) {
    const Operation& op = *spec_.operation;
    const Value& out = spec_.out->value;
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++) {
            in_at_.push_back(spec_.in->position(y * op.stride.y - op.top, x * op.stride.x - op.left));
            out_at_.push_back(spec_.out->position(y, x));
            if (spec_.addend) addend_at_.push_back(spec_.addend->position(y, x));
        }
}

template <typename In, typename Out>
typename ConvolutionOf<In, Out>::Run ConvolutionOf<In, Out>::begin(Sample& s) const {
    const Operation& op = *spec_.operation;
    Run run{s.view_of<In>(*spec_.in), s.view_of<Out>(*spec_.out), {}, nullptr, spec_.out->value.positions(), nullptr, nullptr, nullptr, nullptr};
    if (spec_.addend) run.addend = s.view_of<Out>(*spec_.addend);
    if (op.positions >= 0) {
        const Positions& p = s.gates[op.positions].positions[spec_.positions_use];
        run.positions = p.open.data();
        run.count = static_cast<int>(p.open.size());
        if (!spec_.out->closed_unread && !(spec_.in_place && spec_.addend_is_done)) run.closed = &p.closed;
    }
    if (op.in_channels >= 0) run.in_open = &s.gates[op.in_channels].channels[spec_.in_use].open;
    if (op.out_channels >= 0) run.out_open = &s.gates[op.out_channels].channels[spec_.out_use].open;
    s.taps.clear();
    for (int ky = 0; ky < op.kernel.y; ky++)
        for (int kx = 0; kx < op.kernel.x; kx += spec_.joined())
            s.taps.push_back((static_cast<std::ptrdiff_t>(ky) * op.dilation.y * spec_.in->width() + kx * op.dilation.x) * run.in.stride);
    run.taps = s.taps.data();
    if (!spec_.in_place) run.out.clear_border();
    return run;
}

template <typename In, typename Out>
int ConvolutionOf<In, Out>::open_positions(const Sample& s) const {
    const int gate = spec_.operation->positions;
    return gate < 0 ? spec_.out->value.positions() : static_cast<int>(s.gates[gate].positions[spec_.positions_use].open.size());
}

template <typename In, typename Out>
void ConvolutionOf<In, Out>::point(const Run& run, Scratch& scratch, int first, int count, int in_begin, int out_begin) const {
    std::vector<const In*>& rows = scratch.places<In>().rows;
    Places<Out>& places = scratch.places<Out>();
    const In* in = run.in.data + in_begin;
    Out* out = run.out.data + out_begin;
    const std::ptrdiff_t in_stride = run.in.stride, out_stride = run.out.stride;
    for (int i = 0; i < count; i++) {
        const int p = position(run, first + i);
        rows[i] = in + in_at_[p] * in_stride;
        places.outputs[i] = out + out_at_[p] * out_stride;
    }
    if (spec_.addend)
        for (int i = 0; i < count; i++)
            places.addends[i] = run.addend.data + out_begin +
                                static_cast<std::ptrdiff_t>(addend_at_[position(run, first + i)]) * run.addend.stride;
}

void Convolution::point_aside(Scratch& scratch, int count, int stride) const {
    for (int i = 0; i < count; i++) scratch.kept[i] = scratch.scattered.data() + static_cast<std::ptrdiff_t>(i) * stride;
}

Convolution::Rows Convolution::keep(Scratch& scratch, const Block& block, int count, int stride) const {
    float* const from = scratch.scattered.data();
    float* const to = from + static_cast<std::ptrdiff_t>(count) * stride;
    spec_.kernels->pack_columns(from, stride, nullptr, count, block.kept, block.width, to, stride);
    return {to, stride, block.out_begin, block.width};
}

void Convolution::finish(const Run& run, const Scratch& scratch, const Rows& rows, int first, int count) const {
    const Kernels& k = *spec_.kernels;
    const std::int32_t* const channels = spec_.scatters() ? run.out_open->data() + rows.out_begin : nullptr;
    for (int i = 0; i < count; i++) {
        float* const row = rows.from + static_cast<std::ptrdiff_t>(i) * rows.stride;
        const float* added = rows.bias;
        if (added && (spec_.addend || channels)) {
            k.add(row, row, added, rows.width, Activation::none);
            added = nullptr;
        }
        if (channels) {
            scatter(run, row, rows.width, position(run, first + i), channels);
            continue;
        }
        if (spec_.addend) added = scratch.addends[i];
        added ? k.add(scratch.outputs[i], row, added, rows.width, spec_.activation())
              : k.activate(scratch.outputs[i], row, rows.width, spec_.activation());
    }
}

void Convolution::scatter(const Run& run, float* row, int width, int position, const std::int32_t* channels) const {
    if (spec_.addend) {
        const float* const addend = run.addend.data + static_cast<std::ptrdiff_t>(addend_at_[position]) * run.addend.stride;
        for (int j = 0; j < width; j++) row[j] += addend[channels[j]];
    }
    spec_.kernels->activate(row, row, width, spec_.activation());
    float* const to = run.out.data + static_cast<std::ptrdiff_t>(out_at_[position]) * run.out.stride;
    for (int j = 0; j < width; j++) to[channels[j]] = row[j];
}

template <typename In, typename Out>
void ConvolutionOf<In, Out>::activate(float* row, int n) const {
    const Function& f = spec_.operation->activation;
    if (std::is_same_v<In, float> || in_any_kernel(f.kind))
        spec_.kernels->activate(row, row, n, f.inside());
    else
        spec_.kernels->apply(row, row, n, f);
}

template <typename In, typename Out>
void ConvolutionOf<In, Out>::fill_line(const Run& run, int p, int positions) const {
    const int n = positions * run.out.stride;
    Out* to = run.out.data + static_cast<std::ptrdiff_t>(out_at_[p]) * run.out.stride;
    if (!spec_.addend) {
        std::fill_n(to, n, Out{});
        return;
    }
    const Out* addend = run.addend.data + static_cast<std::ptrdiff_t>(addend_at_[p]) * run.addend.stride;
    if constexpr (std::is_same_v<Out, std::int32_t>) {
        // Partial sums have nothing added.
    } else if constexpr (std::is_same_v<Out, std::uint8_t>) {
        if (to == addend && spec_.addend_is_done) return;
        if (spec_.addend_is_done) return (void)std::copy_n(addend, n, to);
        const Operation& op = *spec_.operation;
        spec_.integers->sum({{addend, 1, spec_.addend->value.is_signed(), op.rescale[1]}, {}, op.low, op.high}, to, n);
    } else if constexpr (std::is_same_v<In, float>) {
        spec_.kernels->activate(to, addend, n, spec_.activation());
    } else {
        if (to == addend && spec_.addend_is_done) return;
        const bool as_it_is = spec_.operation->activation.kind == Activation::none || spec_.addend_is_done;
        if (as_it_is)
            std::copy_n(addend, n, to);
        else
            in_floats(*spec_.halves, to, addend, n, [&](float* row, int, int count) { activate(row, count); });
    }
}

// Positions next to each other in a line are next to each other in memory.
template <typename In, typename Out>
template <typename At>
void ConvolutionOf<In, Out>::fill_lines(const Run& run, int begin, int end, At at) const {
    const int width = spec_.out->value.width;
    for (int i = begin; i < end;) {
        const int p = at(i), most = std::min(end - i, width - p % width);
        int n = 1;
        while (n < most && at(i + n) == p + n) n++;
        fill_line(run, p, n);
        i += n;
    }
}

template <typename In, typename Out>
void ConvolutionOf<In, Out>::fill(const Run& run, int begin, int end) const {
    fill_lines(run, begin, end, [&](int i) { return (*run.closed)[i]; });
}

template <typename In, typename Out>
Chunks ConvolutionOf<In, Out>::fills(const Run& run, const Team& team) const {
    return {run.closed ? static_cast<int>(run.closed->size()) : 0, costs::copied_elements / std::max(run.out.stride, 1), team};
}

template <typename In, typename Out>
void ConvolutionOf<In, Out>::prepare_scatter(const Run& run, Team& team) const {
    if (spec_.in_place) return;
    const Chunks chunks(run.count, costs::copied_elements / std::max(run.out.stride, 1), team);
    team.run(chunks.items, [&](int item, int) {
        fill_lines(run, chunks.begin(item), chunks.end(item), [&](int i) { return position(run, i); });
    });
}

template <typename In, typename Out>
void ConvolutionOf<In, Out>::count(Sample& s, long long macs) const {
    s.macs[spec_.operation->layer].fetch_add(macs, std::memory_order_relaxed);
}

template <typename In, typename Out>
Needs ConvolutionOf<In, Out>::needs_for_positions() const {
    Needs needs;
    needs.positions = chunk;
    needs.taps = spec_.taps();
    return needs;
}

template class ConvolutionOf<float, float>;
template class ConvolutionOf<Bf16, Bf16>;
template class ConvolutionOf<Bf16, float>;
template class ConvolutionOf<std::uint8_t, std::uint8_t>;
template class ConvolutionOf<std::uint8_t, float>;
template class ConvolutionOf<std::uint8_t, std::int32_t>;

}  // namespace convgate
