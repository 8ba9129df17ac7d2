"""What is timed: a network, dense and gated, and the images that every engine is given."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from convgate.bench.labelled import SCALES, Labelled
from convgate.bench.labelled import labelled as read_labelled
from convgate.bench.photographs import drawn, photographs, preparation_for
from convgate.calibration import calibrate
from convgate.checkpoint import load
from convgate.engine.engine import KEPT_SIZES
from convgate.engine.program import LARGE_HEAD
from convgate.errors import BudgetError, InputError
from convgate.gated import GatedModel, GatedNetwork, Method, gate
from convgate.methods import create as create_method
from convgate.methods import option_names
from convgate.models import create_model, input_shape
from convgate.reading.given import given_to

__all__ = ["Subject", "prepare"]

_IMAGES = 8
_MACS = 0.5


@dataclass(frozen=True, eq=False)
class Subject:
    """Both networks in evaluation mode, and the inputs, float32 [batch, C, H, W] each, which may differ in size.

    Of a detector they are its convolutional part, for images as the detector prepares them. `method` is the method with
    its options, `macs_asked` what was calibrated to (None: nothing was); `dense_macs` and `gated_macs` are per image,
    means over the inputs, gates included, as the ledger counts them. `pruned` is the file of the same network without
    its gates, which `convgate finetune` leaves beside a checkpoint. `scales` are the images that choose the scales of
    8-bit integers, by default the inputs, and `labelled` those that accuracy is measured on, if any.
    """

    model: str
    method: Mapping[str, Any]
    dense: nn.Module
    network: GatedNetwork
    inputs: tuple[np.ndarray, ...]
    dense_macs: int
    gated_macs: float
    macs_asked: float | None
    pruned: Path | None = None
    scales: tuple[np.ndarray, ...] = ()
    labelled: Labelled | None = None

    def __post_init__(self) -> None:
        if not self.scales:
            object.__setattr__(self, "scales", self.inputs)

    def is_pruned(self) -> bool:
        """Whether there is the network without its gates, too."""
        return self.pruned is not None

    def has_large_heads(self) -> bool:
        """Whether a layer of a gate's head has weights enough to come from memory in every call."""
        return any(parameter.numel() >= LARGE_HEAD for parameter in self.network.gates.parameters())


