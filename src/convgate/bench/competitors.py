"""The engines that are timed against each other: each builds a function from images to outputs, both NumPy arrays."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from convgate.bench.exchange import integer_openvino_request, onnxruntime_session, openvino_request
from convgate.bench.subject import Subject
from convgate.errors import InputError, LoweringError

__all__ = ["COMPETITORS", "Built", "Competitor", "choose"]

Call = Callable[[np.ndarray], Any]
"""float32 [N, C, H, W] -> float32 [N, ...], or several of them in tuples, lists or mappings."""


@dataclass(frozen=True, eq=False)
class Built:
    """An engine ready to be called; `note` is what a reader must know, `engine` convgate's own, where it is one."""

    call: Call
    note: str = ""
    engine: Any = None


@dataclass(frozen=True)
class Competitor:
    """One row of the comparison.

    `kind` is what is run: "dense", "gated" or "pruned", which is without gates what a finetuned network is with them.
    `reference` marks the rows that the best dense engine of a precision is
    chosen from; `precision` is "float32", "bf16", "int8" or, where the engine chooses, "default".
    """

    name: str
    label: str
    kind: str
    build: Callable[[Subject, int], Built]
    reference: bool = False
    precision: str = "float32"

    def applies(self, subject: Subject) -> bool:
        """Whether there is such a network: a pruned one is only beside a finetuned checkpoint."""
        return self.kind != "pruned" or subject.pruned is not None


def choose(only: str | None) -> tuple[Competitor, ...]:
    """The competitors named in `only`, separated by commas, or all. Raises `InputError` for an unknown name."""
    if only is None:
        return COMPETITORS
    known = {competitor.name: competitor for competitor in COMPETITORS}
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"--only {only}: no engine {', '.join(unknown) or 'is named'}; they are: {', '.join(known)}")
    return tuple(competitor for competitor in COMPETITORS if competitor.name in names)


def _eager(subject: Subject, _threads: int) -> Built:
    return Built(_in_torch(subject.dense, torch.inference_mode))


