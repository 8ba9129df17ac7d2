#include "../kernels/bf16_numbers.h"
#include "programs.h"

#include <algorithm>
#include <cmath>

namespace convgate::testing {

Array OwnedProgram::array(Random& random, std::vector<std::size_t> shape, float scale) {
    Array array;
    array.shape = std::move(shape);
    std::size_t n = 1;
    for (const std::size_t extent : array.shape) n *= extent;
    arrays.push_back(numbers(random, n));
    for (float& x : arrays.back()) x *= scale;
    array.data = arrays.back().data();
    return array;
}

namespace {

class Builder {
public:
    Builder(OwnedProgram& owned, Random& random, bool wide)
        : owned(owned), program(owned.program), random(random), wide(wide) {}

    void build() {
        for (int i = random.chance(0.2) ? 2 : 1; i > 0; i--) {
            const bool long_lines = !wide && random.chance(0.1);
            const int height = wide ? random.pick({2, 4, 6, 7, 8, 13}) : random.from(1, long_lines ? 2 : 13);
            const int width = wide ? random.pick({2, 4, 6, 7, 8}) : long_lines ? random.from(60, 80) : random.from(1, 13);
            program.inputs.push_back(value(channels(), height, width));
            usable.push_back(program.inputs.back());
        }
        for (int i = random.from(1, 9); i > 0; i--) step();
        program.outputs.push_back(usable.back());
        for (const int v : usable)
            if (v != program.outputs[0] && random.chance(0.1)) program.outputs.push_back(v);
    }

    // A mask of channels, the convolution, and one that reads it, each with gates or without.
    void build_large() {
        const int sides = random.pick({7, 14, 24});
        const int images = value(random.pick({224, 230}), sides + random.from(-1, 2), sides + random.from(0, 2));
        program.inputs.push_back(images);
        usable.push_back(images);
        int read = images;
        if (random.chance(0.7)) {
            const Value of = program.values[images];
            Operation mask = operation(Kind::mask, {images}, value(of.channels, of.height, of.width));
            mask.gate = channel_gate(of.channels);
            zero[mask.output].push_back(mask.gate);
            add(mask);
            read = mask.output;
        }
        Operation op = same_size(read, random.pick({224, 230}), 3);
        op.activation = zero_preserving();
        if (read != images) op.in_channels = zero[read][0];
        const Value out = program.values[op.output];
        if (random.chance(0.5))
            op.out_channels = channel_gate(out.channels);
        else if (random.chance(0.5))
            program.inputs.push_back(op.inputs.emplace_back(value(out.channels, out.height, out.width)));
        if (random.chance(0.5)) op.positions = even_gate(out);
        program.operations.push_back(op);
        Operation reader = same_size(op.output, 8, 1);
        reader.in_channels = op.out_channels;
        add(reader);
        program.outputs.push_back(reader.output);
    }

private:
    int channels() {
        if (wide) return random.pick({48, 224, 230, 260});
        return random.pick({1, 2, 3, 4, 6, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 64, 66, 70, 130});
    }
    static bool keeps_zero(const Function& f) {
        if (f.kind == Activation::clamp) return f.a <= 0 && f.b >= 0;
        return f.kind != Activation::sigmoid && f.kind != Activation::hardsigmoid && f.kind != Activation::softplus;
    }
    Function any_activation() {
        const Activation kind = static_cast<Activation>(random.from(0, activation_count - 1));
        if (kind == Activation::softplus) return {kind, random.pick({0.5f, 1.0f, 3.0f}), random.pick({2.0f, 20.0f}), 0};
        if (kind == Activation::clamp) return {kind, random.number(), 1, 0};
        return {kind, random.number(), random.number(), random.number()};
    }
    Function zero_preserving() {
        for (;;)
            if (const Function f = any_activation(); keeps_zero(f)) return f;
    }

    // A new value; `closed_by`: channel gates whose closed channels hold zeros in it.
    int value(int channels, int height, int width, std::vector<int> closed_by = {}) {
        program.values.push_back({channels, height, width});
        zero.push_back(std::move(closed_by));
        return static_cast<int>(program.values.size()) - 1;
    }

