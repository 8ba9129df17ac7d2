import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch

from convgate.analysis import GateCensus, SiteCost, Spending, StageCurves, figures
from convgate.analysis.evaluation import Evaluation
from convgate.gating import ChannelGroups, Decisions, Tiles

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing):
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text")]


def spending(macs, dense=1000):
    return Spending(torch.tensor(macs), dense, {}, Decisions({}))


def test_training_curves_have_a_panel_for_what_was_logged_and_skip_gaps():
    rows = [
        {"epoch": 1, "train_loss": 2.0, "validation_accuracy": math.nan},
        {"epoch": 2, "train_loss": 1.5},
        {"epoch": 3, "train_loss": 1.25, "validation_accuracy": 0.5},
        {"epoch": 4, "train_loss": math.nan},
    ]
    loss, accuracy = figures.training_curves(StageCurves("dense", rows))
    assert "Training loss" in texts(loss)
    assert "ends at 1.25" in loss.alt
    assert "ends at 50%" in accuracy.alt
    assert figures.training_curves(StageCurves("empty", [])) == []
    ratios = [{"epoch": 1, "train_macs_ratio": 0.7, "validation_macs_ratio": 0.8}]
    (macs,) = figures.training_curves(StageCurves("gated", ratios, 0.55))
    assert {"in training", "in validation", "target 55%"} <= set(texts(macs))


def test_stage_curves_number_rows_without_an_epoch():
    assert StageCurves("s", [{"a": 1.0}, {"b": 2.0}, {"a": 3.0}]).curve("a") == ([1.0, 3.0], [1.0, 3.0])


def test_site_bars_name_every_site_and_its_share():
    drawing = figures.site_bars([SiteCost("block1", 4_000_000, 1e6), SiteCost("gates", 0, 5e4)])
    assert {"block1", "25%", "gates", "1.25% of all", "million MACs per image"} <= set(texts(drawing))


def test_gate_census_shows_one_kind_and_is_absent_without_it():
    gates = {
        "b.spatial": GateCensus(Tiles(1), 4, 1, 1, 2, 0.5),
        "b.c.channel": GateCensus(ChannelGroups(8), 8, 8, 0, 0, 1.0),
    }
    spatial = figures.gate_census(gates, Tiles)
    assert "b (4)" in texts(spatial)
    assert "b.c (8)" not in texts(spatial)
    assert "1 always on, 2 input-dependent, 1 always off of 4" in spatial.alt
    assert figures.gate_census({"b.spatial": gates["b.spatial"]}, ChannelGroups) is None


def test_cost_histogram_names_mean_target_and_range():
    drawing = figures.cost_histogram(spending([200, 400, 600]), 0.45)
    assert {"mean 40.0%", "target 45.0%"} <= set(texts(drawing))
    assert "from 20.0% to 60.0%" in drawing.alt
    alike = figures.cost_histogram(spending([500, 500]), None)
    assert "mean 50.0%" in texts(alike)
    assert not any("target" in text for text in texts(alike))


def test_by_difficulty_bins_from_easy_to_hard():
    labels = torch.zeros(40, dtype=torch.int64)
    difficulty = torch.arange(40.0).flip(0)
    wrong = Evaluation((difficulty >= 20).long(), labels, spending([100] * 20 + [900] * 20))
    accuracy, macs = figures.by_difficulty(difficulty, Evaluation(labels, labels), wrong)
    assert "gated from 100.0% (easiest) to 0.0% (hardest)" in accuracy.alt
    assert "ungated from 100.0% (easiest) to 100.0% (hardest)" in accuracy.alt
    assert "gated from 90.0% (easiest) to 10.0% (hardest)" in macs.alt
    assert figures.by_difficulty(torch.ones(40), wrong, wrong) == []


@pytest.mark.parametrize("sites", [1, 60])
def test_bars_do_not_run_into_each_other_and_the_same_content_gives_the_same_bytes(sites):
    costs = [SiteCost(f"stage.{i}", 1000, 500.0) for i in range(sites)]
    drawing = figures.site_bars(costs)
    assert drawing == figures.site_bars(costs)
    root = ElementTree.fromstring(drawing.svg)
    marks = [e for e in root.iter(f"{SVG}text") if re.fullmatch(r"stage\.\d+", "".join(e.itertext()))]
    heights = [float(re.search(r"[\d.]+\)", e.get("transform") or f"{e.get('y')})").group()[:-1]) for e in marks]
    assert len(heights) == sites
    assert all(b - a > 10 for a, b in pairwise(heights))
