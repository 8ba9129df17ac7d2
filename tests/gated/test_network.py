"""A gated network as an nn.Module: run, decide, replay, copy, compile, cast, distribute."""

import copy
import gc
import linecache
import pickle
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from convgate import Decision, Decisions, DualGating, gate
from convgate.errors import ConvgateError, InputError
from convgate.models import create


def test_decides_both_ways(small):
    net, x = small
    _, decisions = net.decide(x)
    masks = torch.cat([d.mask.flatten(1) for d in decisions.values()], 1)
    assert 0.2 < masks.mean() < 0.8
    assert not torch.equal(masks[0], masks[1])


@torch.no_grad()
def test_decide_returns_output_and_decisions(small):
    net, x = small
    y, decisions = net.decide(x)
    assert torch.equal(net(x), y)
    assert [(k, d.kind, tuple(d.mask.shape)) for k, d in decisions.items()] == [
        (s.name, s.kind, (3, *s.shape)) for s in net.plan.gates
    ]
    for d in decisions.values():
        assert torch.equal(d.mask, (d.logits >= 0).float())
    assert torch.equal(net.replay(x, decisions), y)
    assert torch.equal(net.replay(x, decisions.without_logits()), y)


def test_replay_of_training_decisions_in_training_mode(small):
    net, x = small
    net.train()
    y, decisions = net.decide(x)
    torch.testing.assert_close(net.replay(x, decisions), y)


def test_logits_are_absent_from_replayed_decisions(small):
    net, x = small
    _, decisions = net(x, given=net.open_decisions(3), return_decisions=True)
    assert all(d.logits is None for d in decisions.values())


@pytest.mark.parametrize("which", ["open", "closed"])
def test_uniform_decisions(small, which):
    net, _ = small
    decisions = getattr(net, f"{which}_decisions")(5)
    assert decisions.batch_size == 5
    assert {v for d in decisions.values() for v in d.mask.flatten().tolist()} == {float(which == "open")}
    with pytest.raises(InputError, match="at least 1"):
        getattr(net, f"{which}_decisions")(0)


def _renamed(d):
    return Decisions((f"other.{k}", v) for k, v in d.items())


def _changed(d, change):
    first = next(iter(d))
    return Decisions((k, Decision(v.kind, change(v.mask)) if k == first else v) for k, v in d.items())


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (_renamed, "another network"),
        (lambda d: d.select(slice(0, 2)), "shape"),
        (lambda d: _changed(d, lambda m: m[:, :, :1]), "shape"),
        (lambda d: _changed(d, lambda m: m * 0.5), "0 and 1"),
        (lambda d: _changed(d, lambda m: m * float("nan")), "0 and 1"),
        (lambda d: None, None),
    ],
)
def test_replay_refuses_bad_decisions(small, spoil, match):
    net, x = small
    with pytest.raises(InputError, match=match):
        net.replay(x, spoil(net.open_decisions(3)))


def test_replay_refuses_decisions_with_gates_of_another_network(small):
    net, x = small
    decisions = net.open_decisions(3)
    extra = Decisions({**decisions, "elsewhere.spatial": next(iter(decisions.values()))})
    with pytest.raises(InputError, match="elsewhere"):
        net.replay(x, extra)


def test_given_decisions_are_checked_in_forward_too(small):
    net, x = small
    with pytest.raises(InputError):
        net(x, given=net.open_decisions(2))


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (torch.zeros(2, 1, 16, 16), "1, 16, 16"),
        (torch.zeros(3, 16, 16), "shape"),
        (torch.zeros(0, 3, 16, 16), "non-empty"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "uint8"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.complex64), "complex64"),
        ([[0.0]], "list"),
        (None, "NoneType"),
    ],
)
@pytest.mark.parametrize("call", ["forward", "decide", "replay"])
def test_bad_images_are_refused(small, images, match, call):
    net, _ = small
    arguments = (images, net.open_decisions(2)) if call == "replay" else (images,)
    with pytest.raises(InputError, match=match):
        getattr(net, call)(*arguments)


def test_what_is_on_another_device_is_refused(small):
    net, x = small
    elsewhere = net.open_decisions(3).to("meta")
    for call in (net, net.decide, lambda images: net.replay(images, net.open_decisions(3))):
        with pytest.raises(InputError, match=r"batch is on meta and the network on cpu"):
            call(x.to("meta"))
    for call in (partial(net.replay, x), lambda decisions: net(x, given=decisions)):
        with pytest.raises(InputError, match=r"is on meta and the batch on cpu"):
            call(elsewhere)


@pytest.mark.parametrize(
    "example", [torch.zeros(3, 16, 16), torch.zeros(1, 3, 16, 16).int(), [1], torch.zeros(1, 3, 0, 4)]
)
def test_bad_examples_are_refused(example):
    with pytest.raises(InputError, match="example"):
        gate(create("cifar_resnet8"), DualGating(), example)