    // Recent values more often, so that programs are chains with shortcuts.
    int source() {
        return usable[usable.size() - 1 - std::min<std::size_t>(random.from(0, 3) * random.from(0, 1), usable.size() - 1)];
    }

    void add(Operation op) {
        program.operations.push_back(std::move(op));
        if (program.operations.back().kind != Kind::decide) usable.push_back(program.operations.back().output);
    }

    static Operation operation(Kind kind, std::vector<int> inputs, int output) {
        Operation op{};
        op.kind = kind;
        op.inputs = std::move(inputs);
        op.output = output;
        return op;
    }

    void step() {
        const int a = source();
        const Value in = program.values[a];
        const std::vector<int> zeros = zero[a];
        if (wide && random.chance(0.3)) return pair(a);
        if (!zeros.empty() && random.chance(0.2)) return excited(a);
        switch (random.from(0, 31)) {
            default: return convolution(a);
            case 9: case 10: return completion(a);
            case 11: {
                Operation op = operation(Kind::pick, {a}, value(channels(), in.height, in.width));
                for (int c = program.values[op.output].channels; c > 0; c--) op.channels.push_back(random.from(0, in.channels - 1));
                return add(op);
            }
            case 12: {
                Operation op = operation(Kind::prelu, {a}, value(in.channels, in.height, in.width, zeros));
                op.weight = owned.array(random, {static_cast<std::size_t>(in.channels)}, 1);
                return add(op);
            }
            case 13: {
                Operation op = operation(Kind::interpolate, {a}, value(in.channels, random.from(1, 15), random.from(1, 15)));
                op.interpolation = static_cast<Interpolation>(random.from(0, 2));
                op.align_corners = random.chance(0.5);
                if (random.chance(0.3)) op.scale_y = random.pick({0.3, 1.0, 2.0}), op.scale_x = random.pick({0.3, 1.0, 2.0});
                return add(op);
            }
            case 31: return filled(a);
            case 14: case 15: return transposed(a);
            case 16: return padded(a);
            case 17: return rearranged(a);
            case 18: case 19: return over_channels(a);
            case 1: return pool(a);
            case 2: {
                const int rows = random.from(1, 6);
                Operation op = operation(Kind::pool_to_grid, {a}, value(in.channels, rows, random.from(1, 6), zeros));
                op.maximum = random.chance(0.3);
                return add(op);
            }
            case 3: {
                Operation op = operation(Kind::activate, {a}, value(in.channels, in.height, in.width));
                op.activation = any_activation();
                if (keeps_zero(op.activation)) zero[op.output] = zeros;
                return add(op);
            }
            case 4: {
                Operation op = operation(Kind::affine, {a}, value(in.channels, in.height, in.width));
                const std::size_t n = in.channels;
                op.weight = owned.array(random, {n}, 1);
                op.bias = owned.array(random, {n}, 1);
                op.activation = any_activation();
                return add(op);
            }
            case 5: return random.chance(0.5) ? binary(a) : excited(a);
            case 6: return concat(a);
            case 7: {
                Operation op = operation(Kind::slice, {a}, value(channels(), in.height, in.width));
                op.begin = random.from(-in.channels - 3, in.channels + 3);
                return add(op);
            }
            case 8: {
                Operation op = operation(Kind::mask, {a}, value(in.channels, in.height, in.width, zeros));
                op.gate_is_spatial = random.chance(0.5);
                op.gate = op.gate_is_spatial ? spatial_gate(in) : channel_gate(in.channels);
                if (op.gate_is_spatial) op.reach = reach();
                if (!op.gate_is_spatial) zero[op.output].push_back(op.gate);
                return add(op);
            }
        }
    }

