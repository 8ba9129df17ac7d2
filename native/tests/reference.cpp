#include <algorithm>
#include <cmath>

#include "../kernels/bf16_numbers.h"
#include "programs.h"

namespace convgate::testing {
namespace {

double activated(double x, const Function& f) {
    const Activation activation = f.kind;
    const auto clipped = [](double x) { return std::clamp(x, 0.0, 6.0); };
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return std::max(x, 0.0);
        case Activation::relu6: return clipped(x);
        case Activation::hardswish: return x * clipped(x + 3) / 6;
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::sigmoid: return 1 / (1 + std::exp(-x));
        case Activation::hardsigmoid: return clipped(x + 3) / 6;
        case Activation::leaky_relu: return x > 0 ? x : f.a * x;
        case Activation::elu: return x > 0 ? f.b * x : double{f.a} * f.b * std::expm1(double{f.c} * x);
        case Activation::gelu: return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
        case Activation::gelu_tanh: return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case Activation::mish: return x * std::tanh(x > 30 ? x : std::log1p(std::exp(x)));
        case Activation::tanh: return std::tanh(x);
        case Activation::softplus: return x * f.a > f.b ? x : std::log1p(std::exp(x * f.a)) / f.a;
        case Activation::clamp: return std::min(std::max<double>(x, f.a), double{f.b});
    }
    return x;
}

struct Executor {
    const Program& program;
    const std::vector<std::vector<std::uint8_t>>& masks;
    const std::vector<std::vector<float>>* known;  // what operations read instead of what came before, if it is not empty; or null
    Reference result;
    const Operation* current = nullptr;
    Form form{};  // of the current operation

    const Value& shape(int v) const { return program.values[v]; }
    static std::size_t at(const Value& v, int c, int y, int x) {
        return (static_cast<std::size_t>(c) * v.height + y) * v.width + x;
    }
    static float stored(float x, Storage as) { return as == Storage::bf16 ? widened(rounded(x)) : x; }
    const std::vector<float>& read(int v) const { return known && !(*known)[v].empty() ? (*known)[v] : result.values[v]; }
    float read(int v, int c, int y, int x) const {
        const float value = read(v)[at(shape(v), c, y, x)];
        const bool added = current->kind == Kind::conv && v != current->inputs[0];
        return stored(value, added ? form.out : form.in);
    }

