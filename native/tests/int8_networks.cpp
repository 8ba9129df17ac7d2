// Programs of 8-bit integers on every instruction set and any number of threads: results are those of the scalar kernels,
// which are the definition, to the bit. (What the definition is, tests in Python compare with a reference in NumPy.)
#include <deque>

#include "../runtime/network.h"
#include "testing.h"

namespace convgate::testing {
namespace {

class IntegerProgram {
public:
    explicit IntegerProgram(Random& random) : random(random) {}
    Program program;

    // The same with every value of integers shown, so that each is dense.
    Program all_shown() {
        Program all = program;
        for (int v = static_cast<int>(program.values.size()); v-- > 0;) {
            if (!integral(program.values[v].storage)) continue;
            Value shown = program.values[v];
            shown.storage = Storage::f32;
            all.values.push_back(shown);
            Operation op{};
            op.kind = Kind::dequantize, op.inputs = {v}, op.output = static_cast<int>(all.values.size()) - 1;
            all.operations.push_back(op);
            all.outputs.push_back(op.output);
        }
        return all;
    }

    // A few convolutions one after another, and what else there is for integers between them.
    void build() {
        const bool large = random.chance(0.02);  // more squares of 2x2 than are computed at once
        const int images = large ? value(33, 41, random.from(30, 44), Storage::f32)
                                 : value(random.pick({1, 3, 8, 33, 64, 70, 140}), random.from(1, 11), random.pick({1, 2, 5, 7, 9, 10, 11}), Storage::f32);
        program.inputs.push_back(images);
        int x = unary(Kind::quantize, images, storage());
        // What is not shown may lie without gaps.
        const double share = random.pick({0.0, 0.3, 1.0});
        std::vector<int> shown;
        for (int step = random.from(1, 5); step > 0; step--) {
            if (random.chance(share)) shown.push_back(x);
            if (random.chance(0.3))
                x = conv(carried(conv(x, true, true)), true);
            else if (random.chance(0.2))
                x = in_part(x);
            else
                x = random.chance(0.7) ? conv(x, true) : other(x);
        }
        shown.push_back(x);
        for (const int v : shown) program.outputs.push_back(unary(Kind::dequantize, v, Storage::f32));
        program.outputs.push_back(conv(x, false));
        Operation& mean = add(Kind::pool_to_grid, {x}, value(program.values[x].channels, random.from(1, 3), random.from(1, 3), Storage::f32));
        program.outputs.push_back(mean.output);
    }

private:
    Random& random;
    std::deque<std::vector<float>> floats;
    std::deque<std::vector<std::int8_t>> bytes;
    std::deque<std::vector<std::int32_t>> integers;
    int channels_gate = -1, gated_channels = 0;  // of what was written last

    Storage storage() { return random.pick({Storage::s8, Storage::u8}); }
    int value(int channels, int height, int width, Storage storage) {
        program.values.push_back({channels, height, width, storage, 0.01 + random.from(0, 9) * 0.01});
        return static_cast<int>(program.values.size()) - 1;
    }
    int like(int v, Storage storage) {
        const Value of = program.values[v];
        return value(of.channels, of.height, of.width, storage);
    }
    Operation& add(Kind kind, std::vector<int> inputs, int output) {
        Operation op{};
        op.kind = kind, op.inputs = std::move(inputs), op.output = output;
        program.operations.push_back(op);
        return program.operations.back();
    }
    int unary(Kind kind, int v, Storage storage) { return add(kind, {v}, like(v, storage)).output; }

    Array array_of(std::vector<int> shape, int low, int high) {
        std::size_t n = 1;
        Array array;
        for (const int extent : shape) n *= extent, array.shape.push_back(extent);
        integers.emplace_back();
        for (std::size_t i = 0; i < n; i++) integers.back().push_back(random.from(low, high));
        array.integers = integers.back().data();
        return array;
    }
    Array bytes_of(std::vector<int> shape) {
        Array array = array_of(shape, -127, 127);
        bytes.emplace_back(integers.back().begin(), integers.back().end());
        array.integers = nullptr, array.bytes = bytes.back().data();
        return array;
    }
    Array floats_of(std::vector<int> shape) {
        Array array = array_of(shape, 0, 0);
        floats.push_back(numbers(random, integers.back().size()));
        array.integers = nullptr, array.data = floats.back().data();
        return array;
    }
    void clamp(Operation& op) {
        const bool is_signed = program.values[op.output].is_signed();
        op.low = is_signed ? random.from(-127, 0) : 0, op.high = random.from(1, is_signed ? 127 : 255);
        if (random.chance(0.5)) op.low = is_signed ? -127 : 0, op.high = is_signed ? 127 : 255;
        for (Rescale& rescale : op.rescale) rescale = random.chance(0.5) ? Rescale{1 << 14, 14} : Rescale{random.from(0, (1 << 15) - 1), random.from(1, 46)};
    }

