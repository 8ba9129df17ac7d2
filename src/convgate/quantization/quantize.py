"""`convgate.quantize`: from a network and images to an engine of 8-bit integers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convgate.calibration.images import Images
from convgate.calibration.measure import on
from convgate.engine.compile import preparation_in
from convgate.engine.engine import Engine
from convgate.engine.lowering import lower
from convgate.engine.lowering.settle import settle
from convgate.engine.precision import Precision, check_heads
from convgate.engine.program import LARGE_HEAD, Program
from convgate.engine.runtime import choose_isa
from convgate.engine.sizes import at
from convgate.engine.threads import choose_threads
from convgate.errors import InputError
from convgate.gated import GatedModel, GatedNetwork, find_part
from convgate.quantization.encodings import encodings
from convgate.quantization.observers import MeanSquaredError, Observer
from convgate.quantization.rewrite import rewrite
from convgate.quantization.roles import convolutions, roles, signs
from convgate.quantization.split import split_activations
from convgate.quantization.statistics import Watch
from convgate.reading.given import given_to
from convgate.reading.meta import check_values
from convgate.reading.modes import evaluating
from convgate.reading.wrappers import unwrapped
from convgate.suggestions import did_you_mean

__all__ = ["kept_layers", "quantize", "quantize_program"]


def quantize(
    network: nn.Module | Engine,
    batches: Iterable[Any],
    *,
    observer: Observer | None = None,
    keep: Sequence[str] = (),
    tie: bool = True,
    heads: int | None = LARGE_HEAD,
    threads: int | None = None,
    isa: str | None = None,
) -> Engine:
    """An engine that computes what `network` does in evaluation, with 8-bit integers, skipping what its gates close.

    Weights are int8 with a scale for each output channel, feature maps int8 or uint8 with one scale each, and zero is
    zero, so what gates close contributes exactly nothing. Gates' heads are float32, but for their large layers; gates
    decide on float32 logits, but for those of `ChannelGating`, which compare sums of integers with thresholds. float32
    is also what has no integer form. The arithmetic is `convgate.engine.integer`'s.

    Args:
        network: a gated network, any CNN that `torch.fx` can trace, or a float32 engine of either.
        batches: images [N, C, H, W] as in training, or tuples that begin with them; for a detector, the lists of
            images [C, H, W] that it is called with. 50 to 500 images, of any sizes that the network takes, that are
            *not* those of the test. They choose the scales; a list or a loader is read twice, after a look at its
            first batch.
        observer: the rule for ranges, `MinMax`, `Percentile` or `MeanSquaredError` of `convgate.quantization`; by
            default the last.
        keep: layers of the ledger that stay float32: names, or what they begin with up to a dot ("layer4").
        tie: whether a residual sum has the scale of its shortcut, where their ranges are alike
            (`convgate.quantization.ties`). The shortcut then stays as it is at closed positions.
        heads: how many weights a layer of a gate's head has at least to compute with integers; 0: all do, None: none.
        threads: how many cores; by default CONVGATE_THREADS, or all that this process may use.
        isa: which kernels, see `convgate.engine.instruction_sets("int8")`.

    Raises:
        LoweringError: nodes without a native form.
        InputError: no images, images that are not finite or of a size that the network does not take, a rule that is
            none, an engine that is not float32 throughout, an unknown layer, a negative number of weights, or nothing
            left to quantise.

    >>> import torch, convgate
    >>> model = convgate.create_model("cifar_resnet8").eval()
    >>> images = torch.randn(8, 3, 32, 32)
    >>> engine = convgate.quantize(model, [images])
    >>> engine(images.numpy()).shape
    (8, 10)

    """
    check_heads(heads)
    if observer is not None and (isinstance(observer, type) or not callable(getattr(observer, "limit", None))):
        raise InputError(f"observer={observer!r}: give a rule, e.g. observer=convgate.quantization.MinMax()")
    if isinstance(network, nn.Module):
        network = unwrapped(network)
        check_values(network)
    batches = list(batches) if isinstance(batches, Iterator) else batches
    lists = None if isinstance(network, GatedNetwork | GatedModel | Engine) else _first_lists(network, batches)
    begins = _begins(network, lists)
    read = _reader(network, begins, batches)
    example = torch.from_numpy(next(read()))
    program = _program(network, lists or example)
    own = program.value(program.inputs[0])
    observed = quantize_program(
        at(program, *example.shape[2:]),
        read,
        observer=observer or MeanSquaredError(),
        keep=kept_layers(program, keep),
        tie=tie,
        heads=heads,
        threads=choose_threads(threads),
        isa=choose_isa(isa, Precision.INT8),
    )
    preparation = network.preparation if isinstance(network, Engine) else preparation_in(network)
    return Engine(replace(at(observed, own.height, own.width), preparation=preparation), threads=threads, isa=isa)


def _program(network: nn.Module | Engine, example: Any) -> Program:
    """The network's program in float32."""
    if isinstance(network, Engine):
        if network.precision != Precision.FLOAT32:
            raise InputError(f"quantize() was given an engine in {network.precision}; give it the float32 one")
        if any(network.program.externals()):
            raise InputError("quantize() was given an engine of which PyTorch computes a part; it has no integer form")
        return network.settled()
    with torch.no_grad():
        lowered = lower(network, example)
        return lowered.program if lowered.at is None else settle(lowered.program, lowered.at)


