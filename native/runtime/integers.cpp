// To 8-bit integers and back, tables, and sums of two maps of integers.
#include <algorithm>

#include "simple.h"

namespace convgate {
namespace {

// Lines of a map, each all positions' channels: the open ones, where both are compact.
template <typename In, typename Out, typename Function>
void by_line(Sample& s, Team& team, const Layout& from, const Layout& to, Function f) {
    const ViewOf<In> in = s.view_of<In>(from);
    const ViewOf<Out> out = s.view_of<Out>(to);
    const int n = to.value.width * out.stride;
    each_line(out, lines_of(to.value, costs::copied_elements, team), team, [&](int y) { f(in.at(y, 0), out.at(y, 0), n); });
}

class Quantization final : public Layer {
public:
    explicit Quantization(SimpleSpec spec) : spec_(std::move(spec)) {}
    void run(Sample& s, Team& team) const override {
        const Value& to = spec_.out->value;
        const float factor = static_cast<float>(1 / to.scale);
        const int low = to.is_signed() ? -127 : 0, high = to.is_signed() ? 127 : 255;
        by_line<float, std::uint8_t>(s, team, *spec_.in[0], *spec_.out,
                                     [&](const float* from, std::uint8_t* at, int n) { spec_.integers->quantize(from, factor, low, high, at, n); });
    }

private:
    SimpleSpec spec_;
};

class Dequantization final : public Layer {
public:
    explicit Dequantization(SimpleSpec spec) : spec_(std::move(spec)) {}
    void run(Sample& s, Team& team) const override {
        const Value& in = spec_.in[0]->value;
        by_line<std::uint8_t, float>(s, team, *spec_.in[0], *spec_.out, [&](const std::uint8_t* from, float* at, int n) {
            spec_.integers->dequantize(from, in.is_signed(), static_cast<float>(in.scale), at, n);
        });
    }

private:
    SimpleSpec spec_;
};

class LookUp final : public Layer {
public:
    explicit LookUp(SimpleSpec spec) : spec_(std::move(spec)) {
        // By the bits of what is looked up: those of a negative integer follow those of the others.
        const std::int8_t* from = spec_.operation->weight.bytes;
        const int first = spec_.in[0]->value.is_signed() ? 128 : 0;
        for (int i = 0; i < 256; i++) table_[i] = static_cast<std::uint8_t>(from[(i + first) % 256]);
    }
    void run(Sample& s, Team& team) const override {
        by_line<std::uint8_t, std::uint8_t>(s, team, *spec_.in[0], *spec_.out, [&](const std::uint8_t* from, std::uint8_t* at, int n) {
            spec_.integers->look_up(table_, from, at, n);
        });
    }

private:
    SimpleSpec spec_;
    std::uint8_t table_[256];
};

// Either map may be spread over channels, rows or columns.
class Summation final : public Layer {
public:
    explicit Summation(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<std::uint8_t> out = s.view_of<std::uint8_t>(*spec_.out);
        const ViewOf<std::uint8_t> in[2] = {s.view_of<std::uint8_t>(*spec_.in[0]), s.view_of<std::uint8_t>(*spec_.in[1])};
        const Value& value = spec_.out->value;
        const auto same = [&](const ViewOf<std::uint8_t>& v) { return v.layout->value.width == value.width && v.layout->value.channels == value.channels; };
        const int at_once = same(in[0]) && same(in[1]) ? value.width : 1;
        each_line(out, lines_of(value, costs::simple_elements, team), team, [&](int y) {
            for (int x = 0; x < value.width; x += at_once) {
                const Int8Sum sum{term(in[0], 0, y, x), term(in[1], 1, y, x), spec_.operation->low, spec_.operation->high};
                spec_.integers->sum(sum, out.at(y, x), at_once * value.channels);
            }
        });
    }

private:
    // Of what has one row or column, that one.
    Int8Sum::Term term(const ViewOf<std::uint8_t>& in, int number, int y, int x) const {
        const Value& value = in.layout->value;
        const std::uint8_t* from = in.at(value.height == 1 ? 0 : y, value.width == 1 ? 0 : x);
        return {from, value.channels == spec_.out->value.channels, value.is_signed(), spec_.operation->rescale[number]};
    }

    SimpleSpec spec_;
};

}  // namespace

std::unique_ptr<Layer> make_of_integers(const SimpleSpec& spec) {
    switch (spec.operation->kind) {
        case Kind::quantize: return std::make_unique<Quantization>(spec);
        case Kind::dequantize: return std::make_unique<Dequantization>(spec);
        case Kind::lookup: return std::make_unique<LookUp>(spec);
        default: return std::make_unique<Summation>(spec);
    }
}

}  // namespace convgate