def prepare(
    model: str,
    method: str | None = None,
    macs: float | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    architecture: str | None = None,
    model_options: Mapping[str, Any] | None = None,
    batch: int = 1,
    size: int | None = None,
    images: Sequence[str] = (),
    labelled: str | None = None,
    given: Sequence[Any] = (),
    seed: int = 0,
) -> Subject:
    """Build or load a network and calibrate its gates on the inputs.

    Args:
        model: a name as `convgate.models.create_model` takes it, with random weights; or a checkpoint's path.
        method: a registered method's name; by default DualGating. A checkpoint has its own.
        macs: the share of the dense MACs to calibrate to. By default 0.5 or, where all gates closed leave more, half
            way from there to the dense MACs (none, if they leave more than all); a checkpoint is left as it was saved.
        options: the method's.
        architecture: the name of the model that a checkpoint is of, where the file does not hold one.
        model_options: what the model's builder takes.
        batch: images per input.
        size: height and width of the images; by default the model's (`convgate.models.input_shape`). A checkpoint has
            its own.
        images: folders of photographs that the inputs are drawn from, prepared as the checkpoint or the model's
            publisher says; by default the inputs are standard normal.
        labelled: a folder of photographs that accuracy is measured on, with a folder for each class. Without `images`
            some of those that choose scales are the inputs.
        given: the inputs instead, prepared: [1, C, H, W] each, or for a detector lists of one image. Of several
            sizes as many are taken as an engine stays ready for.
        seed: of weights, gates and images.

    Raises:
        InputError, PlanError, TraceError, CheckpointError: there is no such model, or the method cannot gate it.
        DataError: folders without images, or files that are not images.
        BudgetError: the gates cannot reach the budget.

    """
    if labelled is not None and given:
        raise InputError(
            "labelled photographs have a size of their own: leave `given` out, or give its folder as images"
        )
    if batch < 1:
        raise InputError(f"batch {batch}: an input has at least 1 image")
    if macs is not None and not 0 < macs <= 1:
        raise InputError(f"macs {macs}: the budget is a share of the dense MACs, in (0, 1]")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if _is_checkpoint(model):
            if method is not None or options or size is not None:
                raise InputError(f"{model} is a checkpoint: it has its own method and image size; leave them out")
            own = None if architecture is None else create_model(architecture, **model_options or {})
            network = load(model, own).eval()
            if isinstance(network, GatedModel):
                given = [given_to(network.network, network, x) for x in given]
                network = network.network
                if images or labelled:
                    raise InputError(
                        f"{model} is a detector, which prepares images itself; name the folder of its run, whose test "
                        "images are timed, or leave --images and --labelled out"
                    )
            dense = network.dense().eval()
        else:
            if architecture is not None:
                raise InputError(f"the architecture is for a checkpoint, and {model} is a model's name; leave it out")
            chosen = _method(method or "DualGating", options or {}, macs or _MACS)
            dense = create_model(model, **model_options or {}).eval()
            network = gate(dense, chosen, torch.zeros(1).expand(1, *input_shape(model, size))).eval()
            macs = _reachable(network) if macs is None else macs
        named = architecture if _is_checkpoint(model) else model
        judged = None
        if labelled is not None:
            judged = read_labelled(labelled, preparation_for(network, named), _outputs(network), batch)
        # Enough images for a mean; all of them are timed in turn, so what is calibrated is what is timed.
        if given:
            one_size = len({x.shape for x in given}) == 1
            inputs = list(given[: _IMAGES if one_size else KEPT_SIZES])
        elif images:
            inputs = photographs(images, preparation_for(network, named), batch)
        elif judged is not None:
            inputs = drawn(judged.others, judged.preparation, batch)
        else:
            inputs = [torch.randn(batch, *network.plan.example[1:]) for _ in range(math.ceil(_IMAGES / batch))]
    if macs is not None:
        _calibrate(network, inputs, macs)
    gated_macs = float(np.mean([_macs(network, images) for images in inputs]))
    arrays = tuple(images.numpy() for images in inputs)
    scales: tuple[np.ndarray, ...] = ()
    if judged is not None:
        scales = tuple(images.numpy() for images in drawn(judged.others, judged.preparation, batch, SCALES))
    pruned = Path(model).parent / "pruned.cgm"
    beside = pruned if _is_checkpoint(model) and macs is None and pruned.is_file() else None
    sizes = [(images.shape[2], images.shape[3]) for images in inputs]
    dense_macs = round(float(np.mean([network.ledger_at(size).dense for size in sizes])))
    return Subject(
        model, network.plan.method, dense, network, arrays, dense_macs, gated_macs, macs, beside, scales, judged
    )


@torch.no_grad()
def _outputs(network: GatedNetwork) -> int:
    """How many classes a network tells apart."""
    answers = pytree.tree_leaves(network(torch.zeros(network.plan.example)))[0]
    if answers.ndim != 2:
        raise InputError(f"--labelled: the network answers with {list(answers.shape)}; accuracy takes [N, classes]")
    return int(answers.shape[1])


def _is_checkpoint(model: str) -> bool:
    return Path(model).suffix == ".safetensors" or Path(model).is_file()


def _method(method: str, options: Mapping[str, Any], macs: float) -> Method:
    # What it is calibrated to is also what it would be trained to, if it can be told.
    # Gates that start whole hardly look at the image; what is timed are masks that do.
    start = {"init": "paper"} if "init" in option_names(method) else {}
    return create_method(method, {**start, **options}, budget=None if "budget" in options else macs)


def _reachable(network: GatedNetwork) -> float | None:
    """The budget that nobody asked for; None if the gates cost more than they can save."""
    least = float(network.cost(network.closed_decisions(1)).ratio)
    if least < _MACS:
        return _MACS
    return (least + 1) / 2 if least < 1 else None


def _calibrate(network: GatedNetwork, inputs: list[Tensor], macs: float) -> None:
    """As near as it gets, 25 % at the worst.

    Untrained gates have many equal logits, and some methods' gates close whole branches at once; a coarser hit is not
    an error here, since the MACs that are executed are what is reported. A budget out of reach raises.
    """
    for tolerance in (0.005, 0.05):
        try:
            calibrate(network, inputs, macs, tolerance=tolerance, agreement=False)
        except BudgetError:
            continue
        return
    calibrate(network, inputs, macs, tolerance=0.25, agreement=False)


@torch.no_grad()
def _macs(network: GatedNetwork, images: Tensor) -> float:
    """Mean MACs per image."""
    _, decisions = network.decide(images)
    return float(network.cost(decisions).macs.double().mean())
