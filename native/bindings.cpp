// The Python module `convgate.engine._native`: builds networks from plain data and runs them on NumPy arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <stdexcept>

#include "runtime/network.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Halves = nb::ndarray<const std::uint16_t, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const std::int8_t, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<const std::int32_t, nb::c_contig, nb::device::cpu>;
using Results = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const std::uint8_t, nb::c_contig, nb::device::cpu>;

const std::map<std::string, convgate::Kind> kinds = {
    {"Conv", convgate::Kind::conv},         {"Pool", convgate::Kind::pool},
    {"PoolToGrid", convgate::Kind::pool_to_grid}, {"Activate", convgate::Kind::activate},
    {"Affine", convgate::Kind::affine},     {"Add", convgate::Kind::add},
    {"Multiply", convgate::Kind::multiply}, {"Concat", convgate::Kind::concat},
    {"Slice", convgate::Kind::slice},       {"Decide", convgate::Kind::decide},
    {"Mask", convgate::Kind::mask},         {"Complete", convgate::Kind::complete},
    {"Pick", convgate::Kind::pick},         {"PRelu", convgate::Kind::prelu},
    {"Arithmetic", convgate::Kind::arithmetic}, {"Constant", convgate::Kind::constant},
    {"Interpolate", convgate::Kind::interpolate}, {"ConvTranspose", convgate::Kind::conv_transpose},
    {"Pad", convgate::Kind::pad},           {"PixelShuffle", convgate::Kind::pixel_shuffle},
    {"PixelUnshuffle", convgate::Kind::pixel_unshuffle}, {"Reshape", convgate::Kind::reshape},
    {"GroupNorm", convgate::Kind::group_norm}, {"LayerNorm", convgate::Kind::layer_norm},
    {"Softmax", convgate::Kind::softmax},   {"OverChannels", convgate::Kind::over_channels},
    {"Quantize", convgate::Kind::quantize}, {"Dequantize", convgate::Kind::dequantize},
    {"Lookup", convgate::Kind::lookup},     {"FillClosed", convgate::Kind::fill_closed},
};

const std::map<std::string, convgate::Storage> storages = {
    {"float32", convgate::Storage::f32},
    {"bfloat16", convgate::Storage::bf16},
    {"int8", convgate::Storage::s8},
    {"uint8", convgate::Storage::u8},
    {"int32", convgate::Storage::s32},
};

const std::map<std::string, convgate::GateKind> gate_kinds = {
    {"spatial", convgate::GateKind::spatial},
    {"channel", convgate::GateKind::channel},
    {"activation", convgate::GateKind::activation},
};

const std::map<std::string, convgate::Activation> activations = {
    {"none", convgate::Activation::none},       {"relu", convgate::Activation::relu},
    {"relu6", convgate::Activation::relu6},     {"hardswish", convgate::Activation::hardswish},
    {"silu", convgate::Activation::silu},       {"sigmoid", convgate::Activation::sigmoid},
    {"hardsigmoid", convgate::Activation::hardsigmoid}, {"leaky_relu", convgate::Activation::leaky_relu},
    {"elu", convgate::Activation::elu},         {"gelu", convgate::Activation::gelu},
    {"gelu_tanh", convgate::Activation::gelu_tanh}, {"mish", convgate::Activation::mish},
    {"tanh", convgate::Activation::tanh},       {"softplus", convgate::Activation::softplus},
    {"clamp", convgate::Activation::clamp},
};

const std::map<std::string, convgate::Arithmetic> arithmetics = {
    {"divide", convgate::Arithmetic::divide},
    {"maximum", convgate::Arithmetic::maximum},
    {"minimum", convgate::Arithmetic::minimum},
};

const std::map<std::string, convgate::PaddingMode> padding_modes = {
    {"constant", convgate::PaddingMode::constant},
    {"reflect", convgate::PaddingMode::reflect},
    {"replicate", convgate::PaddingMode::replicate},
    {"circular", convgate::PaddingMode::circular},
};

const std::map<std::string, convgate::Interpolation> interpolations = {
    {"nearest", convgate::Interpolation::nearest},
    {"nearest-exact", convgate::Interpolation::nearest_exact},
    {"bilinear", convgate::Interpolation::bilinear},
};

template <typename Map>
typename Map::mapped_type named(const Map& map, const std::string& name) {
    const auto found = map.find(name);
    if (found == map.end()) throw std::invalid_argument("unknown name '" + name + "'");
    return found->second;
}

