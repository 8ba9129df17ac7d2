import re
from dataclasses import replace

import pytest
from tests.hardware.programs import engine_of, simulated, trace_of

from convgate.hardware import accelerator, simulate
from convgate.hardware.area import WITHOUT, Area, ArrayArea, built_as
from convgate.hardware.fragmentation import Grouped
from convgate.hardware.page import write_page
from convgate.hardware.sweep import row_of, sweep


@pytest.mark.parametrize(("method", "machine"), [("dual", "dgnet-ultra96"), ("channel", "scalesim-32")])
def test_the_page_is_one_file_that_says_what_was_found(method, machine, tmp_path):
    program = engine_of(method)[0].program
    trace, machine = trace_of(program, 6), accelerator(machine)
    found = simulate(program, trace, machine)
    rows = [row_of(one) for one in sweep(program, trace.part(0, 1), accelerator("dgnet-ultra96"), (8, 16), (4, 8))]
    write_page(tmp_path / "page.html", found, title="a <network>", sweep=rows)
    page = (tmp_path / "page.html").read_text()
    assert "a &lt;network&gt;" in page
    assert f"{found.speedup.mean():.2f}" in page
    assert len(re.findall(r'<img src="data:image/svg', page)) == 6
    assert not re.search(r'(src|href)="(?!data:)', page)
    write_page(tmp_path / "again.html", found, title="a <network>", sweep=rows)
    assert (tmp_path / "again.html").read_text() == page


def test_the_page_shows_what_the_array_takes_where_that_was_counted(tmp_path):
    found = simulated("dual", 2)
    counted = ArrayArea(16, 16, {"with all": Area(1100, 50, 4, 64, 8), WITHOUT: Area(1000, 50, 4, 64, 0)}, "Tool 1 (x)")
    write_page(tmp_path / "page.html", found, title="a", area=counted)
    page = (tmp_path / "page.html").read_text()
    assert "<td>1,100 (+10.0 %)</td>" in page
    assert "<td>50</td>" in page
    assert "Counted by\nTool 1, not placed" in page
    assert "need not be those of dgnet-ultra96" in page
    built = {**built_as(found.machine), "input_buffer_kib": 64}
    write_page(tmp_path / "page.html", found, title="a", area=replace(counted, accelerator="mine", built=built))
    page = (tmp_path / "page.html").read_text()
    assert "Counted for mine, with word_bits 8, index_bits 64, input_buffer_kib 64" in page
    assert "has other sizes, and so another area: input_buffer_kib 128." in page
    write_page(tmp_path / "page.html", found, title="a", area=replace(counted, built=built_as(found.machine)))
    assert "as the machine of this page has them." in (tmp_path / "page.html").read_text()
    write_page(tmp_path / "page.html", found, title="a")
    assert "<h2>Area</h2>" not in (tmp_path / "page.html").read_text()


def test_the_page_sets_group_size_against_fragmentation(tmp_path):
    rows = (Grouped(1, 100, 0.0, 50, 3.0, 1.5, 0.5), Grouped(2, 150, 0.5, 50, 2.0, 1.5, 0.75))
    found = simulated("dual", 2)
    write_page(tmp_path / "page.html", found, title="a", groups=rows)
    page = (tmp_path / "page.html").read_text()
    assert "not a network\nthat was trained with groups" in page
    assert "the first 2 images" in page
    assert "1.00 times the MACs in groups of 1, 1.50 times the MACs in groups of 2" in page
    assert "<td>2</td><td>150</td><td>+50.0%</td>" in page
    write_page(tmp_path / "page.html", found, title="a")
    assert "do not decide on single channels" in (tmp_path / "page.html").read_text()


def test_captions_are_short(tmp_path):
    found = simulated("dual", 2)
    write_page(tmp_path / "page.html", found, title="a")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", (tmp_path / "page.html").read_text())
    assert len(captions) == 5
    assert all(len(re.findall(r"\d[\d,.]*", caption)) <= 4 for caption in captions)
