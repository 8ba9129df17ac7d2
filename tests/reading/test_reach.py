"""Masks that are dilated as `reaches` says change nothing at a branch's open tiles, at any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convgate.gating import dilate, expand_tiles
from convgate.reading import Branch, branches, reaches, trace
from convgate.reading.structure import chain_end


def read(*body, size=(12, 11)):
    """(trace, branch) of a model that is one branch."""
    traced = trace(nn.Sequential(*body).eval(), torch.zeros(1, 2, *size))
    nodes = list(traced.evaluation.nodes)
    convs = [node for node in nodes if traced.convolution(node)]
    ends = [chain_end(traced, conv) for conv in convs]
    last = nodes[-1].all_input_nodes[0]
    names = ([node.name for node in some] for some in (convs, ends))
    return traced, Branch("body", nodes[0].name, "", last.name, *map(tuple, names), *traced.shapes[last.name][2:])


def reach_of(*body):
    traced, branch = read(*body)
    return [reaches(traced, branch).get(end) for end in branch.ends]


def conv(kernel=3, stride=1, padding=1, dilation=1, groups=1, mode="zeros"):
    return nn.Conv2d(2, 2, kernel, stride, padding, dilation, groups, padding_mode=mode)


CASES = {
    "3x3, 3x3": ((conv(), nn.ReLU(), conv()), [(1, 1), (0, 0)]),
    "bottleneck": ((conv(1, padding=0), conv(), nn.ReLU(), conv(1, padding=0)), [(1, 1), (0, 0), (0, 0)]),
    "three in a row": ((conv(), conv(5, padding=2), conv()), [(3, 3), (1, 1), (0, 0)]),
    "dilated": ((conv(), conv(padding=2, dilation=2)), [(2, 2), (0, 0)]),
    "1x7, 7x1": ((conv((1, 7), padding=(0, 3)), conv((7, 1), padding=(3, 0))), [(3, 0), (0, 0)]),
    "same": ((conv(), conv((2, 4), padding="same", dilation=2)), [(1, 3), (0, 0)]),
    "reflected": ((conv(), conv(mode="reflect")), [(1, 1), (0, 0)]),
    "pooled between": ((conv(), nn.AvgPool2d(3, 1, 1), conv()), [(2, 2), (0, 0)]),
    "circular": ((conv(), conv(mode="circular")), [None, (0, 0)]),
    "resized": ((conv(), nn.Upsample(scale_factor=2), conv()), [None, (0, 0)]),
    "rounded up": ((conv(), nn.MaxPool2d(2, ceil_mode=True), conv()), [None, (0, 0)]),
}


@pytest.mark.parametrize("case", CASES)
def test_how_far_a_branch_reads(case):
    body, expected = CASES[case]
    assert reach_of(*body) == expected


@st.composite
def bodies(draw):
    layers = []
    for _ in range(draw(st.integers(2, 3))):
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (2, 3), (5, 1)]))
        stride = draw(st.sampled_from([1, 1, 2, (1, 3)]))
        dilation = draw(st.sampled_from([1, 1, 2]))
        padding = draw(st.sampled_from(["half", "half", (0, 0), (2, 1)]))
        half = tuple(dilation * (k - 1) // 2 for k in kernel)
        layers.append(conv(kernel, stride, half if padding == "half" else padding, dilation))
        if draw(st.booleans()):
            layers.append(draw(st.sampled_from([nn.ReLU(), nn.MaxPool2d(2, 1), nn.AvgPool2d(3, 2, 1)])))
    return layers[: 1 + max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d))]


@torch.no_grad()
@settings(deadline=None, max_examples=60)
@given(bodies(), st.tuples(st.integers(17, 40), st.integers(17, 40)), st.integers(0, 99))
def test_open_tiles_are_those_of_the_whole_branch(body, size, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 2, *size, generator=generator)
    whole = nn.Sequential(*body)
    try:
        y = whole(x)
    except RuntimeError:  # nothing is left
        return
    traced, branch = read(*body, size=size)
    found = reaches(traced, branch)
    assert set(branch.ends) <= found.keys()
    rows, columns = (int(torch.randint(1, n + 1, (), generator=generator)) for n in y.shape[2:])
    mask = (torch.rand(2, 1, rows, columns, generator=generator) < 0.3).float()
    # As the plan would: each convolution's end (with the activation behind it) is masked.
    masked = x
    convs = [i for i, layer in enumerate(body) if isinstance(layer, nn.Conv2d)]
    for number, end in enumerate(branch.ends):
        last = convs[number + 1] if number + 1 < len(convs) else len(body)
        behind = convs[number] + 1
        behind += behind < last and isinstance(body[behind], nn.ReLU)
        masked = nn.Sequential(*body[convs[number] : behind])(masked)
        if masked.shape[2] >= rows and masked.shape[3] >= columns:
            masked = masked * dilate(expand_tiles(mask, tuple(masked.shape[2:])), found[end])
        masked = nn.Sequential(*body[behind:last])(masked)
    open_ = expand_tiles(mask, tuple(y.shape[2:]))
    torch.testing.assert_close(masked * open_, y * open_, rtol=1e-4, atol=1e-4)


def test_squeeze_and_excitation_does_not_count():
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.squeeze, self.last = conv(), nn.Conv2d(2, 2, 1), conv()

        def forward(self, x):
            y = self.first(x)
            return y * torch.sigmoid(self.squeeze(y.mean((2, 3), keepdim=True)))

    squeezed = Squeezed()

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.squeezed, self.last = squeezed, conv()

        def forward(self, x):
            return x + self.last(self.squeezed(x))

    traced = trace(Body().eval(), torch.zeros(1, 2, 12, 12))
    (branch,), _ = branches(traced)
    first = branch.ends[[traced.node(c).target for c in branch.convs].index("squeezed.first")]
    assert reaches(traced, branch)[first] == (1, 1)
