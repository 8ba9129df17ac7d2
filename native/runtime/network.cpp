#include "network.h"

#include <algorithm>
#include <chrono>

#include "floating_point.h"
#include "transfer.h"

namespace convgate {

// One sample that is being computed.
struct Network::State {
    BufferOf<std::byte> arena;
    std::vector<std::atomic<long long>> macs;
    std::vector<const std::uint8_t*> given;
    Sample sample;

    State(const Plan& plan, std::vector<Scratch>& scratch)
        : arena(plan.arena()),
          macs(plan.program().layers),
          sample(make_sample(plan, scratch)) {
        for (const GateUse& use : plan.gates()) sample.gates.emplace_back(use);
    }

    Sample make_sample(const Plan& plan, std::vector<Scratch>& scratch) {
        const Needs& needs = plan.needs();
        return {.arena = arena.data(),
                .gates = {},
                .macs = macs,
                .scratch = scratch,
                .blocks = FixedVector<Block>(needs.blocks),
                .half_blocks = FixedVector<BlockOf<Bf16>>(plan.halves() ? needs.blocks : 0),
                .integer_blocks = FixedVector<IntegerBlock>(plan.integers() ? needs.blocks : 0),
                .lists = FixedVector<std::int32_t>(needs.lists),
                .squares = FixedVector<std::int32_t>(needs.squares),
                .open_in_square = FixedVector<std::uint8_t>(needs.squares),
                .taps = FixedVector<std::ptrdiff_t>(needs.taps),
                .packed = Buffer(needs.sample_packed)};
    }
};

// The threads, and the memory that they and the samples need.
struct Network::Workplace {
    const Plan& plan;
    Pool pool;
    std::mutex mutex;                             // one call at a time
    std::vector<Scratch> scratch;                 // per thread
    std::vector<std::unique_ptr<State>> states;  // one per sample computed at the same time

    explicit Workplace(const Plan& plan) : plan(plan), pool(plan.threads()), scratch(plan.threads()) {
        const Needs& needs = plan.needs();
        for (Scratch& s : scratch) {
            make_room<float>(s, needs);
            if (plan.halves()) make_room<Bf16>(s, needs);
            if (plan.integers()) make_room<std::uint8_t>(s, needs), make_room<std::int32_t>(s, needs);
            s.open.resize(needs.positions);
            s.spread.resize(needs.spread);
            s.accumulators = Buffer(needs.accumulators);
            s.scattered = Buffer(needs.scattered);
            s.columns = Buffer(needs.columns);
            s.weights_aside = Buffer(needs.weights_aside);
        }
    }

    template <typename T>
    static void make_room(Scratch& s, const Needs& needs) {
        Places<T>& places = s.places<T>();
        places.rows.resize(needs.positions);
        places.outputs.resize(needs.positions);
        places.kept.resize(needs.positions);
        places.addends.resize(needs.positions);
        places.weights.resize(needs.weights);
    }

    State& state(int number) {
        while (static_cast<int>(states.size()) <= number) states.push_back(std::make_unique<State>(plan, scratch));
        return *states[number];
    }
};

Network::Network(std::shared_ptr<const Plan> plan) : plan_(std::move(plan)) { workplace(); }

Network::~Network() = default;

Network::Workplace& Network::workplace() {
    return workplace_.get([this] { return std::make_unique<Workplace>(*plan_); });
}

void Network::run(int batch, const std::vector<const float*>& inputs, const std::vector<float*>& outputs,
                  const std::vector<const std::uint8_t*>& given, const Details& details) {
    Workplace& place = workplace();
    const std::lock_guard lock(place.mutex);
    const DefaultFloatingPoint mode;
    const Call call{inputs, outputs, given, details};
    // Whole samples side by side as long as there is one for each thread; the threads share the samples that remain.
    const int threads = place.pool.threads(), alone = threads > 1 ? batch / threads * threads : 0;
    if (alone > 0) {
        place.state(threads - 1);
        place.pool.run(alone, [&](int sample, int thread) {
            Alone team(thread);
            run_sample(*place.states[thread], team, sample, call);
        });
    }
    for (int sample = alone; sample < batch; sample++) run_sample(place.state(0), place.pool, sample, call);
}

void Network::run_sample(State& state, Team& team, int index, const Call& call) const {
    const Program& program = plan_->program();
    const std::vector<Layout>& layouts = plan_->layouts();
    const std::vector<GateUse>& gates = plan_->gates();
    const std::vector<std::unique_ptr<Layer>>& layers = plan_->layers();
    Sample& s = state.sample;
    const std::size_t n = static_cast<std::size_t>(index);
    for (std::size_t i = 0; i < program.inputs.size(); i++) {
        const Layout& layout = layouts[program.inputs[i]];
        const std::size_t size = static_cast<std::size_t>(layout.value.positions()) * layout.value.channels;
        read_input(*plan_, s, layout, call.inputs[i] + n * size, team);
    }
    for (auto& count : state.macs) count.store(0, std::memory_order_relaxed);
    std::vector<const std::uint8_t*>& given = state.given;
    given.resize(gates.size());
    for (std::size_t g = 0; g < gates.size(); g++)
        given[g] = call.given.empty() || !call.given[g] ? nullptr : call.given[g] + n * gates[g].gate.size();
    s.given = given.data();
    for (std::size_t g = 0; g < gates.size(); g++)
        if (given[g]) s.gates[g].decide(given[g]);
    const auto now = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
    const double begin = call.details.total ? now() : 0;
    if (double* seconds = call.details.seconds) {
        seconds += n * program.operations.size();
        std::fill_n(seconds, program.operations.size(), 0.0);
        double last = now();
        for (std::size_t l = 0; l < layers.size(); l++) {
            layers[l]->run(s, team);
            const double time = now();
            seconds[plan_->operation_of(l)] += time - last;
            last = time;
        }
    } else {
        for (const auto& layer : layers) layer->run(s, team);
    }
    if (call.details.total) call.details.total[n] = now() - begin;
    for (std::size_t i = 0; i < program.outputs.size(); i++) {
        const Layout& layout = layouts[program.outputs[i]];
        const std::size_t size = static_cast<std::size_t>(layout.value.positions()) * layout.value.channels;
        write_output(*plan_, s, layout, call.outputs[i] + n * size, team);
    }
    for (std::size_t g = 0; g < gates.size(); g++) {
        const std::size_t units = s.gates[g].mask.size();
        if (g < call.details.masks.size()) s.gates[g].copy_mask(call.details.masks[g] + n * units);
        if (g < call.details.logits.size()) s.gates[g].copy_logits(call.details.logits[g] + n * units);
    }
    if (call.details.macs)
        for (std::size_t l = 0; l < state.macs.size(); l++)
            call.details.macs[n * state.macs.size() + l] = state.macs[l].load(std::memory_order_relaxed);
}

}  // namespace convgate
