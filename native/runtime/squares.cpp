#include "squares.h"

#include <algorithm>
#include <bit>

#include "steps.h"

namespace convgate {

namespace {

constexpr int area = 9;  // taps

}  // namespace

int all_squares(const ConvolutionSpec& spec) { return ceil_div(spec.out->value.height, 2) * ceil_div(spec.out->value.width, 2); }

bool is_in_squares(const ConvolutionSpec& spec) {
    const Operation& op = *spec.operation;
    const auto is = [](const Pair& pair, int n) { return pair.y == n && pair.x == n; };
    if (!is(op.kernel, 3) || !is(op.stride, 1) || !is(op.dilation, 1) || spec.scatters()) return false;
    return spec.in_channels() >= lanes_of_choices && spec.out_channels() >= lanes_of_choices;
}

std::size_t elements_weights(const ConvolutionSpec& spec) { return spec.operation->weight.size() / area * elements; }

bool keeps_elements(const ConvolutionSpec& spec) { return costs::keeps_elements(elements_weights(spec), all_squares(spec)); }

bool winograd_pays(const ConvolutionSpec& spec, int squares, int positions) {
    return costs::winograd_pays(keeps_elements(spec), squares, positions);
}

template <typename T>
ConvolutionInSquaresOf<T>::ConvolutionInSquaresOf(const ConvolutionSpec& spec)
    : ConvolutionOf<T, T>(spec), columns_(ceil_div(spec.out->value.width, 2)) {
    const Value& out = spec.out->value;
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++) {
            square_.push_back(y / 2 * columns_ + x / 2);
            corner_.push_back(static_cast<std::uint8_t>(1 << (y % 2 * 2 + x % 2)));
        }
    all_open_.resize(all_squares(spec));
    for (std::size_t p = 0; p < square_.size(); p++) all_open_[square_[p]] |= corner_[p];
    for (std::size_t i = 0; i < all_open_.size(); i++) all_.push_back(static_cast<std::int32_t>(i));
}

template <typename T>
typename ConvolutionInSquaresOf<T>::Chosen ConvolutionInSquaresOf<T>::choose_squares(Sample& s) const {
    const int gate = spec_.operation->positions;
    if (gate < 0) return {all_.data(), static_cast<int>(all_.size()), all_open_.data()};
    if (spec_.squares_use >= 0) {
        const std::vector<std::int32_t>& squares = s.gates[gate].positions[spec_.squares_use].open;
        return {squares.data(), static_cast<int>(squares.size()), all_open_.data()};
    }
    FixedVector<std::uint8_t>& open = s.open_in_square;
    open.clear();
    open.resize(all_.size());
    for (const std::int32_t p : s.gates[gate].positions[spec_.positions_use].open) open[square_[p]] |= corner_[p];
    s.squares.resize(all_.size() + 1);
    int n = 0;
    for (std::size_t i = 0; i < all_.size(); i++) {
        s.squares[n] = static_cast<std::int32_t>(i);
        n += open[i] != 0;
    }
    return {s.squares.data(), n, open.data()};
}

template <typename T>
void ConvolutionInSquaresOf<T>::transform_inputs(const Run& run, const Chosen& chosen, Scratch& scratch, int first, int count, int ins) const {
    std::vector<const T*>& rows = scratch.places<T>().rows;
    for (int i = 0; i < count; i++)
        rows[i] = run.in.data + static_cast<std::ptrdiff_t>(in_at_[first_position(chosen.squares[first + i])]) * run.in.stride;
    const std::ptrdiff_t step_x = run.in.stride, step_y = spec_.in->width() * step_x;
    float* const to = scratch.columns.data();
    if constexpr (std::is_same_v<T, std::uint8_t>)
        spec_.integers->patches({rows.data(), step_y, step_x, count, room(count), ins, spec_.in->value.is_signed(), reinterpret_cast<std::int16_t*>(to)});
    else
        spec_.template kernels_for<T>().patches({rows.data(), step_y, step_x, count, room(count), ins, to});
}

template <typename T>
void ConvolutionInSquaresOf<T>::point_corners(const Run& run, const Chosen& chosen, Scratch& scratch, int first, int count,
                                              int out_begin, T* waste) const {
    Places<T>& places = scratch.places<T>();
    for (int i = 0; i < count; i++) {
        const int square = chosen.squares[first + i], position = first_position(square);
        const auto position_of = [&](int corner) { return position + corner / 2 * spec_.out->value.width + corner % 2; };
        // What closed corners add is not used; another thread may be writing what lies there.
        const int any = position_of(std::countr_zero(chosen.open[square]));
        for (int corner = 0; corner < corners; corner++) {
            const bool open = chosen.open[square] >> corner & 1;
            const int p = open ? position_of(corner) : any;
            T* const to = run.out.data + static_cast<std::ptrdiff_t>(out_at_[p]) * run.out.stride + out_begin;
            places.outputs[corners * i + corner] = open ? to : waste;
            if (spec_.addend)
                places.addends[corners * i + corner] =
                    run.addend.data + static_cast<std::ptrdiff_t>(addend_at_[p]) * run.addend.stride + out_begin;
        }
    }
}

template <typename T>
int ConvolutionInSquaresOf<T>::padded(int ins) const {
    const int block = spec_.template kernels_for<T>().lanes * (std::is_same_v<T, std::uint8_t> ? 2 : 1);
    return ceil_div(std::max(ins, 1), block) * block;
}

template class ConvolutionInSquaresOf<float>;
template class ConvolutionInSquaresOf<Bf16>;
template class ConvolutionInSquaresOf<std::uint8_t>;

std::function<float(int out, int element, int in)> transformed_weights(const ConvolutionSpec& spec) {
    const int n = static_cast<int>(spec.operation->weight.size() / area);
    std::vector<float> to(static_cast<std::size_t>(n) * elements), from(spec.operation->weight.data, spec.operation->weight.data + n * area);
    for (int i = 0; i < n; i++)
        scalar_kernels.element_weights({from.data() + i * area, 1, nullptr, 1, 1, to.data() + i * elements, 1});
    return [to = std::move(to), ins = spec.in_channels()](int out, int element, int i) {
        return to[(static_cast<std::size_t>(out) * ins + i) * elements + element];
    };
}

}  // namespace convgate
