#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "program.h"

namespace convgate {
namespace {

constexpr long long most_floats = (1LL << 31) - 1;  // in one value or array: they are counted in ints
constexpr long long most_positions = 1LL << 24;  // of one value
constexpr long long most_averaged = 1LL << 23;  // bytes, whose sum an int32 holds
constexpr int most_items = 1 << 20;              // extents of any kind

struct Checker {
    const Program& program;
    std::vector<bool> written, decided;

    void require(bool condition, const char* what) const {
        if (!condition) throw std::invalid_argument(what);
    }

    const Value& value(int v) const {
        require(v >= 0 && v < static_cast<int>(program.values.size()), "a value that does not exist");
        return program.values[v];
    }
    const Gate& gate(int g) const {
        require(g >= 0 && g < static_cast<int>(program.gates.size()), "a gate that does not exist");
        return program.gates[g];
    }
    bool completes_integers(const Operation& op) const { return op.kind == Kind::complete && integral(program.values[op.output].storage); }

    void used_gate(int g, GateKind kind, const Value& on) const {
        if (g < 0) return;
        const Gate& used = gate(g);
        require(used.kind == kind, "a gate of the wrong kind");
        require(decided[g], "a gate that is not decided yet");
        require(kind == GateKind::spatial || units(on, used) == used.units, "a gate of another number of units");
        require(kind != GateKind::activation || (used.rows == on.height && used.columns == on.width),
                "a gate of another size");
    }

    static int units(const Value& v, const Gate& g) { return (v.channels - 1) / g.group + 1; }

    void array(const Array& a, std::size_t size, const char* what) const { require(a.data && a.size() == size, what); }
    void optional(const Array& a, int channels) const {
        if (a.data) array(a, channels, "a scale or shift of another size");
    }

    void all() {
        for (const Value& v : program.values) {
            require(v.channels > 0 && v.height > 0 && v.width > 0, "a value without elements");
            require(v.height <= most_items && v.width <= most_items && v.channels <= (1 << 24), "a value too large");
            const long long positions = static_cast<long long>(v.height) * v.width;
            require(positions <= most_positions && positions * v.channels <= most_floats, "a value too large");
            require(v.scale > 0 && v.scale < 1e30, "a scale out of range");
        }
        for (const Gate& g : program.gates) {
            require(g.units > 0 && g.rows > 0 && g.columns > 0 && g.group > 0, "a gate without units");
            require(g.units <= (1 << 24) && g.rows <= most_items && g.columns <= most_items, "a gate too large");
            const long long positions = static_cast<long long>(g.rows) * g.columns;
            require(positions <= most_positions && positions * g.units <= most_floats, "a gate too large");
            require(!g.spatial() || g.units == 1, "a spatial gate of several units");
            require(g.kind != GateKind::channel || positions == 1, "a channel gate of several positions");
        }
        written.assign(program.values.size(), false);
        decided.assign(program.gates.size(), false);
        require(program.layers >= 0 && program.layers <= most_items, "a number of layers out of range");
        require(!program.inputs.empty() && !program.outputs.empty(), "a program without inputs or outputs");
        for (int v : program.inputs) {
            require(!integral(value(v).storage) && !summed(value(v).storage), "an input of integers");
            require(!written[v], "an input named twice");
            written[v] = true;
        }
        for (const Operation& op : program.operations) operation(op);
        for (int v : program.outputs) {
            require(!integral(value(v).storage) && !summed(value(v).storage), "an output of integers");
            require(written[v], "an output that is never written");
        }
    }

