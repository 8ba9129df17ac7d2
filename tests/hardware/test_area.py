"""Files of areas: written, read back, and refused where they are something else."""

import json
from pathlib import Path

import pytest

from convgate.errors import InputError
from convgate.hardware import accelerator
from convgate.hardware.area import WITHOUT, Area, ArrayArea, area_of, built_as, read_areas, write_areas

SMALL, LARGE = Area(100, 50, 4, 64, 0), Area(110, 50, 5, 64, 8)
FOUND = ArrayArea(4, 2, {"with the index module": LARGE, WITHOUT: SMALL}, "a tool 1.0")


def test_what_was_written_is_read(tmp_path):
    write_areas(tmp_path / "area.json", [FOUND])
    assert read_areas(tmp_path / "area.json") == [FOUND]
    assert area_of(tmp_path / "area.json", 4, 2) == FOUND


def test_the_record_of_the_benchmarks_is_read():
    record = Path(__file__).parents[2] / "benchmarks" / "results" / "hardware_area.json"
    found = area_of(record, 16, 16)
    assert found.tool.startswith("Yosys")
    assert found.more("with the index module", "luts") > 0
    assert found.accelerator == "dgnet-ultra96"
    assert found.others(accelerator("dgnet-ultra96")) == ""


def test_more_is_a_share_of_the_accelerator_that_computes_everything():
    assert FOUND.more("with the index module", "luts") == 0.1
    assert FOUND.more("with the index module", "registers") == 0
    assert FOUND.more("with the index module", "table_bits") is None


def test_a_part_alone_is_not_compared_with_an_accelerator():
    found = ArrayArea(4, 2, {"the index module alone": LARGE, WITHOUT: SMALL})
    assert found.more("the index module alone", "luts") is None


def test_what_was_built_is_kept_and_compared(tmp_path):
    machine = accelerator("dgnet-ultra96", rows=4, columns=2, word_bits=16, input_buffer_kib=64)
    found = ArrayArea(4, 2, {WITHOUT: SMALL}, "a tool 1.0", machine.name, built_as(machine))
    write_areas(tmp_path / "area.json", [found])
    assert read_areas(tmp_path / "area.json") == [found]
    assert "word_bits 8, index_bits 64, input_buffer_kib 64" in found.sizes()
    assert found.others(machine) == "word_bits 16"  # the RTL's are of 8 bits
    assert found.others(accelerator("dgnet-ultra96")) == "input_buffer_kib 128"


def test_an_array_that_was_not_counted_is_told(tmp_path):
    write_areas(tmp_path / "area.json", [FOUND])
    with pytest.raises(InputError, match="arrays 4x2, not 8x8"):
        area_of(tmp_path / "area.json", 8, 8)


@pytest.mark.parametrize("built", [{"input_buffer_kib": "128"}, {"nonsense": 3}, 3])
def test_what_was_built_is_checked(tmp_path, built):
    write_areas(tmp_path / "area.json", [FOUND])
    data = json.loads((tmp_path / "area.json").read_text())
    data["arrays"][0]["built"] = built
    (tmp_path / "area.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="not a file of areas"):
        read_areas(tmp_path / "area.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"tool": "t", "arrays": [{"rows": 4, "columns": 2, "areas": {}}]}', None])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "area.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"area\.json"):
        read_areas(path)


def test_counts_are_whole_numbers(tmp_path):
    write_areas(tmp_path / "area.json", [FOUND])
    data = json.loads((tmp_path / "area.json").read_text())
    data["arrays"][0]["areas"][WITHOUT]["luts"] = 1.5
    (tmp_path / "area.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="not a file of areas"):
        read_areas(tmp_path / "area.json")
