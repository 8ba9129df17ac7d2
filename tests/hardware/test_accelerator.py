import dataclasses
import json

import pytest

from convgate.errors import InputError
from convgate.hardware import Accelerator, accelerator, list_accelerators
from convgate.hardware.energy import energy_table, list_energy_tables


@pytest.mark.parametrize("name", list_accelerators())
def test_every_machine_loads_and_says_what_it_assumes(name):
    machine = accelerator(name)
    assert machine.name == name
    assert machine.source
    for field in machine.assumed:
        assert field in machine.assumptions()
    energy_table(machine.energy)


def test_what_is_set_is_not_assumed():
    machine = accelerator("dgnet-ultra96", frequency_mhz=300.0)
    assert "frequency_mhz" not in machine.assumed
    assert machine.frequency_mhz == 300


def test_what_was_changed_is_told():
    machine = accelerator("dgnet-ultra96", rows=4, frequency_mhz=300.0)
    assert machine.changed == ("rows", "frequency_mhz")
    assert machine.called == "dgnet-ultra96 with rows=4, frequency_mhz=300.0"
    again = machine.with_fields(rows=8, word_bits=16)
    assert (again.rows, again.word_bits) == (8, 16)
    assert again.called == "dgnet-ultra96 with rows=8, frequency_mhz=300.0, word_bits=16"
    assert "word_bits" not in again.assumed
    assert accelerator("dgnet-ultra96").called == "dgnet-ultra96"
    with pytest.raises(InputError, match="no field changed"):
        accelerator("dgnet-ultra96", changed=["rows"])


def test_fields_that_a_file_leaves_out_are_assumed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsource: me\nrows: 4\ncolumns: 8\nword_bits: 16\nassumed: [word_bits]\n")
    machine = accelerator(path, frequency_mhz=100.0)
    known = {"name", "source", "rows", "columns", "frequency_mhz", "assumed", "changed"}
    assert set(machine.assumed) == {field.name for field in dataclasses.fields(machine)} - known
    assert "input_buffer_kib 128" in machine.assumptions()


def test_a_machine_is_told_as_plain_data():
    machine = accelerator("dgnet-ultra96", rows=4)
    data = machine.as_data()
    assert json.loads(json.dumps(data)) == data
    assert (data["name"], data["changed"], data["fields"]["rows"]) == ("dgnet-ultra96", {"rows": 4}, 4)
    assert data["assumed"]["frequency_mhz"] == 200
    assert set(data["fields"]) == {f.name for f in dataclasses.fields(machine)} - {
        "name",
        "source",
        "assumed",
        "changed",
    }


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rows": 0}, "from 1 to 1048576"),
        ({"rows": 1_000_000_000}, "from 1 to 1048576"),
        ({"map_buffer_kib": -1}, "from 0 to 1048576"),
        ({"rows": "many"}, "whole number"),
        ({"rows": True}, "whole number"),
        ({"dataflow": "xs"}, "ws, os, is"),
        ({"dataflow": "os"}, "serial"),
        ({"frequency_mhz": -1.0}, "a finite number above 0"),
        ({"packed": 1}, "true or false"),
        ({"nonsense": 1}, "no field nonsense"),
        ({"assumed": ["nonsense"]}, "names no field"),
        ({"word_bits": 12}, "word_bits is 12; it is a multiple of 8$"),
        ({"sum_bits": 1, "columns": 1}, "sum_bits is 1; it is a multiple of 8$"),
        (
            {"columns": 100_000},
            r"sum_buffer_kib is 128, .* a row of 100000 sums: at least 782 is needed, or a smaller array$",
        ),
        (
            {"rows": 65536, "weight_buffer_kib": 1},
            "weight_buffer_kib is 1, .* 65536x16 weights: at least 2048 is needed",
        ),
        ({"rows": 100_000, "columns": 8192}, "100000x8192 weights: a smaller array is needed$"),
        ({"frequency_mhz": float("inf")}, "a finite number above 0"),
        ({"energy": 3}, "a text"),
    ],
)
def test_wrong_fields_are_named(changes, match):
    with pytest.raises(InputError, match=match):
        accelerator("dgnet-ultra96", **changes)


def test_files_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsource: me\nrows: 4\ncolumns: 8\n")
    assert accelerator(path).peak_macs_per_cycle == 32
    path.write_text("name: mine\nrows: 4\n")
    with pytest.raises(InputError, match="columns, source"):
        accelerator(path)
    path.write_text("[1, 2")
    with pytest.raises(InputError, match="not YAML"):
        accelerator(path)
    with pytest.raises(InputError, match="known are"):
        accelerator("nonsense")


def test_every_field_is_described():
    text = Accelerator.__doc__
    assert all(f"        {field.name}: " in text for field in dataclasses.fields(Accelerator))


def test_energy_tables_of_ones_own(tmp_path):
    assert "timeloop-45nm" in list_energy_tables()
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsource: me\npicojoules: {mac: 1.5}\n")
    assert energy_table(path).picojoules == {"mac": 1.5}
    for text in ("name: mine\n", "name: a\nsource: b\npicojoules: {nonsense: 1}\n", "[1"):
        path.write_text(text)
        with pytest.raises(InputError):
            energy_table(path)
