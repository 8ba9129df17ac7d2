"""Exported networks give the engine's results and decisions in ONNX Runtime."""

import copy
import json

import numpy as np
import pytest
import torch
from tests.engine import small_models
from torch import nn
from torchvision.models import mobilenet_v2

pytest.importorskip("onnxruntime")

import onnx
from tests.onnx_export.runtime import distance, run_file, session
from tests.quantization.test_quantize import Squeezing

import convgate
from convgate.engine.engine import Engine
from convgate.engine.outputs import Rows
from convgate.engine.program import Conv, Program, Value
from convgate.models import create

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))

METHODS = {name: convgate.create_method(name) for name in convgate.list_methods()} | {
    "dilated": convgate.DualGating(dilated=True),
    "filled": convgate.DualGating(filled=True),
}


def gated(model, method, images=IMAGES):
    """A gated network whose gates are of both minds."""
    torch.manual_seed(0)
    network = convgate.gate(model.eval(), method, images).eval()
    for parameter in network.gates.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def assert_same(engine, path, images, tolerance=1e-4, optimised=True):
    """Outputs to `tolerance` of the largest, masks to the bit; returns the engine's run."""
    convgate.export_onnx(engine, path, masks=True)
    found, run = run_file(path, images, optimised=optimised), engine.run(images)
    assert len(found) == len(run.outputs) + len(run.decisions)
    for name, decision in run.decisions.items():
        np.testing.assert_array_equal(found[f"mask.{name}"], decision.mask, err_msg=name)
    for mine, wanted in zip(found.values(), run.outputs, strict=False):
        assert mine.shape == wanted.shape
        assert np.abs(mine - wanted).max() <= tolerance * np.abs(wanted).max()
    return run