    // Its masks are given.
    int gate(GateKind kind, int units, int rows, int columns, int group) {
        program.gates.push_back({kind, units, rows, columns, group});
        const int logits = value(units, rows, columns, Storage::f32);
        program.inputs.push_back(logits);
        Operation decide{};
        decide.kind = Kind::decide, decide.inputs = {logits}, decide.output = static_cast<int>(program.gates.size()) - 1;
        decide.weight = floats_of({units, rows, columns});
        program.operations.insert(program.operations.begin(), decide);
        return decide.output;
    }
    int channel_gate(int channels) {
        const int group = random.pick({1, 1, 2, 4, 16});
        return gate(GateKind::channel, (channels - 1) / group + 1, 1, 1, group);
    }

    // `is_lone`: with many outputs, closed channels and nothing added; where the next convolution alone reads it, it lies
    // without gaps.
    int conv(int v, bool to_integers, bool is_lone = false) {
        const Value x = program.values[v];
        Operation op{};
        op.kind = Kind::conv;
        op.kernel = random.pick({Pair{1, 1}, Pair{1, 1}, Pair{3, 3}, Pair{3, 3}, Pair{2, 3}});
        op.stride = random.pick({Pair{1, 1}, Pair{1, 1}, Pair{2, 2}}), op.dilation = random.pick({Pair{1, 1}, Pair{1, 1}, Pair{2, 1}});
        op.top = random.from(0, 2), op.left = random.from(0, 2);
        const auto size = [](int n, int before, int kernel, int dilation, int stride) { return (n + 2 * before - dilation * (kernel - 1) - 1) / stride + 1; };
        const auto fits = [&] { return x.height + 2 * op.top > op.dilation.y * (op.kernel.y - 1) && x.width + 2 * op.left > op.dilation.x * (op.kernel.x - 1); };
        if (!fits()) op.kernel = {1, 1};
        op.bottom = op.top, op.right = op.left;
        const bool depthwise = !is_lone && random.chance(0.3);
        const int outs = depthwise ? x.channels : is_lone ? random.pick({64, 65, 130, 200}) : random.pick({1, 5, 16, 17, 48, 64, 65, 130});
        op.groups = depthwise ? x.channels : is_lone ? 1 : x.channels % 2 == 0 && outs % 2 == 0 && random.chance(0.2) ? 2 : 1;
        const int height = size(x.height, op.top, op.kernel.y, op.dilation.y, op.stride.y), width = size(x.width, op.left, op.kernel.x, op.dilation.x, op.stride.x);
        op.inputs = {v};
        op.weight = bytes_of({outs, x.channels / op.groups, op.kernel.y, op.kernel.x});
        if (random.chance(0.7)) op.bias = array_of({outs}, -4000, 4000);
        op.layer = program.layers++;
        if (channels_gate >= 0 && gated_channels == x.channels && random.chance(0.8)) op.in_channels = channels_gate;
        if (random.chance(0.4)) {
            op.positions = gate(GateKind::spatial, 1, random.from(1, height), random.from(1, width), 1);
            if (random.chance(0.4)) op.reach = {random.from(0, 2), random.from(0, 2)};
        }
        if (is_lone || random.chance(0.4)) op.out_channels = depthwise && op.in_channels >= 0 ? op.in_channels : channel_gate(outs);
        op.output = value(outs, height, width, to_integers ? storage() : Storage::f32);
        channels_gate = op.out_channels, gated_channels = outs;
        if (!to_integers) {
            op.scale = floats_of({outs});
        } else {
            op.multiplier = array_of({outs}, 0, (1 << 15) - 1);
            op.shifts = random.chance(0.3) ? array_of({outs}, 1, 46) : array_of({outs}, 17, 26);
            clamp(op);
            if (!is_lone && random.chance(0.4)) op.inputs.push_back(drawn(outs, height, width));
        }
        program.operations.push_back(op);
        return op.output;
    }

    // What may leave closed channels out: nothing, a table, most of which keep zeros, or factors for each channel, in floats.
    int carried(int v) {
        if (random.chance(0.3)) return v;
        if (random.chance(0.4)) {
            const int out = unary(Kind::lookup, v, storage());
            program.operations.back().weight = bytes_of({256});
            for (std::int8_t& entry : bytes.back())
                if (program.values[out].storage == Storage::u8) entry = static_cast<std::int8_t>(entry & 127);
            if (random.chance(0.8)) bytes.back()[program.values[v].is_signed() ? 128 : 0] = 0;
            if (random.chance(0.5)) program.outputs.push_back(add(Kind::pool_to_grid, {out}, value(program.values[v].channels, 1, 1, Storage::f32)).output);
            return out;
        }
        const Value x = program.values[v];
        const int factors = value(x.channels, 1, 1, Storage::f32);
        if (random.chance(0.5)) add(Kind::pool_to_grid, {v}, factors);
        else program.inputs.push_back(factors);
        const int floats = unary(Kind::dequantize, v, Storage::f32), product = like(v, Storage::f32);
        random.chance(0.5) ? add(Kind::multiply, {floats, factors}, product) : add(Kind::multiply, {factors, floats}, product);
        return unary(Kind::quantize, product, storage());
    }