    // Multiplied by a factor for each channel, and convolved, as behind squeeze and excitation.
    void excited(int a) {
        const Value in = program.values[a];
        const int pooled = value(in.channels, 1, 1, zero[a]);
        program.operations.push_back(operation(Kind::pool_to_grid, {a}, pooled));
        Operation factors = operation(Kind::activate, {pooled}, value(in.channels, 1, 1));
        factors.activation = any_activation();
        program.operations.push_back(factors);
        const int product = value(in.channels, in.height, in.width, zero[a]);
        const std::vector<int> both = random.chance(0.5) ? std::vector{a, factors.output} : std::vector{factors.output, a};
        program.operations.push_back(operation(Kind::multiply, both, product));
        if (random.chance(0.2)) usable.push_back(product);
        convolution(product);
    }

    // With what a pool to the gate's tiles and a convolution of it say, as real ones are.
    void filled(int a) {
        const Value in = program.values[a];
        const int gate = spatial_gate(in), from = source();
        const Gate tiles = program.gates[gate];
        const int pooled = value(program.values[from].channels, tiles.rows, tiles.columns);
        program.operations.push_back(operation(Kind::pool_to_grid, {from}, pooled));
        Operation path = operation(Kind::conv, {pooled}, value(in.channels, tiles.rows, tiles.columns));
        path.weight = owned.array(random, {static_cast<std::size_t>(in.channels), static_cast<std::size_t>(program.values[from].channels), 1, 1}, 1);
        path.kernel = {1, 1};
        path.layer = program.layers++;
        program.operations.push_back(path);
        Operation op = operation(Kind::fill_closed, {a, path.output}, value(in.channels, in.height, in.width));
        op.gate = gate;
        add(op);
    }

    int old_gate(bool spatial, int channels) {
        std::vector<int> known;
        for (std::size_t g = 0; g < program.gates.size(); g++) {
            const Gate& gate = program.gates[g];
            const bool kind = gate.kind == (spatial ? GateKind::spatial : GateKind::channel);
            if (kind && (spatial || gate.units == (channels + gate.group - 1) / gate.group))
                known.push_back(static_cast<int>(g));
        }
        return known.empty() ? -1 : random.pick(known);
    }

    // By how much a mask is dilated: by nothing, as most are, or a little.
    Pair reach() {
        if (random.chance(0.6)) return no_reach;
        return {random.from(0, 3), random.from(0, 3)};
    }

    int spatial_gate(const Value& on) {
        const int known = old_gate(true, 0);
        if (known >= 0 && random.chance(0.6)) return known;
        return gate({GateKind::spatial, 1, random.from(1, std::min(on.height + 1, 6)), random.from(1, std::min(on.width + 1, 6)), 1});
    }
    // With tiles of even sides, where there can be any.
    int even_gate(const Value& on) {
        const auto tiles = [&](int size) {
            std::vector<int> found;
            for (int n = 1; n <= size / 2; n++)
                if (size % (2 * n) == 0) found.push_back(n);
            return found.empty() ? 1 : random.pick(found);
        };
        const int rows = tiles(on.height);
        return gate({GateKind::spatial, 1, rows, tiles(on.width), 1});
    }
    int channel_gate(int channels) {
        const int known = old_gate(false, channels);
        if (known >= 0 && random.chance(0.5)) return known;
        const int group = random.pick({1, 1, 2, 3, 4, 8, 16, 17});
        return gate({GateKind::channel, (channels + group - 1) / group, 1, 1, group});
    }

