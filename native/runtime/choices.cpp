// Channels put together and taken apart, and masks: elements are moved or left out, whatever they are stored as.
#include <algorithm>

#include "simple.h"

namespace convgate {
namespace {

template <typename T>
class Choice final : public Layer {
public:
    explicit Choice(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<T> out = s.view_of<T>(*spec_.out), first = s.view_of<T>(*spec_.in[0]);
        const Value& value = spec_.out->value;
        each_line(out, lines_of(value, costs::simple_elements, team), team, [&](int y) {
            for (int x = 0; x < value.width; x++) position(s, y, x, first.at(y, x), out.at(y, x));
        });
    }

private:
    void position(Sample& s, int y, int x, const T* from, T* to) const {
        const Operation& op = *spec_.operation;
        switch (op.kind) {
            case Kind::concat:
                for (const Layout* in : spec_.in) to = std::copy_n(s.view_of<T>(*in).at(y, x), in->value.channels, to);
                return;
            case Kind::slice: return slice(from, to);
            case Kind::pick:
                for (int c = 0; c < spec_.out->value.channels; c++) to[c] = from[op.channels[c]];
                return;
            default: return mask(s, y, x, from, to);
        }
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
};

template <typename T>
class Compact final : public Layer {
public:
    explicit Compact(SimpleSpec spec) : spec_(std::move(spec)) {}

    void run(Sample& s, Team& team) const override {
        const ViewOf<T> in = s.view_of<T>(*spec_.in[0]), out = s.view_of<T>(*spec_.out);
        const std::vector<std::int32_t>& open = s.gates[spec_.out->channels_gate].channels[spec_.out->channels_use].open;
        const Value& value = spec_.out->value;
        const bool all = open.size() == static_cast<std::size_t>(value.channels);
        each_line(out, lines_of(value, costs::simple_elements, team), team, [&](int y) {
            if (all) return (void)std::copy_n(in.at(y, 0), value.width * value.channels, out.at(y, 0));
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

}  // namespace

std::unique_ptr<Layer> make_choice(const SimpleSpec& spec) { return make_for_elements<Choice>(spec); }
std::unique_ptr<Layer> make_compact(const SimpleSpec& spec) { return make_for_elements<Compact>(spec); }

}  // namespace convgate
