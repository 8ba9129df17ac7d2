"""Models with Python around their convolutions: torchvision's detectors, and classes of the tests' own."""

import copy
import pickle
from collections import OrderedDict
from functools import cache

import pytest
import torch
from tests.detectors import DETECTORS, build, same
from torch import nn

import convgate
from convgate.calibration import calibrate
from convgate.errors import InputError, PlanError
from convgate.gated import GatedModel, GatedNetwork, gate, plan
from convgate.methods import BatchShaping, DualGating
from convgate.models import create

IMAGES = [torch.rand(3, 60, 44, generator=torch.Generator().manual_seed(i)) for i in range(2)]
MIXED = [IMAGES[0], torch.rand(3, 30, 70)]


@cache
def gated(name):
    model = build(name)
    return model, gate(model, DualGating(init="paper"), IMAGES)


@pytest.fixture(params=DETECTORS)
def pair(request):
    return gated(request.param)


@torch.no_grad()
def test_with_every_gate_open_a_detector_finds_the_same(pair):
    model, net = pair
    assert isinstance(net, GatedModel)
    assert isinstance(net, type(model))
    for images in (IMAGES, MIXED):
        found, decisions = net.decide(images)
        assert len(found) == len(images) == decisions.batch_size
        opened = net.replay(images, net.open_decisions(len(images), decisions.size))
        assert same(opened, model(images))
        assert len(opened[0]["boxes"])
        assert same(net(images), found)


def test_it_keeps_the_names_and_the_loss(pair):
    model, net = pair
    names = model.state_dict().keys()
    assert [name for name in net.state_dict() if name not in names and not name.startswith("gates.")] == []
    assert names <= net.state_dict().keys()
    target = {"boxes": torch.tensor([[4.0, 4.0, 30.0, 30.0]]), "labels": torch.tensor([1])}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    own, theirs = copy.deepcopy(net).train(), copy.deepcopy(model).train()
    torch.manual_seed(0)
    losses = own(MIXED, [target, nothing])
    torch.manual_seed(0)
    assert losses.keys() == theirs(MIXED, [target, nothing]).keys()
    sum(losses.values()).backward()
    grads = [p.grad for p in own.gate_parameters() if p.grad is not None]
    assert any(bool(grad.any()) for grad in grads)


@torch.no_grad()
def test_copies_and_the_ordinary_model():
    model, net = gated("SSD")
    assert same(net.dense()(IMAGES), model(IMAGES))
    assert type(net.dense()) is type(model)
    expected = net(IMAGES)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert same(other(IMAGES), expected)
        other.load_state_dict({name: torch.zeros_like(value) for name, value in other.state_dict().items()})
        assert not same(other(IMAGES), expected)
    assert same(net(IMAGES), expected)
    half = copy.deepcopy(net).double()
    assert half([image.double() for image in IMAGES])[0]["boxes"].dtype == torch.float64


@torch.no_grad()
def test_cost_is_that_of_the_prepared_batch(pair):
    _, net = pair
    _, decisions = net.decide(MIXED)
    cost = net.cost(decisions)
    assert cost.macs.shape == (2,)
    assert cost.dense == net.ledger_at(decisions.size).dense
    everything = net.cost(net.open_decisions(1, decisions.size)).macs - net.ledger_at(decisions.size).gate_macs
    assert everything.item() == cost.dense


def test_a_budget_over_images_of_several_sizes():
    net = copy.deepcopy(gated("Faster R-CNN")[1])
    batches = [IMAGES, (MIXED[1:], None), [torch.rand(3, 40, 40), torch.rand(3, 64, 50)]]
    least = float(net.cost(net.closed_decisions(1)).ratio)
    budget = (1 + least) / 2
    reached = calibrate(net, batches, budget, tolerance=0.02)
    assert reached.images == 5
    shares = []
    for batch in (IMAGES, MIXED[1:], batches[2]):
        shares += net.cost(net.decide(batch)[1]).ratio.tolist()
    assert sum(shares) / 5 == pytest.approx(budget, rel=0.02)
    with pytest.raises(InputError, match="give a list of images"):
        calibrate(net, [torch.rand(2, 3, 60, 60)], budget)


def test_what_runs_outside_of_the_part_is_named():
    _, net = gated("Faster R-CNN")
    assert net.ledger.uncounted[0] == "roi_heads"
    assert net.network.plan.layer_names["rpn_head_conv_0_0"] == "rpn.head.conv.0.0"


def test_a_head_that_runs_on_several_levels_has_a_line_for_each():
    _, net = gated("RetinaNet")
    lines = [line.name for line in net.ledger.layers if line.name.startswith("head.regression_head.bbox_reg")]
    assert lines == [f"head.regression_head.bbox_reg{n}" for n in ("", "#2", "#3")]


@torch.no_grad()
@pytest.mark.parametrize(
    "images",
    [[torch.rand(3, 1, 1000)], [torch.rand(1, 40, 40)], [torch.rand(3, 20, 2000)], [torch.zeros(3, 60, 44)]],
    ids=["1x1000", "grey", "wide", "black"],
)
def test_unusual_images(images):
    model, net = gated("RetinaNet")
    _, decisions = net.decide(images)
    assert same(net.replay(images, net.open_decisions(1, decisions.size)), model(images))