    // A gate decided from a source by a pool and a convolution, as real ones are.
    int gate(Gate gate) {
        const int number = static_cast<int>(program.gates.size()), a = source();
        program.gates.push_back(gate);
        const Value logits{gate.units, gate.rows, gate.columns};
        const Value from = program.values[a];
        const int pooled = value(from.channels, logits.height, logits.width, zero[a]);
        program.operations.push_back(operation(Kind::pool_to_grid, {a}, pooled));
        const int kernel = gate.spatial() && random.chance(0.5) ? 3 : 1;
        Operation conv = operation(Kind::conv, {pooled}, value(logits.channels, logits.height, logits.width));
        conv.kernel = {kernel, kernel};
        conv.top = conv.left = conv.bottom = conv.right = kernel / 2;
        conv.weight = owned.array(random,
                                  {static_cast<std::size_t>(logits.channels), static_cast<std::size_t>(from.channels),
                                   static_cast<std::size_t>(kernel), static_cast<std::size_t>(kernel)},
                                  1);
        conv.layer = program.layers++;
        if (!zero[a].empty() && random.chance(0.5)) conv.in_channels = random.pick(zero[a]);
        program.operations.push_back(conv);
        Operation decide = operation(Kind::decide, {conv.output}, number);
        decide.weight = owned.array(random, {gate.size()}, 1);
        decide.strict = random.chance(0.2);
        program.operations.push_back(decide);
        return number;
    }

    void convolution(int a) {
        const Value in = program.values[a];
        const int kind = random.from(0, 9);
        const bool depthwise = kind == 0 || kind == 1;
        const int kernel_y = random.pick({1, 1, 1, 3, 3, 5, 2}),
                  kernel_x = random.chance(0.85) ? kernel_y : random.pick({1, 3, 7});
        Operation op = operation(Kind::conv, {a}, -1);
        op.kernel = {kernel_y, kernel_x};
        op.dilation = {random.chance(0.85) ? 1 : 2, random.chance(0.85) ? 1 : 2};
        op.stride = {random.chance(0.7) ? 1 : random.from(1, 3), random.chance(0.7) ? 1 : random.from(1, 3)};
        int out = channels();
        if (random.chance(0.3)) out = in.channels;
        if (depthwise) {
            op.groups = out = in.channels;
        } else if (kind == 2) {
            std::vector<int> divisors;
            for (int g = 1; g <= in.channels; g++)
                if (in.channels % g == 0) divisors.push_back(g);
            op.groups = random.pick(divisors);
            out = op.groups * random.pick({1, 2, 3, 5, 17});
        }
        // Often of the input's shape, so that there is something to add.
        const bool residual = random.chance(0.4);
        if (residual) {
            op.stride = {1, 1};
            if (kind != 2) out = in.channels;
        }
        // Often what a runtime may compute in squares of 2x2 outputs.
        const bool squares = op.groups == 1 && random.chance(wide ? 0.8 : 0.25);
        if (squares) op.kernel = {3, 3}, op.stride = op.dilation = {1, 1};
        // Paddings that keep the size, none, or anything.
        const int style = residual || squares ? 1 : random.from(0, 3), reach_y = (op.kernel.y - 1) * op.dilation.y,
                  reach_x = (op.kernel.x - 1) * op.dilation.x;
        if (style == 0) {
            op.top = random.from(0, 3), op.bottom = random.from(0, 3), op.left = random.from(0, 3),
            op.right = random.from(0, 3);
        } else if (style < 3) {
            op.top = reach_y / 2, op.bottom = reach_y - op.top, op.left = reach_x / 2, op.right = reach_x - op.left;
        }
        const int room_y = in.height + op.top + op.bottom - reach_y - 1,
                  room_x = in.width + op.left + op.right - reach_x - 1;
        if (room_y < 0 || room_x < 0) return;
        const Value shape{out, room_y / op.stride.y + 1, room_x / op.stride.x + 1};
        if (static_cast<long long>(shape.positions()) * shape.channels * in.channels / op.groups * op.kernel.y * op.kernel.x >
            (squares ? 7000000 : 1500000))
            return;
        if (random.chance(0.4)) op.positions = squares && random.chance(0.7) ? even_gate(shape) : spatial_gate(shape), op.reach = reach();
        if (random.chance(0.4)) op.out_channels = channel_gate(out);
        if (!zero[a].empty() && random.chance(0.7)) op.in_channels = random.pick(zero[a]);
        // A depthwise convolution counts its channels once: both sides are gated by the same gate, or one of them is not.
        if (op.groups > 1 && op.groups == in.channels && out == in.channels && op.in_channels >= 0)
            op.out_channels = op.in_channels;
        op.output = value(out, shape.height, shape.width);
        std::vector<int> alike;
        for (const int v : usable) {
            const Value& other = program.values[v];
            if (other.channels == out && other.height == shape.height && other.width == shape.width) alike.push_back(v);
        }
        if (!alike.empty() && random.chance(0.6)) op.inputs.push_back(random.pick(alike));
        const std::size_t ins = in.channels / op.groups, outs = out, ky = op.kernel.y, kx = op.kernel.x;
        op.weight = owned.array(random, {outs, ins, ky, kx}, 2 / std::sqrt(static_cast<float>(ins * ky * kx)));
        if (random.chance(0.8)) op.bias = owned.array(random, {outs}, 1);
        op.activation = op.positions >= 0 || op.out_channels >= 0 ? zero_preserving() : any_activation();
        op.layer = random.chance(0.1) && program.layers > 0 ? random.from(0, program.layers - 1) : program.layers++;
        if (op.inputs.size() == 1 && op.out_channels >= 0) zero[op.output].push_back(op.out_channels);
        add(op);
    }