@pytest.mark.parametrize("optimised", [True, False], ids=["optimised", "as it stands"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method(name, optimised, tmp_path):
    network = gated(create("cifar_resnet8", width=8), METHODS[name])
    run = assert_same(convgate.compile(network, threads=1), tmp_path / "net.onnx", IMAGES.numpy(), optimised=optimised)
    open_share = np.mean([decision.mask.mean() for decision in run.decisions.values()])
    assert 0.1 < open_share < 0.9


def test_a_mobilenet(tmp_path, randomise):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model = randomise(mobilenet_v2(width_mult=0.25, num_classes=10), images)
    engine = convgate.compile(gated(model, convgate.DualGating(), images), threads=1)
    assert_same(engine, tmp_path / "net.onnx", images.numpy())


def test_squeeze_and_excitation_and_a_concatenation(tmp_path):
    engine = convgate.compile(Squeezing().eval(), IMAGES, threads=1)
    assert_same(engine, tmp_path / "net.onnx", IMAGES.numpy())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", small_models.NATIVE)
def test_ways_of_using_pytorch(name, tmp_path):
    torch.manual_seed(0)
    model, x = copy.deepcopy(small_models.NATIVE[name]).eval(), torch.randn(3, 8, 12, 12)
    assert_same(convgate.compile(model, x, threads=1), tmp_path / "net.onnx", x.numpy())


def test_bfloat16_has_rounded_weights_and_float32_maps(tmp_path):
    network = gated(create("cifar_resnet8", width=8), convgate.BatchShaping())
    plain, engine = (convgate.compile(network, threads=1, precision=p) for p in ("float32", "bf16"))
    convgate.export_onnx(engine, tmp_path / "net.onnx")
    # Far nearer to the network than to another, and not the float32 one.
    found = run_file(tmp_path / "net.onnx", IMAGES.numpy())["output"]
    masks = {name: decision.mask for name, decision in plain.run(IMAGES.numpy()).decisions.items()}
    assert distance(found, engine.run(IMAGES.numpy(), given=masks).outputs[0]) < 0.01
    assert distance(found, plain(IMAGES.numpy())) > 1e-5
    for constant in onnx.load(tmp_path / "net.onnx").graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        if array.ndim == 4 and constant.name.startswith("layer"):
            assert array.dtype == np.float32
            assert (array.view(np.uint32) & 0xFFFF == 0).all(), constant.name


def test_any_number_of_images_of_one_size(tmp_path):
    engine = convgate.compile(gated(create("cifar_resnet8", width=8), convgate.DualGating()), threads=1)
    convgate.export_onnx(engine, tmp_path / "net.onnx")
    ready = session(tmp_path / "net.onnx")
    assert [(i.name, i.shape) for i in ready.get_inputs()] == [("images", ["N", 3, 16, 16])]
    assert [(o.name, o.shape) for o in ready.get_outputs()] == [("output", ["N", 10])]
    whole = ready.run(None, {"images": IMAGES.numpy()})[0]
    for number in (1, 3):
        some = ready.run(None, {"images": IMAGES[:number].numpy()})[0]
        np.testing.assert_allclose(some, whole[:number], rtol=1e-4, atol=1e-5)


def test_what_the_file_says(tmp_path):
    network = gated(create("cifar_resnet8", width=8), convgate.DualGating())
    network.preparation = convgate.Preparation((16, 16), 18, classes=tuple("abcdefghij"))
    engine = convgate.compile(network, threads=1)
    convgate.export_onnx(engine.program, tmp_path / "net.onnx", masks=True)
    model = onnx.load(tmp_path / "net.onnx")
    assert (model.opset_import[0].version, model.ir_version, model.producer_name) == (17, 8, "convgate")
    data = {entry.key: entry.value for entry in model.metadata_props}
    preparation = convgate.Preparation.from_data(json.loads(data["convgate.preparation"]))
    assert preparation == network.preparation
    assert data["convgate.precision"] == "float32"
    gates = json.loads(data["convgate.gates"])
    outputs = {output.name: [d.dim_value for d in output.type.tensor_type.shape.dim] for output in model.graph.output}
    assert gates.keys() == {gate.name for gate in engine.program.gates}
    for gate in gates.values():
        assert outputs[gate["output"]][1:] == gate["shape"]


def test_masks_are_outputs_only_if_asked_for(tmp_path):
    engine = convgate.compile(gated(create("cifar_resnet8", width=8), convgate.BatchShaping()), threads=1)
    convgate.export_onnx(engine, tmp_path / "net.onnx")
    assert list(run_file(tmp_path / "net.onnx", IMAGES.numpy())) == ["output"]


class Dict(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return {"out": self.a(x), "more": (self.b(x), x)}


def test_a_dict_gives_its_keys_as_names(tmp_path):
    engine = convgate.compile(Dict().eval(), IMAGES, threads=1)
    assert_same(engine, tmp_path / "net.onnx", IMAGES.numpy())
    found = run_file(tmp_path / "net.onnx", IMAGES.numpy())
    assert list(found) == ["out", "more.0", "more.1"]
    np.testing.assert_array_equal(found["more.1"], IMAGES.numpy())


@pytest.mark.parametrize("across", [False, True])
def test_maps_as_rows(across, tmp_path):
    rng = np.random.default_rng(0)
    values = (Value("x", 3, 4, 5), Value("a", 6, 4, 5), Value("b", 4, 2, 2))
    operations = (
        Conv(("x",), "a", "wa", "", "a"),
        Conv(("x",), "b", "wb", "", "b", stride=(2, 3)),
    )
    arrays = {name: rng.standard_normal((n, 3, 1, 1)).astype(np.float32) for name, n in (("wa", 6), ("wb", 4))}
    returns = {"rows": Rows((0, 1), 2, across), "map": 1, "nothing": None}
    program = Program(values, (), operations, ("x",), ("a", "b"), arrays, ("a", "b"), returns=returns)
    images = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    assert_same(Engine(program, threads=1), tmp_path / "net.onnx", images)
    assert list(run_file(tmp_path / "net.onnx", images)) == ["rows", "map"]
