"""What records say of the machine, from what the system tells."""

import pytest

from convgate.timing import machine as told

CPUINFO = """processor\t: 0
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu sse4_1 avx2 fma avx512_bf16 rdrand

processor\t: 1
model\t\t: 3
"""


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.setattr(told, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(told, "_CACHES", tmp_path / "cache")
    for number, (level, kind, size) in enumerate([("1", "Data", "48K"), ("2", "Unified", "1024K")]):
        folder = tmp_path / "cache" / f"index{number}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    return tmp_path


def test_generations_of_one_name_are_told_apart(system):
    (system / "cpuinfo").write_text(CPUINFO)
    assert told.processor() == "AMD EPYC (family 26, model 2, stepping 1)"
    assert told.vector_extensions() == ["avx2", "avx512_bf16", "fma", "sse4_1"]
    assert told.caches() == {"L1 data": "48K", "L2": "1024K"}


def test_arm_names_features(system):
    (system / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd40\n")
    assert told.vector_extensions() == ["asimd", "asimddp", "i8mm"]


def test_systems_that_tell_nothing(system, monkeypatch):
    monkeypatch.setattr(told.platform, "processor", lambda: "arm")
    monkeypatch.setattr(told, "_CACHES", system / "none")
    assert (told.processor(), told.caches(), told.vector_extensions()) == ("arm", {}, [])


def test_a_record_has_all_of_it(system):
    (system / "cpuinfo").write_text(CPUINFO)
    record = told.machine(1)
    assert record["processor"].startswith("AMD EPYC (")
    assert record["caches"]["L2"] == "1024K"
    assert record["versions"]["torch"]