    // Two convolutions of which the second alone reads what the first writes, under one gate of its channels: what lies between
    // may be without gaps.
    void pair(int a) {
        const Value in = program.values[a];
        const int outs = random.pick({128, 130, 200}), gate = channel_gate(outs);
        const int positions = random.chance(0.4) ? spatial_gate(in) : -1;
        Operation first = same_size(a, outs, random.pick({1, 3, 3}));
        first.activation = zero_preserving();
        first.positions = positions, first.out_channels = gate;
        if (!zero[a].empty() && random.chance(0.7)) first.in_channels = random.pick(zero[a]);
        program.operations.push_back(first);
        Operation second = same_size(first.output, random.pick({7, 48, 260}), 1);
        second.activation = any_activation();
        second.in_channels = gate;
        add(second);
    }

    Operation same_size(int a, int outs, int kernel) {
        const Value in = program.values[a];
        Operation op = operation(Kind::conv, {a}, value(outs, in.height, in.width));
        op.kernel = {kernel, kernel};
        op.top = op.left = op.bottom = op.right = kernel / 2;
        const std::size_t ins = in.channels, side = kernel;
        op.weight = owned.array(random, {static_cast<std::size_t>(outs), ins, side, side}, 2 / std::sqrt(static_cast<float>(ins * side * side)));
        if (random.chance(0.8)) op.bias = owned.array(random, {static_cast<std::size_t>(outs)}, 1);
        op.layer = program.layers++;
        return op;
    }

