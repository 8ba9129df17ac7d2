"""Find the convolutional part of a model that is not itself images in, tensors out: by running it on an example.

Each call of a sub-module is noted, with where its tensors come from. The part begins with a call that is given one
batch of images and nothing else; it goes on with calls that are given only what calls of the part returned, untouched.
Of what cannot be read (see `convgate.reading`), the calls inside are tried. Nothing here knows a class of detector.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from convgate.cost import node_macs
from convgate.errors import ConvgateError, InputError
from convgate.reading.modes import evaluating
from convgate.reading.part import IMAGES, Leaf, Part, Stage
from convgate.reading.trace import Trace, trace
from convgate.reading.tracer import COUNTED_MODULES
from convgate.suggestions import closest

__all__ = ["Found", "find_part"]

_PLAIN = (int, float, str, bool, type(None))


@dataclass(frozen=True, eq=False)
class Found:
    """A part of a model, the images that it is given for the example, and what reading it for these came to."""

    part: Part
    images: Tensor
    trace: Trace


def find_part(model: nn.Module, example: Any, inside: Sequence[str] = ()) -> Found:
    """The part of `model` that does most of the MACs.

    Args:
        model: called as `model(example)`, in evaluation mode, once. It stays unchanged.
        example: what it takes.
        inside: names of the sub-modules that make up the part, where it is not to be found.

    Raises:
        InputError: there is no such sub-module, the model fails on the example, or it has no such part.

    """
    known = dict(model.named_modules())
    for name in inside:
        if name not in known or not name:
            hint = closest(name, known) or "model.named_modules() lists them"
            raise InputError(f"gate(inside={name!r}): the model has no sub-module of that name; {hint}")
    top = _record(model, example)
    search = _Search(model, top, frozenset(inside))
    best, reasons = search.best(), search.reasons
    if best is None:
        raise InputError(_nothing(model, inside, reasons))
    missing = [name for name in inside if name not in best.part.names]
    if missing:
        reason = "; ".join(f"{name}: {reasons.get(name, 'is not called for the example')}" for name in missing)
        raise InputError(f"gate(inside={list(inside)}): {reason}")
    return best


def _nothing(model: nn.Module, inside: Sequence[str], reasons: dict[str, str]) -> str:
    listed = "\n".join(f"  {name}: {reason}" for name, reason in reasons.items())
    if inside:
        listed = "\n".join(f"  {name}: {reasons.get(name, 'is not called for the example')}" for name in inside)
        return f"gate(inside={list(inside)}): no part of {type(model).__name__} can be gated there:\n{listed}"
    return (
        f"{type(model).__name__} is not itself images in, tensors out, and no sub-module of it is called once with one "
        f"batch of images [N, C, H, W] and can be read:\n{listed or '  nothing with weights is called'}"
    )


@dataclass(eq=False)
class _Call:
    """A call of a sub-module: what it was given and returned, and the calls within it."""

    name: str
    module: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    within: list["_Call"] = field(default_factory=list)

    @property
    def counted(self) -> bool:
        """Whether it can multiply."""
        return any(isinstance(module, COUNTED_MODULES) for module in self.module.modules())


def _record(model: nn.Module, example: Any) -> _Call:
    """Run the model on the example; the calls, as a tree."""
    top = _Call("", model)
    stack = [top]
    handles = []

    def enter(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = _Call(name, module, args, dict(kwargs))
        stack[-1].within.append(call)
        stack.append(call)

    def leave(result: Any) -> None:
        stack.pop().result = result

    try:
        for name, module in model.named_modules():
            if name:
                handles += [
                    module.register_forward_pre_hook(lambda m, a, k, name=name: enter(name, m, a, k), with_kwargs=True),
                    module.register_forward_hook(lambda _, __, result: leave(result)),
                ]
        with torch.no_grad(), evaluating(model):
            model(example)
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} fails on the example ({type(error).__name__}: {error}); give what it is called "
            "with as its one argument (a model that takes several: one around it that takes a tuple of them)"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return top


class _Search:
    def __init__(self, model: nn.Module, top: _Call, inside: frozenset[str]) -> None:
        self.model, self.top, self.inside = model, top, inside
        self.reasons: dict[str, str] = {}

    def best(self) -> Found | None:
        """The part with most MACs; `reasons` says why other calls begin or continue none."""
        found = list(self._parts(self.top.within))
        if len(found) > 1:
            found.sort(key=lambda each: -sum(node_macs(each.trace).values()))
        return found[0] if found else None

    def _outside(self, stages: Sequence[Stage]) -> list[str]:
        """The outermost sub-modules with weights that are called, but in no stage."""
        inside = {stage.name for stage in stages}

        def walk(calls: list[_Call]) -> Iterator[str]:
            for call in calls:
                if call.name in inside or not call.counted:
                    continue
                if any(name.startswith(f"{call.name}.") for name in inside):
                    yield from walk(call.within)
                else:
                    yield call.name

        return list(dict.fromkeys(walk(self.top.within)))

    def _parts(self, calls: list[_Call]) -> Iterator[Found]:
        """The parts that begin with the outermost of the calls that can begin one."""
        taken: set[str] = set()
        for call in calls:
            if not call.counted or call.name in taken:
                continue
            reason = self._no_beginning(call) if self._wanted(call) else "is not named"
            found = self._chain(call) if reason is None else None
            if found:
                taken |= set(found.part.names)
                yield found
            else:
                self.reasons.setdefault(call.name, reason or "cannot be read")
                yield from self._parts(call.within)

    def _wanted(self, call: _Call) -> bool:
        return not self.inside or call.name in self.inside

    def _no_beginning(self, call: _Call) -> str | None:
        times = sum(each.module is call.module for each in _all(self.top))
        if times != 1:
            return f"is called {times} times for the example; a part begins where it is called once"
        image = call.args[0] if len(call.args) == 1 and not call.kwargs else None
        if not isinstance(image, Tensor) or image.dim() != 4 or not image.is_floating_point():
            given = [*map(_words, call.args), *(f"{key}={_words(value)}" for key, value in call.kwargs.items())]
            return f"is called with ({', '.join(given)}); a part begins with one batch of images [N, C, H, W]"
        return None

    def _chain(self, first: _Call) -> Found | None:
        """The part that begins with a call, None if that cannot be read.

        All that might continue it is tried at once, which is what mostly can be read, and else one after another.
        """
        images = first.args[0]
        stages = self._follow(first, lambda _: True)
        found = self._read(stages, images)
        if found is None and (found := self._read(stages[:1], images)) is not None:
            stages = self._follow(first, lambda stages: self._read(stages, images) is not None)
            found = self._read(stages, images)
        return found

    def _follow(self, first: _Call, accept: Callable[[list[Stage]], bool]) -> list[Stage]:
        origins = {id(first.args[0]): IMAGES}
        stage = _stage(first, origins)
        assert stage is not None
        stages = [stage]
        _note(origins, first.result, 0)

        def follow(calls: list[_Call]) -> None:
            for call in calls:
                if call is first or not call.counted:
                    continue
                stage = _stage(call, origins) if self._wanted(call) else None
                if stage is None or not stage.reads:
                    self.reasons[call.name] = "is given other things than what the part before it returns"
                elif accept([*stages, stage]):
                    _note(origins, call.result, len(stages))
                    stages.append(stage)
                    continue
                follow(call.within)

        follow(self.top.within)
        return stages

    def _read(self, stages: list[Stage], images: Tensor) -> Found | None:
        part = Part(self.model, stages, self._outside(stages))
        try:
            return Found(part, images, trace(part, images, block_hooks=True))
        except ConvgateError as error:
            self.reasons[stages[-1].name] = f"cannot be read: {error}"
            return None


def _stage(call: _Call, origins: dict[int, Leaf]) -> Stage | None:
    """The call as a stage, if all that it is given is plain or comes from stages before."""

    def origin(value: Any) -> Any:
        if isinstance(value, Tensor):
            return origins.get(id(value), value)
        return value

    args, kwargs = pytree.tree_map(origin, (call.args, call.kwargs))
    leaves = pytree.tree_leaves((args, kwargs))
    if not all(isinstance(leaf, (Leaf, *_PLAIN)) for leaf in leaves):
        return None
    return Stage(call.name, args, kwargs, pytree.tree_structure(call.result))


def _note(origins: dict[int, Leaf], result: Any, stage: int) -> None:
    for index, leaf in enumerate(pytree.tree_leaves(result)):
        if isinstance(leaf, Tensor):
            origins.setdefault(id(leaf), Leaf(stage, index))


def _all(call: _Call) -> Iterator[_Call]:
    for each in call.within:
        yield each
        yield from _all(each)


def _words(value: Any) -> str:
    return f"Tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
