"""Machines that the RTL is written for, and the sources that are written for a machine."""

import re

import numpy as np
import pytest
from tests.hardware.rtl.layers import random_program

from convgate.errors import InputError, MissingDependencyError
from convgate.hardware import accelerator, list_accelerators
from convgate.hardware.rtl import Model, verify, write_sources
from convgate.hardware.rtl.machine import require_built, sizes, top_parameters
from convgate.hardware.rtl.sources import sources
from convgate.hardware.rtl.tools import verilator


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"word_bits": 16}, "word_bits is 16, and has to be 8$"),
        ({"sum_bits": 16}, "sum_bits is 16, and has to be 32$"),
        ({"timing": "serial", "dataflow": "os"}, "dataflow is os, and has to be ws; timing is serial, and has to be"),
        ({"packed": True}, "packed is True, and has to be False$"),
        ({"index_bits": 128}, "index_bits is 128, and may be 64 at most$"),
        ({"rows": 256}, "rows is 256, and may be 255 at most$"),
    ],
)
def test_machines_that_the_rtl_is_not_written_for_are_refused_by_field(changes, match):
    with pytest.raises(InputError, match=match) as refused:
        require_built(accelerator("dgnet-ultra96", **changes))
    assert "{" not in str(refused.value)


def test_small_buffers_are_refused_by_name():
    with pytest.raises(InputError, match="two entries of SUMS"):
        sizes(accelerator("dgnet-ultra96", columns=128, sum_buffer_kib=1))


def test_the_presets_that_can_be_built():
    built = []
    for name in list_accelerators():
        try:
            built.append((name, sizes(accelerator(name))["ROWS"]))
        except InputError:
            continue
    assert built == [("cgnet-asic", 16), ("dgnet-ultra96", 16), ("edge-8", 8)]


def test_what_is_written_has_the_machines_numbers_as_its_defaults(tmp_path):
    own = top_parameters(accelerator("dgnet-ultra96", rows=8, columns=12, index_bits=8))
    assert own | {"ROWS": 8, "COLUMNS": 12, "INDEX_BITS": 8, "MASK_WORDS": 128, "INPUTS": 16384} == own
    written = write_sources(tmp_path, own)
    text = (tmp_path / "cg_top.sv").read_text()
    assert {name: int(re.search(rf"parameter int {name} = (\d+),", text)[1]) for name in own} == own
    others = [path for path in sources() if path.name != "cg_top.sv"]
    assert all((tmp_path / path.name).read_text() == path.read_text() for path in others)
    assert len(written) == len(others) + 2  # the top and the harness


def test_what_is_written_runs_a_network_as_it_is(tmp_path, tmp_path_factory, monkeypatch):
    try:
        verilator()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp().parent / "rtl"))
    machine = accelerator("dgnet-ultra96", rows=4, columns=3, index_bits=8)
    rng = np.random.default_rng(3)
    program = random_program(rng)
    images = rng.standard_normal((1, *program.value("images").shape)).astype(np.float32) * 40
    written = [path for path in write_sources(tmp_path, top_parameters(machine)) if path.suffix == ".sv"]
    with Model({}, written) as model:
        assert verify(program, images, machine, model=model).passed
