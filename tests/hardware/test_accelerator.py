import dataclasses

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


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rows": 0}, "at least 1"),
        ({"rows": "many"}, "whole number"),
        ({"rows": True}, "whole number"),
        ({"dataflow": "xs"}, "ws, os, is"),
        ({"dataflow": "os"}, "serial"),
        ({"frequency_mhz": -1.0}, "above 0"),
        ({"packed": 1}, "true or false"),
        ({"nonsense": 1}, "no field nonsense"),
        ({"assumed": ["nonsense"]}, "names no field"),
        ({"word_bits": 12}, "multiple of 8"),
        ({"columns": 100_000}, "sum buffer"),
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
