"""What an engine answers over a set of images is judged, and counted, as the network's own answers are."""

import pytest
import torch
from tests.detectors import DETECTORS, build
from tests.segmenters import Segmenter

import convgate
from convgate.analysis import judge
from convgate.analysis.on_engine import judge_on_engine
from convgate.cost import count_macs
from convgate.data import Batches, ImageSet
from convgate.data.scenes import BoxSet, MaskSet, box_target
from convgate.errors import InputError
from convgate.methods import DualGating
from convgate.models import create
from convgate.tasks.classification import Classification
from convgate.tasks.detection import Detection
from convgate.tasks.segmentation import Segmentation

METHOD = DualGating(masks="equal", init="paper")


def _noise(seed, *shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _both(network, images, task, batch):
    network = network.eval()
    engine = convgate.compile(network, threads=1)
    batches = Batches(images, batch, workers=0)
    return judge(network, batches, images, task), judge_on_engine(engine, network, batches, images, task)


def _same(ours, theirs):
    assert ours.metric == theirs.metric
    assert ours.images == theirs.images
    assert theirs.scores == pytest.approx(ours.scores, abs=1e-5)
    assert torch.equal(ours.spending.macs, theirs.spending.macs)
    assert ours.spending.dense == theirs.spending.dense
    assert torch.equal(ours.spending.shares, theirs.spending.shares)
    assert theirs.spending.by_layer == pytest.approx(ours.spending.by_layer)


def test_images_with_a_class_each():
    images = ImageSet(_noise(0, 12, 3, 16, 16), torch.arange(12) % 10, tuple("0123456789"), (0.5,) * 3, (0.2,) * 3)
    network = convgate.gate(create("cifar_resnet8", width=4), METHOD, images.example())
    _same(*_both(network, images, Classification(), 5))


def test_images_of_several_sizes_and_an_answer_with_a_name():
    sizes = [(24, 32), (16, 24), (24, 32)]
    images = MaskSet([(_noise(n, 3, *size), _noise(9 + n, *size) % 2) for n, size in enumerate(sizes)], ("a", "b"))
    network = convgate.gate(Segmenter(), METHOD, torch.zeros(1, 3, 24, 32))
    _same(*_both(network, images, Segmentation(), 1))


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_detector(detector):
    target = box_target([[4, 4, 30, 30]], [1])
    images = BoxSet([(_noise(n, 3, *size), target) for n, size in enumerate([(64, 64), (64, 96)])], ("a", "b"))
    example = [torch.rand(3, 64, 64)]
    network = convgate.gate(build(detector), METHOD, example)
    _same(*_both(network, images, Detection(), 1))


def test_a_network_without_gates_executes_all():
    images = ImageSet(_noise(0, 4, 3, 16, 16), torch.arange(4), tuple("0123456789"), (0.5,) * 3, (0.2,) * 3)
    network = create("cifar_resnet8", width=4).eval()
    engine = convgate.compile(network, images.example(), precision="bf16", threads=1)
    found = judge_on_engine(engine, network, Batches(images, 2), images, Classification())
    assert found.spending.ratio == 1
    assert found.spending.dense == count_macs(network, (3, 16, 16))
    with pytest.raises(InputError, match="no batches"):
        judge_on_engine(engine, network, [], images, Classification())
