"""A gated convolution's MACs against counting every multiplication one by one."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convgate import Decision, Decisions
from convgate.cost import LayerCost
from convgate.gating import Activations, ChannelGroups, Tiles


@st.composite
def layers(draw):
    groups = draw(st.integers(1, 3))
    size = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    grid = (draw(st.integers(1, size[0])), draw(st.integers(1, size[1])))
    return {
        "groups": groups,
        "in_channels": groups * draw(st.integers(1, 5)),
        "out_channels": groups * draw(st.integers(1, 5)),
        "kernel_area": draw(st.sampled_from([1, 9, 15])),
        "size": size,
        "grid": grid,
        "input_group": draw(st.integers(1, 4)),
        "output_group": draw(st.integers(1, 4)),
        "gates": draw(st.sets(st.sampled_from(["p", "i", "o"]), min_size=1)),
        "reach": draw(st.sampled_from([(0, 0), (0, 0), (1, 1), (0, 2)])),
    }


def build(spec):
    height, width = spec["size"]
    dense = spec["kernel_area"] * height * width * spec["in_channels"] * spec["out_channels"] // spec["groups"]
    return LayerCost(
        "conv",
        dense,
        spec["kernel_area"],
        spec["groups"],
        spec["in_channels"],
        spec["out_channels"],
        spec["size"],
        positions="p" if "p" in spec["gates"] else None,
        inputs="i" if "i" in spec["gates"] else None,
        outputs="o" if "o" in spec["gates"] else None,
        input_group=spec["input_group"],
        output_group=spec["output_group"],
        reach=spec["reach"],
    )


def draw_masks(spec, n, seed):
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "p": (1, *spec["grid"]),
        "i": (-(-spec["in_channels"] // spec["input_group"]), 1, 1),
        "o": (-(-spec["out_channels"] // spec["output_group"]), 1, 1),
    }
    return {name: torch.randint(0, 2, (n, *shape), generator=g).float() for name, shape in shapes.items()}


def decide(masks):
    return Decisions(
        (name, Decision(Tiles(1) if name == "p" else ChannelGroups(mask.shape[1]), mask))
        for name, mask in masks.items()
    )


def brute_force(spec, masks, sample):
    """Go through every (position, output channel, input channel) and ask whether it is computed."""
    (height, width), (rows, columns) = spec["size"], spec["grid"]
    per_in, per_out = spec["in_channels"] // spec["groups"], spec["out_channels"] // spec["groups"]
    p, i, o = (masks[name][sample].tolist() if name in spec["gates"] else None for name in "pio")
    count = 0
    for y in range(height):
        for x in range(width):
            near = [
                (j * rows // height, i * columns // width)
                for j in range(max(y - spec["reach"][0], 0), min(y + spec["reach"][0] + 1, height))
                for i in range(max(x - spec["reach"][1], 0), min(x + spec["reach"][1] + 1, width))
            ]
            if p and not any(p[0][row][column] for row, column in near):
                continue
            for out in range(spec["out_channels"]):
                if o and not o[out // spec["output_group"]][0][0]:
                    continue
                first = out // per_out * per_in
                inputs = range(first, first + per_in)
                count += sum(1 for c in inputs if not i or i[c // spec["input_group"]][0][0])
    return count * spec["kernel_area"]


@settings(deadline=None, max_examples=150)
@given(layers(), st.integers(1, 3), st.integers(0, 99))
def test_count_is_what_is_computed(spec, n, seed):
    masks = draw_masks(spec, n, seed)
    count = build(spec).count(decide(masks), exact=True)
    assert count.dtype == torch.int64
    assert count.tolist() == [brute_force(spec, masks, sample) for sample in range(n)]


@settings(deadline=None)
@given(layers(), st.integers(1, 3), st.integers(0, 99))
def test_differentiable_count_has_the_same_value_and_reaches_every_gate(spec, n, seed):
    masks = {name: torch.ones_like(mask).requires_grad_() for name, mask in draw_masks(spec, n, seed).items()}
    layer = build(spec)
    count = layer.count(decide(masks), exact=False)
    assert count.is_floating_point()
    assert count.tolist() == [layer.macs] * n
    count.sum().backward()
    for name in spec["gates"]:
        # The count is linear in each mask: the gradient, summed over the mask, is the count itself.
        assert masks[name].grad.sum() == n * layer.macs


@settings(deadline=None)
@given(layers(), st.integers(0, 99))
def test_all_open_is_dense_and_all_closed_is_nothing(spec, seed):
    layer = build(spec)
    masks = draw_masks(spec, 2, seed)
    opened = decide({name: torch.ones_like(mask) for name, mask in masks.items()})
    closed = decide({name: torch.zeros_like(mask) for name, mask in masks.items()})
    assert layer.gated
    assert layer.count(opened, exact=True).tolist() == [layer.macs] * 2
    assert layer.count(closed, exact=True).tolist() == [0, 0]


def test_large_counts_are_exact():
    """VGG's largest layer at 2048 pixels: beyond float32's and int32's exact integers."""
    layer = LayerCost("conv", 9 * 2047 * 2047 * 63 * 64, 9, 1, 63, 64, (2047, 2047), outputs="o")
    mask = torch.ones(2, 64, 1, 1)
    mask[1, 0] = 0
    count = layer.count(Decisions({"o": Decision(ChannelGroups(mask.shape[1]), mask)}), exact=True)
    assert count.tolist() == [9 * 2047**2 * 63 * 64, 9 * 2047**2 * 63 * 63]


