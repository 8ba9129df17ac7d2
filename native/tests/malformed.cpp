// Programs that are wrong somewhere: refused, or harmless.
#include <climits>
#include <cmath>

#include "../runtime/network.h"
#include "programs.h"

namespace convgate::testing {
namespace {

class Mutation {
public:
    Mutation(OwnedProgram& owned, Random& random) : owned(owned), program(owned.program), random(random) {}

    void one() {
        if (program.operations.empty()) return;
        const int n = static_cast<int>(program.operations.size());
        switch (random.from(0, 14)) {
            case 0: return number(random.pick<int*>({&value().channels, &value().height, &value().width}));
            case 1:
                if (!program.gates.empty()) number(random.pick<int*>({&gate().units, &gate().rows, &gate().columns, &gate().group}));
                return;
            case 2:
                if (!program.gates.empty()) gate().kind = static_cast<GateKind>(random.from(0, 2));
                return;
            case 3: return number(&random.pick<std::vector<int>*>({&program.inputs, &program.outputs})->front());
            case 4:
                if (n > 1) program.operations.erase(program.operations.begin() + random.from(0, n - 1));
                return;
            case 5: return std::swap(operation(), operation());
            case 6: return one_more();
            case 7: return number(&program.layers);
            case 8:
                if (operation().inputs.empty()) return;
                return number(&operation_with_inputs().inputs.back());
            case 9: return operation().inputs.push_back(random.from(-1, static_cast<int>(program.values.size())));
            case 10: operation().kind = static_cast<Kind>(random.from(0, kind_count - 1)); return;
            case 11: return arrays(operation());
            case 12: {
                std::vector<int>& channels = operation().channels;
                channels.empty() ? channels.push_back(random.from(-1, 3)) : number(&random.pick(channels));
                return;
            }
            default: {
                Operation& op = operation();
                number(
                    random.pick<int*>({&op.output, &op.stride.y, &op.stride.x, &op.dilation.y, &op.dilation.x, &op.kernel.y,
                                       &op.kernel.x, &op.top, &op.left, &op.bottom, &op.right, &op.groups, &op.positions,
                                       &op.in_channels, &op.out_channels, &op.reach.y, &op.reach.x, &op.layer, &op.begin, &op.gate, &op.factor}));
            }
        }
    }

private:
    Value& value() { return program.values[random.from(0, static_cast<int>(program.values.size()) - 1)]; }
    Gate& gate() { return program.gates[random.from(0, static_cast<int>(program.gates.size()) - 1)]; }
    Operation& operation() { return program.operations[random.from(0, static_cast<int>(program.operations.size()) - 1)]; }
    Operation& operation_with_inputs() {
        for (;;)
            if (Operation& op = operation(); !op.inputs.empty()) return op;
    }

    void number(int* n) {
        *n = random.pick({-1, 0, 1, 2, 3, *n / 2, ~*n, 1000, 1 << 20, 1 << 24, INT_MAX, INT_MIN, 0});
        if (random.chance(0.5)) *n = static_cast<int>(static_cast<unsigned>(*n) + random.from(-2, 2));
    }

    void one_more() { program.operations.push_back(Operation(operation())); }

    // Gone, or of another shape; there is memory for it, so that using it is the runtime's right if it accepts it.
    void arrays(Operation& op) {
        Array& array = *random.pick<Array*>({&op.weight, &op.weight, &op.bias, &op.bias, &op.scale, &op.shift, &op.open_scale, &op.open_shift});
        if (random.chance(0.3) || !array.data) {
            array = {};
            return;
        }
        std::vector<std::size_t> shape = array.shape;
        if (random.chance(0.3)) shape.push_back(random.from(0, 2));
        if (!shape.empty()) shape[random.from(0, static_cast<int>(shape.size()) - 1)] = random.from(0, 9);
        array = owned.array(random, shape, 1);
    }

