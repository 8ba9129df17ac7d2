"""Means, differences and their standard errors, by hand."""

import json
from dataclasses import replace

import pytest

from convgate.runs.groups import GATED, groups
from convgate.runs.page import add, write_page
from convgate.runs.record import read_csv, record_of, to_csv


@pytest.fixture
def records(finished):
    row = replace(record_of(finished), recipe="cifar10-resnet20-dual-50", budget=0.5, macs_share=0.5, dense_macs=1000)
    found = []
    for seed, gated, dense in ((0, 0.90, 0.92), (1, 0.91, 0.91), (2, 0.92, 0.93)):
        found.append(replace(row, run=f"gated-{seed}", seed=seed, accuracy=gated, static_accuracy=gated - 0.01))
        of = {"control": "dense", "control_of": row.recipe, "recipe": f"{row.recipe}@dense", "budget": None}
        control = {**of, "run": f"dense-{seed}", "seed": seed, "accuracy": dense, "macs_share": 1.0, "method": "none"}
        found.append(replace(row, **control, static_accuracy=None))
    narrow = {"control": "narrower", "control_of": row.recipe, "recipe": f"{row.recipe}@narrower", "method": "none"}
    found.append(replace(row, run="narrow", **narrow, accuracy=0.89, macs_share=1.0, dense_macs=502))
    return found


def test_by_hand(records):
    (group,) = groups(records)
    assert list(group.records) == [GATED, "dense", "narrower"]
    gated, gain = group.accuracy(GATED), group.gain("dense")
    assert (gated.mean, gated.error, gated.n) == pytest.approx((0.91, 0.01 / 3**0.5, 3))
    # Differences of -2, 0 and -1 points: their deviation is 1 point.
    assert (gain.mean, gain.error) == pytest.approx((-0.01, 0.01 / 3**0.5))
    alone = group.gain("narrower")
    assert (alone.mean, alone.error) == (pytest.approx(0.01), None)
    assert group.macs("narrower") == pytest.approx(0.502)
    assert group.macs("dense") == 1.0
    assert group.static(GATED).mean == pytest.approx(0.90)
    assert group.static("dense") is None
    assert group.missing == ("random", "apart")


def test_what_differs_in_more_than_seeds_stands_apart(records):
    longer = replace(records[0], run="longer", epochs="gated 200")
    other = replace(records[0], run="other", budget=0.3)
    taught = replace(records[0], run="taught", teacher="cifar_resnet56")
    found = groups([*records, longer, other, taught])
    assert sorted((g.length, g.budget, g.teacher) for g in found) == sorted(
        [(2, 0.5, ""), (2, 0.3, ""), (200, 0.5, ""), (2, 0.5, "cifar_resnet56")]
    )
    # A network without gates has no budget, and stands beside all.
    assert all("dense" in g.records for g in found if g.length == 2 and not g.teacher)


def test_rows_whose_methods_have_other_options_stand_apart(records):
    """Controls beside the rows with their options; those that have none of the rows' options beside all."""
    row = records[0]

    def of(record, run, **options):
        return replace(record, run=run, settings=json.dumps({"method": {"options": options}}))

    control = replace(row, control="random", control_of=row.recipe, recipe=f"{row.recipe}@random")
    given = [
        of(row, "plain", init="whole", tile=2),
        of(row, "filled", init="whole", tile=2, filled=True),
        of(control, "random-filled", init="whole", tile=2, filled=True),
        of(replace(records[1], seed=0), "dense"),
    ]
    found = {str(group.options): group for group in groups(given)}
    assert list(found) == ["{'filled': True}", "{}"]
    assert [list(group.records) for group in found.values()] == [[GATED, "dense", "random"], [GATED, "dense"]]


def test_a_note_stands_beside_the_command(records, tmp_path, finished):
    (path,) = add([finished], tmp_path, note="Its first half was trained elsewhere.")
    assert read_csv(path)[0].note == "Its first half was trained elsewhere."
    assert "test images. Its first half was trained elsewhere.\n" in write_page(tmp_path).read_text()


def test_the_page_shows_them_in_the_rows_group(records, tmp_path):
    for record in records:
        (tmp_path / f"{record.run}.csv").write_text(to_csv([record]))
    text = write_page(tmp_path).read_text()
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if "| **gated** |" in line)
    assert "| 0, 1, 2 | 50.0% | 91.00 ± 0.58 | - | 90.00 ± 0.58 |" in lines[first]
    assert "| dense | 0, 1, 2 | 100.0% | 92.00 ± 0.58 | -1.00 ± 0.58 |" in lines[first + 1]
    assert "| narrower | 0 | 50.2% | 89.00 | 1.00 |" in lines[first + 2]
    assert "- cifar10-resnet20-dual-50, 2 epochs: random, apart" in text
