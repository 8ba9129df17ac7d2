"""What a model's forward writes to its modules: found, undone, and named where a graph would lose it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from convgate.reading.values import Values

__all__ = ["Attributes", "Written", "write_buffers"]


@dataclass
class Written:
    """What forward wrote to attributes, by their paths: new values of tensors (as nodes), and other things."""

    tensors: dict[str, fx.Node] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


class Attributes:
    """Attributes of a model's modules before its forward runs, to find and undo what it writes."""

    def __init__(self, module: nn.Module) -> None:
        self._before = [
            (name, namespace, dict(namespace))
            for name, child in module.named_modules()
            for namespace in (vars(child), child._buffers, child._parameters)
        ]

    def restore(self) -> Written:
        """Undo what was written, and say what of it a graph has to carry."""
        written = Written()
        for name, namespace, before in self._before:
            for key, value in list(namespace.items()):
                if key.startswith("_tensor_constant") or value is before.get(key, self):
                    continue
                path = f"{name}.{key}" if name else key
                if isinstance(value, fx.Proxy) and isinstance(before.get(key), Tensor):
                    written.tensors[path] = value.node
                elif _matters(value, before.get(key)):
                    written.others.append(path)
                if key in before:
                    namespace[key] = before[key]
                else:
                    del namespace[key]
        return written


def write_buffers(module: nn.Module, graph: fx.Graph, values: Values, written: Mapping[str, fx.Node]) -> list[str]:
    """Let `graph` write to buffers what forward assigned to them; the paths of what it cannot write.

    It writes in place and at its end: what read a buffer before the assignment has seen its old value, and what read it
    later was given the new one by Python. `values` gets those of the new nodes. In evaluation nothing can be written:
    an engine keeps no state from one batch to the next.
    """
    if not module.training:
        return list(written)
    lost = []
    buffers = dict(module.named_buffers(remove_duplicate=False))
    output = next(iter(reversed(graph.nodes)))
    for path, node in written.items():
        new, old = values[node], values.evaluate("get_attr", path, (), {})
        if new is old:  # x += 1, which has written to it
            continue
        if path not in buffers or not isinstance(new, Tensor) or _kind(new) != _kind(old):
            lost.append(path)
            continue
        with graph.inserting_before(output):
            buffer = graph.create_node("get_attr", path)
            value = graph.call_method("detach", (node,))
            copied = graph.call_method("copy_", (buffer, value))
        for made in (buffer, value, copied):
            values.add(made, values.evaluate(made.op, made.target, made.args, made.kwargs))
    return lost


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype, tensor.device


def _matters(value: Any, before: Any) -> bool:
    """Whether a written attribute carries something out of forward: a tensor, or a count of calls."""
    numbers = (int, float)
    return isinstance(value, fx.Proxy) or (
        isinstance(value, numbers) and isinstance(before, numbers) and value != before
    )