    // A convolution in part: sums of whatever value has a shape that a convolution of `a` may have, and their completion.
    void completion(int a) {
        const Value in = program.values[a];
        std::vector<int> parts;
        for (int n = 1; n <= std::min(in.channels, 8); n++)
            if (in.channels % n == 0) parts.push_back(n);
        Operation op = operation(Kind::complete, {a}, -1);
        op.groups = random.pick(parts);
        const int kernel_y = random.pick({1, 1, 3, 3, 3, 2}), kernel_x = random.chance(0.8) ? kernel_y : random.pick({1, 3, 5});
        op.kernel = {kernel_y, kernel_x};
        op.dilation = {random.chance(0.85) ? 1 : 2, random.chance(0.85) ? 1 : 2};
        op.stride = {random.chance(0.75) ? 1 : 2, random.chance(0.75) ? 1 : 2};
        const int reach_y = (kernel_y - 1) * op.dilation.y, reach_x = (kernel_x - 1) * op.dilation.x;
        op.top = reach_y / 2, op.bottom = reach_y - op.top, op.left = reach_x / 2, op.right = reach_x - op.left;
        const int out = random.chance(0.3) && in.channels % op.groups == 0 ? in.channels : op.groups * random.pick({1, 3, 8, 16, 17, 33});
        const Value shape{out, (in.height - 1) / op.stride.y + 1, (in.width - 1) / op.stride.x + 1};
        const int reads = in.channels - (op.groups > 1 ? in.channels / op.groups : 0), area = kernel_y * kernel_x;
        if (static_cast<long long>(shape.positions()) * out * reads * area > 1500000) return;
        // Sums of another convolution, if nothing else has the shape.
        const auto alike = [&] {
            std::vector<int> found;
            for (const int v : usable) {
                const Value& other = program.values[v];
                if (other.channels == out && other.height == shape.height && other.width == shape.width) found.push_back(v);
            }
            return found;
        };
        if (alike().empty() || random.chance(0.6)) {
            Operation base = operation(Kind::conv, {a}, value(out, shape.height, shape.width));
            base.stride = op.stride;
            base.groups = op.groups;
            const std::size_t ins = in.channels / op.groups;
            base.weight = owned.array(random, {static_cast<std::size_t>(out), ins, 1, 1}, 1 / std::sqrt(static_cast<float>(ins)));
            base.layer = program.layers++;
            add(base);
        }
        op.inputs.push_back(random.pick(alike()));
        if (random.chance(0.4)) op.inputs.push_back(random.pick(alike()));
        op.gate = activation_gate(op.inputs[1], shape);
        const std::size_t n = out;
        op.weight = owned.array(random, {n, static_cast<std::size_t>(reads), static_cast<std::size_t>(kernel_y), static_cast<std::size_t>(kernel_x)},
                                2 / std::sqrt(static_cast<float>(reads * area)));
        for (Array* a : {&op.scale, &op.shift, &op.open_scale, &op.open_shift})
            if (random.chance(0.5)) *a = owned.array(random, {n}, 1);
        op.activation = any_activation();
        op.layer = random.chance(0.5) ? program.layers - 1 : program.layers++;
        if (op.layer < 0) op.layer = program.layers++;
        op.output = value(out, shape.height, shape.width);
        add(op);
    }

    // Decided from the sums themselves.
    int activation_gate(int sums, const Value& on) {
        std::vector<int> known;
        for (std::size_t g = 0; g < program.gates.size(); g++) {
            const Gate& gate = program.gates[g];
            if (gate.by_activation() && gate.units == (on.channels - 1) / gate.group + 1 && gate.rows == on.height && gate.columns == on.width)
                known.push_back(static_cast<int>(g));
        }
        if (!known.empty() && random.chance(0.3)) return random.pick(known);
        const int group = random.pick({1, 1, 2, 3, 8, 16, 16, 17, 32, 64});
        const int units = (on.channels - 1) / group + 1, number = static_cast<int>(program.gates.size());
        program.gates.push_back({GateKind::activation, units, on.height, on.width, group});
        Operation decide = operation(Kind::decide, {sums}, number);
        decide.weight = owned.array(random, {static_cast<std::size_t>(units)}, 1);
        for (Array* a : {&decide.scale, &decide.shift})
            if (random.chance(0.7)) *a = owned.array(random, {static_cast<std::size_t>(on.channels)}, 1);
        decide.strict = random.chance(0.6);
        program.operations.push_back(decide);
        return number;
    }

    void pool(int a) {
        const Value in = program.values[a];
        Operation op = operation(Kind::pool, {a}, -1);
        op.maximum = random.chance(0.5);
        op.count_padding = random.chance(0.5);
        op.kernel = {random.from(1, 4), random.from(1, 4)};
        op.stride = {random.from(1, 3), random.from(1, 3)};
        op.dilation = {random.chance(0.8) ? 1 : 2, random.chance(0.8) ? 1 : 2};
        op.top = op.bottom = random.from(0, op.kernel.y / 2);
        op.left = op.right = random.from(0, op.kernel.x / 2);
        // Windows may end past the padded border, but must begin before it.
        const bool ceil = random.chance(0.3);
        const auto extent = [&](int size, int padding, int kernel, int stride, int dilation) {
            const int room = size + 2 * padding - dilation * (kernel - 1) - 1;
            if (room < 0) return 0;
            int out = (room + (ceil ? stride - 1 : 0)) / stride + 1;
            if ((out - 1) * stride >= size + padding) out--;
            return out;
        };
        const int height = extent(in.height, op.top, op.kernel.y, op.stride.y, op.dilation.y);
        const int width = extent(in.width, op.left, op.kernel.x, op.stride.x, op.dilation.x);
        if (height < 1 || width < 1) return;
        op.output = value(in.channels, height, width, zero[a]);
        add(op);
    }