def test_images_of_another_number_of_channels_are_refused():
    with pytest.raises(InputError, match=r"image 1 has shape \[4, 40, 40\].*3 channels"):
        gated("SSD")[1]([IMAGES[0], torch.rand(4, 40, 40)])


def test_every_method_that_applies():
    model = build("SSD")
    net = gate(model, BatchShaping(), IMAGES)
    with torch.no_grad():
        _, decisions = net.decide(IMAGES)
        assert same(net.replay(IMAGES, net.open_decisions(2, decisions.size)), model(IMAGES))


# -- plans and parts ---------------------------------------------------------------------------------------------------


def test_a_plan_of_a_detector_can_be_edited():
    model = build("SSD")
    planned = plan(model, DualGating(), IMAGES)
    assert planned.model == "SSD"
    assert [site.name for site in planned.sites] == [f"backbone.body.layer{n}.0" for n in (1, 2, 3)]
    net = planned.without("backbone.body.layer2").apply()
    assert isinstance(net, type(model))
    assert [site.name for site in net.plan.sites] == ["backbone.body.layer1.0", "backbone.body.layer3.0"]


class Detector(nn.Module):
    """Takes a list of images, as torchvision's detectors do; of the features' levels it may change one."""

    threshold = 0.5

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({"body": create("cifar_resnet8", width=4)})
        self.score = nn.Linear(10, 1)
        self.factor = 1.0

    def forward(self, images):
        logits = self.backbone["body"](torch.stack(list(images)))
        return OrderedDict(scores=logits.softmax(1), best=self.score(logits if self.factor == 1 else logits * 2))


def test_an_own_class_keeps_attributes_and_methods():
    model = Detector().eval()
    images = list(torch.rand(2, 3, 16, 16))
    net = gate(model, DualGating(), images)
    assert net.network._convgate.model.names == ("backbone.body", "score")
    assert net.threshold == 0.5
    assert net(images).keys() == {"scores", "best"}
    net.factor = 2.0
    with pytest.raises(InputError, match=r"calls 'score' with other tensors.*inside="):
        net(images)
    with pytest.raises(InputError, match="call the model"):
        net.score(torch.zeros(2, 10))


def test_the_part_can_be_named():
    torch.manual_seed(0)
    model = Detector().eval()
    x = torch.rand(2, 3, 16, 16)
    net = gate(model, DualGating(), list(x), inside="backbone.body", exclude="backbone.body.layer1")
    assert isinstance(net, Detector)
    assert isinstance(net.network, GatedNetwork)
    assert [site.name for site in net.plan.sites] == ["backbone.body.layer2.0", "backbone.body.layer3.0"]
    assert net.ledger.uncounted[0] == "score"
    (logits,) = net.network.replay(x, net.open_decisions(2))
    torch.testing.assert_close(logits, model.backbone["body"](x))
    assert isinstance(model.backbone["body"], type(create("cifar_resnet8")))


def test_the_named_part_is_kept_in_a_file(tmp_path):
    model = build("RetinaNet")
    net = gate(model, DualGating(), IMAGES, inside="backbone.body").eval()
    assert net.ledger.dense < gated("RetinaNet")[1].ledger.dense
    convgate.save(net, tmp_path / "net.safetensors")
    again = convgate.load(tmp_path / "net.safetensors", model)
    assert again.inside == net.inside == ("backbone.body",)
    assert again.ledger.dense == net.ledger.dense
    assert copy.deepcopy(again).inside == again.inside


@pytest.mark.parametrize(
    ("inside", "example", "message"),
    [
        ("backbone.bodi", None, r"did you mean 'backbone\.body'"),
        ("backbone.body.fc", None, r"is called with \(Tensor \[2, 16\]\)"),
        ("backbone.body", 3, "fails on the example.*a model that takes several"),
        (["backbone.body", "backbone"], None, "backbone: is not called"),
    ],
)
def test_parts_that_cannot_be(inside, example, message):
    with pytest.raises(InputError, match=message):
        gate(Detector(), DualGating(), list(torch.rand(2, 3, 16, 16)) if example is None else example, inside=inside)


def test_a_model_without_such_a_part():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = create("cifar_resnet8", width=4)

        def forward(self, images):
            return [self.body(image[None]) for image in images]

    with pytest.raises(InputError, match="body: is called 2 times"):
        gate(Twice(), DualGating(), list(torch.rand(2, 3, 16, 16)))
    with pytest.raises(InputError, match="is gated already"):
        gate(gate(Detector(), DualGating(), list(torch.rand(2, 3, 16, 16))), DualGating(), torch.rand(1, 3, 16, 16))


def test_an_attribute_that_a_gated_model_has_itself():
    model = Detector()
    model.plan = 3
    with pytest.raises(PlanError, match="has 'plan'"):
        gate(model, DualGating(), list(torch.rand(2, 3, 16, 16)))


def test_a_hook_on_a_sub_module_of_the_part_is_called_once():
    model = Detector().eval()
    before, after = [], []
    model.backbone["body"].layer1.register_forward_hook(lambda *_: before.append(1))
    net = gate(model, DualGating(), list(torch.rand(2, 3, 16, 16)))
    before.clear()
    net.backbone["body"].register_forward_hook(lambda *_: after.append(1))
    net(list(torch.rand(2, 3, 16, 16)))
    assert (len(before), len(after)) == (1, 1)
    assert convgate.gate is gate
