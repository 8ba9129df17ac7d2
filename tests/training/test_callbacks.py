from types import SimpleNamespace

import pytest
import torch

from convgate.errors import RecipeError
from convgate.training.callbacks import History


def trainer(epoch, **metrics):
    values = {name: torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(callback_metrics=values, current_epoch=epoch, max_epochs=3, is_global_zero=True)


def test_rows_are_written_and_told_and_survive_a_checkpoint(tmp_path, caplog):
    caplog.set_level("INFO", "convgate")
    first = History(tmp_path / "epochs.csv")
    first.on_train_epoch_end(trainer(0, train_loss=2.0, validation_accuracy=0.5), None)
    resumed = History(tmp_path / "epochs.csv")
    resumed.load_state_dict(first.state_dict())
    resumed.on_train_epoch_end(trainer(1, train_loss=1.0, validation_accuracy=0.75, train_macs_ratio=0.6), None)
    lines = (tmp_path / "epochs.csv").read_text().splitlines()
    assert lines[0] == "epoch,train_loss,validation_accuracy,train_macs_ratio"
    assert lines[1:] == ["1.0,2.0,0.5,", "2.0,1.0,0.75,0.6000000238418579"]
    told = caplog.messages
    assert told[0] == "epoch 1/3: loss 2.000, validation accuracy 50.00%"
    assert told[1] == "epoch 2/3: loss 1.000, validation accuracy 75.00%, MACs 60.0% in training"


def test_other_processes_write_nothing(tmp_path):
    history = History(tmp_path / "epochs.csv")
    other = trainer(0, train_loss=1.0)
    other.is_global_zero = False
    history.on_train_epoch_end(other, None)
    assert not (tmp_path / "epochs.csv").exists()
    assert len(history.rows) == 1


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_training_that_has_diverged_ends(loss, tmp_path):
    history = History(tmp_path / "epochs.csv")
    history.on_train_epoch_end(trainer(0, train_loss=1.5), None)
    with pytest.raises(RecipeError, match=rf"diverged: the mean loss of epoch 2 is {loss}.*gate_lr"):
        history.on_train_epoch_end(trainer(1, train_loss=loss), None)
    assert (tmp_path / "epochs.csv").read_text().splitlines() == ["epoch,train_loss", "1.0,1.5", f"2.0,{loss}"]