    void operation(const Operation& op) {
        for (int v : op.inputs) {
            value(v);
            require(written[v], "a value that is read before it is written");
        }
        require(op.inputs.empty() == (op.kind == Kind::constant), "an operation without inputs");
        const auto number = [](float x) { return x == x; };
        require(op.reach.y >= 0 && op.reach.y <= most_items && op.reach.x >= 0 && op.reach.x <= most_items, "a reach out of range");
        require(number(op.activation.a) && number(op.activation.b) && number(op.activation.c), "a parameter that is not a number");
        if (op.kind == Kind::decide) {
            decide(op);
            return;
        }
        const Value& out = value(op.output);
        require(!written[op.output], "a value that is written twice");
        elements(op, out);
        arrays(op);
        if (op.kind == Kind::constant) {
            array(op.weight, static_cast<std::size_t>(out.positions()) * out.channels, "a constant of another shape");
            written[op.output] = true;
            return;
        }
        const Value& in = value(op.inputs[0]);
        switch (op.kind) {
            case Kind::conv: conv(op, in, out); break;
            case Kind::pool:
                single(op);
                window(op, in, out, true);
                require(in.channels == out.channels, "a pool that changes channels");
                break;
            case Kind::pool_to_grid:
                single(op);
                require(in.channels == out.channels, "a pool that changes channels");
                break;
            case Kind::activate:
                single(op);
                same(in, out);
                break;
            case Kind::affine:
                single(op);
                same(in, out);
                array(op.weight, in.channels, "a scale of the wrong size");
                array(op.bias, in.channels, "a shift of the wrong size");
                break;
            case Kind::add:
            case Kind::multiply:
            case Kind::arithmetic: {
                require(op.inputs.size() == 2, "an operation that takes two inputs");
                const Value& second = value(op.inputs[1]);
                require(op.kind == Kind::add || op.activation.kind == Activation::none, "an activation that follows no sum");
                spread(in.channels, second.channels, out.channels);
                spread(in.height, second.height, out.height);
                spread(in.width, second.width, out.width);
                break;
            }
            case Kind::prelu:
                single(op);
                same(in, out);
                array(op.weight, in.channels, "slopes of the wrong size");
                break;
            case Kind::interpolate:
                require(op.inputs.size() <= 2, "an interpolation of more than two inputs");
                require(in.channels == out.channels, "an interpolation that changes channels");
                for (const double scale : {op.scale_y, op.scale_x})
                    require(scale == 0 || (scale >= 1e-6 && scale <= 1e6), "a scale out of range");
                break;
            case Kind::concat: {
                long long channels = 0;
                for (int v : op.inputs) {
                    require(value(v).height == out.height && value(v).width == out.width, "inputs of different sizes");
                    channels += value(v).channels;
                }
                require(channels == out.channels, "a concatenation of the wrong size");
                break;
            }
            case Kind::slice:
                single(op);
                require(in.height == out.height && in.width == out.width, "a slice that changes the size");
                require(op.begin > -(1 << 24) && op.begin < (1 << 24), "a slice too far away");
                break;
            case Kind::mask:
                single(op);
                same(in, out);
                gate(op.gate);
                used_gate(op.gate, op.gate_is_spatial ? GateKind::spatial : GateKind::channel, in);
                break;
            case Kind::fill_closed: filling(op, in, out); break;
            case Kind::complete: complete(op, in, out); break;
            case Kind::pick:
                single(op);
                require(in.height == out.height && in.width == out.width, "a choice of channels that changes the size");
                require(static_cast<int>(op.channels.size()) == out.channels, "a choice of another number of channels");
                for (const int c : op.channels) require(c >= 0 && c < in.channels, "a channel that does not exist");
                break;
            case Kind::conv_transpose: transposed(op, in, out); break;
            case Kind::pad: padding(op, in, out); break;
            case Kind::pixel_shuffle: shuffle(op, in, out); break;
            case Kind::pixel_unshuffle: shuffle(op, out, in); break;
            case Kind::reshape:
                single(op);
                require(static_cast<long long>(in.positions()) * in.channels == static_cast<long long>(out.positions()) * out.channels,
                        "another number of elements");
                break;
            case Kind::group_norm:
            case Kind::layer_norm:
                single(op);
                same(in, out);
                require(op.groups > 0 && in.channels % op.groups == 0, "groups that do not divide channels");
                require(op.epsilon >= 0 && op.epsilon <= 1e6f, "an epsilon out of range");
                optional(op.weight, in.channels);
                optional(op.bias, in.channels);
                break;
            case Kind::softmax:
                single(op);
                same(in, out);
                break;
            case Kind::over_channels:
                single(op);
                require(out.channels == 1 && in.height == out.height && in.width == out.width, "an output of another shape");
                break;
            case Kind::quantize:
            case Kind::dequantize:
            case Kind::lookup:
                single(op);
                same(in, out);
                if (op.kind == Kind::lookup) require(op.weight.bytes && op.weight.size() == 256, "a table of another size");
                break;
            case Kind::constant:
            case Kind::decide: break;
        }
        written[op.output] = true;
    }

