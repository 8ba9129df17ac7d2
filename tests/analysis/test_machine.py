import torch

from convgate.analysis.metrics import _machine


def test_a_gpu_is_named_if_it_was_used(monkeypatch):
    before = _machine()
    assert before.endswith(" threads")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert _machine() == f"{before}, NVIDIA H200"
