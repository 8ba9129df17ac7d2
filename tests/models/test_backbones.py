"""The backbones that papers name: parameters, MACs and gated filters as the papers say, or as counted by hand."""

import functools
import itertools
import operator
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from convgate.cost import node_macs
from convgate.errors import InputError
from convgate.models import ModelSpec, count_parameters, create, identify, registered, widened
from convgate.reading import Trace, branches, trace
from convgate.reading.structure import chain_end

OTHERS = ("faster_rcnn", "point_detector", "pspnet", "retinanet")  # answer with boxes, or a class for each pixel
OWN = {name: model for name, model in registered().items() if name not in OTHERS}
SIZES = {"timm/inception_v4": 299}


@functools.cache
def read(name: str) -> Trace:
    """The model's graph, without memory for its weights."""
    size = SIZES.get(name, 32)
    with torch.device("meta"):
        return trace(create(name).eval(), torch.zeros(1, 3, size, size))


# -- parameters ----------------------------------------------------------------------------------------------------

# Source: GaterNet (CVPR 2019), tables 1 (CIFAR-10), 2 and 3, in millions.
PARAMETERS = [
    ("cifar_resnet20", {}, 0.27),
    ("cifar_resnet56", {}, 0.86),
    ("cifar_preact_resnet164", {}, 1.62),
    ("cifar_densenet_bc100_12", {}, 0.77),
    ("cifar_densenet_bc250_24", {}, 15.32),
    ("cifar_densenet_bc190_40", {}, 25.62),
    ("cifar_shake_shake26_2x64d", {}, 11.71),
    ("cifar_shake_shake26_2x96d", {}, 26.33),
    ("resnet34", {}, 21.80),
    ("resnet101", {}, 44.55),
    ("resnet152", {}, 60.19),
    # The paper gives no reduction. SENet's 16 leads to its ImageNet figures, and to none of these three: 4, 4 and 8 do.
    ("cifar_resnet20", {"squeeze": 4}, 0.28),
    ("cifar_resnet56", {"squeeze": 4}, 0.88),
    ("cifar_preact_resnet164", {"squeeze": 8}, 2.00),
    ("timm/seresnet34", {}, 21.96),
    ("timm/legacy_seresnet101", {}, 49.33),
    ("timm/legacy_seresnet152", {}, 66.82),
    # CIFAR-100, table 1.
    ("cifar_resnet20", {"num_classes": 100}, 0.28),
    ("cifar_resnet56", {"num_classes": 100}, 0.86),
    ("cifar_preact_resnet164", {"num_classes": 100}, 1.64),
    ("cifar_resnet20", {"num_classes": 100, "squeeze": 4}, 0.29),
    ("cifar_resnet56", {"num_classes": 100, "squeeze": 4}, 0.89),
    ("cifar_preact_resnet164", {"num_classes": 100, "squeeze": 8}, 2.02),
]


@pytest.mark.parametrize(("name", "options", "millions"), PARAMETERS, ids=str)
def test_parameters_are_those_of_gaternets_tables(name, options, millions):
    assert round(count_parameters(ModelSpec(name, options)) / 1e6, 2) == millions


def test_the_original_stem_of_shake_shake_does_not_give_gaternets_figures():
    counts = [count_parameters(ModelSpec(f"cifar_shake_shake26_2x{w}d", {"stem": 16})) for w in (64, 96)]
    assert [round(n / 1e6, 2) for n in counts] == [11.65, 26.19]


def by_hand_resnet18():
    convs, inputs = 27 * 64 + 2 * 64, 64
    for width in (64, 128, 256, 512):
        convs += 9 * inputs * width + 3 * 9 * width * width + 4 * 2 * width
        convs += inputs * width + 2 * width if inputs != width else 0
        inputs = width
    return convs + 512 * 10 + 10


def by_hand_vgg16():
    widths = [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    return sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths)) + 512 * 10 + 10