    void filling(const Operation& op, const Value& in, const Value& out) const {
        require(op.inputs.size() == 2, "a filling that takes two inputs");
        same(in, out);
        const Gate& tiles = gate(op.gate);
        used_gate(op.gate, GateKind::spatial, in);
        require(op.reach == no_reach, "a filling of a dilated mask");
        const Value& cells = value(op.inputs[1]);
        require(cells.channels == out.channels && cells.height == tiles.rows && cells.width == tiles.columns,
                "a filling of another size than its tiles");
    }

    // Other types than float32 are those of convolutions, and of tables.
    void arrays(const Operation& op) const {
        const bool completes = completes_integers(op), convolves = op.kind == Kind::conv || completes;
        const bool integers = completes || (convolves && integral(form_of(program, op).in));
        for (const Array* a : {&op.weight, &op.bias, &op.scale, &op.shift, &op.open_scale, &op.open_shift}) {
            const bool own = (a == &op.weight && (convolves || op.kind == Kind::lookup)) || (a == &op.bias && integers);
            require(own || !a->there() || a->data, "an array of another type");
            require(a->size() <= static_cast<std::size_t>(most_floats), "an array too large");
        }
    }

    // At least the positions of the largest cell of a grid over a value.
    static long long most_in_cell(const Value& in, const Value& grid) {
        const auto longest = [](int size, int cells) { return cells == 1 ? size : size / cells + 2LL; };
        return longest(in.height, grid.height) * longest(in.width, grid.width);
    }

    // Integers are read and written by what is defined on them, as they are stored.
    void elements(const Operation& op, const Value& out) const {
        if (op.kind == Kind::complete && integral(out.storage)) return completion(op, out);
        for (const int v : op.inputs) require(!summed(value(v).storage), "partial sums that only decisions and completions read");
        const bool to = integral(out.storage) || summed(out.storage);
        require(!summed(out.storage) || op.kind == Kind::conv, "partial sums that only convolutions write");
        bool all = true, any = false, same = true;
        for (const int v : op.inputs) {
            const Storage from = value(v).storage;
            all &= integral(from), any |= integral(from), same &= from == out.storage;
        }
        if (!any && !to) return require(op.kind != Kind::quantize && op.kind != Kind::dequantize && op.kind != Kind::lookup, "floats where integers are read or written");
        const char* const wrong = "integers where floats are read or written";
        switch (op.kind) {
            case Kind::quantize: return require(to && value(op.inputs[0]).storage == Storage::f32, wrong);
            case Kind::dequantize: return require(all && out.storage == Storage::f32, wrong);
            case Kind::lookup: return require(all && to, wrong);
            case Kind::add:
                require(all && to, wrong);
                for (const Rescale& rescale : op.rescale) rescaled(rescale.multiplier, rescale.shift);
                return clamped(op, out);
            case Kind::pool_to_grid:
                require(all && out.storage == Storage::f32 && !op.maximum, wrong);
                return require(most_in_cell(value(op.inputs[0]), out) <= most_averaged, "a mean of more integers than their sum has room for");
            case Kind::pool: return require(same && op.maximum, wrong);
            case Kind::pad: return require(same && op.fill == 0, wrong);
            case Kind::concat:
            case Kind::slice:
            case Kind::mask:
            case Kind::pick:
            case Kind::pixel_shuffle:
            case Kind::pixel_unshuffle:
            case Kind::reshape: return require(same && !op.inputs.empty(), wrong);
            case Kind::conv:
                require(all && (to || (out.storage == Storage::f32 && op.inputs.size() == 1)), wrong);
                return sums(op, out);
            default: require(false, wrong);
        }
    }

