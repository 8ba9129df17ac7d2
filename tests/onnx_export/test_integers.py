"""Networks of 8-bit integers as QDQ: the structure that runtimes look for, and nearly the engine's results."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

import onnx
from onnx import numpy_helper
from tests.onnx_export.runtime import distance, run_file
from tests.onnx_export.test_export import gated
from tests.quantization.test_quantize import IMAGES, METHODS, models
from torch import nn

import convgate
from convgate.engine.program import Dequantize, Element, IntegerConvToFloat, Lookup, Program, Quantize, Value
from convgate.models import create
from convgate.onnx_export.tables import keeps_zero

QDQ = ("QuantizeLinear", "DequantizeLinear")


def graph_of(path):
    """The graph of a file, its constants by name, and which node writes each tensor."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return graph, constants, {name: node for node in graph.node for name in node.output}


def assert_qdq(engine, path, floats=0):
    """Of every convolution of integers, map, weights and bias are DequantizeLinears'; `floats` of heads are not.

    Weights and their zero points are each read once: ONNX Runtime's `session.x64quantprecision`, which works on x86
    without VNNI alone, fails else.
    """
    graph, constants, writer = graph_of(path)
    convs = [node for node in graph.node if node.op_type == "Conv"]
    plain = [node for node in convs if node.input[1] in constants]
    assert len(plain) == floats
    assert len(convs) > len(plain)
    for node in convs:
        if node not in plain:
            assert {writer[name].op_type for name in node.input} == {"DequantizeLinear"}, node.name
            weight, scales, zeros = (constants[name] for name in writer[node.input[1]].input)
            assert weight.dtype == np.int8
            assert scales.shape == zeros.shape == weight.shape[:1]
            assert (scales > 0).all()
            if len(node.input) > 2:
                assert constants[writer[node.input[2]].input[0]].dtype == np.int32
    integers = [
        name
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
        for name in (node.input[0], node.input[2])
    ]
    assert len(set(integers)) == len(integers)
    for node in graph.node:
        if node.op_type in QDQ:
            assert not constants[node.input[2]].any(), "a zero point that is not zero"
            if node.op_type == "QuantizeLinear":
                # Runtimes fuse where scale and zero point of a map are scalars.
                assert constants[node.input[1]].shape == constants[node.input[2]].shape == ()


@pytest.mark.parametrize("optimised", [True, False], ids=["optimised", "as it stands"])
@pytest.mark.parametrize("name", models())
def test_networks(name, optimised, tmp_path):
    engine = convgate.quantize(models()[name].eval(), [IMAGES], threads=1)
    convgate.export_onnx(engine, tmp_path / "net.onnx")
    found, run = run_file(tmp_path / "net.onnx", IMAGES.numpy(), optimised=optimised), engine.run(IMAGES.numpy())
    for mine, wanted in zip(found.values(), run.outputs, strict=True):
        assert distance(mine, wanted) < 0.02  # a step here and there; from float32 it is 0.01 to 0.05
    assert_qdq(engine, tmp_path / "net.onnx")


