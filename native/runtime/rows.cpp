// What is done position by position: elementwise operations, channels put together and taken apart, masks.
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
        out.clear_border();
        const Value& value = spec_.out->value;
        const Chunks lines(value.height, 8192 / (value.width * value.channels) + 1, team);
        team.run(lines.items, [&](int item, int) {
            for (int y = lines.begin(item); y < lines.end(item); y++) line(s, y, out.at(y, 0));
        });
    }

private:
    void line(Sample& s, int y, T* to) const {
        const Operation& op = *spec_.operation;
        const int n = spec_.out->value.channels, width = spec_.out->value.width;
        if (op.kind == Kind::constant) return constant(y, to);
        const ViewOf<T> first = s.view_of<T>(*spec_.in[0]);
        if (op.kind == Kind::activate) return activate(first.at(y, 0), to, n * width);
        for (int x = 0; x < width; x++) position(s, y, x, first.at(y, x), to + static_cast<std::ptrdiff_t>(x) * n);
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

    void position(Sample& s, int y, int x, const T* from, T* to) const {
        const Operation& op = *spec_.operation;
        const int n = spec_.out->value.channels;
        switch (op.kind) {
            case Kind::affine: return affine(from, to, n);
            case Kind::prelu: return prelu(from, to, n);
            case Kind::concat:
                for (const Layout* in : spec_.in) to = std::copy_n(s.view_of<T>(*in).at(y, x), in->value.channels, to);
                return;
            case Kind::slice: return slice(from, to);
            case Kind::pick:
                for (int c = 0; c < n; c++) to[c] = from[op.channels[c]];
                return;
            default: return mask(s, y, x, from, to);
        }
    }

    // From channels first to channels last.
    void constant(int y, T* to) const {
        const Value& value = spec_.out->value;
        for (int x = 0; x < value.width; x++)
            for (int c = 0; c < value.channels; c++)
                *to++ = as<T>(scale_[(static_cast<std::size_t>(c) * value.height + y) * value.width + x]);
    }

    // Channels before the first and after the last read as zeros.
    void slice(const T* from, T* to) const {
        const int begin = spec_.operation->begin, channels = spec_.in[0]->value.channels, n = spec_.out->value.channels;
        const int first = std::clamp(begin, 0, channels), last = std::clamp(begin + n, first, channels);
        const int before = std::min(std::max(-begin, 0), n);
        std::fill_n(to, before, T{});
        std::copy(from + first, from + last, to + before);
        std::fill(to + before + (last - first), to + n, T{});
    }

    void mask(Sample& s, int y, int x, const T* from, T* to) const {
        const GateState& gate = s.gates[spec_.operation->gate];
        const int n = spec_.out->value.channels;
        if (spec_.operation->gate_is_spatial) {
            gate.open(spec_.use, y, x) ? (void)std::copy_n(from, n, to) : (void)std::fill_n(to, n, T{});
            return;
        }
        std::fill_n(to, n, T{});
        for (const std::int32_t c : gate.channels[spec_.use].open) to[c] = from[c];
    }

    SimpleSpec spec_;
    Buffer scale_, shift_;
};

template <typename T>
class Compact final : public Layer {
public:
    explicit Compact(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<T> in = s.view_of<T>(*spec_.in[0]), out = s.view_of<T>(*spec_.out);
        const std::vector<std::int32_t>& open = s.gates[spec_.out->channels_gate].channels[spec_.out->channels_use].open;
        out.clear_border();
        const Value& value = spec_.out->value;
        const Chunks lines(value.height, 8192 / (value.width * value.channels) + 1, team);
        team.run(lines.items, [&](int item, int) {
            for (int y = lines.begin(item); y < lines.end(item); y++)
                for (int x = 0; x < value.width; x++) {
                    const T* from = in.at(y, x);
                    T* to = out.at(y, x);
                    for (std::size_t j = 0; j < open.size(); j++) to[j] = from[open[j]];
                }
        });
    }

private:
    SimpleSpec spec_;
};

template <typename From, typename To>
class Conversion final : public Layer {
public:
    explicit Conversion(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<From> in = s.view_of<From>(*spec_.in[0]);
        const ViewOf<To> out = s.view_of<To>(*spec_.out);
        const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(in.layout->width()) * in.stride;
        const Chunks lines(in.layout->height(), static_cast<int>(16384 / std::max<std::ptrdiff_t>(line, 1)) + 1, team);
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
        const int units = static_cast<int>(gate.mask.size());
        const bool spatial = spec_.operation->gate_is_spatial;
        const int columns = spec_.in[0]->value.width;
        for (int i = 0; i < units; i++) {
            const float logit = spatial ? in.at(i / columns, i % columns)[0] : in.at(0, 0)[i];
            gate.logits[i] = logit + offset_[i];
            gate.mask[i] = is_open(gate.logits[i], spec_.operation->strict);
        }
        gate.decide(s.given ? s.given[spec_.operation->output] : nullptr);
    }

private:
    SimpleSpec spec_;
    Buffer offset_;
};

}  // namespace

std::unique_ptr<Layer> make_row_by_row(const SimpleSpec& spec) { return make_for_element<RowByRow>(spec); }
std::unique_ptr<Layer> make_compact(const SimpleSpec& spec) { return make_for_element<Compact>(spec); }
std::unique_ptr<Layer> make_conversion(const SimpleSpec& spec) {
    if (spec.form.in == Storage::f32) return std::make_unique<Conversion<float, Bf16>>(spec);
    return std::make_unique<Conversion<Bf16, float>>(spec);
}
std::unique_ptr<Layer> make_decide(const SimpleSpec& spec) { return std::make_unique<Decision>(spec); }

}  // namespace convgate
