#include <algorithm>
#include <cmath>

#include "programs.h"

namespace convgate::testing {
namespace {

double activated(double x, Activation activation) {
    const auto clipped = [](double x) { return std::clamp(x, 0.0, 6.0); };
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return std::max(x, 0.0);
        case Activation::relu6: return clipped(x);
        case Activation::hardswish: return x * clipped(x + 3) / 6;
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::sigmoid: return 1 / (1 + std::exp(-x));
        case Activation::hardsigmoid: return clipped(x + 3) / 6;
    }
    return x;
}

struct Executor {
    const Program& program;
    const std::vector<std::vector<std::uint8_t>>& masks;
    Reference result;

    const Value& shape(int v) const { return program.values[v]; }
    static std::size_t at(const Value& v, int c, int y, int x) {
        return (static_cast<std::size_t>(c) * v.height + y) * v.width + x;
    }
    float read(int v, int c, int y, int x) const { return result.values[v][at(shape(v), c, y, x)]; }

    bool tile(int gate, const Value& v, int y, int x) const {
        if (gate < 0) return true;
        const Gate& g = program.gates[gate];
        return masks[gate][y * g.rows / v.height * g.columns + x * g.columns / v.width];
    }
    bool activation(int gate, const Value& v, int c, int y, int x) const {
        return masks[gate][at({program.gates[gate].units, v.height, v.width}, c / program.gates[gate].group, y, x)];
    }
    bool channel(int gate, int c) const { return gate < 0 || masks[gate][c / program.gates[gate].group]; }

    template <typename Function>
    void each(int v, Function f) {
        const Value& value = shape(v);
        std::vector<float>& to = result.values[v];
        to.resize(static_cast<std::size_t>(value.positions()) * value.channels);
        for (int c = 0; c < value.channels; c++)
            for (int y = 0; y < value.height; y++)
                for (int x = 0; x < value.width; x++) to[at(value, c, y, x)] = static_cast<float>(f(c, y, x));
    }

    void conv(const Operation& op) {
        const Value &in = shape(op.inputs[0]), &out = shape(op.output);
        const int ins = in.channels / op.groups, outs = out.channels / op.groups;
        long long positions = 0, pairs = 0;
        for (int y = 0; y < out.height; y++)
            for (int x = 0; x < out.width; x++) positions += tile(op.positions, out, y, x);
        for (int o = 0; o < out.channels; o++)
            for (int i = 0; i < ins; i++)
                pairs += channel(op.out_channels, o) && channel(op.in_channels, o / outs * ins + i);
        result.macs[op.layer] += positions * pairs * op.kernel.y * op.kernel.x;
        each(op.output, [&](int o, int y, int x) {
            double sum = 0;
            if (tile(op.positions, out, y, x) && channel(op.out_channels, o)) {
                sum = op.bias.data ? op.bias.data[o] : 0;
                const float* w = op.weight.data + static_cast<std::size_t>(o) * ins * op.kernel.y * op.kernel.x;
                for (int i = 0; i < ins; i++)
                    for (int ky = 0; ky < op.kernel.y; ky++)
                        for (int kx = 0; kx < op.kernel.x; kx++, w++) {
                            const int iy = y * op.stride.y - op.top + ky * op.dilation.y,
                                      ix = x * op.stride.x - op.left + kx * op.dilation.x;
                            if (iy >= 0 && iy < in.height && ix >= 0 && ix < in.width)
                                sum += static_cast<double>(*w) * read(op.inputs[0], o / outs * ins + i, iy, ix);
                        }
            }
            if (op.inputs.size() > 1) sum += read(op.inputs[1], o, y, x);
            return activated(sum, op.activation);
        });
    }

    static double normed(double x, const Array& scale, const Array& shift, int c) {
        return x * (scale.data ? scale.data[c] : 1) + (shift.data ? shift.data[c] : 0);
    }

    void complete(const Operation& op) {
        const Value &in = shape(op.inputs[0]), &out = shape(op.output);
        const int size = in.channels / op.groups, reads = op.groups > 1 ? in.channels - size : in.channels;
        each(op.output, [&](int o, int y, int x) {
            double sum = read(op.inputs[1], o, y, x);
            const bool open = activation(op.gate, out, o, y, x);
            if (open) {
                result.macs[op.layer] += static_cast<long long>(reads) * op.kernel.y * op.kernel.x;
                const float* w = op.weight.data + static_cast<std::size_t>(o) * reads * op.kernel.y * op.kernel.x;
                for (int i = 0; i < in.channels; i++) {
                    if (op.groups > 1 && i / size == o / (out.channels / op.groups)) continue;
                    for (int ky = 0; ky < op.kernel.y; ky++)
                        for (int kx = 0; kx < op.kernel.x; kx++, w++) {
                            const int iy = y * op.stride.y - op.top + ky * op.dilation.y,
                                      ix = x * op.stride.x - op.left + kx * op.dilation.x;
                            if (iy >= 0 && iy < in.height && ix >= 0 && ix < in.width)
                                sum += static_cast<double>(*w) * read(op.inputs[0], i, iy, ix);
                        }
                }
            }
            sum = open ? normed(sum, op.open_scale, op.open_shift, o) : normed(sum, op.scale, op.shift, o);
            if (op.inputs.size() > 2) sum += read(op.inputs[2], o, y, x);
            return activated(sum, op.activation);
        });
    }