    // A convolution in part: sums, decisions on them, and what is added where these are open.
    int in_part(int v) {
        const Value x = program.values[v];
        channels_gate = -1;
        Operation op{};
        op.kind = Kind::complete;
        do op.groups = random.pick({1, 1, 2, 4, 7});
        while (x.channels % op.groups);
        op.kernel = random.pick({Pair{1, 1}, Pair{3, 3}, Pair{3, 3}, Pair{2, 3}});
        op.stride = random.pick({Pair{1, 1}, Pair{1, 1}, Pair{2, 2}});
        op.top = (op.kernel.y - 1) / 2, op.bottom = op.kernel.y - 1 - op.top;
        op.left = (op.kernel.x - 1) / 2, op.right = op.kernel.x - 1 - op.left;
        const int outs = op.groups * random.pick({1, 3, 8, 17, 40}), own = x.channels / op.groups;
        const int height = (x.height - 1) / op.stride.y + 1, width = (x.width - 1) / op.stride.x + 1;

        Operation base{};
        base.kind = Kind::conv, base.inputs = {v}, base.stride = op.stride, base.groups = op.groups;
        base.weight = bytes_of({outs, own, 1, 1});
        if (random.chance(0.5)) base.bias = array_of({outs}, -4000, 4000);
        base.layer = program.layers++, base.output = value(outs, height, width, Storage::s32);
        program.operations.push_back(base);

        const int group = random.pick({1, 1, 2, 8, 16}), units = (outs - 1) / group + 1;
        program.gates.push_back({GateKind::activation, units, height, width, group});
        Operation decide{};
        decide.kind = Kind::decide, decide.inputs = {base.output}, decide.output = static_cast<int>(program.gates.size()) - 1;
        decide.weight = array_of({units}, -20000, 20000), decide.scale = floats_of({units}), decide.strict = random.chance(0.3);
        program.operations.push_back(decide);

        op.inputs = {v, base.output}, op.gate = decide.output, op.layer = random.chance(0.5) ? base.layer : program.layers++;
        op.weight = bytes_of({outs, op.groups > 1 ? x.channels - own : own, op.kernel.y, op.kernel.x});
        for (Array* a : {&op.bias, &op.open_bias}) *a = array_of({outs}, -4000, 4000);
        for (Array* a : {&op.multiplier, &op.open_multiplier}) *a = array_of({outs}, 1 - (1 << 15), (1 << 15) - 1);
        for (Array* a : {&op.shifts, &op.open_shifts}) *a = array_of({outs}, 17, 26);
        op.output = value(outs, height, width, storage());
        clamp(op);
        if (random.chance(0.4)) op.inputs.push_back(drawn(outs, height, width));
        program.operations.push_back(op);
        return op.output;
    }

    // An input of the program, in integers.
    int drawn(int channels, int height, int width) {
        program.inputs.push_back(value(channels, height, width, Storage::f32));
        return unary(Kind::quantize, program.inputs.back(), storage());
    }

