"""Gated networks in other tools' hands: exporters, function transforms, averages, other processes."""

import copy
import pickle
import warnings

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from convgate import DualGating, gate
from convgate.errors import ConvgateError, InputError
from convgate.methods import METHODS, ChannelGating, GlobalGater
from convgate.models import create

MADE = {name: method() for name, method in METHODS.items()}
MADE["GlobalGater"] = GlobalGater(gater={"name": "cifar_resnet8", "options": {"width": 2}}, bottleneck=4)
MADE["two norms"] = ChannelGating(form="paper")


@pytest.fixture(scope="module", params=MADE)
def gated(request, randomise, scatter):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    return scatter(gate(randomise(create("cifar_resnet8", width=4), x), MADE[request.param], x)), x


@pytest.fixture
def plain(small):
    return small


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*deprecated")
def test_traced_by_torch_jit(gated):
    net, x = gated
    traced = torch.jit.trace(net, x)
    y = net(x)
    torch.testing.assert_close(traced(x), y)
    torch.testing.assert_close(traced(x[:1]), y[:1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_exported_by_torch_export(gated):
    net, x = gated
    exported = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    torch.testing.assert_close(exported.module()(x), net(x))
    torch.testing.assert_close(exported.module()(x[[0, 1, 1]]), net(x[[0, 1, 1]]), rtol=1e-4, atol=1e-5)
    assert set(exported.state_dict) <= net.state_dict().keys()


@torch.no_grad()
def test_exported_for_another_size(plain):
    net, _ = plain
    x = torch.randn(2, 3, 20, 24)
    with pytest.raises(InputError, match="20x24 pixels; run it once"):
        torch.export.export(net, (x,))
    net(x)
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))


@torch.no_grad()
def test_exported_to_onnx(plain):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    net, x = plain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(net, (x,), dynamo=True, verbose=False)
    session = runtime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), net(x), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_converted_by_openvino(plain):
    openvino = pytest.importorskip("openvino")
    net, x = plain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(net, example_input=x)
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    y = openvino.compile_model(model, "CPU", options)(x.numpy())[0]
    torch.testing.assert_close(torch.from_numpy(y), net(x), rtol=1e-3, atol=1e-4)


def test_gradients_of_a_function_of_the_weights(gated):
    net, x = gated
    net = copy.deepcopy(net)
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(weights, images):
        return functional_call(net, weights, (images,), {"given": net.open_decisions(len(images))}).square().mean()

    ours = grad(loss)(weights, x)
    net(x, given=net.open_decisions(len(x))).square().mean().backward()
    for name, p in net.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(ours[name], p.grad, rtol=1e-3, atol=1e-5)


def test_gradients_image_by_image(plain):
    net, x = plain
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(weights, image):
        return functional_call(net, weights, (image[None],)).square().mean()

    each = vmap(grad(loss), in_dims=(None, 0))(weights, x)
    for number, image in enumerate(x):
        one = grad(loss)(weights, image)
        torch.testing.assert_close(each["conv1.weight"][number], one["conv1.weight"], rtol=1e-3, atol=1e-5)


def test_averages_of_weights(gated):
    net, x = gated
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    with torch.no_grad():
        average.update_parameters(net)
        torch.testing.assert_close(average(x), net(x))
        other = copy.deepcopy(net)
        for parameter in other.parameters():
            parameter.zero_()
        average.update_parameters(other)
        mean = average.module.state_dict()["conv1.weight"]
        torch.testing.assert_close(mean, net.conv1.weight / 2)
        average.module.decide(x)


def test_timms_average_of_weights(plain):
    utils = pytest.importorskip("timm.utils")
    net, x = plain
    average = utils.ModelEmaV3(net, decay=0.5)
    with torch.no_grad():
        average.update(net)
        assert torch.equal(average.module(x), net(x))


def _run(rank, net, x, queue):
    torch.set_num_threads(1)
    with torch.no_grad():
        queue.put(net.decide(x)[0].tolist())


def test_sent_to_another_process(plain):
    net, x = plain
    context = mp.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_run, args=(0, net, x, queue))
    process.start()
    y = queue.get(timeout=120)
    process.join()
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(y), net(x))


def test_pickled(gated):
    net, x = gated
    again = pickle.loads(pickle.dumps(net))
    with torch.no_grad():
        assert torch.equal(again(x), net(x))
    assert again.plan.gates == net.plan.gates


class Reparameterised(nn.Module):
    """Two branches that become one convolution, as RepVGG's and MobileOne's do."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.large, self.small = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.last, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 5, 1)

    def reparameterize(self):
        with torch.no_grad():
            self.large.weight[:, :, 1:2, 1:2] += self.small.weight
            self.large.bias += self.small.bias
        self.small = None

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.large(x) if self.small is None else self.large(x) + self.small(x)
        return self.head((x + self.last(y.relu())).relu()).mean((2, 3))


@torch.no_grad()
def test_reparameterised_before_gating_or_as_the_ordinary_model():

    torch.manual_seed(0)
    x, model = torch.randn(2, 3, 8, 8), Reparameterised().eval()
    y = model(x)
    net = gate(model, DualGating(), x)
    with pytest.raises(ConvgateError, match=r"net\.dense\(\)\.reparameterize"):
        net.reparameterize()
    dense = net.dense()
    dense.reparameterize()
    torch.testing.assert_close(dense(x), y)
    again = gate(dense, DualGating(), x)
    torch.testing.assert_close(again.replay(x, again.open_decisions(2)), y)
    torch.testing.assert_close(net.replay(x, net.open_decisions(2)), y)
