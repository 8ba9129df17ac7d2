// Elements in other places: maps in a border or cropped, positions to channels and back, the same elements as another map.
#include <algorithm>

#include "halves.h"
#include "simple.h"

namespace convgate {
namespace {

// The row or column that each one of the output reads; -1 where there is none.
std::vector<int> padded(PaddingMode mode, int before, int size, int out) {
    std::vector<int> found;
    for (int i = 0; i < out; i++) {
        int at = i - before;
        if (mode == PaddingMode::replicate) at = std::clamp(at, 0, size - 1);
        if (mode == PaddingMode::circular) at = (at % size + size) % size;
        if (mode == PaddingMode::reflect) at = at < 0 ? -at : at >= size ? 2 * (size - 1) - at : at;
        found.push_back(at >= 0 && at < size ? at : -1);
    }
    return found;
}

template <typename T>
class Rearrangement final : public Layer {
public:
    explicit Rearrangement(SimpleSpec spec) : spec_(std::move(spec)) {
        const Operation& op = *spec_.operation;
        if (op.kind != Kind::pad) return;
        rows_ = padded(op.padding_mode, op.top, spec_.in[0]->value.height, spec_.out->value.height);
        columns_ = padded(op.padding_mode, op.left, spec_.in[0]->value.width, spec_.out->value.width);
    }

    void run(Sample& s, Team& team) const override {
        const ViewOf<T> in = s.view_of<T>(*spec_.in[0]), out = s.view_of<T>(*spec_.out);
        const Value& value = spec_.out->value;
        each_line(out, lines_of(value, costs::simple_elements, team), team, [&](int y) {
            for (int x = 0; x < value.width; x++) position(in, y, x, out.at(y, x));
        });
    }

private:
    void position(const ViewOf<T>& in, int y, int x, T* to) const {
        const Operation& op = *spec_.operation;
        const int channels = spec_.out->value.channels;
        if (op.kind == Kind::pad) {
            const int row = rows_[y], column = columns_[x];
            row >= 0 && column >= 0 ? (void)std::copy_n(in.at(row, column), channels, to) : (void)std::fill_n(to, channels, as<T>(op.fill));
        } else if (op.kind == Kind::pixel_shuffle) {
            const int f = op.factor, area = f * f;
            const T* from = in.at(y / f, x / f) + y % f * f + x % f;
            for (int c = 0; c < channels; c++) to[c] = from[c * area];
        } else if (op.kind == Kind::pixel_unshuffle) {
            const int f = op.factor, area = f * f, each = channels / area;
            for (int part = 0; part < area; part++) {
                const T* from = in.at(y * f + part / f, x * f + part % f);
                for (int c = 0; c < each; c++) to[c * area + part] = from[c];
            }
        } else {
            const Value &a = spec_.in[0]->value, &b = spec_.out->value;
            for (int c = 0; c < channels; c++) {
                const long long at = (static_cast<long long>(c) * b.height + y) * b.width + x;
                const int place = static_cast<int>(at % a.positions());
                to[c] = in.at(place / a.width, place % a.width)[at / a.positions()];
            }
        }
    }

    SimpleSpec spec_;
    std::vector<int> rows_, columns_;
};

}  // namespace

std::unique_ptr<Layer> make_rearrangement(const SimpleSpec& spec) { return make_for_elements<Rearrangement>(spec); }

}  // namespace convgate