    void binary(int a) {
        const Value in = program.values[a];
        std::vector<int> others;
        for (const int v : usable) {
            const Value& other = program.values[v];
            if (other.channels == in.channels &&
                (other.positions() == 1 || (other.height == in.height && other.width == in.width)))
                others.push_back(v);
        }
        const int b = random.chance(0.3) ? constant(in) : random.pick(others);
        Operation op = operation(random.pick({Kind::add, Kind::add, Kind::multiply, Kind::arithmetic}), {a, b},
                                 value(in.channels, in.height, in.width));
        if (op.kind != Kind::multiply && random.chance(0.3)) std::swap(op.inputs[0], op.inputs[1]);
        op.arithmetic = random.pick({Arithmetic::maximum, Arithmetic::minimum});
        if (op.kind == Kind::add) op.activation = any_activation();
        if (op.kind == Kind::multiply) zero[op.output] = zero[a];
        add(op);
    }

    // Spread over a value of that shape.
    int constant(const Value& in) {
        const auto part = [&](int n) { return random.chance(0.5) ? 1 : n; };
        const int rows = part(in.height);
        const Operation op = [&] {
            Operation made = operation(Kind::constant, {}, value(part(in.channels), rows, part(in.width)));
            made.weight = owned.array(random, {static_cast<std::size_t>(program.values[made.output].positions()) *
                                               static_cast<std::size_t>(program.values[made.output].channels)}, 1);
            return made;
        }();
        program.operations.push_back(op);
        return op.output;
    }

    void transposed(int a) {
        const Value in = program.values[a];
        std::vector<int> divisors;
        for (int g = 1; g <= in.channels; g++)
            if (in.channels % g == 0) divisors.push_back(g);
        Operation op = operation(Kind::conv_transpose, {a}, -1);
        op.groups = random.pick(divisors);
        const int outs = random.pick({1, 1, 2, 5, 17, 40}), kernel = random.from(1, 4);
        op.kernel = {kernel, random.chance(0.7) ? kernel : 1};
        op.stride = {random.from(1, 3), random.from(1, 3)};
        op.dilation = {random.chance(0.8) ? 1 : 2, random.chance(0.8) ? 1 : 2};
        op.top = op.bottom = random.from(0, 2), op.left = op.right = random.from(0, 2);
        const auto extent = [&](int size, int stride, int k, int dilation, int padding) {
            return (size - 1) * stride - 2 * padding + dilation * (k - 1) + 1 + random.from(0, std::max(stride, dilation) - 1);
        };
        const int height = extent(in.height, op.stride.y, op.kernel.y, op.dilation.y, op.top);
        const int width = extent(in.width, op.stride.x, op.kernel.x, op.dilation.x, op.left);
        if (height < 1 || width < 1 || height > 30 || width > 30 || outs * op.groups > 200) return;
        op.output = value(outs * op.groups, height, width);
        const std::size_t ins = in.channels;
        op.weight = owned.array(random, {ins, static_cast<std::size_t>(outs), static_cast<std::size_t>(op.kernel.y),
                                         static_cast<std::size_t>(op.kernel.x)},
                                1 / std::sqrt(static_cast<float>(in.channels / op.groups)));
        if (random.chance(0.5)) op.bias = owned.array(random, {static_cast<std::size_t>(outs) * op.groups}, 1);
        op.activation = any_activation();
        op.layer = program.layers++;
        add(op);
    }

