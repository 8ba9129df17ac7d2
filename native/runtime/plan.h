// A program made ready to run: layers with their weights in place, memory planned. It never changes, so that any number of
// networks may run it.
#pragma once

#include <memory>
#include <vector>

#include "convolution.h"
#include "layouts.h"
#include "simple.h"

namespace convgate {

class Plan {
public:
    // Copies what it needs of the program's arrays. Throws std::invalid_argument for a program that `check` refuses.
    Plan(const Program& program, const Kernels& kernels, int threads) : Plan(program, kernels, nullptr, nullptr, threads) {}
    // One whose values may be stored as bfloat16, or as integers.
    Plan(const Program& program, const Bf16Kernels& kernels, int threads) : Plan(program, *kernels.floats, &kernels, nullptr, threads) {}
    Plan(const Program& program, const Int8Kernels& kernels, int threads) : Plan(program, *kernels.floats, nullptr, &kernels, threads) {}
    ~Plan();
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    const Program& program() const { return program_; }  // without its arrays
    const Kernels& kernels() const { return kernels_; }
    const Bf16Kernels* halves() const { return halves_; }      // or null
    const Int8Kernels* integers() const { return integers_; }  // or null
    const char* isa() const { return halves_ ? halves_->name : integers_ ? integers_->name : kernels_.name; }
    int threads() const { return threads_; }
    const std::vector<Layout>& layouts() const { return layouts_; }  // of the program's values first
    const std::vector<GateUse>& gates() const { return gates_; }
    const std::vector<std::unique_ptr<Layer>>& layers() const { return layers_; }
    const Needs& needs() const { return needs_; }
    int operation_of(std::size_t layer) const { return operation_of_[layer]; }
    std::size_t arena() const { return arena_; }  // bytes for the values of one sample

private:
    Plan(const Program&, const Kernels&, const Bf16Kernels*, const Int8Kernels*, int threads);
    void build();
    void add_convolution(const Operation&, std::size_t number, const Layouts&);
    void convert(int from, int to);
    void add_activation(const Operation&, const Layout& out, int use);
    void add_simple(const Operation&, std::size_t number);
    void add_completion(const Operation&, std::size_t number);
    std::unique_ptr<Layer> make_convolution(ConvolutionSpec);
    std::unique_ptr<Layer> make_direct(const ConvolutionSpec&);
    std::unique_ptr<Layer> make_bf16_convolution(ConvolutionSpec, Storage results);
    std::unique_ptr<Layer> make_integer_convolution(ConvolutionSpec, Storage results);
    // Notes the use of the gate of positions over squares of 2x2 outputs, if it closes none in part. Whether it may close some.
    bool note_squares(ConvolutionSpec&);
    const Layout* read(std::size_t operation, int input) const { return &layouts_[reads_[operation][input]]; }
    const Layout* written(std::size_t operation) const { return &layouts_[writes_[operation]]; }

    Program program_;
    const Kernels& kernels_;
    const Bf16Kernels* const halves_;
    const Int8Kernels* const integers_;
    const int threads_;
    std::vector<Layout> layouts_;
    std::vector<std::vector<int>> reads_;  // see Layouts
    std::vector<int> writes_;
    std::vector<GateUse> gates_;
    std::size_t arena_ = 0;
    Needs needs_;
    std::vector<std::unique_ptr<Layer>> layers_;
    std::vector<int> operation_of_;
};

}  // namespace convgate
