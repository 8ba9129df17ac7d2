// Maps in another size: the nearest position, or the mean of four weighted by their distance, as PyTorch has them.
#include <algorithm>
#include <cmath>

#include "in_floats.h"
#include "simple.h"

namespace convgate {
namespace {

// What one row or column of the output reads: two of the input's, and the second one's weight.
struct Source {
    int first, second;
    float weight;
};

std::vector<Source> sources(const Operation& op, int in, int out, double scale) {
    // PyTorch computes coordinates in float32, from a scale in double precision.
    const bool linear = op.interpolation == Interpolation::bilinear;
    const float ratio = linear && op.align_corners ? (out > 1 ? static_cast<float>(in - 1) / static_cast<float>(out - 1) : 0.0f)
                        : scale > 0                ? static_cast<float>(1.0 / scale)
                                                   : static_cast<float>(in) / static_cast<float>(out);
    std::vector<Source> found;
    for (int i = 0; i < out; i++) {
        const float at = op.interpolation == Interpolation::nearest         ? std::floor(static_cast<float>(i) * ratio)
                         : op.interpolation == Interpolation::nearest_exact ? std::floor((static_cast<float>(i) + 0.5f) * ratio)
                         : op.align_corners                                 ? static_cast<float>(i) * ratio
                                                                            : std::max((static_cast<float>(i) + 0.5f) * ratio - 0.5f, 0.0f);
        const int first = static_cast<int>(std::min(at, static_cast<float>(in - 1)));
        if (linear)
            found.push_back({first, std::min(first + 1, in - 1), std::clamp(at - static_cast<float>(first), 0.0f, 1.0f)});
        else
            found.push_back({first, first, 0.0f});
    }
    return found;
}

template <typename T>
class Interpolate final : public Layer {
public:
    explicit Interpolate(SimpleSpec spec)
        : spec_(std::move(spec)),
          rows_(sources(*spec_.operation, spec_.in[0]->value.height, spec_.out->value.height, spec_.operation->scale_y)),
          columns_(sources(*spec_.operation, spec_.in[0]->value.width, spec_.out->value.width, spec_.operation->scale_x)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<T> in = s.view_of<T>(*spec_.in[0]), out = s.view_of<T>(*spec_.out);
        each_line(out, lines_of(spec_.out->value, costs::complex_elements, team), team, [&](int y) { line(in, y, out); });
    }

private:
    void line(const ViewOf<T>& in, int y, const ViewOf<T>& out) const {
        const int channels = spec_.out->value.channels;
        const Source& row = rows_[y];
        for (int x = 0; x < spec_.out->value.width; x++) {
            const Source& column = columns_[x];
            if (spec_.operation->interpolation != Interpolation::bilinear) {
                std::copy_n(in.at(row.first, column.first), channels, out.at(y, x));
                continue;
            }
            const T* from[] = {in.at(row.first, column.first), in.at(row.first, column.second),
                                   in.at(row.second, column.first), in.at(row.second, column.second)};
            const float below = row.weight, above = 1 - below, right = column.weight, left = 1 - right;
            const float weights[] = {above * left, above * right, below * left, below * right};
            blend(out.at(y, x), from, weights, channels);
        }
    }

    void blend(float* to, const float* const* from, const float* weights, int n) const { spec_.kernels->blend(to, from, weights, n); }
    void blend(Bf16* to, const Bf16* const* from, const float* weights, int n) const {
        alignas(64) float rows[4][stretch];
        const float* const all[] = {rows[0], rows[1], rows[2], rows[3]};
        for (int i = 0; i < n; i += stretch) {
            const int count = std::min(stretch, n - i);
            for (int k = 0; k < 4; k++) spec_.halves->widen(rows[k], from[k] + i, count);
            spec_.kernels->blend(rows[0], all, weights, count);
            spec_.halves->narrow(to + i, rows[0], count);
        }
    }

    SimpleSpec spec_;
    std::vector<Source> rows_, columns_;
};

}  // namespace

std::unique_ptr<Layer> make_interpolate(const SimpleSpec& spec) { return make_for_floats<Interpolate>(spec); }

}  // namespace convgate
