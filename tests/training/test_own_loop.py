"""Loops that are not convgate's: a plain one, a LightningModule, timm's training script."""

import copy
import re
from pathlib import Path

import lightning as L
import pytest
import timm.loss
import timm.optim
import timm.utils
import torch
import torch.nn.functional as F
from torch import nn

import convgate
from convgate.errors import InputError
from convgate.methods import METHODS
from convgate.models import create
from convgate.training.callback import GatingCallback
from convgate.training.own_loop import GatingLoss

STEPS, BATCH = 24, 16
PAGE = Path(__file__).parents[2] / "docs" / "your-own-loop.md"


@pytest.fixture
def data():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(BATCH) % 4
    return torch.randn(BATCH, 3, 16, 16, generator=draw) + labels.view(-1, 1, 1, 1), labels


@pytest.fixture
def method():
    return convgate.DualGating()


@pytest.fixture
def network(data, method):
    torch.manual_seed(0)
    return convgate.gate(create("cifar_resnet8", width=4, num_classes=4), method, data[0]).train()


def terms_by_hand(network, method, data, progress):
    """What the method's terms are for a copy of the network."""
    clone = copy.deepcopy(network)
    torch.manual_seed(1)
    logits, decisions = clone.decide(data[0])
    return F.cross_entropy(logits, data[1]), sum(
        method.terms(decisions, clone.convgate, clone.ledger, progress).values()
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_that_of_the_output_plus_the_methods_terms(data, name):
    torch.manual_seed(0)
    method = METHODS[name]()
    network = convgate.gate(create("cifar_resnet8", width=4, num_classes=4), method, data[0]).train()
    method.schedule(network, 0.0)
    task, terms = terms_by_hand(network, method, data, 0.0)
    gating = GatingLoss(network, method, steps=STEPS)
    criterion = gating.around(nn.CrossEntropyLoss())
    torch.manual_seed(1)
    loss = criterion(network(data[0]), data[1])
    assert loss.item() == pytest.approx((task + terms).item(), rel=1e-5)
    loss.backward()
    assert gating.step == 1


def test_macs_are_those_of_the_batchs_size(network, method, data):
    """Not the example's: layers behind a global mean do not grow with the images."""
    images = torch.randn(BATCH, 3, 24, 32)
    gating = GatingLoss(network, method, steps=STEPS)
    _, decisions = network.decide(images)
    ledger = network.ledger_at((24, 32))
    assert network.ledger_for(decisions) is ledger
    terms = method.terms(decisions, network.convgate, ledger, 0.0)
    gating()
    assert torch.equal(gating.terms["budget"], terms["budget"])
    assert not torch.equal(method.terms(decisions, network.convgate, network.ledger, 0.0)["budget"], terms["budget"])


def test_both_ways_of_a_plain_loop_train_alike(network, method, data):
    def trained(step):
        net = copy.deepcopy(network)
        gating = GatingLoss(net, method, steps=STEPS)
        optimiser = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
        ratios = []
        for number in range(STEPS):
            torch.manual_seed(number)
            optimiser.zero_grad()
            step(net, gating).backward()
            optimiser.step()
            with torch.no_grad():
                net.eval()
                ratios.append(float(net.cost(net.decide(data[0])[1]).ratio.mean()))
                net.train()
        return ratios, net.state_dict()

    def explicit(net, gating):
        logits, decisions = net.decide(data[0])
        return F.cross_entropy(logits, data[1]) + gating(decisions)

    def wrapped(net, gating):
        return gating.around(nn.CrossEntropyLoss())(net(data[0]), data[1])

    (ratios, first), (_, second) = trained(explicit), trained(wrapped)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert ratios[-1] < ratios[0]


def test_the_method_is_told_how_far_the_training_is(network, data, monkeypatch):
    told = []
    monkeypatch.setattr(convgate.DualGating, "schedule", lambda self, gates, progress: told.append(progress))
    gating = GatingLoss(network, convgate.DualGating(), steps=4)
    for _ in range(5):
        network(data[0])
        gating()
    assert told == [0, 0.25, 0.5, 0.75, 0.75]


def test_evaluation_is_left_alone(network, method, data):
    gating = GatingLoss(network, method, steps=STEPS)
    criterion = gating.around(nn.CrossEntropyLoss())
    network.eval()
    assert torch.equal(criterion(network(data[0]), data[1]), F.cross_entropy(network(data[0]), data[1]))
    network.train()
    with torch.no_grad():
        network(data[0])
    with pytest.raises(InputError, match="not called in training"):
        gating()
    gating.close()
    assert not network._forward_hooks
    assert not network._forward_pre_hooks


def test_what_is_not_a_gated_network_is_refused(method, network):
    with pytest.raises(InputError, match="give the GatedNetwork"):
        GatingLoss(create("cifar_resnet8"), method, steps=1)
    with pytest.raises(InputError, match="at least 1 step"):
        GatingLoss(network, method, steps=0)


class TheirModule(L.LightningModule):
    """Knows nothing of gates."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.losses = []

    def training_step(self, batch, index):
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)


def trainer(tmp_path, callback, **options):
    return L.Trainer(
        callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, **options,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_lightning_module_of_somebody_elses(network, method, data, tmp_path, accumulate):
    loader = torch.utils.data.DataLoader(list(zip(*data, strict=True)), batch_size=BATCH)
    module, callback = TheirModule(network), GatingCallback(method)
    fit = trainer(tmp_path, callback, max_epochs=6, accumulate_grad_batches=accumulate)
    fit.fit(module, loader)
    assert {"gating/budget", "gating/bounds"} <= set(fit.callback_metrics)
    assert "training_step" not in vars(module)
    assert not network._forward_hooks
    assert any(p.grad is not None for p in network.gate_parameters())
    assert len(module.losses) == 6


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning")
def test_a_module_without_a_gated_network_is_refused(method, data, tmp_path):
    module = TheirModule(create("cifar_resnet8", width=4, num_classes=4))
    loader = torch.utils.data.DataLoader(list(zip(*data, strict=True)), batch_size=BATCH)
    with pytest.raises(InputError, match="0 gated networks"):
        trainer(tmp_path, GatingCallback(method), max_epochs=1).fit(module, loader)


def test_the_steps_of_timms_training_script(network, method, data):
    """The lines of timm's train.py (train_one_epoch), with mixed precision, gradient clipping and a moving average."""
    model, epochs, updates = network, 2, STEPS // 2
    optimiser = timm.optim.create_optimizer_v2(model, opt="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4)
    gating = GatingLoss(model, method, steps=epochs * updates)  # 1
    train_loss_fn = gating.around(timm.loss.LabelSmoothingCrossEntropy(0.1))  # 2
    ema = timm.utils.ModelEmaV3(model, decay=0.9)
    total = []
    for _ in range(epochs):
        model.train()
        for _ in range(updates):
            with torch.autocast("cpu", torch.bfloat16):
                output = model(data[0])
                loss = train_loss_fn(output, data[1])
            loss.backward()
            timm.utils.dispatch_clip_grad(model.parameters(), 1.0, mode="norm")
            optimiser.step()
            optimiser.zero_grad()
            ema.update(model)
            total.append(loss.item())
        for evaluated in (model, ema.module):
            evaluated.eval()
            with torch.no_grad():
                assert evaluated(data[0]).shape == (BATCH, 4)
    assert gating.step == epochs * updates
    assert total[-1] < total[0]
    assert set(gating.terms) == {"budget", "bounds"}


def test_the_pages_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 4
    scope = {"__name__": "page"}
    with torch.random.fork_rng():
        for block in blocks:
            exec(compile(block, PAGE.name, "exec"), scope)
    assert isinstance(scope["net"], convgate.GatedNetwork)