    int other(int v) {
        const Value x = program.values[v];
        channels_gate = -1;
        switch (random.from(0, 3)) {
            case 0: {
                const int out = unary(Kind::lookup, v, storage());
                program.operations.back().weight = bytes_of({256});
                for (std::int8_t& entry : bytes.back())
                    if (program.values[out].storage == Storage::u8) entry = static_cast<std::int8_t>(entry & 127);
                return out;
            }
            case 1: {
                Operation& op = add(Kind::add, {v, v}, like(v, storage()));
                clamp(op);
                return op.output;
            }
            case 2: {
                Operation& op = add(Kind::pool, {v}, value(x.channels, (x.height - 1) / 2 + 1, (x.width - 1) / 2 + 1, x.storage));
                op.kernel = {3, 3}, op.stride = {2, 2}, op.dilation = {1, 1}, op.top = op.left = op.bottom = op.right = 1, op.maximum = true;
                program.values[op.output].scale = x.scale;
                return op.output;
            }
            default: {
                Operation& op = add(Kind::slice, {v}, value(x.channels + random.from(0, 3), x.height, x.width, x.storage));
                op.begin = -random.from(0, 3);
                return op.output;
            }
        }
    }
};

struct Found {
    std::vector<std::vector<float>> outputs;
    std::vector<std::int64_t> macs;
    bool operator==(const Found&) const = default;
};

template <typename Table>
Found run(const Program& program, const Table& table, int threads, int batch, const std::vector<std::vector<float>>& inputs,
          const std::vector<std::vector<std::uint8_t>>& masks) {
    Found found;
    std::vector<const float*> from;
    std::vector<float*> to;
    std::vector<const std::uint8_t*> given;
    for (const auto& input : inputs) from.push_back(input.data());
    for (const int v : program.outputs)
        found.outputs.emplace_back(static_cast<std::size_t>(batch) * program.values[v].positions() * program.values[v].channels);
    for (auto& output : found.outputs) to.push_back(output.data());
    for (const auto& mask : masks) given.push_back(mask.empty() ? nullptr : mask.data());
    found.macs.resize(static_cast<std::size_t>(batch) * program.layers);
    Details details;
    details.macs = found.macs.data();
    Network network(program, table, threads);
    network.run(batch, from, to, given, details);
    network.run(batch, from, to, given, details);  // memory is used again
    return found;
}

}  // namespace

void test_int8_networks(Random& random) {
    IntegerProgram drawn(random);
    drawn.build();
    const Program& program = drawn.program;
    const int batch = random.from(1, 3);
    std::vector<std::vector<float>> inputs;
    std::vector<std::vector<std::uint8_t>> masks;
    for (const int v : program.inputs) inputs.push_back(numbers(random, static_cast<std::size_t>(batch) * program.values[v].positions() * program.values[v].channels));
    for (auto& input : inputs)
        for (float& x : input) x *= 3;
    for (const Gate& gate : program.gates) {
        const double open = random.pick({0.0, 0.3, 0.7, 1.0});
        masks.emplace_back();
        if (gate.by_activation() && random.chance(0.5)) continue;  // it decides
        for (std::size_t i = 0; i < batch * gate.size(); i++) masks.back().push_back(random.chance(open));
    }
    const Found wanted = run(program, *find_int8_kernels("scalar"), 1, batch, inputs, masks);
    const Found shown = run(drawn.all_shown(), *find_int8_kernels("scalar"), 1, batch, inputs, masks);
    for (std::size_t i = 0; i < wanted.outputs.size(); i++)
        require(shown.outputs[i] == wanted.outputs[i], "output ", i, " differs when all values are dense");
    for (const char* const* name = available_int8_kernels(); *name; name++) {
        const int threads = random.from(1, 3);
        const Found found = run(program, *find_int8_kernels(*name), threads, batch, inputs, masks);
        require(found.macs == wanted.macs, *name, ": other MACs are executed than by the scalar kernels");
        for (std::size_t i = 0; i < wanted.outputs.size(); i++)
            for (std::size_t j = 0; j < wanted.outputs[i].size(); j++)
                require(found.outputs[i][j] == wanted.outputs[i][j], *name, ", ", threads, " thread(s), output ", i, ", element ", j, ": ", found.outputs[i][j], ", not ", wanted.outputs[i][j]);
    }
}

// What is wrong about integers is refused.
void test_malformed_int8(Random& random) {
    IntegerProgram drawn(random);
    drawn.build();
    Program& program = drawn.program;
    check(program);
    for (int i = random.from(1, 3); i > 0; i--) {
        Operation& op = random.pick(program.operations);
        switch (random.from(0, 7)) {
            case 0: random.pick(program.values).storage = random.pick({Storage::f32, Storage::bf16, Storage::s8, Storage::u8}); break;
            case 1: op.kind = static_cast<Kind>(random.from(0, kind_count - 1)); break;
            case 2: op.rescale[random.from(0, 1)] = {random.from(-2, 40000), random.from(-1, 60)}; break;
            case 3: (random.chance(0.5) ? op.low : op.high) = random.from(-400, 400); break;
            case 4: *random.pick<Array*>({&op.weight, &op.bias, &op.multiplier, &op.shifts, &op.scale}) = {}; break;
            case 5: std::swap(*random.pick<Array*>({&op.weight, &op.bias, &op.multiplier}), *random.pick<Array*>({&op.shifts, &op.scale})); break;
            case 6: op.maximum = !op.maximum; break;
            default: random.pick(program.values).scale = random.pick({0.0, -1.0, 1e300, 0.5});
        }
    }
    try {
        std::vector<std::vector<float>> inputs;
        for (const int v : program.inputs) inputs.push_back(numbers(random, static_cast<std::size_t>(program.values[v].positions()) * program.values[v].channels));
        std::vector<std::vector<std::uint8_t>> masks;
        for (const Gate& gate : program.gates) masks.emplace_back(gate.size(), 1);
        run(program, *find_int8_kernels(""), 1, 1, inputs, masks);
    } catch (const std::invalid_argument&) {
    }
}

}  // namespace convgate::testing
