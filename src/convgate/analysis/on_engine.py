"""Judge what an engine answers over a set of images, and count what it executed for each."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from convgate.analysis.judging import Judged
from convgate.analysis.spending import Spending
from convgate.data.images import AnyImages
from convgate.engine import Engine
from convgate.errors import InputError
from convgate.gated import GatedModel, GatedNetwork
from convgate.reading.modes import evaluating
from convgate.tasks.task import Task

__all__ = ["judge_on_engine"]


@torch.no_grad()
def judge_on_engine(
    engine: Engine, network: nn.Module, batches: Iterable[tuple[Any, Any]], images: AnyImages, task: Task
) -> Judged:
    """Run `engine` over `batches` of a set: what `judge` says of a network, of what was deployed of it.

    Its MACs are those that the kernels executed. Of a detector the engine computes the convolutional part, and the
    detector's own Python decodes.

    Args:
        engine: of `network`, in any precision.
        network: what it was made of.
        batches: of `images`, as `judge` takes them.
        images: the set; may be of several sizes.
        task: what the answers are judged by.

    Raises:
        InputError: there are no batches.

    """
    said, counts, count = task.judge(images.classes), _Counts(engine, network), 0
    with evaluating(network):
        for batch, targets in batches:
            x = task.prepared(images, batch)
            said.add(network.run_on(counts, x) if isinstance(network, GatedModel) else _answer(counts, x), targets)
            count += len(targets)
    if not count:
        raise InputError("judge_on_engine() was given no batches; give at least one")
    return Judged(task.metric, dict(said.scores()), count, counts.spending())


def _answer(counts: "_Counts", x: Tensor) -> Any:
    return pytree.tree_map(torch.from_numpy, counts(np.ascontiguousarray(x.numpy(force=True))))


class _Counts:
    """Calls an engine, and adds up what it executes."""

    def __init__(self, engine: Engine, network: nn.Module) -> None:
        self.engine, self.network = engine, network
        self.macs: list[Tensor] = []
        self.dense: list[Tensor] = []
        self.by_layer = Counter[str]()

    def __call__(self, images: np.ndarray) -> Any:
        run = self.engine.run(images)
        self.macs.append(torch.from_numpy(run.macs))
        self.by_layer.update({layer: int(spent.sum()) for layer, spent in run.by_layer.items()})
        if isinstance(self.network, GatedNetwork | GatedModel):
            ledger = self.network.ledger_at((images.shape[2], images.shape[3]))
            self.dense.append(torch.full_like(self.macs[-1], ledger.dense))
        else:
            self.dense.append(self.macs[-1])  # without gates all is computed
        return run.returned

    def spending(self) -> Spending:
        macs, dense = torch.cat(self.macs), torch.cat(self.dense).double()
        by_layer = {layer: spent / len(macs) for layer, spent in self.by_layer.items()}
        return Spending(macs, round(float(dense.mean())), by_layer, {}, macs.double() / dense)
