import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch

import convgate
from convgate.analysis import (
    DenseFigures,
    Evaluation,
    GatedFigures,
    Metrics,
    Spending,
    StageCurves,
    census,
    write_report,
)
from convgate.bench.latency import Latency, Milliseconds
from convgate.data import ImageSet
from convgate.errors import InputError
from convgate.gating import Decision, Decisions
from convgate.methods import METHODS
from convgate.models import create

N = 30
HOSTILE = '<script>alert("x")</script> & "co"'
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """What a page holds; fails on tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    @property
    def images(self):
        return [attributes for tag, attributes in self.attributes if tag == "img"]


def gated_network(name, method="DualGating"):
    return convgate.gate(create(name, num_classes=3), METHODS[method](), torch.zeros(1, 3, 16, 16))


@pytest.fixture(scope="module")
def parts():
    return make_parts(gated_network("cifar_resnet8"))


def metrics_of(dense, gated, spending, budget=None):
    figures = GatedFigures(gated, spending.ratio, spending.percentiles)
    return Metrics(DenseFigures(dense, spending.dense), figures, N, "a machine", {"torch": "2"}, budget=budget)


def make_parts(network):
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % 3
    images = ImageSet(
        torch.randint(0, 256, (N, 3, 16, 16), generator=draw, dtype=torch.uint8),
        labels,
        ("cat", HOSTILE, "dog"),
        (0.5,) * 3,
        (0.2,) * 3,
        torch.rand(N, generator=draw),
    )
    decisions = Decisions(
        (g.name, Decision(g.kind, (torch.rand(N, *g.shape, generator=draw) < 0.6).float())) for g in network.plan.gates
    )
    cost = network.cost(decisions)
    by_layer = {name: float(macs.double().mean()) for name, macs in cost.by_layer.items()}
    spending = Spending(cost.macs, cost.dense, by_layer, census(decisions))
    dense = Evaluation(labels.where(torch.arange(N) >= 3, (labels + 1) % 3), labels)
    cheap = cost.macs.argsort().argsort() < 6
    gated = Evaluation(labels.where(~cheap, (labels + 1) % 3), labels, spending)
    return {
        "title": HOSTILE,
        "metrics": metrics_of(0.9, 0.8, spending, budget=0.45),
        "stages": [
            StageCurves("dense", [{"epoch": 1, "train_loss": 2.0, "validation_accuracy": 0.4}]),
            StageCurves(HOSTILE, [{"epoch": 1, "train_loss": 1.0, "validation_macs_ratio": 0.6}], 0.45),
        ],
        "network": network,
        "dense": dense,
        "gated": gated,
        "images": images,
        "notes": {"machine": "two <cores>", "seed": "17"},
    }


@pytest.fixture(scope="module")
def written(parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    write_report(path, **parts)
    html = path.read_text(encoding="utf-8")
    return SimpleNamespace(html=html, page=Page(html), spending=parts["gated"].spending)


@pytest.mark.parametrize(("p20", "said"), [(3.0, "1.50 times as fast"), (1.5, "these overlap")])
def test_a_time_is_told_with_its_spread_and_claims_no_more(parts, tmp_path, p20, said):
    dense, gated = Milliseconds(3.3, p20, 3.4, 9), Milliseconds(2.2, 2.1, 2.3, 9)
    metrics = replace(parts["metrics"], latency=Latency(dense, gated, 1.5, 2, "avx2"))
    write_report(tmp_path / "report.html", **{**parts, "metrics": metrics})
    text = Page((tmp_path / "report.html").read_text()).text
    assert "2.20 ms 2.10\N{EN DASH}2.30 ms (20\N{EN DASH}80 %)" in text
    assert said in text
    assert ("times as fast" in text) == (p20 > 2.3)


def test_the_page_states_the_numbers(written):
    text, spending = written.page.text, written.spending
    shares = spending.macs.double() / spending.dense
    for expected in (
        "Ungated accuracy 90.0%",
        "Gated accuracy 80.0% \N{MINUS SIGN}10.0 points",
        f"MACs of the mean image {spending.ratio:.1%} target 45.0%",
        f"{shares.min():.0%}\N{EN DASH}{shares.max():.0%}",
        f"{spending.dense:,} MACs for every image",
        "3 sites, 6 gates",
        "conv1 is read by add, not by convolutions only",
        "seed 17",
    ):
        assert expected in text, expected


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_page(method, tmp_path):
    parts = make_parts(gated_network("cifar_resnet8", method))
    write_report(tmp_path / "report.html", **parts)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert f"{parts['network'].ledger.dense:,} MACs for every image" in page.text
    assert all(image["alt"].strip() for image in page.images)


def test_the_page_shows_every_figure_with_words_for_it(written):
    images = written.page.images
    assert all(image["alt"].strip() for image in images)
    drawings = [i for i in images if i["src"].startswith("data:image/svg+xml")]
    begin = [re.split(" over the | of MACs | against | of how ", i["alt"])[0] for i in drawings]
    assert begin == [
        "Training loss", "Validation accuracy", "Training loss", "MACs, share of dense", "Bars", "Histogram",
        "Accuracy", "MACs", "Stacked bars", "Stacked bars",
    ]  # fmt: skip
    pictures = [i for i in images if i["src"].startswith("data:image/png")]
    assert len(pictures) == 1 + 2 * 12 + 2 * 8  # colour bar, images with cost maps, cheapest and costliest
    assert all(base64.b64decode(i["src"].split(",")[1]).startswith(b"\x89PNG") for i in pictures)


def test_images_are_ordered_by_cost_and_wrong_ones_are_marked(written, parts):
    macs = written.spending.macs
    words = [i["alt"] for i in written.page.images if i["alt"].startswith("Test image")]
    cheapest, costliest = words[12:20], words[20:]
    for word, index in ((words[0], macs.argmin()), (cheapest[0], macs.argmin()), (costliest[0], macs.argmax())):
        verdict = "rightly" if parts["gated"].correct[index] else "wrongly"
        assert f"class {parts['images'].classes[index % 3]}, classified {verdict}" in word
        assert f"{int(macs[index]) / written.spending.dense:.1%}" in word
    assert written.page.text.count("✗ said") == sum("wrongly" in word for word in words)


def test_the_page_asks_for_nothing_from_elsewhere(written):
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(written.page.tags)
    for _, attributes in written.page.attributes:
        assert attributes.get("src", "data:").startswith("data:")
        assert not {"href", "srcset", "style", "onclick", "onload", "action", "poster"} & set(attributes)
    assert not re.search(r"https?://|@import|url\(", written.html)
    for image in written.page.images:
        if image["src"].startswith("data:image/svg+xml"):
            svg = base64.b64decode(image["src"].split(",")[1]).decode()
            assert set(re.findall(r'https?://[^"]*', svg)) <= {
                "http://www.w3.org/2000/svg",
                "http://www.w3.org/1999/xlink",
            }
            assert re.findall(r'href="[^#]', svg) == []


def test_hostile_names_are_text(written):
    assert "<script" not in written.html
    assert written.page.text.count(HOSTILE) >= 3  # title, heading, stage
    assert "two <cores>" in written.page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"gated": p["dense"]}, "no spending"),
        (lambda p: {"images": p["images"].subset(list(range(N - 1)))}, "same order"),
        (lambda p: {"images": p["images"].shuffled(0)}, "same order"),
        (lambda p: {"metrics": replace(p["metrics"], dense=DenseFigures(0.7, 1))}, r"dense accuracy of 0\.7"),
        (lambda p: {"network": gated_network("cifar_resnet14")}, "another network"),
    ],
)  # fmt: skip
def test_parts_that_do_not_belong_together_are_refused_and_nothing_is_written(parts, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_report(tmp_path / "report.html", **(parts | change(parts)))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_leaves_no_file_and_the_old_one_as_it_was(parts, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, **parts)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_a_bare_report_of_few_images_leaves_out_what_there_is_none_of(parts, tmp_path):
    few, network = torch.arange(2), parts["network"]
    spending = parts["gated"].spending
    images = parts["images"].subset(few)
    small = Spending(spending.macs[few], spending.dense, spending.by_layer, spending.census)
    right = Evaluation(images.labels, images.labels, small)
    metrics = metrics_of(1.0, 1.0, small, budget=0.5)
    path = tmp_path / "report.html"
    write_report(
        path, title="t", metrics=metrics, stages=[], network=network, dense=right, gated=right, images=images, notes={}
    )
    text = Page(path.read_text()).text
    assert "target 50.0%" in text
    assert not any(heading in text for heading in ("Training", "Easy and hard", "Notes"))