// Arrays whose memory is borrowed while a plan is made.
struct Held {
    std::vector<Floats> floats;
    std::vector<Halves> halves;
    std::vector<Weights> weights;
    std::vector<Integers> integers;
};

// Fields of one operation.
class Fields {
public:
    Fields(const nb::dict& fields, Held& held) : fields_(fields), held_(held) {}

    template <typename T>
    T get(const char* name, T otherwise) const {
        return fields_.contains(name) ? nb::cast<T>(fields_[name]) : otherwise;
    }
    convgate::Pair pair(const char* name) const {
        const auto [y, x] = get(name, std::make_pair(1, 1));
        return {y, x};
    }
    // float32, bfloat16 as uint16, int8 or int32.
    convgate::Array array(const char* name) const {
        convgate::Array array;
        if (!fields_.contains(name) || fields_[name].is_none()) return array;
        const nb::handle from = fields_[name];
        if (const Halves* halves = holds(from, held_.halves, array.shape))
            array.halves = reinterpret_cast<const convgate::Bf16*>(halves->data());
        else if (const Weights* weights = holds(from, held_.weights, array.shape))
            array.bytes = weights->data();
        else if (const Integers* integers = holds(from, held_.integers, array.shape))
            array.integers = integers->data();
        else if (const Floats* floats = holds(from, held_.floats, array.shape))
            array.data = floats->data();
        else
            throw std::invalid_argument(std::string("'") + name + "' is an array of another type");
        return array;
    }

private:
    template <typename T>
    static const T* holds(nb::handle from, std::vector<T>& held, std::vector<std::size_t>& shape) {
        T array;
        if (!nb::try_cast(from, array, false)) return nullptr;
        held.push_back(array);
        for (std::size_t i = 0; i < array.ndim(); i++) shape.push_back(array.shape(i));
        return &held.back();
    }

    const nb::dict& fields_;
    Held& held_;
};

convgate::Operation parse(const Fields& f) {
    convgate::Operation op{};
    op.kind = named(kinds, f.get("kind", std::string()));
    op.inputs = f.get("inputs", std::vector<int>());
    op.output = f.get("output", -1);
    op.activation.kind = named(activations, f.get("activation", std::string("none")));
    const std::vector<float> parameters = f.get("parameters", std::vector<float>());
    if (parameters.size() > 3) throw std::invalid_argument("an activation of more than three parameters");
    float* const to[] = {&op.activation.a, &op.activation.b, &op.activation.c};
    for (std::size_t i = 0; i < parameters.size(); i++) *to[i] = parameters[i];
    const bool scales = op.kind == convgate::Kind::affine || op.kind == convgate::Kind::group_norm ||
                        op.kind == convgate::Kind::layer_norm;
    op.weight = f.array(scales                               ? "scale"
                        : op.kind == convgate::Kind::decide ? "offset"
                        : op.kind == convgate::Kind::lookup ? "table"
                                                             : "weight");
    op.arithmetic = named(arithmetics, f.get("arithmetic", std::string("divide")));
    if (op.kind == convgate::Kind::interpolate) op.interpolation = named(interpolations, f.get("mode", std::string()));
    if (op.kind == convgate::Kind::pad) op.padding_mode = named(padding_modes, f.get("mode", std::string()));
    op.fill = f.get("value", 0.0f);
    op.epsilon = f.get("epsilon", 0.0f);
    op.factor = f.get("factor", 1);
    op.align_corners = f.get("align_corners", false);
    std::tie(op.scale_y, op.scale_x) = f.get("scales", std::make_pair(0.0, 0.0));
    op.bias = f.array(scales ? "shift" : "bias");
    op.stride = f.pair("stride");
    op.dilation = f.pair("dilation");
    op.kernel = f.pair("kernel");
    const bool convolves = op.kind == convgate::Kind::conv || op.kind == convgate::Kind::complete ||
                           op.kind == convgate::Kind::conv_transpose;
    if (convolves && op.weight.shape.size() == 4)
        op.kernel = {static_cast<int>(op.weight.shape[2]), static_cast<int>(op.weight.shape[3])};
    std::tie(op.top, op.left, op.bottom, op.right) = f.get("padding", std::make_tuple(0, 0, 0, 0));
    op.groups = f.get("groups", 1);
    op.positions = f.get("positions", -1);
    op.in_channels = f.get("in_channels", -1);
    op.out_channels = f.get("out_channels", -1);
    std::tie(op.reach.y, op.reach.x) = f.get("reach", std::make_pair(0, 0));
    op.layer = f.get("layer", -1);
    op.maximum = f.get("maximum", false);
    op.count_padding = f.get("count_padding", true);
    op.begin = f.get("begin", 0);
    op.gate = f.get("gate", -1);
    op.gate_is_spatial = f.get("gate_is_spatial", false);
    op.strict = f.get("strict", false);
    op.channels = f.get("channels", std::vector<int>());
    if (op.kind == convgate::Kind::complete && op.weight.bytes) {
        op.multiplier = f.array("multiplier");
        op.shifts = f.array("shift");
        op.open_bias = f.array("open_bias");
        op.open_multiplier = f.array("open_multiplier");
        op.open_shifts = f.array("open_shift");
    } else if (op.kind == convgate::Kind::complete || op.kind == convgate::Kind::decide) {
        op.scale = f.array("scale");
        op.shift = f.array("shift");
        op.open_scale = f.array("open_scale");
        op.open_shift = f.array("open_shift");
    }
    if (op.kind == convgate::Kind::conv) {
        op.multiplier = f.array("multiplier");
        op.shifts = f.array("shift");
        op.scale = f.array("scale");
    }
    const auto rescales = f.get("rescale", std::vector<std::pair<int, int>>());
    if (rescales.size() > 2) throw std::invalid_argument("more than two scales");
    for (std::size_t i = 0; i < rescales.size(); i++) op.rescale[i] = {rescales[i].first, rescales[i].second};
    op.low = f.get("low", 0);
    op.high = f.get("high", 0);
    return op;
}