    // How the sums of a convolution of integers become what it writes.
    void sums(const Operation& op, const Value& out) const {
        const std::size_t n = out.channels;
        require(op.weight.bytes, "weights of another type");
        require(op.activation.kind == Activation::none, "an activation of integers");
        require(!op.bias.there() || (op.bias.integers && op.bias.size() == n), "a bias of another shape or type");
        if (summed(out.storage)) return require(op.inputs.size() == 1 && op.positions < 0 && op.in_channels < 0 && op.out_channels < 0, "partial sums with gates, or with something added");
        if (!integral(out.storage)) return array(op.scale, n, "a scale of another size");
        require(op.multiplier.integers && op.multiplier.size() == n && op.shifts.integers && op.shifts.size() == n, "multipliers or shifts of another size");
        for (std::size_t i = 0; i < n; i++) rescaled(op.multiplier.integers[i], op.shifts.integers[i]);
        rescaled(op.rescale[1].multiplier, op.rescale[1].shift);
        clamped(op, out);
    }

    // A completion of integers: bytes that are read, sums, and perhaps bytes that are added.
    void completion(const Operation& op, const Value& out) const {
        require(op.inputs.size() == 2 || op.inputs.size() == 3, "a completion of another number of inputs");
        require(integral(value(op.inputs[0]).storage) && summed(value(op.inputs[1]).storage), "floats where integers are read or written");
        require(op.inputs.size() == 2 || integral(value(op.inputs[2]).storage), "floats where integers are read or written");
        require(op.weight.bytes && op.activation.kind == Activation::none, "weights or an activation of another type");
        const std::size_t n = out.channels;
        for (const Array* a : {&op.bias, &op.open_bias, &op.multiplier, &op.open_multiplier, &op.shifts, &op.open_shifts})
            require(a->integers && a->size() == n, "biases, multipliers or shifts of another size");
        for (std::size_t i = 0; i < n; i++)
            for (const auto& [m, s] : {std::pair{&op.multiplier, &op.shifts}, std::pair{&op.open_multiplier, &op.open_shifts}}) {
                require(m->integers[i] > -(1 << 15), "a multiplier or shift out of range");
                rescaled(std::abs(m->integers[i]), s->integers[i]);
            }
        rescaled(op.rescale[1].multiplier, op.rescale[1].shift);
        clamped(op, out);
    }

    void rescaled(int multiplier, int shift) const { require(multiplier >= 0 && multiplier < 1 << 15 && shift >= 1 && shift <= 46, "a multiplier or shift out of range"); }
    void clamped(const Operation& op, const Value& out) const {
        const int least = out.is_signed() ? -127 : 0, most = out.is_signed() ? 127 : 255;
        require(least <= op.low && op.low <= 0 && 0 <= op.high && op.high <= most, "a clamp out of range");
    }

    void transposed(const Operation& op, const Value& in, const Value& out) const {
        single(op);
        divided(op, in, out);
        const auto small = [&](int x, int least) { require(x >= least && x <= most_items, "a geometry out of range"); };
        for (const Pair& p : {op.kernel, op.stride, op.dilation}) small(p.y, 1), small(p.x, 1);
        small(op.top, 0), small(op.left, 0);
        require(static_cast<long long>(op.kernel.y) * op.kernel.x <= 4096, "a kernel too large");
        const auto reaches = [&](long long i, long long s, long long k, long long d, long long p, long long o) {
            require((k - 1) * d <= most_items && (i - 1) * s <= 4LL * most_items, "a geometry out of range");
            require(o <= (i - 1) * s + (k - 1) * d + 1 + std::max(s, d) - p, "an output larger than its input allows");
        };
        reaches(in.height, op.stride.y, op.kernel.y, op.dilation.y, op.top, out.height);
        reaches(in.width, op.stride.x, op.kernel.x, op.dilation.x, op.left, out.width);
        const std::vector<std::size_t> shape{static_cast<std::size_t>(in.channels), static_cast<std::size_t>(out.channels / op.groups),
                                             static_cast<std::size_t>(op.kernel.y), static_cast<std::size_t>(op.kernel.x)};
        require(op.weight.data && op.weight.shape == shape, "weights of another shape");
        if (op.bias.data) array(op.bias, out.channels, "a bias of another shape");
        require(op.layer >= 0 && op.layer < program.layers, "a layer that does not exist");
    }