def test_one_image_in_training_is_refused(small):
    net, x = small
    net.train()
    with pytest.raises(InputError, match="at least 2 images"):
        net(x[:1])
    net.eval()(x[:1])


def test_nothing_is_left_on_modules(small):
    net, x = small

    def contents():
        return {
            (name, key, id(value))
            for name, m in net.named_modules()
            for key, value in [*vars(m).items(), *m._buffers.items(), *m._parameters.items()]
        }

    before = contents()
    net.decide(x)
    net.train().decide(x)
    net.replay(x, net.open_decisions(3))
    net.eval()
    # `training` flags aside, which train() sets to the same objects again.
    assert contents() == before


@torch.no_grad()
def test_deepcopy_is_equal_and_independent(small):
    net, x = small
    y = net(x)
    clone = copy.deepcopy(net)
    assert torch.equal(clone(x), y)
    assert not {p.data_ptr() for p in clone.parameters()} & {p.data_ptr() for p in net.parameters()}
    for p in clone.parameters():
        p.zero_()
    for _, g in clone.gate_modules():
        g.offset.fill_(-100)
    assert torch.equal(net(x), y)
    assert not torch.equal(clone(x), y)
    clone.train()
    assert not net.training


@torch.no_grad()
def test_pickle_round_trip(small):
    net, x = small
    again = pickle.loads(pickle.dumps(net))
    assert torch.equal(again(x), net(x))
    assert str(again.plan) == str(net.plan)
    assert copy.deepcopy(again).train().training


def test_pickle_refers_to_no_generated_code(make_small):
    net, x = make_small()
    data = pickle.dumps(net.train())
    again = pickle.loads(data)
    torch.manual_seed(0)
    y = again(x)
    torch.manual_seed(0)
    assert torch.equal(y, net(x))


def test_generated_lines_are_shown_and_leave_with_the_next_network(make_small):
    """Never while the collector runs: in Python 3.11 `linecache.checkcache` fails if a file leaves as it iterates."""

    def generated():
        return {file for file in linecache.cache if file.startswith("<convgate")}

    others = generated()
    net, _ = make_small()
    mine = generated() - others
    assert mine
    assert all("def forward" in "".join(linecache.getlines(file)) for file in mine)
    del net
    gc.collect()
    assert mine <= generated()
    make_small()
    assert not mine & generated()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@torch.no_grad()
def test_compiled_equals_eager(make_small, backend):
    torch.compiler.reset()
    net, x = make_small()
    y, decisions = net.decide(x)
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), y)
    y2, decisions2 = compiled(x, return_decisions=True)
    torch.testing.assert_close(y2, y)
    assert all(torch.equal(decisions2[k].mask, decisions[k].mask) for k in decisions)
    torch.compiler.reset()