// Channels, height, width, elements, scale.
using Values = std::vector<std::tuple<int, int, int, std::string, double>>;
using Gates = std::vector<std::tuple<std::string, int, int, int, int>>;
using SharedPlan = std::shared_ptr<const convgate::Plan>;

SharedPlan make_plan(const Values& values, const Gates& gates, const nb::list& operations,
                     std::vector<int> inputs, std::vector<int> outputs, int layers, int threads, const std::string& isa) {
    if (threads < 1 || threads > 1024) throw std::invalid_argument("a number of threads from 1 to 1024");
    convgate::Program program;
    bool halves = false;
    for (const auto& [channels, height, width, element, scale] : values) {
        program.values.push_back({channels, height, width, named(storages, element), scale});
        halves |= program.values.back().storage == convgate::Storage::bf16;
    }
    for (const auto& [kind, units, rows, columns, group] : gates)
        program.gates.push_back({named(gate_kinds, kind), units, rows, columns, group});
    Held held;
    for (nb::handle operation : operations) {
        const nb::dict fields = nb::cast<nb::dict>(operation);
        program.operations.push_back(parse(Fields(fields, held)));
    }
    program.inputs = std::move(inputs);
    program.outputs = std::move(outputs);
    program.layers = layers;
    // Of that name there may be kernels for each type of storage.
    if (halves)
        if (const convgate::Bf16Kernels* kernels = convgate::find_bf16_kernels(isa.c_str()))
            return std::make_shared<const convgate::Plan>(program, *kernels, threads);
    if (!halves)
        if (const convgate::Int8Kernels* kernels = convgate::find_int8_kernels(isa.c_str()))
            return std::make_shared<const convgate::Plan>(program, *kernels, threads);
    if (const convgate::Kernels* kernels = convgate::find_kernels(isa.c_str()))
        return std::make_shared<const convgate::Plan>(program, *kernels, threads);
    // Parts of a program in bfloat16 may hold nothing of it.
    if (const convgate::Bf16Kernels* kernels = convgate::find_bf16_kernels(isa.c_str()))
        return std::make_shared<const convgate::Plan>(program, *kernels->floats, threads);
    throw std::invalid_argument("no kernels for '" + isa + "' on this machine");
}

// A plan as a Python object: what networks share.
struct PyPlan {
    SharedPlan plan;
};

class PyNetwork {
public:
    explicit PyNetwork(const PyPlan& plan) : program_(plan.plan->program()), network_(plan.plan) {}

    template <typename T>
    auto tensor(const T& a, int v, std::size_t batch) const {
        const convgate::Value& value = program_.values[v];
        if (a.size() != batch * static_cast<std::size_t>(value.positions()) * value.channels)
            throw std::invalid_argument("an array of another size");
        return a.data();
    }
    template <typename T>
    auto units(const T& a, int g, std::size_t batch) const {
        if (g >= static_cast<int>(program_.gates.size()) || a.size() != batch * program_.gates[g].size())
            throw std::invalid_argument("a mask of another size");
        return a.data();
    }

