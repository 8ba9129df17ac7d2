// Whole programs on every instruction set against the naive executor: outputs, logits, decisions and executed MACs.
#include <algorithm>
#include <cmath>
#include <thread>

#include "../runtime/network.h"
#include "programs.h"

namespace convgate::testing {
namespace {

struct Batch {
    int size;
    std::vector<std::vector<float>> inputs;        // per input of the program
    std::vector<std::vector<std::uint8_t>> given;  // per gate, or empty
};

struct Results {
    std::vector<std::vector<float>> outputs, logits;
    std::vector<std::vector<std::uint8_t>> masks;
    std::vector<std::int64_t> macs;
};

std::size_t elements(const Value& value) { return static_cast<std::size_t>(value.positions()) * value.channels; }

Batch random_batch(Random& random, const Program& program, int size, float scale) {
    Batch batch{size, {}, {}};
    for (const int v : program.inputs) {
        batch.inputs.push_back(numbers(random, size * elements(program.values[v])));
        for (float& x : batch.inputs.back()) x *= scale;
    }
    for (const Gate& gate : program.gates) {
        batch.given.emplace_back();
        if (random.chance(0.3)) continue;
        const double open = random.pick({0.0, 0.2, 0.5, 0.8, 0.95, 1.0});
        for (int i = 0; i < size * static_cast<int>(gate.size()); i++) batch.given.back().push_back(random.chance(open));
    }
    return batch;
}

Results run(Network& network, const Program& program, const Batch& batch) {
    Results results;
    std::vector<const float*> inputs;
    std::vector<float*> outputs;
    std::vector<const std::uint8_t*> given;
    Details details;
    for (const auto& input : batch.inputs) inputs.push_back(input.data());
    for (const int v : program.outputs) results.outputs.emplace_back(batch.size * elements(program.values[v]), NAN);
    for (auto& output : results.outputs) outputs.push_back(output.data());
    for (const auto& mask : batch.given) given.push_back(mask.empty() ? nullptr : mask.data());
    for (const Gate& gate : program.gates) {
        results.masks.emplace_back(batch.size * gate.size(), 2);
        results.logits.emplace_back(batch.size * gate.size(), NAN);
    }
    for (auto& mask : results.masks) details.masks.push_back(mask.data());
    for (auto& logits : results.logits) details.logits.push_back(logits.data());
    results.macs.assign(batch.size * program.layers, -1);
    std::vector<double> seconds(batch.size * program.operations.size());
    details.macs = results.macs.data();
    details.seconds = batch.size % 2 ? seconds.data() : nullptr;
    std::vector<double> total(batch.size);
    details.total = total.data();
    network.run(batch.size, inputs, outputs, given, details);
    return results;
}

template <typename T>
std::vector<T> part(const std::vector<T>& of, int sample, int samples) {
    const std::size_t n = of.size() / samples;
    return {of.begin() + sample * n, of.begin() + (sample + 1) * n};
}

void close(const std::vector<float>& found, const std::vector<float>& expected, const std::string& what) {
    float largest = 1;
    for (const float x : expected) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < expected.size(); i++)
        require(std::abs(found[i] - expected[i]) <= 2e-5f * largest, what, ": element ", i, " of ", expected.size(), " is ",
                found[i], ", expected ", expected[i]);
}

std::vector<Reference> references(const Program& program, const Batch& batch,
                                  const std::vector<std::vector<std::uint8_t>>& masks) {
    std::vector<Reference> all;
    for (int sample = 0; sample < batch.size; sample++) {
        std::vector<std::vector<float>> inputs;
        std::vector<std::vector<std::uint8_t>> decided;
        for (const auto& input : batch.inputs) inputs.push_back(part(input, sample, batch.size));
        for (const auto& mask : masks) decided.push_back(part(mask, sample, batch.size));
        all.push_back(reference(program, inputs, decided));
    }
    return all;
}

bool decided(const Program& program, std::size_t gate, float logit) {
    for (const Operation& op : program.operations)
        if (op.kind == Kind::decide && op.output == static_cast<int>(gate)) return op.strict ? logit > 0 : logit >= 0;
    return false;
}

void compare(const Program& program, const Batch& batch, const Results& results, const std::vector<Reference>& expected,
             const std::string& where) {
    for (int sample = 0; sample < batch.size; sample++) {
        const Reference& reference = expected[sample];
        const std::string at = where + ", sample " + std::to_string(sample) + " of " + std::to_string(batch.size);
        for (std::size_t l = 0; l < reference.macs.size(); l++) {
            const std::int64_t macs = results.macs[sample * program.layers + l];
            require(macs == reference.macs[l], at, ": layer ", l, " executed ", macs, " MACs, expected ",
                    reference.macs[l]);
        }
        for (std::size_t g = 0; g < program.gates.size(); g++) {
            const auto logits = part(results.logits[g], sample, batch.size);
            const auto mask = part(results.masks[g], sample, batch.size);
            const auto given = batch.given[g].empty() ? batch.given[g] : part(batch.given[g], sample, batch.size);
            close(logits, reference.logits[g], at + ", logits of gate " + std::to_string(g));
            for (std::size_t i = 0; i < mask.size(); i++)
                require(mask[i] == (given.empty() ? decided(program, g, logits[i]) : given[i]),
                        at, ": unit ", i, " of gate ", g, " is ", int{mask[i]}, " for a logit of ", logits[i]);
        }
        for (std::size_t o = 0; o < program.outputs.size(); o++)
            close(part(results.outputs[o], sample, batch.size), reference.values[program.outputs[o]],
                  at + ", value " + std::to_string(program.outputs[o]));
    }
}

// One line per operation, for a failure's message.
std::string describe(const Program& program) {
    static const char* const kinds[] = {"conv",     "pool",   "pool_to_grid", "activate", "affine", "add",
                                        "multiply", "concat", "slice",        "decide",   "mask",   "complete", "pick",
                                        "prelu",    "arithmetic", "constant", "interpolate",
                                        "conv_transpose", "pad", "pixel_shuffle", "pixel_unshuffle", "reshape",
                                        "group_norm", "layer_norm", "softmax", "over_channels", "quantize", "dequantize", "lookup", "fill_closed"};
    static_assert(std::size(kinds) == kind_count);
    std::ostringstream out;
    for (const Operation& op : program.operations) {
        out << "\n  " << kinds[static_cast<int>(op.kind)];
        for (const int v : op.inputs)
            out << ' ' << v << '[' << program.values[v].channels << ' ' << program.values[v].height << 'x'
                << program.values[v].width << ']';
        out << " -> " << op.output;
        if (op.kind != Kind::decide)
            out << '[' << program.values[op.output].channels << ' ' << program.values[op.output].height << 'x'
                << program.values[op.output].width << ']';
        out << " act " << static_cast<int>(op.activation.kind);
        if (op.kind == Kind::conv || op.kind == Kind::pool || op.kind == Kind::complete || op.kind == Kind::conv_transpose)
            out << " kernel " << op.kernel.y << 'x' << op.kernel.x << " stride " << op.stride.y << 'x' << op.stride.x
                << " dilation " << op.dilation.y << 'x' << op.dilation.x << " padding " << op.top << ' ' << op.left << ' '
                << op.bottom << ' ' << op.right;
        if (op.kind == Kind::conv || op.kind == Kind::conv_transpose)
            out << " groups " << op.groups << " gates " << op.positions << ' ' << op.in_channels << ' ' << op.out_channels
                << " layer " << op.layer;
        if (op.kind == Kind::mask || op.kind == Kind::fill_closed) out << " gate " << op.gate;
        if (op.kind == Kind::mask || op.kind == Kind::conv) out << " reach " << op.reach.y << 'x' << op.reach.x;
        if (op.kind == Kind::complete) out << " parts " << op.groups << " gate " << op.gate << " layer " << op.layer;
        if (op.kind == Kind::decide) out << (op.strict ? " strict" : "");
    }
    out << "\n  gates";
    static const char* const gates[] = {" spatial ", " channel ", " activation "};
    for (const Gate& gate : program.gates)
        out << gates[static_cast<int>(gate.kind)] << gate.units << 'x' << gate.rows << 'x' << gate.columns << " group "
            << gate.group << ';';
    return out.str();
}

void test_program(Random& random, const Program& program, int most_images = 5) {
    const int threads = random.from(1, 4);
    const Batch batch = random_batch(random, program, random.from(1, most_images), 1);
    // What an earlier call leaves in memory must not matter: these overflow, so that whoever reads them is found out.
    const Batch before = random_batch(random, program, threads, 1e30f);
    for (const char* const* name = available_kernels(); *name; name++) {
        const std::string where = std::string(*name) + " on " + std::to_string(threads) + " threads";
        try {
            Network network(program, *find_kernels(*name), threads);
            run(network, program, before);
            const Results results = run(network, program, batch);
            compare(program, batch, results, references(program, batch, results.masks), where);
            const Results again = run(network, program, batch);
            require(again.outputs == results.outputs && again.macs == results.macs && again.masks == results.masks, where,
                    ": a second call differs");
        } catch (const std::exception& error) {
            throw Failure(where + ": " + error.what() + describe(program));
        }
    }
}

// From one number of 8 bits of mantissa to the next.
float unit(float x) { return std::ldexp(1.0f, std::max(std::ilogb(x == 0 ? 1e-30f : x), -100) - 7); }

// Each operation against the definition, from what the network itself computed before: equal but for one unit in the last
// place of what is rounded, and for float32's error of sums; and a part of the largest number where what an operation read is not
// seen, which may have been rounded to the other side.
void close_by_operation(const Program& program, const Batch& batch, const Results& results, const std::string& where) {
    for (int sample = 0; sample < batch.size; sample++) {
        std::vector<std::vector<float>> inputs, known(program.values.size());
        std::vector<std::vector<std::uint8_t>> masks;
        for (const auto& input : batch.inputs) inputs.push_back(part(input, sample, batch.size));
        for (const auto& mask : results.masks) masks.push_back(part(mask, sample, batch.size));
        for (std::size_t o = 0; o < program.outputs.size(); o++) known[program.outputs[o]] = part(results.outputs[o], sample, batch.size);
        const Reference expected = reference(program, inputs, masks, &known);
        std::vector<bool> reads_unseen(known.size());
        for (const Operation& op : program.operations)
            if (op.kind != Kind::decide) reads_unseen[op.output] = std::any_of(op.inputs.begin(), op.inputs.end(), [&](int v) { return known[v].empty(); });
        for (std::size_t v = 0; v < known.size(); v++) {
            float largest = 1;
            for (const float x : expected.values[v]) largest = std::max(largest, std::abs(x));
            for (std::size_t i = 0; i < known[v].size(); i++) {
                const float wanted = expected.values[v][i], rounding = program.values[v].storage == Storage::bf16 ? unit(wanted) : 0;
                require(std::abs(known[v][i] - wanted) <= rounding + (2e-5f + (reads_unseen[v] ? 1.0f / 64 : 0)) * largest, where, ", value ", v, ": element ", i, " is ",
                        known[v][i], ", expected ", wanted);
            }
        }
        for (std::size_t l = 0; l < expected.macs.size(); l++)
            require(results.macs[sample * program.layers + l] == expected.macs[l], where, ": layer ", l, " executed other MACs");
    }
}

// With outputs that are all values, or all but those that may be compact if they are not.
Program shown(const Program& program, bool all) {
    Program open = program;
    open.outputs.clear();
    std::vector<bool> compact(program.values.size());
    for (const Operation& op : program.operations)
        if ((op.kind == Kind::conv && op.inputs.size() == 1 && op.out_channels >= 0) ||
            (op.kind == Kind::multiply && (compact[op.inputs[0]] || compact[op.inputs[1]])))
            compact[op.output] = !all;
    for (std::size_t v = 0; v < program.values.size(); v++)
        if (!compact[v]) open.outputs.push_back(static_cast<int>(v));
    return open;
}

// Whether a convolution may go by Winograd's squares in one layout and not in another: with closed outputs next to each other, not
// with single channels in their places.
bool depends_on_layout(const Program& program, const Bf16Kernels& kernels) {
    return std::any_of(program.operations.begin(), program.operations.end(), [&](const Operation& op) {
        const auto is = [](const Pair& pair, int n) { return pair.y == n && pair.x == n; };
        if (op.kind != Kind::conv || op.out_channels < 0 || !is(op.kernel, 3) || !is(op.stride, 1) || !is(op.dilation, 1)) return false;
        const int ins = program.values[op.inputs[0]].channels / op.groups, outs = program.values[op.output].channels / op.groups;
        const bool squared = std::min(ins, outs) >= lanes_of_choices;
        return squared && (kernels.patches || form_of(program, op).in == Storage::f32);
    });
}

void test_bf16_program(Random& random, OwnedProgram& owned) {
    store_in_bf16(random, owned);
    Program& program = owned.program;
    const int threads = random.from(2, 4);
    const Batch batch = random_batch(random, program, random.from(1, 5), 1);
    const Batch before = random_batch(random, program, threads, 1e30f);
    const Program open = shown(program, true), partly = shown(program, false);
    for (const char* const* name = available_bf16_kernels(); *name; name++) {
        const std::string where = std::string("bf16 ") + *name + " on " + std::to_string(threads) + " threads";
        try {
            const Bf16Kernels& kernels = *find_bf16_kernels(*name);
            Network all(open, kernels, threads), network(program, kernels, threads), alone(program, kernels, 1);
            run(all, open, before);
            Results whole = run(all, open, batch);
            close_by_operation(open, batch, whole, where);
            Network some(partly, kernels, threads);
            run(some, partly, before);
            close_by_operation(partly, batch, run(some, partly, batch), where);
            run(network, program, before);
            const Results results = run(network, program, batch), single = run(alone, program, batch);
            require(results.outputs == single.outputs && results.macs == single.macs && results.masks == single.masks, where,
                    ": one thread differs");
            // Where fewer values are kept, layouts differ, and nothing else.
            if (depends_on_layout(program, kernels)) continue;
            require(results.macs == whole.macs && results.masks == whole.masks, where, ": another layout differs");
            for (std::size_t o = 0; o < program.outputs.size(); o++)
                require(results.outputs[o] == whole.outputs[program.outputs[o]], where, ": output ", o, " differs in another layout");
        } catch (const std::exception& error) {
            throw Failure(where + ": " + error.what() + describe(program));
        }
    }
}

}  // namespace

