#include "plan.h"

#include <algorithm>

#include "costs.h"
#include "floating_point.h"
#include "layouts.h"
#include "transfer.h"

namespace convgate {

Plan::Plan(const Program& program, const Kernels& kernels, const Bf16Kernels* halves, const Int8Kernels* integers, int threads)
    : program_(program), kernels_(kernels), halves_(halves), integers_(integers), threads_(threads) {
    const DefaultFloatingPoint mode;
    check(program_);
    for (const Value& value : program_.values) {
        if (value.storage == Storage::bf16 && !halves_) throw std::invalid_argument("a value in bfloat16 without kernels for it");
        if (integral(value.storage) && !integers_) throw std::invalid_argument("a value of integers without kernels for it");
    }
    for (Operation& op : program_.operations)
        if (op.kind == Kind::decide) op.gate_is_spatial = program_.gates[op.output].spatial();
    for (const Gate& gate : program_.gates) gates_.push_back({gate, {}, {}});
    build();
    // The arrays belong to the caller; the layers have copies.
    for (Operation& op : program_.operations)
        for (Array* a : {&op.weight, &op.bias, &op.scale, &op.shift, &op.open_scale, &op.open_shift, &op.multiplier, &op.shifts, &op.open_bias, &op.open_multiplier, &op.open_shifts}) a->drop();
}

Plan::~Plan() = default;

void Plan::build() {
    Layouts plan = lay_out(program_, gates_);
    for (int v : program_.inputs) needs_.cover(needs_of_input(program_.values[v]));
    for (int v : program_.outputs) needs_.cover(needs_of_output(program_.values[v]));
    layouts_ = std::move(plan.values);
    reads_ = std::move(plan.reads);
    writes_ = std::move(plan.writes);
    arena_ = plan.bytes;
    for (std::size_t i = 0; i < program_.operations.size(); i++) {
        operation_of_.resize(layers_.size(), static_cast<int>(i) - 1);
        const Operation& op = program_.operations[i];
        for (std::size_t k = 0; k < op.inputs.size(); k++) convert(op.inputs[k], reads_[i][k]);
        if (op.kind == Kind::conv)
            add_convolution(op, i, plan);
        else if (op.kind == Kind::complete)
            add_completion(op, i);
        else
            add_simple(op, i);
        if (op.kind != Kind::decide) convert(writes_[i], op.output);
    }
    operation_of_.resize(layers_.size(), static_cast<int>(program_.operations.size()) - 1);
}

void Plan::convert(int from, int to) {
    if (from == to) return;
    SimpleSpec spec{&kernels_, nullptr, {&layouts_[from]}, &layouts_[to]};
    spec.form = {spec.in[0]->value.storage, spec.out->value.storage};
    spec.halves = halves_;
    layers_.push_back(make_conversion(spec));
}

void Plan::add_convolution(const Operation& op, std::size_t i, const Layouts& plan) {
    const Form form = form_of(program_, op);
    const Layout* in = read(i, 0);
    if (plan.compacted[i] >= 0) {
        const Layout* copy = &layouts_[plan.compacted[i]];
        SimpleSpec compact{&kernels_, &op, {in}, copy};
        compact.form = {form.in, form.in};
        layers_.push_back(make_compact(compact));
        in = copy;
    }
    const Layout* out = written(i);
    ConvolutionSpec spec;
    spec.kernels = &kernels_;
    spec.halves = halves_;
    spec.integers = integers_;
    spec.operation = &op;
    spec.in = in;
    spec.out = out;
    spec.addend = op.inputs.size() > 1 ? read(i, 1) : nullptr;
    spec.in_place = plan.in_place[i] != 0;
    spec.addend_is_done = plan.addend_done[i] != 0;
    spec.threads = threads_;
    if (op.positions >= 0) spec.positions_use = gates_[op.positions].positions(out->value.height, out->value.width, op.reach);
    if (op.in_channels >= 0) spec.in_use = gates_[op.in_channels].spread(in->value.channels);
    if (op.out_channels >= 0) spec.out_use = gates_[op.out_channels].spread(out->value.channels);
    if (integral(form.in)) {
        // Partial sums of single channels are products like any other.
        layers_.push_back(spec.depthwise() && !summed(form.out) ? make_integer_depthwise(spec, form.out, needs_)
                                                                : make_integer_convolution(spec, form.out));
        return;
    }
    if (form.in == Storage::bf16) {
        layers_.push_back(spec.depthwise() ? make_depthwise(spec, form, needs_) : make_bf16_convolution(spec, form.out));
        return;
    }
    layers_.push_back(computes_taps_apart(program_, op) ? make_taps_apart(spec, needs_) : make_convolution(spec));
    add_activation(op, *out, spec.addend ? -1 : spec.positions_use);
}

void Plan::add_completion(const Operation& op, std::size_t i) {
    ConvolutionSpec spec;
    spec.kernels = &kernels_;
    spec.operation = &op;
    spec.in = read(i, 0);
    spec.out = written(i);
    spec.addend = op.inputs.size() > 2 ? read(i, 2) : nullptr;
    spec.threads = threads_;
    spec.integers = integers_;
    if (integral(spec.out->value.storage)) {
        layers_.push_back(make_integer_completion(spec, *read(i, 1), gates_[op.gate].gate, needs_));
        return;
    }
    layers_.push_back(make_completion(spec, *read(i, 1), gates_[op.gate].gate, needs_));
    add_activation(op, *spec.out, -1);
}

// `use`: the spread of the gate outside which all is zero or unread, or -1.
void Plan::add_activation(const Operation& op, const Layout& out, int use) {
    if (in_any_kernel(op.activation.kind)) return;
    layers_.push_back(make_activation_in_place({&kernels_, &op, {}, &out, use}, use >= 0));
}

std::unique_ptr<Layer> Plan::make_convolution(ConvolutionSpec spec) {
    if (!suits_winograd(spec)) return make_direct(spec);
    const auto make = suits_winograd_columns(spec) ? make_winograd_columns : make_winograd;
    const bool in_part = note_squares(spec);
    return make(spec, in_part ? make_direct(spec) : nullptr, needs_);
}

std::unique_ptr<Layer> Plan::make_bf16_convolution(ConvolutionSpec spec, Storage results) {
    const auto direct = [&] { return suits_bf16_columns(spec) ? make_bf16_columns(spec, needs_) : make_bf16_product(spec, results, needs_); };
    if (!suits_bf16_winograd(spec)) return direct();
    const bool in_part = note_squares(spec);
    return make_bf16_winograd(spec, in_part ? direct() : nullptr, needs_);
}

std::unique_ptr<Layer> Plan::make_integer_convolution(ConvolutionSpec spec, Storage results) {
    const auto direct = [&] { return suits_integer_columns(spec) ? make_integer_columns(spec, needs_) : make_integer_product(spec, results, needs_); };
    if (!suits_integer_winograd(spec)) return direct();
    const bool in_part = note_squares(spec);
    return make_integer_winograd(spec, in_part ? direct() : nullptr, needs_);
}

bool Plan::note_squares(ConvolutionSpec& spec) {
    const int gate = spec.operation->positions;
    if (gate < 0) return false;
    // Tiles of even sides close whole squares, unless the mask is dilated.
    const int rows = 2 * gates_[gate].gate.rows, columns = 2 * gates_[gate].gate.columns;
    const Value& out = spec.out->value;
    const bool even = out.height % rows == 0 && out.width % columns == 0 && spec.operation->reach == no_reach;
    if (even) spec.squares_use = gates_[gate].positions(out.height / 2, out.width / 2, no_reach);
    return !even;
}

std::unique_ptr<Layer> Plan::make_direct(const ConvolutionSpec& spec) {
    const Operation& op = *spec.operation;
    const int ins = spec.in->value.channels, outs = spec.out->value.channels;
    if (spec.depthwise()) return make_depthwise(spec, form_of(program_, op), needs_);
    const bool few_outputs = costs::dots_pay(outs, ins * spec.joined());
    if (op.groups == 1 && op.in_channels < 0 && few_outputs) return make_dot(spec, needs_);
    if (suits_columns(spec)) return make_columns(spec, needs_);
    return make_product(spec, needs_);
}

void Plan::add_simple(const Operation& op, std::size_t i) {
    SimpleSpec spec{&kernels_, &op, {}};
    spec.form = form_of(program_, op);
    spec.halves = halves_;
    spec.integers = integers_;
    for (std::size_t k = 0; k < op.inputs.size(); k++) spec.in.push_back(read(i, static_cast<int>(k)));
    if (op.kind == Kind::decide) {
        const Gate& gate = gates_[op.output].gate;
        if (summed(spec.form.in))
            layers_.push_back(make_decide_sums(spec, gate));
        else
            layers_.push_back(gate.by_activation() ? make_decide_activations(spec, gate, needs_) : make_decide(spec));
        return;
    }
    spec.out = written(i);
    const Value& out = spec.out->value;
    switch (op.kind) {
        case Kind::pool: layers_.push_back(make_pool(spec)); break;
        case Kind::pool_to_grid: layers_.push_back(make_pool_to_grid(spec, needs_)); break;
        case Kind::conv_transpose:
            layers_.push_back(make_transposed(spec, needs_));
            add_activation(op, *spec.out, -1);
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
        case Kind::quantize:
        case Kind::dequantize:
        case Kind::lookup: layers_.push_back(make_of_integers(spec)); break;
        case Kind::add: layers_.push_back(integral(spec.form.out) ? make_of_integers(spec) : make_elementwise(spec, needs_)); break;
        case Kind::multiply:
        case Kind::arithmetic: layers_.push_back(make_elementwise(spec, needs_)); break;
        case Kind::fill_closed:
            spec.use = gates_[op.gate].positions(out.height, out.width, no_reach);
            layers_.push_back(make_fill_closed(spec));
            break;
        case Kind::mask:
            spec.use = gates_[op.gate].gate.spatial() ? gates_[op.gate].positions(out.height, out.width, op.reach)
                                                    : gates_[op.gate].spread(out.channels);
            [[fallthrough]];
        case Kind::concat:
        case Kind::slice:
        case Kind::pick: layers_.push_back(make_choice(spec)); break;
        default: layers_.push_back(make_row_by_row(spec));
    }
}

}  // namespace convgate
