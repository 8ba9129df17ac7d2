"""A stage's checkpoint is there as a whole, or as it was."""

import os

import pytest
import torch

from convgate.errors import CheckpointError
from convgate.training.checkpoints import NAME, WholeFiles, begun


def test_one_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / f"{NAME}.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        WholeFiles().save_checkpoint({"w": torch.zeros(1000), "epoch": lambda: 2}, path)
    assert torch.load(begun(tmp_path), weights_only=True) == {"epoch": 1}
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_without_one_and_a_damaged_one(tmp_path):
    assert begun(tmp_path) is None
    path = tmp_path / f"{NAME}.ckpt"
    WholeFiles().save_checkpoint({"w": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged.*delete it"):
        begun(tmp_path)