def test_large_positions_are_exact():
    """More open positions than float32 counts exactly."""
    layer = LayerCost("conv", 4097 * 4099, 1, 1, 1, 1, (4097, 4099), positions="p")
    mask = torch.ones(1, 1, 4097, 4099)
    assert layer.count(Decisions({"p": Decision(Tiles(1), mask)}), exact=True).tolist() == [4097 * 4099]


@st.composite
def partial_layers(draw):
    parts, groups = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    inputs, outputs, kernel_area = groups * parts * draw(st.integers(1, 3)), groups * draw(st.integers(1, 6)), 9
    size, group = (draw(st.integers(1, 5)), draw(st.integers(1, 5))), draw(st.integers(1, 4))
    macs = kernel_area * size[0] * size[1] * inputs * outputs // groups
    return LayerCost(
        "conv", macs, kernel_area, groups, inputs, outputs, size, activations="a", activation_group=group, parts=parts
    )


@settings(deadline=None)
@given(partial_layers(), st.integers(1, 3), st.integers(0, 99))
def test_a_layer_computed_in_part_completes_its_open_activations(layer, n, seed):
    generator = torch.Generator().manual_seed(seed)
    units = -(-layer.out_channels // layer.activation_group)
    mask = torch.randint(0, 2, (n, units, *layer.size), generator=generator).float()
    decisions = Decisions({"a": Decision(Activations(mask.shape[1]), mask)})
    inputs = layer.in_channels // layer.groups
    base = inputs // layer.parts
    expected = torch.zeros(n, *layer.size, dtype=torch.int64)
    for out in range(layer.out_channels):
        open_ = mask[:, out // layer.activation_group]
        expected += torch.where(open_ > 0, layer.kernel_area * inputs, layer.kernel_area * base)
    count = layer.count(decisions, exact=True)
    assert count.dtype == torch.int64
    assert count.tolist() == expected.sum((1, 2)).tolist()
    assert torch.equal(layer.by_position(mask), expected)
    mask.requires_grad_()
    smooth = layer.count(Decisions({"a": Decision(Activations(mask.shape[1]), mask)}), exact=False)
    assert smooth.tolist() == count.tolist()
    smooth.sum().backward()
    assert mask.grad.sum() == n * layer.size[0] * layer.size[1] * layer.out_channels * layer.kernel_area * (
        inputs - base
    )


def test_counts_of_partial_layers_are_exact_when_large():
    # More activations than 2**24, and an odd number of open ones: float32 has no such number.
    layer = LayerCost("conv", 9 * 521**2 * 64 * 64, 9, 1, 64, 64, (521, 521), activations="a", parts=64)
    mask = torch.ones(1, 64, 521, 521)
    mask[0, 3, 5, 7] = 0
    count = layer.count(Decisions({"a": Decision(Activations(mask.shape[1]), mask)}), exact=True)
    assert count.tolist() == [9 * 521**2 * 64 * 64 - 9 * 63]