def test_compiled_trains_like_eager(make_small):
    torch.compiler.reset()
    net, x = make_small()
    net.train()
    clone = copy.deepcopy(net)
    net.compile(backend="aot_eager")
    for n in (net, clone):
        # Given decisions: noise need not be drawn alike.
        n(x, given=n.open_decisions(3)).square().mean().backward()
    for (name, p), q in zip(net.named_parameters(), clone.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    output, decisions = net.decide(x)
    (output.mean() + net.cost(decisions).ratio.mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    torch.compiler.reset()


@pytest.mark.parametrize("training", [False, True])
def test_autocast_bfloat16(small, training):
    net, x = small
    net.train(training)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        y, decisions = net.decide(x)
    assert y.dtype == torch.bfloat16
    assert torch.isfinite(y).all()
    for d in decisions.values():
        assert ((d.mask == 0) | (d.mask == 1)).all()
        assert d.logits.dtype == torch.float32
    if training:
        (y.float().square().mean() + net.cost(decisions).ratio.mean()).backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
        return
    # Only logits near zero may fall on the other side of it.
    with torch.no_grad():
        _, full = net.decide(x)
        first = next(iter(full))
        decided = decisions[first].mask != full[first].mask
        assert (full[first].logits[decided].abs() < 0.1).all()
        torch.testing.assert_close(net.replay(x, decisions), y.float(), rtol=0.1, atol=0.15)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_channels_last(small, training):
    net, x = small
    net.train(training)
    torch.manual_seed(0)
    y, decisions = copy.deepcopy(net).decide(x)
    torch.manual_seed(0)
    y2, decisions2 = net.to(memory_format=torch.channels_last).decide(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y2, y, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(decisions[k].mask, decisions2[k].mask) for k in decisions)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_other_precisions_run_and_count_exactly(make_small, dtype):
    net, x = make_small(DualGating(tile=1))
    net.to(dtype)
    y, decisions = net.decide(x.to(dtype))
    assert y.dtype == dtype
    assert torch.isfinite(y).all()
    assert all(((d.mask == 0) | (d.mask == 1)).all() for d in decisions.values())
    doubled = Decisions((k, Decision(d.kind, d.mask.double())) for k, d in decisions.items())
    assert net.cost(decisions).macs.tolist() == net.cost(doubled).macs.tolist()
    open_ = Decisions((k, Decision(d.kind, d.mask.to(dtype))) for k, d in net.open_decisions(3).items())
    assert net.cost(open_).macs.tolist() == [net.ledger.dense + net.ledger.gate_macs] * 3
    torch.testing.assert_close(net.replay(x.to(dtype), decisions), y)


def test_bfloat16_gates_count_wide_layers_exactly():
    """More open channels and positions than bfloat16 (256) and float16 (2048) can count one by one."""
    net = gate(create("cifar_resnet8", width=130).eval(), DualGating(tile=1), torch.zeros(1, 3, 63, 63))
    for dtype in (torch.bfloat16, torch.float16):
        open_ = Decisions((k, Decision(d.kind, d.mask.to(dtype))) for k, d in net.open_decisions(1).items())
        assert net.cost(open_).macs.tolist() == [net.ledger.dense + net.ledger.gate_macs]


def test_gates_are_on_the_models_device_and_mode():
    model = create("cifar_resnet8", width=4)
    assert gate(model, DualGating(), torch.zeros(1, 3, 16, 16)).training
    frozen = model.train()
    frozen.layer1.eval()
    net = gate(frozen, DualGating(), torch.zeros(1, 3, 16, 16))
    assert net.training
    assert not any(m.training for m in net.layer1.modules())
    assert net.layer2.training


def test_gate_parameters_are_those_under_gates(small):
    net, _ = small
    expected = {id(p) for name, p in net.named_parameters() if name.startswith("gates.gates.")}
    assert {id(p) for p in net.gate_parameters()} == expected
    assert expected


def test_a_plan_is_immutable(small):
    net, _ = small
    with pytest.raises(AttributeError):
        net.plan.model = "x"
    with pytest.raises(AttributeError):
        net.plan.sites[0].name = "x"


# -- DistributedDataParallel -------------------------------------------------------------------------------------


def _network():
    torch.manual_seed(0)
    model = create("cifar_resnet8", width=4)
    net = gate(model, DualGating(), torch.zeros(1, 3, 16, 16)).train()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()  # each process would see other statistics
    return net, torch.randn(4, 3, 16, 16)


def _loss(net, module, x):
    y, decisions = module(x, return_decisions=True)
    return y.square().mean() + module_cost(net, decisions)


def module_cost(net, decisions):
    return net.cost(decisions).ratio.mean()


def _gradients(net):
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def _worker(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    net, x = _network()
    ddp = DistributedDataParallel(net)
    torch.manual_seed(rank)
    part = x[rank * 4 // world : (rank + 1) * 4 // world]
    _loss(net, ddp, part).backward()
    torch.save(_gradients(net), f"{folder}/gradients{rank}.pt")
    dist.destroy_process_group()


def _expected(world):
    total = None
    for rank in range(world):
        net, x = _network()
        torch.manual_seed(rank)
        _loss(net, net, x[rank * 4 // world : (rank + 1) * 4 // world]).backward()
        mine = _gradients(net)
        total = mine if total is None else {k: total[k] + mine[k] for k in total}
    return {k: v / world for k, v in total.items()}


@pytest.mark.filterwarnings("ignore:.*(barrier|destroy_process_group|device under current context).*")
def test_one_process_ddp(tmp_path):
    """Of several processes: tests/methods/test_every_method.py."""
    _worker(0, 1, tmp_path)
    actual = torch.load(tmp_path / "gradients0.pt", weights_only=True)
    for name, expected in _expected(1).items():
        torch.testing.assert_close(actual[name], expected, rtol=1e-4, atol=1e-6)


def _run_pickled(rank, net, x, folder):
    torch.set_num_threads(1)
    with torch.no_grad():
        torch.save(net(x), f"{folder}/y.pt")


def test_spawned_process_receives_a_network(small, tmp_path):
    net, x = small
    mp.spawn(_run_pickled, args=(net, x, str(tmp_path)), nprocs=1)
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "y.pt", weights_only=True), net(x))


def test_every_refusal_is_a_convgate_error(small):
    net, _ = small
    with pytest.raises(ConvgateError):
        net("images")


def test_what_the_model_keeps_frozen_stays_frozen(make_small):
    model = make_small()[0].dense()

    class Frozen(type(model)):
        def train(self, mode=True):
            super().train(mode)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
            return self

    model.__class__ = Frozen
    net = gate(model, DualGating(), torch.zeros(2, 3, 16, 16))
    assert net.train() is net
    assert net.training
    assert net.convgate.training
    norms = [m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) and not name.startswith("gates")]
    assert [norm.training for norm in norms] == [False] * len(norms) != []
    assert not net.eval().training
    assert not net.convgate.training