class Twice(nn.Module):
    """One convolution that is run twice, so that its weights are in two operations."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.head(self.conv(self.conv(self.stem(x)).relu()))


def test_weights_that_two_convolutions_share(tmp_path):
    engine = convgate.quantize(Twice().eval(), [IMAGES], threads=1)
    convgate.export_onnx(engine, tmp_path / "net.onnx")
    assert_qdq(engine, tmp_path / "net.onnx")
    assert distance(*run_file(tmp_path / "net.onnx", IMAGES.numpy()).values(), engine(IMAGES.numpy())) < 0.02


@pytest.mark.parametrize("name", METHODS)
def test_gated_networks(name, tmp_path):
    engine = convgate.quantize(gated(create("cifar_resnet8", width=8), METHODS[name]), [IMAGES], threads=1)
    convgate.export_onnx(engine, tmp_path / "net.onnx", masks=True)
    found, run = run_file(tmp_path / "net.onnx", IMAGES.numpy()), engine.run(IMAGES.numpy())
    differ = [(found[f"mask.{gate}"] != decision.mask).mean() for gate, decision in run.decisions.items()]
    assert np.mean(differ) < 0.02
    # Of images whose decisions are all the same: another path is another result.
    same = np.all(
        [(found[f"mask.{g}"] == d.mask).reshape(len(IMAGES), -1).all(1) for g, d in run.decisions.items()], axis=0
    )
    assert same.any()
    assert distance(found["output"][same], run.outputs[0][same]) < 0.05
    heads = sum(type(op).__name__ == "Conv" for op in engine.program.operations)
    assert_qdq(engine, tmp_path / "net.onnx", floats=heads)


def test_onnxruntime_makes_integer_convolutions_of_them(tmp_path):
    """All but those with a shortcut, whose sum has no 8-bit form, and the last, which is given as floats."""
    import onnxruntime

    engine = convgate.quantize(gated(create("cifar_resnet8", width=8), convgate.DualGating()), [IMAGES], threads=1)
    convgate.export_onnx(engine, tmp_path / "net.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 3
    onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    integers = [op for op in engine.program.operations if type(op).__name__ == "IntegerConv"]
    assert kinds.count("QLinearConv") == sum(len(op.inputs) == 1 for op in integers) > 0


def test_openvino_gives_the_same(tmp_path):
    pytest.importorskip("openvino")
    from convgate.bench.runtimes.openvino import _core  # the one of this process, see there

    engine = convgate.quantize(gated(create("cifar_resnet8", width=8), convgate.ChannelGating()), [IMAGES], threads=1)
    convgate.export_onnx(engine, tmp_path / "net.onnx")
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = _core().compile_model(_core().read_model(str(tmp_path / "net.onnx")), "CPU", options)
    assert distance(compiled(IMAGES.numpy())[0], engine(IMAGES.numpy())) < 0.05


@pytest.mark.parametrize("element", [Element.INT8, Element.UINT8])
@pytest.mark.parametrize("result", [Element.INT8, Element.UINT8])
def test_tables_are_exact(element, result, tmp_path):
    low, high = element.limits
    shape = (1, 1, high - low + 1)
    table = np.random.default_rng(0).integers(*result.limits, 256, endpoint=True).astype(str(result))
    values = (
        Value("images", *shape), Value("x", *shape, element, 0.5), Value("y", *shape, result, 0.25),
        Value("end", *shape),
    )  # fmt: skip
    operations = (Quantize(("images",), "x"), Lookup(("x",), "y", "t"), Dequantize(("y",), "end"))
    program = Program(values, (), operations, ("images",), ("end",), {"t": table})
    images = 0.5 * np.arange(low, high + 1, dtype=np.float32).reshape(1, *shape)
    convgate.export_onnx(program, tmp_path / "net.onnx")
    begin = 128 if element is Element.INT8 else 0
    wanted = 0.25 * table[np.arange(low, high + 1) + begin].astype(np.float32)
    np.testing.assert_array_equal(run_file(tmp_path / "net.onnx", images)["output"].ravel(), wanted)
    table[begin] = 0
    assert keeps_zero(program, operations[1])
    table[begin] = 1
    assert not keeps_zero(program, operations[1])


def test_weights_take_the_sign_of_a_scale(tmp_path):
    """A channel whose results are its sums times something negative, or nothing."""
    values = (Value("images", 1, 1, 1), Value("x", 1, 1, 1, Element.UINT8, 0.5), Value("y", 3, 1, 1))
    operations = (
        Quantize(("images",), "x"),
        IntegerConvToFloat(("x",), "y", "w", "b", "y", scale="s"),
    )
    arrays = {
        "w": np.array([5, 5, 5], np.int8).reshape(3, 1, 1, 1),
        "b": np.array([1, 1, 1], np.int32),
        "s": np.array([0.25, -0.25, 0.0], np.float32),
    }
    program = Program(values, (), operations, ("images",), ("y",), arrays, ("y",), vectors=("y",))
    convgate.export_onnx(program, tmp_path / "net.onnx")
    found = run_file(tmp_path / "net.onnx", np.full((1, 1, 1, 1), 3.0, np.float32))["output"]
    np.testing.assert_allclose(found, [[31 / 4, -31 / 4, 0]], rtol=1e-6)
    assert_qdq(None, tmp_path / "net.onnx")
