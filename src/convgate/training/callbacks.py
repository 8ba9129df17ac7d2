"""What is recorded while training: one row per epoch, in a CSV file that survives interruptions."""

import csv
import io
import logging
import math
from pathlib import Path
from typing import Any

import lightning as L

from convgate.errors import RecipeError
from convgate.files import write_text

__all__ = ["History"]

_LOG = logging.getLogger(__name__)


class History(L.Callback):
    """Keeps one row of metrics per epoch, writes them to `path`, and logs each.

    Unlike those of Lightning's CSVLogger, the rows are part of the checkpoint, so a resumed run continues them.

    Raises `RecipeError` after an epoch whose mean loss is not finite; the checkpoint is then that of the epoch before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": float(trainer.current_epoch + 1), **metrics})
        if trainer.is_global_zero:
            write_text(self.path, _to_csv(self.rows))
            _LOG.info(_line(self.rows[-1], trainer.max_epochs or 0))
        if not math.isfinite(loss := metrics.get("train_loss", 0.0)):
            raise RecipeError(
                f"training has diverged: the mean loss of epoch {trainer.current_epoch + 1} is {loss}. Train with a "
                "lower learning rate (the stage's lr, or gate_lr for its gates) or a longer warm-up, in a new folder"
            )


def _to_csv(rows: list[dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _line(row: dict[str, float], epochs: int) -> str:
    shown = {
        "train_loss": "loss {:.3f}",
        "validation_accuracy": "validation accuracy {:.2%}",
        "train_macs_ratio": "MACs {:.1%} in training",
        "validation_macs_ratio": "{:.1%} in evaluation",
    }
    parts = [text.format(row[name]) for name, text in shown.items() if name in row]
    return f"epoch {int(row['epoch'])}/{epochs}: {', '.join(parts)}"