    void padded(int a) {
        const Value in = program.values[a];
        Operation op = operation(Kind::pad, {a}, -1);
        op.padding_mode = static_cast<PaddingMode>(random.from(0, 3));
        const bool constant = op.padding_mode == PaddingMode::constant;
        const int most = constant ? 3 : std::min({3, in.height - 1, in.width - 1});
        for (int* side : {&op.top, &op.left, &op.bottom, &op.right}) *side = random.from(constant ? -1 : 0, most);
        const int height = in.height + op.top + op.bottom, width = in.width + op.left + op.right;
        if (height < 1 || width < 1 || height > 20 || width > 20) return;
        op.output = value(in.channels, height, width);
        op.fill = random.number();
        add(op);
    }

    void rearranged(int a) {
        const Value in = program.values[a];
        const int f = random.from(2, 3), area = f * f;
        if (random.chance(0.4)) return add(operation(Kind::reshape, {a}, value(in.width, in.channels, in.height)));
        const bool shuffles = in.channels % area == 0 && std::max(in.height, in.width) < 8;
        if (!shuffles && (in.height % f || in.width % f || in.channels > 20)) return;
        Operation op = shuffles ? operation(Kind::pixel_shuffle, {a}, value(in.channels / area, in.height * f, in.width * f))
                                : operation(Kind::pixel_unshuffle, {a}, value(in.channels * area, in.height / f, in.width / f));
        op.factor = f;
        add(op);
    }

    void over_channels(int a) {
        const Value in = program.values[a];
        const Kind kind = random.pick({Kind::group_norm, Kind::layer_norm, Kind::softmax, Kind::over_channels});
        Operation op = operation(kind, {a}, value(kind == Kind::over_channels ? 1 : in.channels, in.height, in.width));
        op.maximum = random.chance(0.5);
        if (kind == Kind::group_norm || kind == Kind::layer_norm) {
            op.epsilon = 0.1f;
            const std::size_t n = in.channels;
            if (random.chance(0.5)) op.weight = owned.array(random, {n}, 1);
            if (random.chance(0.5)) op.bias = owned.array(random, {n}, 1);
            while (kind == Kind::group_norm && (op.groups = random.from(1, in.channels), in.channels % op.groups)) {}
        }
        add(op);
    }

    void concat(int a) {
        const Value in = program.values[a];
        Operation op = operation(Kind::concat, {a}, -1);
        int total = in.channels;
        for (const int v : usable)
            if (program.values[v].height == in.height && program.values[v].width == in.width && total < 150 &&
                random.chance(0.5)) {
                op.inputs.push_back(v);
                total += program.values[v].channels;
            }
        op.output = value(total, in.height, in.width);
        add(op);
    }

    OwnedProgram& owned;
    Program& program;
    Random& random;
    const bool wide;
    std::vector<int> usable;             // values to read
    std::vector<std::vector<int>> zero;  // per value
};

}  // namespace

namespace {

std::unique_ptr<OwnedProgram> build(Random& random, bool wide) {
    auto owned = std::make_unique<OwnedProgram>();
    Builder(*owned, random, wide).build();
    return owned;
}

}  // namespace

std::unique_ptr<OwnedProgram> large_weights(Random& random) {
    auto owned = std::make_unique<OwnedProgram>();
    Builder(*owned, random, true).build_large();
    return owned;
}
std::unique_ptr<OwnedProgram> random_program(Random& random) { return build(random, false); }
std::unique_ptr<OwnedProgram> random_wide_program(Random& random) { return build(random, true); }

void store_in_bf16(Random& random, OwnedProgram& owned) {
    Program& program = owned.program;
    const double share = random.pick({0.5, 0.9, 1.0});
    for (Value& value : program.values) value.storage = random.chance(share) ? Storage::bf16 : Storage::f32;
    for (Operation& op : program.operations) {
        if (op.kind != Kind::conv || form_of(program, op).in != Storage::bf16 || random.chance(0.5)) continue;
        std::vector<Bf16>& to = owned.halves.emplace_back();
        for (std::size_t i = 0; i < op.weight.size(); i++) to.push_back(rounded(op.weight.data[i]));
        op.weight.data = nullptr;
        op.weight.halves = to.data();
    }
}

}  // namespace convgate::testing