def by_hand_mobilenet():
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    pairs = sum(9 * a + 2 * a + a * b + 2 * b for a, b in itertools.pairwise(widths))
    return 27 * 32 + 2 * 32 + pairs + 1024 * 10 + 10


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cifar_resnet18", by_hand_resnet18),
        ("cifar_vgg16", by_hand_vgg16),
        ("cifar_mobilenet_v1", by_hand_mobilenet),
    ],
)
def test_parameters_counted_by_hand(name, count):
    assert count_parameters(ModelSpec(name)) == count()


# -- MACs ----------------------------------------------------------------------------------------------------------


def macs_preact164():
    """Groups of 18 blocks at 32, 16 and 8 pixels; the first block of a group reads at the resolution before."""
    first = 18 * (16 * 4 + 9 * 4 * 4 + 4 * 16) * 32**2
    second = 16 * 32 * 32**2 + (9 * 32 * 32 + 32 * 128 + 16 * 128) * 16**2
    second += 17 * (128 * 32 + 9 * 32 * 32 + 32 * 128) * 16**2
    third = 128 * 64 * 16**2 + (9 * 64 * 64 + 64 * 256 + 128 * 256) * 8**2
    third += 17 * (256 * 64 + 9 * 64 * 64 + 64 * 256) * 8**2
    return 27 * 16 * 32**2 + first + second + third + 256 * 10


def macs_densenet(depth, growth):
    """Layers of 1x1 to 4k and 3x3 to k channels; transitions convolve before they pool."""
    channels, macs = 2 * growth, 27 * 2 * growth * 32**2
    for size in (32, 16, 8):
        for _ in range((depth - 4) // 6):
            macs += (channels * 4 * growth + 9 * 4 * growth * growth) * size**2
            channels += growth
        if size > 8:
            macs += channels * (channels // 2) * size**2
            channels //= 2
    return macs + channels * 10


def macs_shake_shake(width):
    """Per block two branches of two convolutions; half of a shortcut's channels come of each flow."""
    macs, inputs = 27 * width * 32**2, width
    for outputs, size in ((width, 32), (2 * width, 16), (4 * width, 8)):
        macs += 2 * (9 * inputs * outputs + 7 * 9 * outputs * outputs) * size**2
        macs += inputs * outputs * size**2 if inputs != outputs else 0
        inputs = outputs
    return macs + 4 * width * 10


def macs_vgg16():
    stages = ((3, 64), (64, 64)), ((64, 128), (128, 128)), ((128, 256), *[(256, 256)] * 2)
    stages += ((256, 512), *[(512, 512)] * 2), ((512, 512),) * 3
    sizes = (32, 16, 8, 4, 2)
    convs = sum(9 * a * b * size**2 for stage, size in zip(stages, sizes, strict=True) for a, b in stage)
    return convs + 512 * 10


def macs_mobilenet():
    macs, inputs = 27 * 32 * 32**2, 32
    for outputs, size in ((64, 32), (128, 16), (128, 16), (256, 8), (256, 8), *[(512, 4)] * 6, (1024, 2), (1024, 2)):
        macs += (9 * inputs + inputs * outputs) * size**2
        inputs = outputs
    return macs + 1024 * 10


def macs_resnet18():
    macs, inputs = 27 * 64 * 32**2, 64
    for width, size in ((64, 32), (128, 16), (256, 8), (512, 4)):
        macs += (9 * inputs * width + 3 * 9 * width * width) * size**2
        macs += inputs * width * size**2 if inputs != width else 0
        inputs = width
    return macs + 512 * 10


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("cifar_preact_resnet164", macs_preact164()),
        ("cifar_densenet_bc100_12", macs_densenet(100, 12)),
        ("cifar_densenet_bc190_40", macs_densenet(190, 40)),
        ("cifar_densenet_bc250_24", macs_densenet(250, 24)),
        ("cifar_shake_shake26_2x64d", macs_shake_shake(64)),
        ("cifar_shake_shake26_2x96d", macs_shake_shake(96)),
        ("cifar_vgg16", macs_vgg16()),
        ("cifar_mobilenet_v1", macs_mobilenet()),
        ("cifar_resnet18", macs_resnet18()),
    ],
)
def test_macs_counted_by_hand(name, macs):
    assert sum(node_macs(read(name)).values()) == macs