def _compiled(subject: Subject, _threads: int) -> Built:
    # Frozen: weights become constants, norms are folded into them, and layouts are chosen for the processor. Freezing
    # needs the plain no_grad. A copy: what torch.compile leaves on a module is not the eager row's.
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(subject.dense), options={"freezing": True}, dynamic=False)
    call = _in_torch(compiled, torch.no_grad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about its own code
        for images in subject.inputs:
            call(images)
    return Built(call, "frozen")


def _masked(subject: Subject, _threads: int) -> Built:
    return Built(_in_torch(subject.network, torch.inference_mode), "computes everything, then masks")


def _in_torch(module: Any, mode: Callable[[], Any]) -> Call:
    def call(images: np.ndarray) -> Any:
        with mode():
            return pytree.tree_map(lambda leaf: leaf.numpy(), module(torch.from_numpy(images)))

    return call


def _onnxruntime(subject: Subject, threads: int) -> Built:
    sessions = _by_size(subject, lambda images: onnxruntime_session(subject.dense, images, threads))
    name = next(iter(sessions.values())).get_inputs()[0].name
    return Built(lambda images: sessions[images.shape].run(None, {name: images}))


def _openvino(subject: Subject, threads: int) -> Built:
    return _in_openvino(subject, threads, "f32")


def _openvino_bf16(subject: Subject, threads: int) -> Built:
    return _in_openvino(subject, threads, "bf16")


def _openvino_default(subject: Subject, threads: int) -> Built:
    return _in_openvino(subject, threads, None)


def _in_openvino(subject: Subject, threads: int, precision: str | None) -> Built:
    requests = _by_size(subject, lambda images: openvino_request(subject.dense, images, threads, precision))
    used = next(iter(requests.values()))[1]
    return Built(lambda images: _infer(requests[images.shape][0], images), f"ran in {used}")


def _openvino_int8(subject: Subject, threads: int) -> Built:
    def build(images: np.ndarray) -> Any:
        alike = [x for x in subject.inputs if x.shape == images.shape]
        return integer_openvino_request(subject.dense, alike, threads)

    requests = _by_size(subject, build)
    note = "quantised by NNCF on the images that are timed"
    return Built(lambda images: _infer(requests[images.shape], images), note)


def _by_size(subject: Subject, build: Callable[[np.ndarray], Any]) -> dict[tuple[int, ...], Any]:
    """What `build` makes of an input, for each of the shapes: these runtimes are fastest for one that they know."""
    first = {images.shape: images for images in reversed(subject.inputs)}
    return {shape: build(images) for shape, images in first.items()}


def _infer(request: Any, images: np.ndarray) -> list[np.ndarray]:
    # Sharing memory spares it two copies, as ours is spared them.
    results = request.infer([images], share_inputs=True, share_outputs=True)
    return [results[number] for number in range(len(results))]


def _engine_dense(subject: Subject, threads: int) -> Built:
    return _in_engine(subject.dense, subject, threads)


def _engine_gated(subject: Subject, threads: int) -> Built:
    return _in_engine(subject.network, subject, threads)


def _engine_dense_bf16(subject: Subject, threads: int) -> Built:
    return _in_engine(subject.dense, subject, threads, "bf16")


def _engine_gated_bf16(subject: Subject, threads: int) -> Built:
    return _in_engine(subject.network, subject, threads, "bf16")


def _engine_dense_int8(subject: Subject, threads: int) -> Built:
    return _in_integers(subject.dense, subject, threads)


def _engine_gated_int8(subject: Subject, threads: int) -> Built:
    return _in_integers(subject.network, subject, threads)


def _engine_pruned(subject: Subject, threads: int) -> Built:
    return _without_gates(subject, threads, "float32")


def _engine_pruned_bf16(subject: Subject, threads: int) -> Built:
    return _without_gates(subject, threads, "bf16")


def _without_gates(subject: Subject, threads: int, precision: str) -> Built:
    from convgate.engine import load

    assert subject.pruned is not None
    engine = load(subject.pruned, threads=threads, precision=precision)
    return Built(engine, engine.isa, engine)


def _in_integers(network: nn.Module, subject: Subject, threads: int) -> Built:
    from convgate.quantization import quantize

    # Scales need not be good for images that are not timed, only as wide as on these.
    engine = quantize(network, [torch.from_numpy(images) for images in subject.inputs], threads=threads)
    return Built(engine, engine.isa, engine)


def _in_engine(network: nn.Module, subject: Subject, threads: int, precision: str = "float32") -> Built:
    from convgate.engine.compile import compile as compile_engine

    example = None if network is subject.network else torch.from_numpy(subject.inputs[0])
    note = ""
    try:
        engine = compile_engine(network, example, threads=threads, precision=precision)
    except LoweringError as error:
        engine = compile_engine(network, example, threads=threads, precision=precision, fallback="torch")
        note = f"PyTorch computes a part: {error}"
    return Built(engine, note or engine.isa, engine)


COMPETITORS = (
    Competitor("eager", "PyTorch eager", "dense", _eager),
    Competitor("torch-compile", "torch.compile", "dense", _compiled),
    Competitor("onnxruntime", "ONNX Runtime", "dense", _onnxruntime, reference=True),
    Competitor("openvino", "OpenVINO float32", "dense", _openvino, reference=True),
    Competitor("openvino-bf16", "OpenVINO bfloat16", "dense", _openvino_bf16, reference=True, precision="bf16"),
    Competitor("openvino-int8", "OpenVINO int8", "dense", _openvino_int8, reference=True, precision="int8"),
    Competitor("openvino-default", "OpenVINO default", "dense", _openvino_default, precision="default"),
    Competitor("masked", "PyTorch masked", "gated", _masked),
    Competitor("engine-dense", "convgate dense", "dense", _engine_dense),
    Competitor("engine-gated", "convgate gated", "gated", _engine_gated),
    Competitor("engine-pruned", "convgate pruned", "pruned", _engine_pruned),
    Competitor("engine-dense-bf16", "convgate dense bf16", "dense", _engine_dense_bf16, precision="bf16"),
    Competitor("engine-gated-bf16", "convgate gated bf16", "gated", _engine_gated_bf16, precision="bf16"),
    Competitor("engine-pruned-bf16", "convgate pruned bf16", "pruned", _engine_pruned_bf16, precision="bf16"),
    Competitor("engine-dense-int8", "convgate dense int8", "dense", _engine_dense_int8, precision="int8"),
    Competitor("engine-gated-int8", "convgate gated int8", "gated", _engine_gated_int8, precision="int8"),
)
"""All rows, in the order in which they are shown; not all apply to every subject."""