    void padding(const Operation& op, const Value& in, const Value& out) const {
        single(op);
        require(in.channels == out.channels, "a padding that changes channels");
        const auto along = [&](long long size, long long before, long long after, long long padded) {
            require(before >= -most_items && before <= most_items && after >= -most_items && after <= most_items, "a padding out of range");
            require(size + before + after == padded, "an output of another size");
            if (op.padding_mode == PaddingMode::constant) return;
            require(before >= 0 && after >= 0, "a padding that crops");
            if (op.padding_mode == PaddingMode::reflect) require(before < size && after < size, "a padding wider than its input");
            if (op.padding_mode == PaddingMode::circular) require(before <= size && after <= size, "a padding wider than its input");
        };
        along(in.height, op.top, op.bottom, out.height);
        along(in.width, op.left, op.right, out.width);
    }

    // From channels to positions.
    void shuffle(const Operation& op, const Value& deep, const Value& wide) const {
        single(op);
        require(op.factor > 0 && op.factor <= 1024, "a factor out of range");
        const long long area = static_cast<long long>(op.factor) * op.factor;
        require(deep.channels == wide.channels * area && static_cast<long long>(deep.height) * op.factor == wide.height &&
                        static_cast<long long>(deep.width) * op.factor == wide.width,
                "an output of another shape");
    }

    void spread(int first, int second, int out) const {
        require((first == out || first == 1) && (second == out || second == 1), "inputs of different shapes");
        require(first == out || second == out, "an output larger than its inputs");
    }
    void single(const Operation& op) const { require(op.inputs.size() == 1, "an operation that takes one input"); }
    void same(const Value& a, const Value& b) const {
        require(a.channels == b.channels && a.height == b.height && a.width == b.width, "an output of another shape");
    }

    void decide(const Operation& op) {
        single(op);
        const Gate& g = gate(op.output);
        const Value& in = value(op.inputs[0]);
        require(!decided[op.output], "a gate that is decided twice");
        require(!integral(in.storage) && (!summed(in.storage) || g.by_activation()), "logits of integers");
        const int logits = g.by_activation() ? units(in, g) : in.channels;
        require(logits == g.units && in.height == g.rows && in.width == g.columns, "logits of another shape than their gate");
        if (summed(in.storage)) {
            require(op.weight.integers && op.weight.size() == static_cast<std::size_t>(g.units), "an offset of the wrong size or type");
            array(op.scale, g.units, "a scale of another size");
            require(!op.shift.there(), "a shift of partial sums");
            decided[op.output] = true;
            return;
        }
        array(op.weight, g.by_activation() ? g.units : g.size(), "an offset of the wrong size");
        require(g.by_activation() || !(op.scale.data || op.shift.data), "scaled logits of a gate that is not by activation");
        optional(op.scale, in.channels);
        optional(op.shift, in.channels);
        decided[op.output] = true;
    }

    void window(const Operation& op, const Value& in, const Value& out, bool may_pass) const {
        const auto small = [&](int x, int least) { require(x >= least && x <= most_items, "a geometry out of range"); };
        for (const Pair& p : {op.kernel, op.stride, op.dilation}) small(p.y, 1), small(p.x, 1);
        small(op.top, 0), small(op.left, 0), small(op.bottom, 0), small(op.right, 0);
        require(static_cast<long long>(op.kernel.y) * op.kernel.x <= 4096, "a kernel too large");
        const auto fits = [&](long long o, long long s, long long k, long long d, long long p0, long long p1, long long i) {
            const long long last = (o - 1) * s + (may_pass ? 0 : (k - 1) * d) + 1;
            require(last <= i + p0 + p1, "an output larger than its input allows");
        };
        fits(out.height, op.stride.y, op.kernel.y, op.dilation.y, op.top, op.bottom, in.height);
        fits(out.width, op.stride.x, op.kernel.x, op.dilation.x, op.left, op.right, in.width);
        // The bordered input must stay addressable too.
        require((static_cast<long long>(in.height) + op.top + op.bottom) *
                        (static_cast<long long>(in.width) + op.left + op.right) <= 4 * most_positions,
                "a padding too large");
    }