# -- filters that GaterNet gates -------------------------------------------------------------------------------------


def last_of_paths(traced: Trace) -> int:
    """Filters of the convolutions of residual branches after which their branch has no other."""
    filters = 0
    for branch in branches(traced)[0]:
        for conv in branch.convs:
            pending, ahead = list(traced.node(conv).users), set()
            while pending:
                node = pending.pop()
                if node.name != branch.join and node not in ahead:
                    ahead.add(node)
                    pending.extend(node.users)
            if not any(other in {node.name for node in ahead} for other in branch.convs):
                filters += traced.convolution(traced.node(conv)).out_channels
    return filters


def concatenations(traced: Trace) -> list[fx.Node]:
    return [node for node in traced.evaluation.nodes if node.target is torch.cat]


def dense_layers(traced: Trace) -> int:
    """Filters that concatenations append to concatenations; what the first of a block appends is left out."""
    ends = {
        chain_end(traced, node).name: layer.out_channels
        for node in traced.evaluation.nodes
        if (layer := traced.convolution(node)) is not None
    }
    nodes = concatenations(traced)
    return sum(ends[new.name] for before, new in (node.args[0] for node in nodes) if before in nodes)


def concatenated(traced: Trace) -> int:
    """Channels of concatenations, but for those that only feed another one."""
    nodes = concatenations(traced)
    return sum(traced.shapes[node.name][1] for node in nodes if not any(user in nodes for user in node.users))


# Source: GaterNet (CVPR 2019), tables 1 to 3 and section 4.4.
FILTERS = [
    ("cifar_resnet20", last_of_paths, 336),
    ("cifar_resnet56", last_of_paths, 1008),
    ("cifar_preact_resnet164", last_of_paths, 7200),
    ("resnet34", last_of_paths, 3776),
    ("resnet101", last_of_paths, 32512),
    ("resnet152", last_of_paths, 47872),
    ("cifar_densenet_bc100_12", dense_layers, 540),
    ("cifar_densenet_bc250_24", dense_layers, 2880),
    ("cifar_densenet_bc190_40", dense_layers, 3600),
    ("cifar_shake_shake26_2x64d", last_of_paths, 3584),
    ("cifar_shake_shake26_2x96d", last_of_paths, 5376),
    ("timm/inception_v4", concatenated, 16608),
]


