// A program made ready to run: layers with their weights in place, memory planned. It never changes, so that any number of
// networks may run it.
#pragma once

#include <memory>
#include <vector>

#include "convolution.h"
#include "simple.h"

namespace convgate {

class Plan {
public:
    // Copies what it needs of the program's arrays. Throws std::invalid_argument for a program that `check` refuses.
    Plan(const Program&, const Kernels&, int threads);
    ~Plan();
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    const Program& program() const { return program_; }  // without its arrays
    const Kernels& kernels() const { return kernels_; }
    int threads() const { return threads_; }
    const std::vector<Layout>& layouts() const { return layouts_; }  // of the program's values first
    const std::vector<GateUse>& gates() const { return gates_; }
    const std::vector<std::unique_ptr<Layer>>& layers() const { return layers_; }
    const Needs& needs() const { return needs_; }
    int operation_of(std::size_t layer) const { return operation_of_[layer]; }
    std::size_t arena() const { return arena_; }  // floats for the values of one sample

private:
    void build();
    void add_activation(const Operation&, int use);
    void add_simple(const Operation&);
    void add_completion(const Operation&);
    std::unique_ptr<Layer> make_convolution(ConvolutionSpec);
    std::unique_ptr<Layer> make_direct(const ConvolutionSpec&);

    Program program_;
    const Kernels& kernels_;
    const int threads_;
    std::vector<Layout> layouts_;
    std::vector<GateUse> gates_;
    std::size_t arena_ = 0;
    Needs needs_;
    std::vector<std::unique_ptr<Layer>> layers_;
    std::vector<int> operation_of_;
};

}  // namespace convgate
