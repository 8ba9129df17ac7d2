"""benchmarks/finetune_ablation.py: each of its parts takes the place of one that is there, and the run ends."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from convgate import DualGating, gate
from convgate.finetuning import finetune
from convgate.finetuning.settings import Settings
from convgate.models import create

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("finetune_ablation")
    for name in {"finetune_ablation", "finetune", "records"} & (set(sys.modules) - before):
        del sys.modules[name]


def test_every_other_part_has_a_place_and_leaves_it(ablation):
    run = importlib.import_module("convgate.finetuning.run")
    distance = run.distillation
    for variant in ablation.VARIANTS:
        Settings(**variant.settings)
        DualGating(**variant.method)
        with variant.in_place():
            pass
    with next(v for v in ablation.VARIANTS if v.name == "labels").in_place():
        assert run.distillation is ablation.no_distance
    assert run.distillation is distance
    assert len({variant.name for variant in ablation.VARIANTS}) == len(ablation.VARIANTS)


@pytest.mark.parametrize("name", ["information", "labels", "fixed-weight"])
def test_a_variant_reaches_its_budget(ablation, randomise, name):
    variant = next(v for v in ablation.VARIANTS if v.name == name)
    torch.manual_seed(0)
    images = torch.randn(32, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=16), images)
    net = gate(model, DualGating(masks="equal"), images[:1])
    batches = [(x, torch.zeros(8, dtype=torch.int64)) for x in images.split(8)]
    settings = Settings(**{"rounds": 1, "points": 0, **variant.settings})
    with variant.in_place():
        result = finetune(net, batches, budget=0.8, steps=2, labels=True, keep=0.0, settings=settings)
    assert 0.75 < result.after.share < 0.82