@pytest.mark.parametrize(
    ("name", "count", "filters"), FILTERS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_structure_has_the_filters_that_gaternet_gates(name, count, filters):
    assert count(read(name)) == filters


# -- wider -----------------------------------------------------------------------------------------------------------


# Source: GaterNet (CVPR 2019), table 1, CIFAR-10 and CIFAR-100, "Wider", in millions.
@pytest.mark.parametrize(
    ("name", "classes", "millions"),
    [
        ("cifar_resnet20", 10, 0.56),
        ("cifar_resnet56", 10, 1.08),
        ("cifar_preact_resnet164", 10, 2.04),
        ("cifar_resnet20", 100, 0.57),
        ("cifar_resnet56", 100, 1.09),
        ("cifar_preact_resnet164", 100, 2.07),
    ],
)
def test_wider_models_have_the_parameters_of_gaternets_table(name, classes, millions):
    spec = widened(ModelSpec(name, {"num_classes": classes}), round(millions * 1e6))
    assert spec.name == name
    assert spec.options["num_classes"] == classes
    assert round(count_parameters(spec) / 1e6, 2) == millions


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_preact_resnet11", "cifar_vgg16", "cifar_mobilenet_v1"])
def test_widened_is_the_closest_of_all_widths(name):
    counts = {width: count_parameters(ModelSpec(name, {"width": width})) for width in range(4, 24)}
    for target in (1, 40_000, 123_456, counts[20], counts[20] + 1):
        best = min(counts, key=lambda width: abs(counts[width] - target))
        assert widened(ModelSpec(name), target).options["width"] == best


def test_what_cannot_be_widened_says_so():
    with pytest.raises(InputError, match="no option width"):
        widened(ModelSpec("cifar_densenet_bc100_12"), 10**6)
    with pytest.raises(InputError, match="parameters=0"):
        widened(ModelSpec("cifar_resnet8"), 0)
    with pytest.raises(InputError, match="no width with"):
        widened(ModelSpec("cifar_resnet8"), 10**15)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_own_models_by_name(name):
    with torch.device("meta"):
        model = create(name, num_classes=7)
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    spec = identify(model)
    assert spec.name == name
    assert spec.options["num_classes"] == 7
    # What a name fixes is in the model's record of its options, and no option of the name.
    fixed = OWN[name].fixed
    assert operator.le(fixed.items(), model.options.items())
    for option, value in fixed.items():
        with pytest.raises(InputError, match=option):
            create(name, **{option: value})


# Of VGG's 16 layers three are linear, and two of these are left out.
@pytest.mark.parametrize("name", [name for name in OWN if name != "cifar_vgg16"])
def test_depth_in_the_name_is_the_number_of_layers(name):
    """Convolutions on the longest way, and the linear layer, as He et al. count; not shortcuts, nor a second branch."""
    digits = "".join(c if c.isdigit() else " " for c in name.replace("_v1", "_28")).split()
    side = ("downsample", "branch2")
    with torch.device("meta"):
        model = create(name)
    convs = [key for key, m in model.named_modules() if isinstance(m, nn.Conv2d) and not any(s in key for s in side)]
    assert len(convs) + 1 == int(digits[0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_preact_resnet164", {"width": 3}),
        ("cifar_preact_resnet164", {"squeeze": 0}),
        ("cifar_densenet_bc100_12", {"num_classes": 0}),
        ("cifar_shake_shake26_2x64d", {"stem": -1}),
        ("cifar_vgg16", {"width": 0}),
        ("cifar_mobilenet_v1", {"width": 1.5}),
    ],
    ids=str,
)
def test_bad_options_are_named(name, options):
    with pytest.raises(InputError, match=next(iter(options))):
        create(name, **options)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("cifar_preact_resnet164", "depth", 163),
        ("cifar_densenet_bc100_12", "depth", 99),
        ("cifar_densenet_bc100_12", "growth", 0),
        ("cifar_shake_shake26_2x64d", "depth", 2),
        ("cifar_shake_shake26_2x64d", "width", 7),
        ("cifar_resnet18", "depth", 20),
    ],
)
def test_bad_depths_and_widths_are_named(name, option, value):
    with pytest.raises(InputError, match=option):
        OWN[name].builder(**{**OWN[name].fixed, option: value})


# -- the table in the docs -------------------------------------------------------------------------------------------


def literal(text: str) -> object:
    return int(text) if text.isdigit() else {"False": False}.get(text, text)


def test_the_table_in_the_docs_is_measured():
    """Each row `name` option=value | ours | the paper's | source: ours is the model's, and the paper's where no note
    says that it differs."""
    text = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines() if line[:3] == "| `"]
    named = set()
    for model, ours, papers, source in rows:
        name, *settings = model.replace("`", "").split(" ")
        options = {key: literal(value) for key, value in (setting.split("=") for setting in settings)}
        parameters = count_parameters(ModelSpec(name, options))
        assert f"{parameters:,}" == ours, model
        if papers:
            digits = len(papers.removesuffix("M").split(".")[1])
            assert (f"{parameters / 1e6:.{digits}f}M" == papers) != ("differs" in source), model
        named.add(name)
    assert set(OWN) - named == {"cifar_resnet8", "cifar_resnet14", "cifar_preact_resnet11"}


@pytest.mark.parametrize("name", ["faster_rcnn", "pspnet", "retinanet"])
def test_what_a_detector_or_segmenter_was_built_with_is_known(name):
    options = {"num_classes": 5, "body": "resnet18"}
    with torch.device("meta"):
        model = create(name, **options)
    spec = identify(model)
    assert spec.name == name
    assert options.items() <= spec.options.items()
    with pytest.raises(InputError, match="body is 'vgg11'"):
        create(name, body="vgg11")
