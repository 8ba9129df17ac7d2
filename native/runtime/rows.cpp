// Functions of single elements, constants, conversions between types, and decisions.
#include <algorithm>

#include "halves.h"
#include "simple.h"

namespace convgate {
namespace {

template <typename T>
class RowByRow final : public Layer {
public:
    explicit RowByRow(SimpleSpec spec) : spec_(std::move(spec)) {
        const Operation& op = *spec_.operation;
        scale_ = Buffer(op.weight.size());
        shift_ = Buffer(op.bias.size());
        std::copy_n(op.weight.data, scale_.size(), scale_.data());
        std::copy_n(op.bias.data, shift_.size(), shift_.data());
    }

    void run(Sample& s, Team& team) const override {
        const ViewOf<T> out = s.view_of<T>(*spec_.out);
        each_line(out, lines_of(spec_.out->value, costs::simple_elements, team), team, [&](int y) { line(s, y, out.at(y, 0)); });
    }

private:
    void line(Sample& s, int y, T* to) const {
        const Operation& op = *spec_.operation;
        const int n = spec_.out->value.channels, width = spec_.out->value.width;
        if (op.kind == Kind::constant) return constant(y, to);
        const ViewOf<T> first = s.view_of<T>(*spec_.in[0]);
        if (op.kind == Kind::activate) return activate(first.at(y, 0), to, n * width);
        for (int x = 0; x < width; x++) {
            const T* from = first.at(y, x);
            T* const at = to + static_cast<std::ptrdiff_t>(x) * n;
            op.kind == Kind::affine ? affine(from, at, n) : prelu(from, at, n);
        }
        if constexpr (std::is_same_v<T, float>)
            if (!in_any_kernel(op.activation.kind)) spec_.kernels->apply(to, to, n * width, op.activation);
    }

    void activate(const float* from, float* to, int n) const {
        const Function& f = spec_.operation->activation;
        in_any_kernel(f.kind) ? spec_.kernels->activate(to, from, n, f.kind) : spec_.kernels->apply(to, from, n, f);
    }
    void affine(const float* from, float* to, int n) const {
        spec_.kernels->affine(to, from, scale_.data(), shift_.data(), n, spec_.operation->activation.inside());
    }
    void prelu(const float* from, float* to, int n) const { spec_.kernels->prelu(to, from, scale_.data(), n); }
    // Of what is stored as bfloat16: computed as floats, and rounded once.
    void activate(const Bf16* from, Bf16* to, int n) const {
        in_floats(*spec_.halves, to, from, n, [&](float* row, int, int count) { activate(row, row, count); });
    }
    void affine(const Bf16* from, Bf16* to, int n) const {
        in_floats(*spec_.halves, to, from, n, [&](float* row, int i, int count) {
            spec_.kernels->affine(row, row, scale_.data() + i, shift_.data() + i, count, Activation::none);
            activate(row, row, count);
        });
    }
    void prelu(const Bf16* from, Bf16* to, int n) const {
        in_floats(*spec_.halves, to, from, n, [&](float* row, int i, int count) { spec_.kernels->prelu(row, row, scale_.data() + i, count); });
    }

    // From channels first to channels last.
    void constant(int y, T* to) const {
        const Value& value = spec_.out->value;
        for (int x = 0; x < value.width; x++)
            for (int c = 0; c < value.channels; c++)
                *to++ = as<T>(scale_[(static_cast<std::size_t>(c) * value.height + y) * value.width + x]);
    }

    SimpleSpec spec_;
    Buffer scale_, shift_;
};

template <typename From, typename To>
class Conversion final : public Layer {
public:
    explicit Conversion(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<From> in = s.view_of<From>(*spec_.in[0]);
        const ViewOf<To> out = s.view_of<To>(*spec_.out);
        const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(in.layout->width()) * in.stride;
        const Chunks lines(in.layout->height(), static_cast<int>(costs::copied_elements / std::max<std::ptrdiff_t>(line, 1)) + 1, team);
        team.run(lines.items, [&](int item, int) {
            const std::ptrdiff_t first = line * lines.begin(item), n = line * lines.end(item) - first;
            if constexpr (std::is_same_v<To, float>) spec_.halves->widen(out.data + first, in.data + first, n);
            else spec_.halves->narrow(out.data + first, in.data + first, n);
        });
    }

private:
    SimpleSpec spec_;
};

class Decision final : public Layer {
public:
    explicit Decision(SimpleSpec spec) : spec_(std::move(spec)), offset_(spec_.operation->weight.size()) {
        std::copy_n(spec_.operation->weight.data, offset_.size(), offset_.data());
    }

    void run(Sample& s, Team&) const override {
        GateState& gate = s.gates[spec_.operation->output];
        const View in = s.view(*spec_.in[0]);
        const Value& map = spec_.in[0]->value;
        if (spec_.operation->gate_is_spatial)
            for (int y = 0; y < map.height; y++)
                for (int x = 0; x < map.width; x++) gate.logits[y * map.width + x] = in.at(y, x)[0];
        else
            std::copy_n(in.at(0, 0), gate.logits.size(), gate.logits.data());
        const int units = static_cast<int>(gate.mask.size());
        for (int i = 0; i < units; i++) gate.logits[i] += offset_[i];
        for (int i = 0; i < units; i++) gate.mask[i] = is_open(gate.logits[i], spec_.operation->strict);
        gate.decide(s.given ? s.given[spec_.operation->output] : nullptr);
    }

private:
    SimpleSpec spec_;
    Buffer offset_;
};

}  // namespace

std::unique_ptr<Layer> make_row_by_row(const SimpleSpec& spec) { return make_for_floats<RowByRow>(spec); }
std::unique_ptr<Layer> make_conversion(const SimpleSpec& spec) {
    if (spec.form.in == Storage::f32) return std::make_unique<Conversion<float, Bf16>>(spec);
    return std::make_unique<Conversion<Bf16, float>>(spec);
}
std::unique_ptr<Layer> make_decide(const SimpleSpec& spec) { return std::make_unique<Decision>(spec); }

}  // namespace convgate
