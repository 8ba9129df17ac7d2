"""`finetune`: from a trained network, some images and some minutes to a cheaper network with the same answers."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from convgate.calibration.price import Macs
from convgate.errors import InputError
from convgate.files import check_folder
from convgate.finetuning.batches import Batches
from convgate.finetuning.budget import Budget
from convgate.finetuning.features import Features
from convgate.finetuning.finetuned import Finetuned
from convgate.finetuning.run import Run
from convgate.finetuning.settings import Settings
from convgate.gated import GatedNetwork
from convgate.gated.given import given_alone
from convgate.undisturbed import undisturbed

__all__ = ["finetune"]


def finetune(
    network: GatedNetwork,
    batches: Iterable[Any],
    *,
    budget: float,
    minutes: float | None = 30.0,
    steps: int | None = None,
    teacher: nn.Module | None = None,
    labels: bool = False,
    held_out: Sequence[Any] | None = None,
    calibrated_on: Sequence[Any] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    keep: float = 0.5,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda line: None,
    watch: Callable[[Mapping[str, float]], None] = lambda terms: None,
    about: Mapping[str, Any] | None = None,
) -> Finetuned:
    """Train a gated network to spend `budget` of the dense MACs and to answer as its teacher does. In place.

    The teacher is the dense network, so no labels are needed. In a network that starts whole and has gates of channels
    for most of its MACs, units close for good, in rounds, until at most `budget` is left, and layers make up for what
    they read no more (`convgate.finetuning.closing`); between the rounds, and afterwards, the weights learn. Elsewhere
    the gates learn what to close: the budget is a constraint (`Budget`) that comes down from 1 and is held, whatever
    the size of the loss; then gates are calibrated, to within 0.5 % of the budget, and held, and the weights learn on
    under exactly the masks of evaluation.

    Weights that are frozen (`requires_grad=False`) stay as they are, and channels that frozen layers read do not close
    for good; only gates learn even so.

    Args:
        network: a gated network whose output is logits, [N, classes] or, of a segmenter, [N, classes, H, W], where each
            position is an answer; with `DualGating(masks="equal")` training masks what evaluation masks. Of one in
            `DataParallel` and the like, what is inside is trained.
        batches: images [N, C, H, W] as the network takes them, or (images, labels): a list, or a loader that can be
            read again and again.
        budget: share of the dense MACs, gates included, in (0, 1].
        minutes: how long to train; the number of steps follows from the speed, measured all along.
        steps: how many steps to train instead, whatever they take. Such a run that is killed and resumed ends in the
            same weights, bit for bit, if the batches follow from `seed`; if they do not, it says so.
        teacher: images -> logits; by default the network as it was before it had gates.
        labels: the second entry of a batch is its labels (int64 [N], or of a segmenter [N, H, W], where what names none
            of the classes is unlabelled): accuracy is reported, too.
        held_out: batches to judge by, not trained on; by default the first eighth of the batches of a list is set
            aside, and of a loader the first batches are used (and trained on).
        calibrated_on: batches to calibrate on; by default the training batches, as many as hold 512 images.
        out: folder for net.safetensors, net.cgm (where the engine has a form for all of it), pruned.cgm (the same
            without gates, where what they close is the same for every image), report.html, result.json and, while
            training, state.pt, from which a run that was killed goes on.
        seed: of noise, and of loaders' order: before each epoch and each batch the global generators (torch, random,
            NumPy) are seeded, before each epoch the loader's own, too, and its sampler's `set_epoch` is called.
            Afterwards the global generators are as they were.
        keep: raise where fewer answers than this share stay.
        settings: learning rates, schedules and the like.
        say: is told how it goes, a line at a time.
        watch: is told after each step how far training is (`progress`, `step`, `seconds`), and of the step's images
            their `share` of the MACs, the share that is `due`, `agreement`, `kl` and, with labels, `accuracy` (not in
            steps whose images are mixtures, or where none is labelled).
        about: plain data on the network and its images, for the report; a run that is resumed must have the same.

    Raises:
        BudgetError: the budget cannot be reached, which is seen before training; it was not; or too few answers
            stayed, in which case what there is has been written to `out`.
        CheckpointError: the `state.pt` in `out` is damaged, or of a run of another network.
        InputError: arguments of the wrong kind, batches without images, or a network whose output is not logits.

    """
    network = given_alone(network, "finetune")
    settings = settings or Settings()
    if minutes is None and steps is None:
        raise InputError("finetune(minutes=None, steps=None): say how long to train")
    if (steps is not None and steps < 1) or (minutes is not None and minutes <= 0):
        raise InputError(f"finetune(minutes={minutes}, steps={steps}): give more than nothing of either")
    target = Budget(budget, ramp=settings.ramp)
    Macs(network).check(budget)
    if out is not None:
        check_folder(out)
    device = next(network.parameters()).device
    own = teacher is None
    teacher = network.dense() if teacher is None else copy.deepcopy(teacher)
    teacher = teacher.eval().requires_grad_(False).to(device)
    with undisturbed():
        data = Batches(batches, held_out, calibrated_on, labels, device, seed)
        run = Run(network, teacher, data, target, settings, minutes, steps, seed, out, say)
        run.watch, run.about = watch, dict(about or {})
        if own and settings.features:
            run.features = Features(network, teacher, data.held_out[0][0][:1])
        return run.all(keep)