    static double* times(const nb::object& object, std::size_t size) {
        if (object.is_none()) return nullptr;
        const auto array = nb::cast<nb::ndarray<double, nb::c_contig, nb::device::cpu>>(object);
        if (array.size() != size) throw std::invalid_argument("times of another size");
        return array.data();
    }

    void run(const std::vector<Floats>& inputs, const std::vector<Results>& outputs, const nb::dict& given,
             const std::vector<nb::ndarray<std::uint8_t, nb::c_contig, nb::device::cpu>>& masks,
             const std::vector<Results>& logits,
             const nb::object& macs, const nb::object& total, const nb::object& seconds) {
        if (inputs.size() != program_.inputs.size() || outputs.size() != program_.outputs.size())
            throw std::invalid_argument("another number of inputs or outputs");
        if (inputs[0].ndim() != 4) throw std::invalid_argument("an input of another rank");
        const std::size_t batch = inputs[0].shape(0);
        std::vector<const float*> from;
        std::vector<float*> to;
        for (std::size_t i = 0; i < inputs.size(); i++) from.push_back(tensor(inputs[i], program_.inputs[i], batch));
        for (std::size_t i = 0; i < outputs.size(); i++) to.push_back(tensor(outputs[i], program_.outputs[i], batch));
        std::vector<Bytes> held;
        std::vector<const std::uint8_t*> masks_given(program_.gates.size(), nullptr);
        for (auto [gate, mask] : given) {
            const int g = nb::cast<int>(gate);
            if (g < 0 || g >= static_cast<int>(program_.gates.size())) throw std::invalid_argument("a gate that does not exist");
            held.push_back(nb::cast<Bytes>(mask));
            masks_given[g] = units(held.back(), g, batch);
        }
        convgate::Details details;
        for (std::size_t g = 0; g < masks.size(); g++) details.masks.push_back(units(masks[g], static_cast<int>(g), batch));
        for (std::size_t g = 0; g < logits.size(); g++) details.logits.push_back(units(logits[g], static_cast<int>(g), batch));
        if (!macs.is_none()) {
            const auto counts = nb::cast<nb::ndarray<std::int64_t, nb::c_contig, nb::device::cpu>>(macs);
            if (counts.size() != batch * static_cast<std::size_t>(program_.layers)) throw std::invalid_argument("counts of another size");
            details.macs = counts.data();
        }
        details.total = times(total, batch);
        details.seconds = times(seconds, batch * program_.operations.size());
        const nb::gil_scoped_release unlocked;
        network_.run(static_cast<int>(batch), from, to, masks_given, details);
    }

    std::string isa() const { return network_.plan().isa(); }
    int threads() const { return network_.plan().threads(); }
    std::size_t bytes() const { return network_.bytes(); }

private:
    const convgate::Program& program_;  // the plan's
    convgate::Network network_;
};

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "The engine's native runtime. Use it through `convgate.engine`.";
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const char* const* name = convgate::available_kernels(); *name; name++) names.push_back(*name);
        return names;
    });
    m.def("bf16_instruction_sets", [] {
        std::vector<std::string> names;
        for (const char* const* name = convgate::available_bf16_kernels(); *name; name++) names.push_back(*name);
        return names;
    });
    m.def("int8_instruction_sets", [] {
        std::vector<std::string> names;
        for (const char* const* name = convgate::available_int8_kernels(); *name; name++) names.push_back(*name);
        return names;
    });
    m.def("seconds_to_share", &convgate::seconds_to_share, nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>());
    nb::class_<PyPlan>(m, "Plan", nb::is_weak_referenceable())
        .def("__init__",
             [](PyPlan* self, const Values& values, const Gates& gates, const nb::list& operations,
                std::vector<int> inputs, std::vector<int> outputs, int layers, int threads, const std::string& isa) {
                 new (self) PyPlan{make_plan(values, gates, operations, std::move(inputs), std::move(outputs), layers, threads, isa)};
             },
             "values"_a, "gates"_a, "operations"_a, "inputs"_a, "outputs"_a, "layers"_a, "threads"_a, "isa"_a);
    nb::class_<PyNetwork>(m, "Network")
        .def(nb::init<const PyPlan&>(), "plan"_a)
        .def("run", &PyNetwork::run, "inputs"_a, "outputs"_a, "given"_a, "masks"_a, "logits"_a, "macs"_a.none(), "total"_a.none(), "seconds"_a.none())
        .def_prop_ro("isa", &PyNetwork::isa)
        .def_prop_ro("threads", &PyNetwork::threads)
        .def_prop_ro("bytes", &PyNetwork::bytes);
}