    // Whether a position is open, or one within the operation's reach.
    bool tile(int gate, const Value& v, int y, int x) const {
        if (gate < 0) return true;
        const Gate& g = program.gates[gate];
        const Pair reach = current->reach;
        for (int j = std::max(y - reach.y, 0); j <= std::min(y + reach.y, v.height - 1); j++)
            for (int i = std::max(x - reach.x, 0); i <= std::min(x + reach.x, v.width - 1); i++)
                if (masks[gate][j * g.rows / v.height * g.columns + i * g.columns / v.width]) return true;
        return false;
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
                for (int x = 0; x < value.width; x++) to[at(value, c, y, x)] = stored(static_cast<float>(f(c, y, x)), value.storage);
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
        // Weights that are stored as float32 are rounded, but for those of channels that are convolved each by itself.
        const bool alone = op.groups > 1 && ins == 1 && outs == 1 && (op.in_channels < 0 || op.in_channels == op.out_channels);
        const Storage read_as = alone ? Storage::f32 : form.in;
        std::vector<float> weights(op.weight.size());
        for (std::size_t i = 0; i < weights.size(); i++)
            weights[i] = op.weight.halves ? widened(op.weight.halves[i]) : stored(op.weight.data[i], read_as);
        std::vector<float> maps(static_cast<std::size_t>(in.channels) * in.positions());
        for (int c = 0; c < in.channels; c++)
            for (int y = 0; y < in.height; y++)
                for (int x = 0; x < in.width; x++) maps[at(in, c, y, x)] = read(op.inputs[0], c, y, x);
        each(op.output, [&](int o, int y, int x) {
            double sum = 0;
            if (tile(op.positions, out, y, x) && channel(op.out_channels, o)) {
                sum = op.bias.data ? op.bias.data[o] : 0;
                const float* w = weights.data() + static_cast<std::size_t>(o) * ins * op.kernel.y * op.kernel.x;
                for (int i = 0; i < ins; i++) {
                    const float* map = maps.data() + at(in, o / outs * ins + i, 0, 0);
                    for (int ky = 0; ky < op.kernel.y; ky++, w += op.kernel.x) {
                        const int iy = y * op.stride.y - op.top + ky * op.dilation.y;
                        if (iy < 0 || iy >= in.height) continue;
                        for (int kx = 0; kx < op.kernel.x; kx++) {
                            const int ix = x * op.stride.x - op.left + kx * op.dilation.x;
                            if (ix >= 0 && ix < in.width) sum += static_cast<double>(w[kx]) * map[iy * in.width + ix];
                        }
                    }
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
            logits = read(op.inputs[0]);
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
            double sum = 0, most = -INFINITY;
            int n = 0;
            for (int iy = begin(y, in.height, out.height); iy < end(y, in.height, out.height); iy++)
                for (int ix = begin(x, in.width, out.width); ix < end(x, in.width, out.width); ix++, n++)
                    sum += read(op.inputs[0], c, iy, ix), most = std::max<double>(most, read(op.inputs[0], c, iy, ix));
            return op.maximum ? most : sum / n;
        });
    }

    static float coordinate(const Operation& op, int i, int in, int out, double scale) {
        const float ratio = scale > 0 ? static_cast<float>(1 / scale) : static_cast<float>(in) / static_cast<float>(out);
        if (op.interpolation == Interpolation::nearest) return std::min(std::floor(i * ratio), in - 1.0f);
        if (op.interpolation == Interpolation::nearest_exact) return std::min(std::floor((i + 0.5f) * ratio), in - 1.0f);
        if (op.align_corners) return out > 1 ? i * (static_cast<float>(in - 1) / static_cast<float>(out - 1)) : 0;
        return std::clamp((i + 0.5f) * ratio - 0.5f, 0.0f, in - 1.0f);
    }

    void interpolate(const Operation& op) {
        const Value &in = shape(op.inputs[0]), &out = shape(op.output);
        each(op.output, [&](int c, int y, int x) {
            const float at_y = coordinate(op, y, in.height, out.height, op.scale_y),
                        at_x = coordinate(op, x, in.width, out.width, op.scale_x);
            const int y0 = static_cast<int>(at_y), x0 = static_cast<int>(at_x);
            const int y1 = std::min(y0 + 1, in.height - 1), x1 = std::min(x0 + 1, in.width - 1);
            const double below = at_y - y0, right = at_x - x0;
            const int v = op.inputs[0];
            return (1 - below) * ((1 - right) * read(v, c, y0, x0) + right * read(v, c, y0, x1)) +
                   below * ((1 - right) * read(v, c, y1, x0) + right * read(v, c, y1, x1));
        });
    }

    void transposed(const Operation& op) {
        const Value &in = shape(op.inputs[0]), &out = shape(op.output);
        const int ins = in.channels / op.groups, outs = out.channels / op.groups;
        result.macs[op.layer] += static_cast<long long>(in.positions()) * in.channels * outs * op.kernel.y * op.kernel.x;
        each(op.output, [&](int o, int y, int x) {
            double sum = op.bias.data ? op.bias.data[o] : 0;
            for (int i = o / outs * ins; i < (o / outs + 1) * ins; i++)
                for (int ky = 0; ky < op.kernel.y; ky++)
                    for (int kx = 0; kx < op.kernel.x; kx++) {
                        const int fy = y + op.top - ky * op.dilation.y, fx = x + op.left - kx * op.dilation.x;
                        if (fy < 0 || fx < 0 || fy % op.stride.y || fx % op.stride.x) continue;
                        if (fy / op.stride.y >= in.height || fx / op.stride.x >= in.width) continue;
                        const std::size_t w = (static_cast<std::size_t>(i) * outs + o % outs) * op.kernel.y * op.kernel.x;
                        sum += static_cast<double>(op.weight.data[w + ky * op.kernel.x + kx]) *
                               read(op.inputs[0], i, fy / op.stride.y, fx / op.stride.x);
                    }
            return activated(sum, op.activation);
        });
    }

    static int inside(PaddingMode mode, int at, int size) {
        if (mode == PaddingMode::replicate) return std::clamp(at, 0, size - 1);
        if (mode == PaddingMode::circular) return (at + size) % size;
        if (mode == PaddingMode::reflect) return at < 0 ? -at : at >= size ? 2 * size - 2 - at : at;
        return at >= 0 && at < size ? at : -1;
    }
    void pad(const Operation& op) {
        const Value& in = shape(op.inputs[0]);
        each(op.output, [&](int c, int y, int x) {
            const int iy = inside(op.padding_mode, y - op.top, in.height), ix = inside(op.padding_mode, x - op.left, in.width);
            return iy < 0 || ix < 0 ? op.fill : read(op.inputs[0], c, iy, ix);
        });
    }

    void norm(const Operation& op, int groups, bool over_positions) {
        const Value& in = shape(op.inputs[0]);
        const int size = in.channels / groups;
        double sum = 0, squares = 0, n = 0;
        int known = -1;  // the group whose sums these are
        each(op.output, [&](int c, int y, int x) {
            const auto all = [&](auto f) {
                for (int i = c / size * size; i < (c / size + 1) * size; i++)
                    for (int iy = over_positions ? 0 : y; iy < (over_positions ? in.height : y + 1); iy++)
                        for (int ix = over_positions ? 0 : x; ix < (over_positions ? in.width : x + 1); ix++)
                            f(read(op.inputs[0], i, iy, ix));
            };
            if (!over_positions || known != c / size) {
                sum = squares = n = 0;
                all([&](double value) { sum += value, n++; });
                all([&](double value) { squares += (value - sum / n) * (value - sum / n); });
                known = c / size;
            }
            const double y_ = (read(op.inputs[0], c, y, x) - sum / n) / std::sqrt(squares / n + op.epsilon);
            return normed(y_, op.weight, op.bias, c);
        });
    }

    void operation(const Operation& op) {
        current = &op;
        form = form_of(program, op);
        const int a = op.inputs.empty() ? 0 : op.inputs[0], b = op.inputs.size() > 1 ? op.inputs[1] : a;
        const auto spread = [&](int v, int c, int y, int x) {
            const Value& from = shape(v);
            return read(v, from.channels == 1 ? 0 : c, from.height == 1 ? 0 : y, from.width == 1 ? 0 : x);
        };
        const auto first = [&](int c, int y, int x) { return spread(a, c, y, x); };
        const auto second = [&](int c, int y, int x) { return spread(b, c, y, x); };
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
                    return activated(static_cast<double>(first(c, y, x)) + second(c, y, x), op.activation);
                });
            case Kind::multiply:
                return each(op.output,
                            [&](int c, int y, int x) { return static_cast<double>(first(c, y, x)) * second(c, y, x); });
            case Kind::arithmetic:
                return each(op.output, [&](int c, int y, int x) {
                    const float p = first(c, y, x), q = second(c, y, x);
                    if (op.arithmetic == Arithmetic::divide) return p / q;
                    return op.arithmetic == Arithmetic::maximum ? std::max(p, q) : std::min(p, q);
                });
            case Kind::prelu:
                return each(op.output, [&](int c, int y, int x) {
                    const float value = read(a, c, y, x);
                    return value > 0 ? value : value * op.weight.data[c];
                });
            case Kind::constant:
                return each(op.output, [&](int c, int y, int x) { return op.weight.data[at(shape(op.output), c, y, x)]; });
            case Kind::interpolate: return interpolate(op);
            case Kind::conv_transpose: return transposed(op);
            case Kind::pad: return pad(op);
            case Kind::pixel_shuffle:
                return each(op.output, [&](int c, int y, int x) {
                    const int f = op.factor;
                    return read(a, c * f * f + y % f * f + x % f, y / f, x / f);
                });
            case Kind::pixel_unshuffle:
                return each(op.output, [&](int c, int y, int x) {
                    const int f = op.factor, part = c % (f * f);
                    return read(a, c / (f * f), y * f + part / f, x * f + part % f);
                });
            case Kind::reshape:
                result.values[op.output] = read(a);
                for (float& x : result.values[op.output]) x = stored(x, shape(op.output).storage);
                return;
            case Kind::group_norm: return norm(op, op.groups, true);
            case Kind::layer_norm: return norm(op, 1, false);
            case Kind::softmax:
                return each(op.output, [&](int c, int y, int x) {
                    double most = -INFINITY, sum = 0;
                    for (int i = 0; i < shape(a).channels; i++) most = std::max<double>(most, read(a, i, y, x));
                    for (int i = 0; i < shape(a).channels; i++) sum += std::exp(read(a, i, y, x) - most);
                    return std::exp(read(a, c, y, x) - most) / sum;
                });
            case Kind::over_channels:
                return each(op.output, [&](int, int y, int x) {
                    double most = -INFINITY, sum = 0;
                    for (int i = 0; i < shape(a).channels; i++)
                        most = std::max<double>(most, read(a, i, y, x)), sum += read(a, i, y, x);
                    return op.maximum ? most : sum / shape(a).channels;
                });
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
            case Kind::fill_closed:
                return each(op.output, [&](int c, int y, int x) {
                    const Value &map = shape(op.output), &cells = shape(op.inputs[1]);
                    if (tile(op.gate, map, y, x)) return read(a, c, y, x);
                    return read(a, c, y, x) + read(op.inputs[1], c, y * cells.height / map.height, x * cells.width / map.width);
                });
            case Kind::pick:
                return each(op.output, [&](int c, int y, int x) { return read(a, op.channels[c], y, x); });
            case Kind::complete: return complete(op);
            case Kind::decide: return decide(op);
            case Kind::quantize:
            case Kind::dequantize:
            case Kind::lookup: throw Failure("8-bit integers, which int8_networks.cpp compares by itself");
        }
    }
};

}  // namespace

Reference reference(const Program& program, const std::vector<std::vector<float>>& inputs,
                    const std::vector<std::vector<std::uint8_t>>& masks, const std::vector<std::vector<float>>* known) {
    Executor executor{program, masks, known, {}};
    executor.result.values.resize(program.values.size());
    executor.result.logits.resize(program.gates.size());
    executor.result.macs.assign(program.layers, 0);
    for (std::size_t i = 0; i < inputs.size(); i++) {
        const int v = program.inputs[i];
        executor.result.values[v] = inputs[i];
        for (float& x : executor.result.values[v]) x = Executor::stored(x, program.values[v].storage);
    }
    for (const Operation& op : program.operations) executor.operation(op);
    return std::move(executor.result);
}

}  // namespace convgate::testing