def quantize_program(
    program: Program,
    batches: Any,
    *,
    observer: Observer,
    keep: Iterable[str],
    tie: bool,
    heads: int | None,
    threads: int,
    isa: str,
) -> Program:
    """The program of integers for a float32 program; see `quantize`.

    Args:
        program: at the size of one of the images.
        batches: gives the images, float32 arrays [N, C, H, W], as often as it is called.
        observer: chooses ranges.
        keep: layers that stay float32.
        tie: whether residual sums have the scales of their shortcuts, where ranges are alike.
        heads: from how many weights on layers of heads compute with integers; None: none does.
        threads: how many cores.
        isa: which kernels.

    """
    chosen = convolutions(program, keep, heads)
    if not chosen:
        raise InputError("there is nothing to quantise: no convolution, or all of them are kept in float32")
    program, chosen = split_activations(program, chosen)
    negative = signs(program)
    parts = roles(program, chosen, negative)
    shortcuts = parts.shortcuts if tie else ()
    watch = Watch(program, sorted(parts.encoded), threads, isa)
    return rewrite(program, parts, encodings(watch, batches, parts.encoded, shortcuts, negative, observer))


def _first_lists(network: nn.Module, batches: Any) -> Any:
    """The first batch, where the network is, if it is a list of images [C, H, W], as detectors take; else None."""
    batch = next(iter(batches), None) if isinstance(batches, Iterable) else None
    for found in (batch, batch[0] if isinstance(batch, tuple | list) and batch else None):
        if isinstance(found, tuple | list) and found and all(isinstance(x, Tensor) and x.dim() == 3 for x in found):
            return on(next(network.parameters()).device, list(found))
    return None


def _begins(network: nn.Module | Engine, lists: Any) -> nn.Module | None:
    """The sub-module where the convolutional part of a detector begins; None of what takes [N, C, H, W] itself."""
    if isinstance(network, GatedModel):
        return network.network
    if isinstance(network, Engine) or lists is None:
        return None
    try:
        return network.get_submodule(find_part(network, lists).part.names[0])
    except InputError as error:
        raise InputError(
            "quantize() was given a list of images [C, H, W], as detectors take them, and the network fails on it; to "
            f"any other network give tensors [N, C, H, W]. {error}"
        ) from error


def _reader(network: Any, begins: nn.Module | None, batches: Iterable[Any]) -> Callable[[], Iterator[np.ndarray]]:
    """The images as the engine is given them, as often as it is called: of a detector each as it is prepared, alone."""
    images = Images(batches, lists=begins is not None, by="quantize()")

    def read() -> Iterator[np.ndarray]:
        for batch in images.read():
            for part in [batch] if begins is None else (_prepared(network, begins, image) for image in batch):
                yield np.ascontiguousarray(part.float().numpy(force=True))

    return read


def _prepared(detector: nn.Module, begins: nn.Module, image: Tensor) -> Tensor:
    device = next(detector.parameters()).device
    with evaluating(detector):
        return given_to(begins, detector, on(device, [image]))


def kept_layers(program: Program, keep: Sequence[str]) -> set[str]:
    """The layers of a program that `keep` names. Raises `InputError` for a name that none has."""
    found: set[str] = set()
    if isinstance(keep, str):
        raise InputError(f"keep={keep!r}: give a list of layers, e.g. keep=[{keep!r}]")
    for name in keep:
        fits = {layer for layer in program.layers if layer == name or layer.startswith(f"{name}.")}
        if not fits:
            raise InputError(f"keep: there is no layer '{name}'{did_you_mean(name, program.layers)}")
        found |= fits
    return found