    void conv(const Operation& op, const Value& in, const Value& out) const {
        require(op.inputs.size() <= 2, "a convolution of more than two inputs");
        divided(op, in, out);
        convolution(op, in, in.channels / op.groups, out);
        if (op.bias.data) array(op.bias, out.channels, "a bias of another shape");
        if (op.inputs.size() == 2) same(value(op.inputs[1]), out);
        used_gate(op.positions, GateKind::spatial, out);
        used_gate(op.in_channels, GateKind::channel, in);
        used_gate(op.out_channels, GateKind::channel, out);
    }

    void complete(const Operation& op, const Value& in, const Value& out) const {
        require(op.inputs.size() == 2 || op.inputs.size() == 3, "a completion of another number of inputs");
        require(op.positions < 0 && op.in_channels < 0 && op.out_channels < 0, "a completion with another gate than its own");
        divided(op, in, out);
        convolution(op, in, in.channels - (op.groups > 1 ? in.channels / op.groups : 0), out);
        for (std::size_t i = 1; i < op.inputs.size(); i++) same(value(op.inputs[i]), out);
        for (const Array* a : {&op.scale, &op.shift, &op.open_scale, &op.open_shift}) optional(*a, out.channels);
        gate(op.gate);
        used_gate(op.gate, GateKind::activation, out);
    }

    void divided(const Operation& op, const Value& in, const Value& out) const {
        const bool whole = op.groups > 0 && in.channels % op.groups == 0 && out.channels % op.groups == 0;
        require(whole, "groups that do not divide channels");
    }

    // The geometry of a convolution each of whose outputs reads so many channels.
    void convolution(const Operation& op, const Value& in, int reads, const Value& out) const {
        window(op, in, out, false);
        const std::vector<std::size_t> shape{static_cast<std::size_t>(out.channels), static_cast<std::size_t>(reads),
                                             static_cast<std::size_t>(op.kernel.y), static_cast<std::size_t>(op.kernel.x)};
        require((op.weight.data || halves(op) || bytes(op)) && op.weight.shape == shape, "weights of another shape");
        require(op.layer >= 0 && op.layer < program.layers, "a layer that does not exist");
    }
    bool bytes(const Operation& op) const {
        return op.weight.bytes && (completes_integers(op) || (op.kind == Kind::conv && integral(form_of(program, op).in)));
    }
    bool halves(const Operation& op) const {
        return op.weight.halves && op.kind == Kind::conv && form_of(program, op).in == Storage::bf16;
    }
};

// What has no form in bfloat16.
bool in_floats_only(Kind kind) {
    switch (kind) {
        case Kind::decide:
        case Kind::complete:
        case Kind::conv_transpose:
        case Kind::group_norm:
        case Kind::layer_norm:
        case Kind::softmax:
        case Kind::over_channels: return true;
        default: return false;
    }
}

}  // namespace

Form form_of(const Program& program, const Operation& op) {
    if (op.kind == Kind::decide && summed(program.values[op.inputs[0]].storage)) return {Storage::s32, Storage::f32};
    if (op.kind == Kind::complete && integral(program.values[op.output].storage)) return {program.values[op.inputs[0]].storage, program.values[op.output].storage};
    if (in_floats_only(op.kind)) return {Storage::f32, Storage::f32};
    const Storage to = program.values[op.output].storage, from = op.inputs.empty() ? to : program.values[op.inputs[0]].storage;
    if (integral(to) || integral(from)) return {from, to};
    if (to == Storage::bf16) return {Storage::bf16, Storage::bf16};
    const bool sums = op.kind == Kind::conv || op.kind == Kind::pool || op.kind == Kind::pool_to_grid;
    return {sums ? program.values[op.inputs[0]].storage : Storage::f32, Storage::f32};
}

void check(const Program& program) {
    Checker checker{program, {}, {}};
    checker.all();
}

}  // namespace convgate
