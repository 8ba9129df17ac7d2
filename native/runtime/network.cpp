#include "network.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>

#include "layouts.h"

namespace convgate {

struct Network::State {
    Buffer arena;
    std::vector<std::atomic<long long>> macs;
    std::vector<const std::uint8_t*> given;
    Sample sample;

    State(Network& network)
        : arena(network.arena_),
          macs(network.program_.layers),
          sample{arena.data(), {}, macs, network.scratch_, nullptr, {}, {}, {}, {}, {}, Buffer(network.needs_.sample_packed)} {
        for (const GateUse& use : network.gates_) sample.gates.emplace_back(use);
        sample.blocks.reserve(network.needs_.blocks);
        sample.lists.reserve(network.needs_.lists);
        sample.squares.reserve(network.needs_.squares);
        sample.open_in_square.reserve(network.needs_.squares);
        sample.taps.reserve(network.needs_.taps);
    }
};

Network::Network(const Program& program, const Kernels& kernels, int threads)
    : program_(program), kernels_(kernels), pool_(threads) {
    check(program_);
    for (Operation& op : program_.operations)
        if (op.kind == Kind::decide) op.gate_is_spatial = program_.gates[op.output].spatial();
    for (const Gate& gate : program_.gates) gates_.push_back({gate, {}, {}});
    build();
    // The arrays belong to the caller; the layers have copies.
    for (Operation& op : program_.operations)
        for (Array* a : {&op.weight, &op.bias, &op.scale, &op.shift, &op.open_scale, &op.open_shift}) a->data = nullptr;
    scratch_.resize(pool_.threads());
    for (Scratch& scratch : scratch_) {
        scratch.rows.resize(needs_.positions);
        scratch.outputs.resize(needs_.positions);
        scratch.kept.resize(needs_.positions);
        scratch.addends.resize(needs_.positions);
        scratch.open.resize(needs_.positions);
        scratch.spread.resize(needs_.spread);
        scratch.weights.resize(needs_.weights);
        scratch.accumulators = Buffer(needs_.accumulators);
        scratch.scattered = Buffer(needs_.scattered);
        scratch.columns = Buffer(needs_.columns);
        scratch.weights_aside = Buffer(needs_.weights_aside);
    }
}

Network::~Network() = default;

void Network::build() {
    Layouts plan = lay_out(program_, gates_);
    for (int v : program_.inputs) needs_.weights = std::max(needs_.weights, program_.values[v].channels);
    layouts_ = std::move(plan.values);
    arena_ = plan.floats;
    for (std::size_t i = 0; i < program_.operations.size(); i++) {
        operation_of_.resize(layers_.size(), static_cast<int>(i) - 1);
        const Operation& op = program_.operations[i];
        if (op.kind == Kind::complete) {
            add_completion(op);
            continue;
        }
        if (op.kind != Kind::conv) {
            add_simple(op);
            continue;
        }
        const Layout* in = &layouts_[op.inputs[0]];
        if (plan.compacted[i] >= 0) {
            const Layout* copy = &layouts_[plan.compacted[i]];
            layers_.push_back(make_compact({&kernels_, &op, {in}, copy}));
            in = copy;
        }
        const Layout* out = &layouts_[op.output];
        ConvolutionSpec spec;
        spec.kernels = &kernels_;
        spec.operation = &op;
        spec.in = in;
        spec.out = out;
        spec.addend = op.inputs.size() > 1 ? &layouts_[op.inputs[1]] : nullptr;
        spec.in_place = plan.in_place[i] != 0;
        spec.addend_is_done = plan.addend_done[i] != 0;
        spec.threads = pool_.threads();
        if (op.positions >= 0) spec.positions_use = gates_[op.positions].positions(out->value.height, out->value.width);
        if (op.in_channels >= 0) spec.in_use = gates_[op.in_channels].spread(in->value.channels);
        if (op.out_channels >= 0) spec.out_use = gates_[op.out_channels].spread(out->value.channels);
        layers_.push_back(make_convolution(spec));
        add_activation(op, spec.addend ? -1 : spec.positions_use);
    }
    operation_of_.resize(layers_.size(), static_cast<int>(program_.operations.size()) - 1);
}

void Network::add_completion(const Operation& op) {
    ConvolutionSpec spec;
    spec.kernels = &kernels_;
    spec.operation = &op;
    spec.in = &layouts_[op.inputs[0]];
    spec.out = &layouts_[op.output];
    spec.addend = op.inputs.size() > 2 ? &layouts_[op.inputs[2]] : nullptr;
    spec.threads = pool_.threads();
    layers_.push_back(make_completion(spec, layouts_[op.inputs[1]], gates_[op.gate].gate, needs_));
    add_activation(op, -1);
}

// `use`: the spread of the gate outside which all is zero or unread, or -1.
void Network::add_activation(const Operation& op, int use) {
    if (in_any_kernel(op.activation.kind)) return;
    layers_.push_back(make_activation_in_place({&kernels_, &op, {}, &layouts_[op.output], use}, use >= 0));
}

std::unique_ptr<Layer> Network::make_convolution(ConvolutionSpec spec) {
    if (!suits_winograd(spec)) return make_direct(spec);
    const int gate = spec.operation->positions;
    if (gate < 0) return make_winograd(spec, nullptr, needs_);
    // Tiles of even sides close whole squares.
    const int rows = 2 * gates_[gate].gate.rows, columns = 2 * gates_[gate].gate.columns;
    const Value& out = spec.out->value;
    const bool even = out.height % rows == 0 && out.width % columns == 0;
    if (even) spec.squares_use = gates_[gate].positions(out.height / 2, out.width / 2);
    return make_winograd(spec, even ? nullptr : make_direct(spec), needs_);
}

std::unique_ptr<Layer> Network::make_direct(const ConvolutionSpec& spec) {
    const Operation& op = *spec.operation;
    const int ins = spec.in->value.channels, outs = spec.out->value.channels;
    const bool same_gates = op.in_channels < 0 || op.in_channels == op.out_channels;
    if (op.groups > 1 && op.groups == ins && ins == outs && same_gates) return make_depthwise(spec, needs_);
    // Where most lanes of output channels would stay empty.
    const bool few_outputs = 2 * outs <= kernels_.lanes && ins * spec.joined() >= kernels_.lanes;
    if (op.groups == 1 && op.in_channels < 0 && few_outputs) return make_dot(spec, needs_);
    // Where there are too few positions for packed weights to pay.
    if (op.groups == 1 && op.out_channels >= 0 && spec.out->value.positions() <= 256) return make_columns(spec, needs_);
    return make_product(spec, needs_);
}

void Network::add_simple(const Operation& op) {
    SimpleSpec spec{&kernels_, &op, {}};
    for (int v : op.inputs) spec.in.push_back(&layouts_[v]);
    if (op.kind == Kind::decide) {
        const Gate& gate = gates_[op.output].gate;
        layers_.push_back(gate.by_activation() ? make_decide_activations(spec, gate, needs_) : make_decide(spec));
        return;
    }
    spec.out = &layouts_[op.output];
    const Value& out = spec.out->value;
    switch (op.kind) {
        case Kind::pool: layers_.push_back(make_pool(spec)); break;
        case Kind::pool_to_grid: layers_.push_back(make_pool_to_grid(spec)); break;
        case Kind::conv_transpose:
            layers_.push_back(make_transposed(spec, needs_));
            add_activation(op, -1);
            break;
        case Kind::pad:
        case Kind::pixel_shuffle:
        case Kind::pixel_unshuffle:
        case Kind::reshape: layers_.push_back(make_rearrangement(spec)); break;
        case Kind::group_norm: layers_.push_back(make_group_norm(spec)); break;
        case Kind::layer_norm:
        case Kind::softmax:
        case Kind::over_channels: layers_.push_back(make_over_channels(spec)); break;
        case Kind::interpolate: layers_.push_back(make_interpolate(spec)); break;
        case Kind::add:
        case Kind::multiply:
        case Kind::arithmetic: layers_.push_back(make_elementwise(spec)); break;
        case Kind::mask:
            spec.use = gates_[op.gate].gate.spatial() ? gates_[op.gate].positions(out.height, out.width)
                                                    : gates_[op.gate].spread(out.channels);
            [[fallthrough]];
        default: layers_.push_back(make_row_by_row(spec));
    }
}

std::size_t Network::bytes() const { return arena_ * sizeof(float); }

Network::State& Network::state(int number) {
    while (static_cast<int>(states_.size()) <= number) states_.push_back(std::make_unique<State>(*this));
    return *states_[number];
}

void Network::run(int batch, const std::vector<const float*>& inputs, const std::vector<float*>& outputs,
                  const std::vector<const std::uint8_t*>& given, const Details& details) {
    const std::lock_guard lock(mutex_);
    const Call call{inputs, outputs, given, details};
    // Whole samples side by side as long as there is one for each thread; the threads share the samples that remain.
    const int threads = pool_.threads(), alone = threads > 1 ? batch / threads * threads : 0;
    if (alone > 0) {
        state(threads - 1);
        std::vector<std::exception_ptr> errors(threads);
        pool_.run(alone, [&](int sample, int thread) {
            try {
                Alone team(thread);
                run_sample(*states_[thread], team, sample, call);
            } catch (...) {
                errors[thread] = std::current_exception();
            }
        });
        for (const std::exception_ptr& error : errors)
            if (error) std::rethrow_exception(error);
    }
    for (int sample = alone; sample < batch; sample++) run_sample(state(0), pool_, sample, call);
}

void Network::run_sample(State& state, Team& team, int index, const Call& call) {
    Sample& s = state.sample;
    const std::size_t n = static_cast<std::size_t>(index);
    for (std::size_t i = 0; i < program_.inputs.size(); i++) {
        const Layout& layout = layouts_[program_.inputs[i]];
        const std::size_t size = static_cast<std::size_t>(layout.value.positions()) * layout.value.channels;
        read_input(s, layout, call.inputs[i] + n * size, team);
    }
    for (auto& count : state.macs) count.store(0, std::memory_order_relaxed);
    std::vector<const std::uint8_t*>& given = state.given;
    given.resize(gates_.size());
    for (std::size_t g = 0; g < gates_.size(); g++)
        given[g] = call.given.empty() || !call.given[g] ? nullptr : call.given[g] + n * gates_[g].gate.size();
    s.given = given.data();
    for (std::size_t g = 0; g < gates_.size(); g++)
        if (given[g]) s.gates[g].decide(given[g]);
    if (double* seconds = call.details.seconds) {
        seconds += n * program_.operations.size();
        std::fill_n(seconds, program_.operations.size(), 0.0);
        for (std::size_t l = 0; l < layers_.size(); l++) {
            const auto begin = std::chrono::steady_clock::now();
            layers_[l]->run(s, team);
            seconds[operation_of_[l]] += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        }
    } else {
        for (const auto& layer : layers_) layer->run(s, team);
    }
    for (std::size_t i = 0; i < program_.outputs.size(); i++) {
        const Layout& layout = layouts_[program_.outputs[i]];
        const std::size_t size = static_cast<std::size_t>(layout.value.positions()) * layout.value.channels;
        write_output(s, layout, call.outputs[i] + n * size);
    }
    for (std::size_t g = 0; g < gates_.size(); g++) {
        const std::size_t units = s.gates[g].mask.size();
        if (g < call.details.masks.size()) s.gates[g].copy_mask(call.details.masks[g] + n * units);
        if (g < call.details.logits.size()) s.gates[g].copy_logits(call.details.logits[g] + n * units);
    }
    if (call.details.macs)
        for (std::size_t l = 0; l < state.macs.size(); l++)
            call.details.macs[n * state.macs.size() + l] = state.macs[l].load(std::memory_order_relaxed);
}

// From channels first to channels last, inside the border.
void Network::read_input(Sample& s, const Layout& layout, const float* from, Team& team) const {
    const Value& value = layout.value;
    const View to = s.view(layout);
    to.clear_border();
    std::atomic<bool> finite{true};
    const Chunks lines(value.height, 16384 / (value.width * value.channels) + 1, team);
    team.run(lines.items, [&](int item, int thread) {
        std::uint32_t differences = 0;  // bits of x - x, which is 0 for finite values only
        std::vector<const float*>& sources = s.scratch[thread].weights;
        for (int y = lines.begin(item); y < lines.end(item); y++) {
            for (int c = 0; c < value.channels; c++) {
                sources[c] = from + (static_cast<std::size_t>(c) * value.height + y) * value.width;
                for (int x = 0; x < value.width; x++)
                    differences |= std::bit_cast<std::uint32_t>(sources[c][x] - sources[c][x]);
            }
            kernels_.transpose(sources.data(), 0, value.channels, value.width, to.at(y, 0), value.channels);
        }
        if (differences) finite = false;
    });
    if (!finite) throw std::domain_error("the input holds values that are not finite");
}

void Network::write_output(Sample& s, const Layout& layout, float* to) {
    const Value& value = layout.value;
    const View from = s.view(layout);
    for (int c = 0; c < value.channels; c++)
        for (int y = 0; y < value.height; y++)
            for (int x = 0; x < value.width; x++) *to++ = from.at(y, x)[c];
}

}  // namespace convgate
