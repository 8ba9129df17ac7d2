// Sums, products and the like of two maps, either of which may be spread over channels, rows or columns; and activations.
#include <algorithm>

#include "in_floats.h"
#include "simple.h"

namespace convgate {
namespace {

template <typename T>
class Elementwise final : public Layer {
public:
    Elementwise(SimpleSpec spec, Needs& needs) : spec_(std::move(spec)) {
        Needs mine;
        if (spec_.out->compact()) mine.sample_packed = spec_.out->value.channels;
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        const ViewOf<T> out = s.view_of<T>(*spec_.out), a = s.view_of<T>(*spec_.in[0]), b = s.view_of<T>(*spec_.in[1]);
        const Value& value = spec_.out->value;
        if (out.layout->compact()) return a.layout->compact() ? of_open(s, a, b, out, team) : of_open(s, b, a, out, team);
        const bool whole = a.layout->value.width == value.width && b.layout->value.width == value.width &&
                           a.layout->value.channels == b.layout->value.channels;
        each_line(out, lines_of(value, costs::simple_elements, team), team, [&](int y) {
            whole ? some(at(a, y, 0), 1, at(b, y, 0), 1, out.at(y, 0), value.width * value.channels)
                  : by_position(a, b, out, y);
        });
    }

private:
    // A compact map and a number for each channel, of which those of the open ones are picked out.
    void of_open(Sample& s, const ViewOf<T>& map, const ViewOf<T>& numbers, const ViewOf<T>& out, Team& team) const {
        T* const picked = reinterpret_cast<T*>(s.packed.data());
        const std::vector<std::int32_t>& open = s.gates[out.layout->channels_gate].channels[out.layout->channels_use].open;
        for (std::size_t i = 0; i < open.size(); i++) picked[i] = numbers.at(0, 0)[open[i]];
        const Value& value = spec_.out->value;
        each_line(out, lines_of(value, costs::simple_elements, team), team, [&](int y) {
            for (int x = 0; x < value.width; x++) some(map.at(y, x), 1, picked, 1, out.at(y, x), out.stride);
        });
    }

    // Of what has one row or column, that one.
    static const T* at(const ViewOf<T>& view, int y, int x) {
        const Value& value = view.layout->value;
        return view.at(value.height == 1 ? 0 : y, value.width == 1 ? 0 : x);
    }

    void by_position(const ViewOf<T>& a, const ViewOf<T>& b, const ViewOf<T>& out, int y) const {
        const Value& value = spec_.out->value;
        const int a_step = a.layout->value.channels == value.channels, b_step = b.layout->value.channels == value.channels;
        for (int x = 0; x < value.width; x++) some(at(a, y, x), a_step, at(b, y, x), b_step, out.at(y, x), value.channels);
    }

    void some(const float* a, int a_step, const float* b, int b_step, float* to, int n) const {
        const Operation& op = *spec_.operation;
        const Kernels& k = *spec_.kernels;
        if (op.kind == Kind::arithmetic) return k.arithmetic(to, a, a_step, b, b_step, n, op.arithmetic);
        const bool sum = op.kind == Kind::add;
        if (a_step && b_step) {
            sum ? k.add(to, a, b, n, op.activation.inside()) : k.multiply(to, a, b, n);
        } else {
            if (!a_step) std::swap(a, b);
            if (a_step || b_step) {
                for (int i = 0; i < n; i++) to[i] = sum ? a[i] + *b : a[i] * *b;
            } else {
                std::fill_n(to, n, sum ? *a + *b : *a * *b);
            }
            k.activate(to, to, n, op.activation.inside());
        }
        if (!in_any_kernel(op.activation.kind)) k.apply(to, to, n, op.activation);
    }