void test_bf16_networks(Random& random) { test_bf16_program(random, *random_program(random)); }
void test_wide_bf16_networks(Random& random) { test_bf16_program(random, *random_wide_program(random)); }
void test_networks(Random& random) { test_program(random, random_program(random)->program); }
void test_wide_networks(Random& random) { test_program(random, random_wide_program(random)->program); }

void test_large_weights(Random& random) { test_program(random, large_weights(random)->program, 1); }

// Calls of one network from several threads, and of several networks at once.
void test_shared_network(Random& random) {
    const auto owned = random_program(random), other = random_program(random);
    const Kernels& kernels = *find_kernels("");
    Network shared(owned->program, kernels, random.from(1, 3));
    std::string errors[4];
    std::vector<std::thread> threads;
    for (std::string& error : errors)
        threads.emplace_back([&, seed = random.from(0, 1 << 30)] {
            Random own(seed);
            try {
                Network second(other->program, kernels, own.from(1, 3));
                for (int i = 0; i < 10; i++)
                    for (const auto& [network, program] :
                         {std::pair(&shared, &owned->program), std::pair(&second, &other->program)}) {
                        const Batch batch = random_batch(own, *program, own.from(1, 4), 1);
                        const Results results = run(*network, *program, batch);
                        compare(*program, batch, results, references(*program, batch, results.masks), "in several threads");
                    }
            } catch (const std::exception& failure) {
                error = failure.what();
            }
        });
    for (std::thread& thread : threads) thread.join();
    for (const std::string& error : errors) require(error.empty(), error);
}

}  // namespace convgate::testing
