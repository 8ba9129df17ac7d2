// Runs a plan: threads and memory of its own, and the plan's weights.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "forks.h"
#include "plan.h"

namespace convgate {

// What a call returns besides the outputs; null pointers for what is not wanted.
struct Details {
    std::vector<std::uint8_t*> masks;  // per gate [batch][units]
    std::vector<float*> logits;        // per gate [batch][units]
    std::int64_t* macs = nullptr;      // [batch][layers]
    double* total = nullptr;           // [batch], seconds for all operations
    double* seconds = nullptr;         // [batch][operations], for each
};

class Network {
public:
    explicit Network(std::shared_ptr<const Plan>);
    // One with a plan that no other shares.
    template <typename Table>
    Network(const Program& program, const Table& kernels, int threads)
        : Network(std::make_shared<const Plan>(program, kernels, threads)) {}
    ~Network();

    // inputs, outputs: per value, [batch][channels][height][width]. given: per gate, a mask [batch][units] of 0 and 1 that
    // replaces the gate's decision, or null. Safe to call from several threads, whose calls wait for each other, and in
    // forked children. Throws std::domain_error for an input that is not finite.
    void run(int batch, const std::vector<const float*>& inputs, const std::vector<float*>& outputs,
             const std::vector<const std::uint8_t*>& given, const Details& details);

    const Plan& plan() const { return *plan_; }
    std::size_t bytes() const { return plan_->arena(); }  // memory for activations, of one sample

private:
    struct State;
    struct Workplace;
    struct Call {
        const std::vector<const float*>& inputs;
        const std::vector<float*>& outputs;
        const std::vector<const std::uint8_t*>& given;
        const Details& details;
    };
    Workplace& workplace();
    void run_sample(State&, Team&, int index, const Call&) const;

    const std::shared_ptr<const Plan> plan_;
    PerProcess<Workplace> workplace_;
};

}  // namespace convgate