    void some(const Bf16* a, int a_step, const Bf16* b, int b_step, Bf16* to, int n) const {
        const Bf16Kernels& k = *spec_.halves;
        alignas(64) float second[stretch];
        if (!b_step) k.widen(second, b, 1);
        if (a_step) {
            in_floats(k, to, a, n, [&](float* row, int i, int count) {
                if (b_step) k.widen(second, b + i, count);
                some(row, 1, second, b_step, row, count);
            });
            return;
        }
        alignas(64) float first[1], row[stretch];
        k.widen(first, a, 1);
        for (int i = 0; i < n; i += stretch) {
            const int count = std::min(stretch, n - i);
            if (b_step) k.widen(second, b + i, count);
            some(first, 0, second, b_step, row, count);
            k.narrow(to + i, row, count);
        }
    }

    SimpleSpec spec_;
};

// What closed tiles are filled with is one position for each tile of the second map.
template <typename T>
class FillClosed final : public Layer {
public:
    explicit FillClosed(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<T> out = s.view_of<T>(*spec_.out), in = s.view_of<T>(*spec_.in[0]), cells = s.view_of<T>(*spec_.in[1]);
        const GateState& gate = s.gates[spec_.operation->gate];
        const Value& value = spec_.out->value;
        each_line(out, lines_of(value, costs::simple_elements, team), team, [&](int y) {
            for (int x = 0; x < value.width; x++) {
                if (gate.open(spec_.use, y, x)) {
                    std::copy_n(in.at(y, x), value.channels, out.at(y, x));
                    continue;
                }
                const Pair tile = gate.tile(spec_.use, y, x);
                sum(in.at(y, x), cells.at(tile.y, tile.x), out.at(y, x), value.channels);
            }
        });
    }

private:
    void sum(const float* a, const float* b, float* to, int n) const { spec_.kernels->add(to, a, b, n, Activation::none); }
    void sum(const Bf16* a, const Bf16* b, Bf16* to, int n) const {
        alignas(64) float second[stretch];
        in_floats(*spec_.halves, to, a, n, [&](float* row, int i, int count) {
            spec_.halves->widen(second, b + i, count);
            spec_.kernels->add(row, row, second, count, Activation::none);
        });
    }

    SimpleSpec spec_;
};

class ActivationInPlace final : public Layer {
public:
    ActivationInPlace(SimpleSpec spec, bool gated) : spec_(std::move(spec)), gated_(gated) {}

    void run(Sample& s, Team& team) const override {
        const View out = s.view(*spec_.out);
        const Value& value = spec_.out->value;
        const Operation& op = *spec_.operation;
        if (!gated_) {
            const Chunks lines(value.height, costs::complex_elements / std::max(value.width * out.stride, 1) + 1, team);
            team.run(lines.items, [&](int item, int) {
                for (int y = lines.begin(item); y < lines.end(item); y++) some(out.at(y, 0), value.width * out.stride);
            });
            return;
        }
        const std::vector<std::int32_t>& open = s.gates[op.positions].positions[spec_.use].open;
        const Chunks parts(static_cast<int>(open.size()), costs::complex_elements / std::max(out.stride, 1) + 1, team);
        team.run(parts.items, [&](int item, int) {
            for (int i = parts.begin(item); i < parts.end(item); i++)
                some(out.at(open[i] / value.width, open[i] % value.width), out.stride);
        });
    }

private:
    void some(float* at, int n) const { spec_.kernels->apply(at, at, n, spec_.operation->activation); }

    SimpleSpec spec_;
    bool gated_;
};

}  // namespace

std::unique_ptr<Layer> make_elementwise(const SimpleSpec& spec, Needs& needs) { return make_for_floats<Elementwise>(spec, needs); }
std::unique_ptr<Layer> make_fill_closed(const SimpleSpec& spec) { return make_for_floats<FillClosed>(spec); }
std::unique_ptr<Layer> make_activation_in_place(const SimpleSpec& spec, bool gated) {
    return std::make_unique<ActivationInPlace>(spec, gated);
}

}  // namespace convgate
