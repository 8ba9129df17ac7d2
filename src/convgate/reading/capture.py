"""Capture a model's forward as a `torch.fx` graph, for one size of the images and any number of them.

The model's Python code runs once. What it computes with tensors is recorded; what it asks about them (their shapes,
how many there are, whether two sizes agree) is answered at once from fake tensors computed beside (see
`convgate.reading.values`). So assertions on shapes, loops over parts of a tensor and decisions on sizes leave no trace
in the graph, while decisions on values of tensors, which it cannot carry, are refused by file and line.
"""

import warnings

import torch
from torch import Tensor, fx, nn

from convgate.errors import TraceError
from convgate.reading.answers import PROBES, Answers
from convgate.reading.attributes import Attributes, write_buffers
from convgate.reading.batches import generalise
from convgate.reading.dead_code import eliminate_dead_code
from convgate.reading.patches import recording
from convgate.reading.randomness import preserving_random_state, random_state, who_drew
from convgate.reading.refusals import drawn, unreadable
from convgate.reading.tracer import Tracer
from convgate.reading.values import FakeModule, Values

__all__ = ["capture"]


def capture(module: nn.Module, fakes: FakeModule, shape: tuple[int, ...], like: Tensor) -> tuple[fx.Graph, Values]:
    """The graph of `module` in the mode that it is in, and the value of each of its nodes.

    Args:
        module: the model; its forward takes images first and has defaults for anything else.
        fakes: the same model without data.
        shape: of the images [N, C, H, W]. H and W become part of the graph, N does not.
        like: a tensor of the images' dtype and device.

    Raises:
        TraceError: the model cannot be captured; names the file and line of its code and what to do.

    """
    before = random_state()
    with preserving_random_state(), fakes.standing_for(module):
        result = _capture_for_any_batch(Answers(fakes, shape, like), module)
        if who_drew(before) is None:
            return result
    # Found only now, which costs nothing where nobody draws; so it is captured again to see where.
    with preserving_random_state(), fakes.standing_for(module):
        _capture(Tracer(Answers(fakes, shape, like), watching=True), module)
    raise drawn(type(module).__name__, "a generator of random numbers")


def _capture_for_any_batch(answers: Answers, module: nn.Module) -> tuple[fx.Graph, Values]:
    tracer = Tracer(answers)
    graph, values = _capture(tracer, module)
    if tracer.told_batch is None:
        return graph, values
    others = []
    for batch in (answers.batch + 1, *PROBES):
        try:
            others.append((batch, _capture(Tracer(answers.for_batch(batch)), module)[0]))
        except TraceError:  # The model does not take this many.
            continue
    others = [(batch, other) for batch, other in others if batch != answers.batch]
    if len(others) < 2 or not generalise(graph, values, answers.batch, others):
        raise tracer.told_batch
    return graph, values


def _capture(tracer: Tracer, module: nn.Module) -> tuple[fx.Graph, Values]:
    written = Attributes(module)
    try:
        with warnings.catch_warnings(), torch.enable_grad(), recording(tracer, module):
            warnings.filterwarnings("ignore", message="Was not able to add assertion")
            graph = tracer.trace(module)
    except TraceError:
        raise
    except Exception as error:
        raise unreadable(module, tracer, error) from error
    finally:
        changed = written.restore()
    if lost := changed.others + write_buffers(module, graph, tracer.values, changed.tensors):
        raise TraceError(
            f"the forward of {type(module).__name__} writes {', '.join(map(repr, lost))}, which a graph cannot carry: "
            "the gated network would not write it. Return the value, or write it from outside of forward; in training "
            "(if self.training: ..) forward may also write buffers that keep their shape and dtype"
        )
    eliminate_dead_code(module, graph)
    return graph, tracer.values
