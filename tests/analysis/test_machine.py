import torch

from convgate.analysis.metrics import _machine


def test_a_gpu_is_named_if_it_was_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"NVIDIA H200 {device.index}")
    before = _machine(torch.device("cpu"))
    assert before == _machine(None)
    assert before.endswith(" threads")
    assert _machine(torch.device("cuda", 1)) == f"{before}, NVIDIA H200 1"
