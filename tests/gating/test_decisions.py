import pytest
import torch

import convgate
from convgate import Decision, Decisions
from convgate.errors import InputError
from convgate.gating import Activations, ChannelGroups, Tiles

KIND = {"b.spatial": Tiles(2), "a.channel": ChannelGroups(5)}


def decisions(n=3, logits=True, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = {"b.spatial": (1, 2, 2), "a.channel": (5, 1, 1)}
    return Decisions(
        (
            name,
            Decision(KIND[name], (t := torch.randn(n, *s, generator=g)).ge(0).float(), t if logits else None),
        )
        for name, s in shapes.items()
    )


def test_density_of_stored_masks():
    mask = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]).view(2, 1, 2, 2)
    for stored in (mask, mask.bool()):
        assert Decision(Activations(2), stored).density.tolist() == [0.25, 0.75]


def test_is_an_ordered_read_only_mapping():
    d = decisions()
    assert list(d) == ["b.spatial", "a.channel"]
    assert len(d) == 2
    assert "a.channel" in d
    assert "x" not in d
    assert d.batch_size == 3
    with pytest.raises(TypeError):
        d["b.spatial"] = d["a.channel"]
    with pytest.raises(AttributeError):
        d.extra = 1
    with pytest.raises(AttributeError):
        d["b.spatial"].mask = None
    assert repr(d) == "Decisions(b.spatial: spatial [3, 1, 2, 2], a.channel: channel [3, 5, 1, 1])"


def test_unknown_gate_is_an_error_that_names_the_known_ones():
    with pytest.raises(InputError, match=r"'x'.*b\.spatial, a\.channel"):
        decisions()["x"]
    assert decisions().get("b.spatial") is not None


def test_select_and_concatenate_are_inverse():
    d = decisions(5)
    again = Decisions.concatenate([d.select(slice(0, 2)), d.select(torch.tensor([2, 3, 4]))])
    for name in d:
        assert torch.equal(again[name].mask, d[name].mask)
        assert torch.equal(again[name].logits, d[name].logits)
        assert again[name].kind == d[name].kind


def test_concatenate_refuses_nothing_and_mixtures():
    with pytest.raises(InputError):
        Decisions.concatenate([])
    with pytest.raises(InputError, match="logits"):
        Decisions.concatenate([decisions(), decisions(logits=False)])


def test_without_logits_detach_density_and_kind():
    d = decisions()
    assert all(x.logits is None for x in d.without_logits().values())
    assert list(d.of_kind(ChannelGroups)) == ["a.channel"]
    mask = d["b.spatial"].mask.clone().requires_grad_()
    live = Decisions({"b": Decision(Tiles(1), mask)})
    assert not live.detach()["b"].mask.requires_grad
    for i in range(3):
        assert d["a.channel"].density[i] == d["a.channel"].mask[i].sum() / 5


def test_get_of_an_unknown_gate_gives_the_default():
    assert decisions().get("x") is None


def test_decisions_go_to_numpy_and_come_back():
    d = decisions()
    arrays = d.numpy()
    again = Decisions.from_numpy(arrays, KIND)
    assert all(torch.equal(again[name].mask, d[name].mask) and again[name].kind == d[name].kind for name in d)
    with pytest.raises(InputError, match="the network's are"):
        Decisions.from_numpy({"x": arrays["b.spatial"]}, KIND)
    with pytest.raises(KeyError, match="the gates are: b"):
        d["x"]
    assert "x" not in d
    assert d.get("x") is None


@torch.no_grad()
def test_an_engine_and_its_network_take_each_others_decisions(make_small):
    net, x = make_small()
    engine = convgate.compile(net, threads=1)
    run = engine.run(x.numpy())
    torch.testing.assert_close(net.replay(x, run.decisions), torch.from_numpy(run.outputs[0]), rtol=1e-4, atol=1e-4)
    with torch.enable_grad():
        _, decided = net.decide(x)
    for given in (decided, run.decisions):
        assert engine.run(x.numpy(), given=given).macs.tolist() == run.macs.tolist()