    void decide(const Operation& op) {
        const Gate& gate = program.gates[op.output];
        const Value& in = shape(op.inputs[0]);
        std::vector<float>& logits = result.logits[op.output];
        if (!gate.by_activation()) {
            logits = result.values[op.inputs[0]];
            for (std::size_t i = 0; i < logits.size(); i++) logits[i] += op.weight.data[i];
            return;
        }
        for (int u = 0; u < gate.units; u++)
            for (int y = 0; y < in.height; y++)
                for (int x = 0; x < in.width; x++) {
                    const int begin = u * gate.group, end = std::min(begin + gate.group, in.channels);
                    double sum = 0;
                    for (int c = begin; c < end; c++) sum += normed(read(op.inputs[0], c, y, x), op.scale, op.shift, c);
                    logits.push_back(static_cast<float>(sum / (end - begin) + op.weight.data[u]));
                }
    }

    void pool(const Operation& op) {
        const Value& in = shape(op.inputs[0]);
        each(op.output, [&](int c, int y, int x) {
            double largest = -INFINITY, sum = 0;
            int inside = 0, padded = 0;
            for (int ky = 0; ky < op.kernel.y; ky++)
                for (int kx = 0; kx < op.kernel.x; kx++) {
                    const int iy = y * op.stride.y - op.top + ky * op.dilation.y,
                              ix = x * op.stride.x - op.left + kx * op.dilation.x;
                    padded += iy < in.height + op.bottom && ix < in.width + op.right;
                    if (iy < 0 || iy >= in.height || ix < 0 || ix >= in.width) continue;
                    inside++;
                    largest = std::max<double>(largest, read(op.inputs[0], c, iy, ix));
                    sum += read(op.inputs[0], c, iy, ix);
                }
            if (inside == 0) return 0.0;
            return op.maximum ? largest : sum / (op.count_padding ? padded : inside);
        });
    }

    void pool_to_grid(const Operation& op) {
        const Value &in = shape(op.inputs[0]), &out = shape(op.output);
        const auto begin = [](int i, int size, int cells) { return i * size / cells; };
        const auto end = [](int i, int size, int cells) { return ((i + 1) * size + cells - 1) / cells; };
        each(op.output, [&](int c, int y, int x) {
            double sum = 0;
            int n = 0;
            for (int iy = begin(y, in.height, out.height); iy < end(y, in.height, out.height); iy++)
                for (int ix = begin(x, in.width, out.width); ix < end(x, in.width, out.width); ix++, n++)
                    sum += read(op.inputs[0], c, iy, ix);
            return sum / n;
        });
    }

    void operation(const Operation& op) {
        const int a = op.inputs[0], b = op.inputs.size() > 1 ? op.inputs[1] : a;
        const auto second = [&](int c, int y, int x) {
            return shape(b).positions() == 1 ? read(b, c, 0, 0) : read(b, c, y, x);
        };
        switch (op.kind) {
            case Kind::conv: return conv(op);
            case Kind::pool: return pool(op);
            case Kind::pool_to_grid: return pool_to_grid(op);
            case Kind::activate:
                return each(op.output, [&](int c, int y, int x) { return activated(read(a, c, y, x), op.activation); });
            case Kind::affine:
                return each(op.output, [&](int c, int y, int x) {
                    return activated(static_cast<double>(read(a, c, y, x)) * op.weight.data[c] + op.bias.data[c],
                                     op.activation);
                });
            case Kind::add:
                return each(op.output, [&](int c, int y, int x) {
                    return activated(static_cast<double>(read(a, c, y, x)) + second(c, y, x), op.activation);
                });
            case Kind::multiply:
                return each(op.output,
                            [&](int c, int y, int x) { return static_cast<double>(read(a, c, y, x)) * second(c, y, x); });
            case Kind::concat:
                return each(op.output, [&](int c, int y, int x) {
                    for (const int v : op.inputs) {
                        if (c < shape(v).channels) return read(v, c, y, x);
                        c -= shape(v).channels;
                    }
                    return 0.0f;
                });
            case Kind::slice:
                return each(op.output, [&](int c, int y, int x) {
                    const int from = c + op.begin;
                    return from >= 0 && from < shape(a).channels ? read(a, from, y, x) : 0.0f;
                });
            case Kind::mask:
                return each(op.output, [&](int c, int y, int x) {
                    const bool open = op.gate_is_spatial ? tile(op.gate, shape(op.output), y, x) : channel(op.gate, c);
                    return open ? read(a, c, y, x) : 0.0f;
                });
            case Kind::pick:
                return each(op.output, [&](int c, int y, int x) { return read(a, op.channels[c], y, x); });
            case Kind::complete: return complete(op);
            case Kind::decide: return decide(op);
        }
    }
};

}  // namespace

Reference reference(const Program& program, const std::vector<std::vector<float>>& inputs,
                    const std::vector<std::vector<std::uint8_t>>& masks) {
    Executor executor{program, masks, {}};
    executor.result.values.resize(program.values.size());
    executor.result.logits.resize(program.gates.size());
    executor.result.macs.assign(program.layers, 0);
    for (std::size_t i = 0; i < inputs.size(); i++) executor.result.values[program.inputs[i]] = inputs[i];
    for (const Operation& op : program.operations) executor.operation(op);
    return std::move(executor.result);
}

}  // namespace convgate::testing
