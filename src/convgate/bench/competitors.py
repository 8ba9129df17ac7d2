"""The rows of a comparison: what is run, by which engine, in which precision."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from convgate.bench import engines
from convgate.bench.built import Built
from convgate.bench.runtimes import compiled, executorch, mnn, ncnn, onnxruntime, openvino
from convgate.bench.subject import Subject
from convgate.engine.program import LARGE_HEAD
from convgate.errors import InputError

__all__ = ["COMPETITORS", "Competitor", "choose"]


@dataclass(frozen=True)
class Competitor:
    """One row of the comparison.

    `kind` is what is run: "dense", "gated" or "pruned", which is without gates what a finetuned network is with them.
    `reference` marks the rows that the best dense engine of a precision is chosen from; `precision` is "float32",
    "bf16", "int8" or, where the engine chooses, "default". `only_where`: which subjects have such a network, if not
    all do.
    """

    name: str
    label: str
    kind: str
    build: Callable[[Subject, int], Built]
    reference: bool = False
    precision: str = "float32"
    only_where: Callable[[Subject], bool] | None = None

    def applies(self, subject: Subject) -> bool:
        """Whether a subject has such a network."""
        return self.only_where is None or self.only_where(subject)


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


def _other(
    name: str, label: str, build: Callable[[Subject, int], Built], precision: str = "float32", *, reference: bool = True
) -> Competitor:
    return Competitor(name, label, "dense", build, reference, precision)


def _own(kind: str, build: Callable[..., Built], precision: str = "float32") -> Competitor:
    ending = "" if precision == "float32" else f" {precision}"
    name, label = f"engine-{kind}{ending.replace(' ', '-')}", f"convgate {kind}{ending}"
    return Competitor(name, label, kind, build, precision=precision)


def _pruned(precision: str = "float32") -> Competitor:
    return replace(
        _own("pruned", partial(engines.pruned, precision=precision), precision), only_where=Subject.is_pruned
    )


COMPETITORS = (
    _other("eager", "PyTorch eager", engines.eager, reference=False),
    _other("torch-compile", "torch.compile", compiled.float32, reference=False),
    _other("torch-compile-bf16", "torch.compile bfloat16", compiled.bf16, "bf16"),
    _other("zentorch", "zentorch", compiled.zen_float32),
    _other("zentorch-bf16", "zentorch bfloat16", compiled.zen_bf16, "bf16"),
    _other("onnxruntime", "ONNX Runtime", onnxruntime.float32),
    _other("onnxruntime-int8", "ONNX Runtime int8", onnxruntime.int8, "int8"),
    _other("openvino", "OpenVINO float32", openvino.float32),
    _other("openvino-bf16", "OpenVINO bfloat16", openvino.bf16, "bf16"),
    _other("openvino-int8", "OpenVINO int8", openvino.int8, "int8"),
    _other("openvino-default", "OpenVINO default", openvino.as_it_comes, "default", reference=False),
    _other("ncnn", "ncnn", ncnn.float32),
    _other("ncnn-bf16", "ncnn bfloat16", ncnn.bf16, "bf16"),
    _other("mnn", "MNN", mnn.float32),
    _other("executorch", "ExecuTorch XNNPACK", executorch.float32),
    Competitor("masked", "PyTorch masked", "gated", engines.masked),
    _own("dense", engines.dense),
    _own("gated", engines.gated),
    _pruned(),
    _own("dense", partial(engines.dense, precision="bf16"), "bf16"),
    _own("gated", partial(engines.gated, precision="bf16"), "bf16"),
    Competitor(
        "engine-gated-bf16-heads",
        "convgate gated bf16, heads",
        "gated",
        partial(engines.gated, precision="bf16", heads=LARGE_HEAD),
        precision="bf16",
        only_where=Subject.has_large_heads,
    ),
    _pruned("bf16"),
    _own("dense", engines.integer_dense, "int8"),
    _own("gated", engines.integer_gated, "int8"),
)
"""All rows, in the order in which they are shown; not all apply to every subject."""
