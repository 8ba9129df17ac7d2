"""From names to a finetuned network: a model, a file of weights and folders of images, as the command line has them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convgate.data import Listing, label, read_classes
from convgate.errors import DataError, InputError
from convgate.finetuning.answers import Answers, first_answers
from convgate.finetuning.finetune import finetune
from convgate.finetuning.finetuned import Finetuned
from convgate.finetuning.request import PUBLISHED, Request
from convgate.finetuning.views import Photographs, Views
from convgate.gated import GatedNetwork, gate, gate_weights
from convgate.methods import create as create_method
from convgate.methods import option_names
from convgate.models import create_model, identify, preparation_of, prepared_at, pretrained, synsets
from convgate.models.own import is_place
from convgate.preparation import Preparation
from convgate.weights import load_weights

__all__ = ["Session", "session"]

_LEAST = 20
# Images; fewer say nothing of what a network keeps.
_HELD_OUT, _CALIBRATING = 500, 256
# So many at the most are judged by, and calibrated on: they stay in memory, prepared.
_JUDGED = 32


@dataclass
class Session:
    """All that training needs, read and checked: the dense network, the gated one, and the images.

    `dense` says how the dense network answers the images that are judged by.
    """

    request: Request
    network: GatedNetwork
    training: Views
    held_out: list[Any]
    calibrated_on: list[Any]
    labelled: bool
    dense: Answers
    about: dict[str, Any]

    def run(self, budget: float, **arguments: Any) -> Finetuned:
        """Train; the arguments are those of `convgate.finetune`."""
        return finetune(
            self.network,
            self.training,
            budget=budget,
            labels=self.labelled,
            held_out=self.held_out,
            calibrated_on=self.calibrated_on,
            seed=self.request.seed,
            about=self.about,
            **arguments,
        )


def session(
    request: Request,
    say: Callable[[str], None] = lambda line: None,
    reading: Callable[[float], None] = lambda share: None,
) -> Session:
    """Build the network, read the images, and check that they fit; nothing is written.

    Args:
        request: what is wanted.
        say: is told what was found, a line at a time.
        reading: is told the share of the images that has been read.

    Raises:
        ConvgateError: of the kind that fits: no such model, weights that do not fit, no images, labels that fit no
            output, files that cannot be read.

    """
    # Training masks what evaluation masks, and all of the network has gates, where a method has the choice.
    known = option_names(request.method)
    defaults = {key: value for key, value in (("masks", "equal"), ("where", "everywhere")) if key in known}
    method = create_method(request.method, {**defaults, **request.options})
    model = _model(request)
    preparation = _preparation(request)
    outputs = _outputs(model, preparation)
    preparation.check_outputs(outputs)
    codes = synsets(outputs) if not request.classes else ()
    listing = label(request.images, request.labels, outputs, preparation.classes, codes)
    if len(listing) < _LEAST:
        raise DataError(f"{', '.join(request.images)}: {len(listing)} images are too few; give at least {_LEAST}")
    if listing.numbered:
        preparation = replace(preparation, classes=listing.numbered)
    training, judged = _divided(request, listing, outputs, preparation, codes)
    say(f"{len(training)} images to train on, {len(judged)} to judge by; labels: {listing.how}")
    say(f"prepared: {_in_words(preparation)}")
    seen, shown, bad = _read(training, judged, preparation, reading)
    _left_out(bad, len(training) + len(judged), request.skip_unreadable, say)
    if not len(seen) or not len(shown):
        raise DataError("none of the images to train on, or none of those to judge by, can be read")
    held_out = shown.batches(range(len(shown)), _JUDGED)
    dense = first_answers(model, held_out)
    say(f"the dense network: {dense}")
    if dense.doubtful:
        say(
            "WARNING: these answers look like guesses. Do the weights, the preparation (--size, --mean, --std) and the "
            "labels (--labels, --classes) belong to this network?"
        )
    torch.manual_seed(request.seed)
    network = gate(model, method, torch.zeros(1, len(preparation.mean), *preparation.size))
    network.preparation = preparation
    say(f"{len(network.plan.gates)} gates; {gate_weights(network)}")
    if identify(model) is None:
        say("the checkpoint will hold a model of your own: load it with convgate.load(path, model=..)")
    order = torch.randperm(len(seen)).tolist()
    calibrated_on = [_images(batch) for batch in seen.batches(order[:_CALIBRATING], _JUDGED)]
    about = {
        "model": request.model,
        "model_options": dict(request.model_options),
        "weights": request.weights or "the model's own",
        "images": len(seen),
        "held_out": len(shown),
        "labels": listing.how,
        "method": network.plan.method,
        "preparation": {key: value for key, value in preparation.as_data().items() if key != "classes"},
        "batch": request.batch,
        "seed": request.seed,
        "dense": str(dense),
    }
    labelled = listing.labels is not None
    views = Views(seen, range(len(seen)), request.batch)
    return Session(request, network, views, held_out, calibrated_on, labelled, dense, about)


def _images(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple) else batch


def _model(request: Request) -> nn.Module:
    options = dict(request.model_options)
    if request.weights == PUBLISHED:
        return pretrained(request.model, **options).eval()
    if request.weights is None and not is_place(request.model):
        create_model(request.model, **options)  # a misspelt name is answered first
        raise InputError(
            f"{request.model} without weights has nothing to keep: give --weights FILE, or --weights {PUBLISHED} for "
            "those that torchvision or timm publishes"
        )
    model = create_model(request.model, **options)
    if request.weights is not None:
        load_weights(model, request.weights, request.rename)
    return model.eval()


def _preparation(request: Request) -> Preparation:
    changes = {key: value for key, value in request.preparation.items() if value is not None}
    known = preparation_of(request.like or request.model)
    size = changes.pop("size", None)
    if known is None and not (size and "mean" in changes and "std" in changes):
        raise InputError(
            f"nobody says how images are prepared for {request.like or request.model}: give --like NAME, a model whose "
            "images are prepared in the same way (resnet50, for example), or --size, --mean and --std"
        )
    if known is None:
        known = Preparation((size, size), size)
    elif size:
        known = prepared_at(known, size)
    if changes.get("resize") == "whole":
        changes["resize"] = known.size
    if request.classes:
        changes["classes"] = read_classes(request.classes)
    elif request.model_options.get("num_classes", len(known.classes)) != len(known.classes) or request.like:
        changes["classes"] = ()  # another network's names are not this one's
    return replace(known, **changes)


@torch.no_grad()
def _outputs(model: nn.Module, preparation: Preparation) -> int:
    try:
        found = model(torch.zeros(1, len(preparation.mean), *preparation.size))
    except (RuntimeError, ValueError, TypeError) as error:
        shape = [1, len(preparation.mean), *preparation.size]
        raise InputError(f"the model does not take images of shape {shape}: {error}") from error
    if not isinstance(found, torch.Tensor) or found.dim() != 2 or len(found) != 1:
        what = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise InputError(
            f"the model returns {what}; finetuning by the command line is for classifiers, which return logits "
            "[N, classes]. Write a loop of your own for others (docs/make-my-network-faster.md)"
        )
    if not bool(found.isfinite().all()):
        raise InputError("the model's answer to a black image is not finite; check its weights")
    return found.shape[1]


def _divided(
    request: Request, listing: Listing, outputs: int, preparation: Preparation, codes: tuple[str, ...]
) -> tuple[Listing, Listing]:
    """(what is trained on, what is judged by), drawn at random, but in the files' order."""
    draw = torch.Generator().manual_seed(request.seed)
    if request.held_out:
        other = label(request.held_out, request.labels, outputs, preparation.classes, codes)
        if (other.labels is None) != (listing.labels is None):
            raise DataError("only one of --images and --held-out has labels; give both, or --labels none")
        shared = set(map(Path.resolve, other.paths)) & set(map(Path.resolve, listing.paths))
        if shared:
            raise DataError(f"{next(iter(shared))} is among the images and among those held out; divide them")
        order = torch.randperm(len(listing), generator=draw).tolist()
        aside = torch.randperm(len(other), generator=draw).tolist()
        return _some(listing, order[: request.most]), _some(other, aside[: 2 * _HELD_OUT])
    order = torch.randperm(len(listing), generator=draw).tolist()
    n = min(len(listing) // 5, _HELD_OUT)
    return _some(listing, order[n : n + request.most]), _some(listing, order[:n])


def _some(listing: Listing, numbers: list[int]) -> Listing:
    numbers = sorted(numbers)
    labels = None if listing.labels is None else tuple(listing.labels[number] for number in numbers)
    return Listing(tuple(listing.paths[number] for number in numbers), labels, listing.how)


def _read(
    training: Listing, judged: Listing, preparation: Preparation, reading: Callable[[float], None]
) -> tuple[Photographs, Photographs, dict[Path, str]]:
    """Both decoded, without files that cannot be read; and those, with the reason."""
    whole, done = len(training) + len(judged), 0
    found: list[Photographs] = []
    bad: dict[Path, str] = {}
    for listing in (training, judged):
        photographs = Photographs(listing.paths, preparation, listing.labels)
        bad |= photographs.read(lambda number, done=done: reading((done + number) / whole))  # type: ignore[misc]
        done += len(listing)
        found.append(photographs)
    return found[0], found[1], bad


def _left_out(bad: dict[Path, str], whole: int, skip: bool, say: Callable[[str], None]) -> None:
    """Raise `DataError` for files that cannot be read, or say that they are left out."""
    if not bad:
        return
    reasons = "; ".join(list(bad.values())[:3])
    if not skip:
        raise DataError(
            f"{len(bad)} of {whole} images cannot be read ({reasons}); delete them, or leave them out with "
            "--skip-unreadable"
        )
    say(f"left out, since they cannot be read: {len(bad)} of {whole} images ({reasons})")


def _in_words(preparation: Preparation) -> str:
    height, width = preparation.size
    if isinstance(preparation.resize, tuple):
        first = "the whole image scaled to {} x {}".format(*preparation.resize)
    else:
        first = f"the shorter side scaled to {preparation.resize}"
    return (
        f"{first} ({preparation.interpolation}), the middle {height} x {width}, mean "
        f"{', '.join(f'{value:g}' for value in preparation.mean)}, std "
        f"{', '.join(f'{value:g}' for value in preparation.std)}; "
        f"{len(preparation.classes) or 'no'} names of classes"
    )
