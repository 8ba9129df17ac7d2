"""The decisions of a finished run, recorded for an accelerator."""

from convgate.cli import main
from convgate.engine import load
from convgate.hardware import load_trace
from convgate.runs.run import Run


def test_a_runs_test_images_are_recorded_with_their_labels(finished, tmp_path, capsys):
    program, trace = tmp_path / "net.cgm", tmp_path / "net.cgt"
    command = ["hardware", "record", str(finished), "--images", "20", "--out", str(trace), "--program", str(program)]
    assert main(command) == 0
    assert "20 images" in capsys.readouterr().out
    found, test = load_trace(trace), Run.load(finished).splits().test
    assert found.labels.tolist() == test.labels[:20].tolist()
    decisions = load(program, threads=1).run(test.prepared(test.at(range(20))).numpy()).decisions
    assert all((found.mask(name) == decision.mask).all() for name, decision in decisions.items())
    assert main(["hardware", "simulate", str(program), str(trace)]) == 0
    assert "20 images on dgnet-ultra96" in capsys.readouterr().out