    OwnedProgram& owned;
    Program& program;
    Random& random;
};

// Neither memory nor time that a test should spend: such a program is only checked.
bool affordable(const Program& program) {
    double floats = 0, work = 0, border_y = 0, border_x = 0;
    for (const Operation& op : program.operations) {
        if (op.kind != Kind::conv && op.kind != Kind::pool && op.kind != Kind::complete) continue;
        border_y += op.top + op.bottom + double(op.kernel.y) * op.dilation.y,
            border_x += op.left + op.right + double(op.kernel.x) * op.dilation.x;
        const Value &in = program.values[op.inputs[0]], &out = program.values[op.output];
        work += double(out.positions()) * out.channels * op.kernel.y * op.kernel.x *
                (op.kind == Kind::conv ? in.channels / op.groups : op.kind == Kind::complete ? in.channels : 1);
    }
    for (const Operation& op : program.operations)
        if (op.kind == Kind::conv_transpose) {
            const Value &in = program.values[op.inputs[0]], &out = program.values[op.output];
            border_y += double(op.kernel.y) * op.dilation.y + op.top + out.height, border_x += double(op.kernel.x) * op.dilation.x + op.left + out.width;
            work += double(out.positions()) * op.kernel.y * op.kernel.x * in.channels * out.channels / op.groups;
        }
    for (const Value& v : program.values)
        floats += (v.height + border_y) * (v.width + border_x) * v.channels, work += double(v.positions()) * v.channels;
    for (const Gate& g : program.gates) floats += static_cast<double>(g.size());
    return floats < 2e7 && work < 2e7 && program.layers < 1000000;
}

Operation operation(Kind kind, int input, int output) {
    Operation op{};
    op.kind = kind;
    op.inputs = {input};
    op.output = output;
    return op;
}

void run_once(const Program& program, const char* isa, int threads) {
    Network network(program, *find_kernels(isa), threads);
    std::vector<std::vector<float>> in, out;
    std::vector<const float*> inputs;
    std::vector<float*> outputs;
    const auto size = [&](int v) {
        return static_cast<std::size_t>(program.values[v].positions()) * program.values[v].channels;
    };
    for (const int v : program.inputs) in.emplace_back(2 * size(v), 0.5f);
    for (const int v : program.outputs) out.emplace_back(2 * size(v));
    for (auto& array : in) inputs.push_back(array.data());
    for (auto& array : out) outputs.push_back(array.data());
    network.run(2, inputs, outputs, {}, {});
}

}  // namespace

void test_malformed(Random& random) {
    const auto owned = random_program(random);
    Mutation mutation(*owned, random);
    for (int i = random.from(1, 3); i > 0; i--) mutation.one();
    try {
        check(owned->program);
    } catch (const std::invalid_argument&) {
        return;
    }
    if (!affordable(owned->program)) return;
    std::vector<const char*> names;
    for (const char* const* name = available_kernels(); *name; name++) names.push_back(*name);
    run_once(owned->program, random.pick(names), random.from(1, 3));
}

// Sizes whose products leave the numbers that hold them.

// Borders of one value that are allowed one by one, but not together.
void test_borders(Random& random) {
    OwnedProgram owned;
    Program& p = owned.program;
    p.values = {{1, 1, 1}, {1, 1, 1}, {1, 1, 1}};
    p.inputs = {0};
    p.outputs = {1, 2};
    p.layers = 1;
    for (const bool down : {true, false}) {
        Operation op = operation(Kind::conv, 0, down ? 1 : 2);
        op.weight = owned.array(random, {1, 1, 1, 1}, 1);
        op.layer = 0;
        (down ? op.top : op.left) = 1 << 20;
        p.operations.push_back(op);
    }
    try {
        Network(p, *find_kernels("scalar"), 1);
    } catch (const std::invalid_argument&) {
        return;
    }
    throw Failure("accepted a border of 2^40 positions");
}

void test_long_grids(Random&) {
    for (const bool down : {true, false}) {
        const Value line = down ? Value{1, 70000, 1} : Value{1, 1, 70000};
        Program p;
        p.values = {line, line};
        p.inputs = {0};
        p.outputs = {1};
        p.operations = {operation(Kind::pool_to_grid, 0, 1)};
        run_once(p, "", 1);
    }
}

// More gates than values: a gate's number is none of a value.
void test_many_gates(Random&) {
    const float weight = 1, offset = 0;
    Program p;
    p.values = {{1, 1, 1}, {1, 1, 1}};
    p.gates.assign(4000, {GateKind::channel, 1, 1, 1, 1});
    p.inputs = {0};
    p.outputs = {0};
    p.layers = 1;
    Operation conv = operation(Kind::conv, 0, 1), decide = operation(Kind::decide, 1, 3999);
    conv.weight = {&weight, {1, 1, 1, 1}};
    conv.layer = 0;
    decide.weight = {&offset, {1}};
    p.operations = {conv, decide};
    const Network network(p, *find_kernels(""), 1);
}

// Products whose inputs are so many that their number times another leaves an int.
void test_long_products(Random&) {
    constexpr int ins = 1 << 21, outs = 9;
    const std::vector<float> weights(static_cast<std::size_t>(ins) * outs, 1.0f / ins), input(ins, 2.0f);
    Program p;
    p.values = {{ins, 1, 1}, {outs, 1, 1}};
    p.inputs = {0};
    p.outputs = {1};
    p.layers = 1;
    Operation conv = operation(Kind::conv, 0, 1);
    conv.weight = {weights.data(), {outs, ins, 1, 1}};
    conv.layer = 0;
    p.operations = {conv};
    for (const char* const* name = available_kernels(); *name; name++) {
        float out[outs] = {};
        Network(p, *find_kernels(*name), 1).run(1, {input.data()}, {out}, {}, {});
        for (const float sum : out) require(std::abs(sum - 2) < 1e-2, *name, ": the sum of ", ins, " products is ", sum);
    }
}

// Strides far beyond the kernel: most outputs have no weight, and nothing is kept for each remainder of the stride.
void test_wide_strides(Random&) {
    const float weight = 3;
    Program p;
    p.values = {{1, 2, 2}, {1, 2001, 2001}};
    p.inputs = {0};
    p.outputs = {1};
    p.layers = 1;
    Operation op = operation(Kind::conv_transpose, 0, 1);
    op.weight = {&weight, {1, 1, 1, 1}};
    op.stride = {2000, 2000};
    const float bias = 0.5f;
    op.bias = {&bias, {1}};
    op.layer = 0;
    p.operations = {op};
    const float input[] = {1, 2, 3, 4};
    std::vector<float> out(2001 * 2001);
    Network(p, *find_kernels(""), 2).run(1, {input}, {out.data()}, {}, {});
    for (std::size_t i = 0; i < out.size(); i++) {
        const std::size_t y = i / 2001, x = i % 2001;
        const float expected = 0.5f + (y % 2000 == 0 && x % 2000 == 0 ? 3 * input[2 * (y / 2000) + x / 2000] : 0);
        require(out[i] == expected, "element ", i, " is ", out[i], " instead of ", expected);
    }
}

// Windows that reach past any number may be refused; those of one element may not reach anywhere.
void test_wide_windows(Random&) {
    for (const int kernel : {1, 2, 4096}) {
        Program p;
        p.values = {{4096, 1, 1}, {4096, 1, 1}};
        p.inputs = {0};
        p.outputs = {1};
        Operation op = operation(Kind::pool, 0, 1);
        op.kernel = {kernel, 1};
        op.dilation = {1 << 20, 1 << 20};
        p.operations = {op};
        try {
            check(p);
        } catch (const std::invalid_argument&) {
            continue;
        }
        run_once(p, "", 1);
    }
}

// Programs of very many operations are made ready in time that grows as they do: sums that take over each other's memory,
// the last of which needs a border, and values that live side by side or are not there at all.
void test_long_programs(Random& random) {
    constexpr int n = 50000;
    OwnedProgram owned;
    Program& p = owned.program;
    p.values.assign(3 * n + 3, {1, 1, 1});
    p.inputs = {0};
    p.layers = 1;
    const Array weight = owned.array(random, {1, 1, 1, 1}, 1);
    for (int i = 1; i <= n; i++) {
        Operation op = operation(Kind::conv, 0, i);
        if (i > 1) op.inputs.push_back(i - 1);
        op.weight = weight;
        op.layer = 0;
        p.operations.push_back(op);
    }
    Operation last = operation(Kind::conv, n, n + 1);
    last.weight = owned.array(random, {1, 1, 3, 3}, 1);
    last.kernel = {3, 3};
    last.top = last.left = last.bottom = last.right = 1;
    last.layer = 0;
    p.operations.push_back(last);
    p.outputs = {n + 1};
    for (int i = 0; i < n; i++) {
        p.operations.push_back(operation(Kind::activate, 0, n + 2 + i));
        p.outputs.push_back(n + 2 + i);
    }
    run_once(p, "scalar", 1);
}

}  // namespace convgate::testing
