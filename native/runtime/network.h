// A program made ready to run: layers with their weights in place, memory planned, threads.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "convolution.h"
#include "simple.h"

namespace convgate {

// What a call returns besides the outputs; null pointers for what is not wanted.
struct Details {
    std::vector<std::uint8_t*> masks;  // per gate [batch][units]
    std::vector<float*> logits;        // per gate [batch][units]
    std::int64_t* macs = nullptr;      // [batch][layers]
    double* seconds = nullptr;         // [batch][operations]
};

class Network {
public:
    // Copies what it needs of the program's arrays. Throws std::invalid_argument for a program that `check` refuses.
    Network(const Program&, const Kernels&, int threads);

    // inputs, outputs: per value, [batch][channels][height][width]. given: per gate, a mask [batch][units] of 0 and 1 that
    // replaces the gate's decision, or null. Safe to call from several threads; calls wait for each other. Throws
    // std::domain_error for an input that is not finite.
    void run(int batch, const std::vector<const float*>& inputs, const std::vector<float*>& outputs,
             const std::vector<const std::uint8_t*>& given, const Details& details);

    ~Network();
    int threads() const { return pool_.threads(); }
    const Kernels& kernels() const { return kernels_; }
    std::size_t bytes() const;  // memory for activations, of one sample

private:
    struct State;
    struct Call {
        const std::vector<const float*>& inputs;
        const std::vector<float*>& outputs;
        const std::vector<const std::uint8_t*>& given;
        const Details& details;
    };
    void build();
    void add_activation(const Operation&, int use);
    void add_simple(const Operation&);
    void add_completion(const Operation&);
    std::unique_ptr<Layer> make_convolution(ConvolutionSpec);
    std::unique_ptr<Layer> make_direct(const ConvolutionSpec&);
    State& state(int number);
    void run_sample(State&, Team&, int index, const Call&);
    void read_input(Sample&, const Layout&, const float* from, Team&) const;
    static void write_output(Sample&, const Layout&, float* to);

    Program program_;
    const Kernels& kernels_;
    Pool pool_;
    std::mutex mutex_;
    std::vector<Layout> layouts_;
    std::vector<GateUse> gates_;
    std::size_t arena_ = 0;
    Needs needs_;
    std::vector<std::unique_ptr<Layer>> layers_;
    std::vector<int> operation_of_;               // per layer
    std::vector<Scratch> scratch_;                // per thread
    std::vector<std::unique_ptr<State>> states_;  // one per sample computed at the same time
};

}  // namespace convgate
