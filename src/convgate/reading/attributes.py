"""What a model's forward writes to its modules: found, undone, and named where a graph would lose it."""

from typing import Any

from torch import fx, nn

__all__ = ["Attributes"]


class Attributes:
    """Attributes of a model's modules before its forward runs, to find and undo what it writes."""

    def __init__(self, module: nn.Module) -> None:
        self._before = [
            (name, namespace, dict(namespace))
            for name, child in module.named_modules()
            for namespace in (vars(child), child._buffers, child._parameters)
        ]

    def restore(self) -> str:
        """Undo what was written; the attributes among it that a graph would lose, in words."""
        lost = []
        for name, namespace, before in self._before:
            for key, value in list(namespace.items()):
                if key.startswith("_tensor_constant") or value is before.get(key, self):
                    continue
                if _matters(value, before.get(key)):
                    lost.append(f"'{name}.{key}'" if name else f"'{key}'")
                if key in before:
                    namespace[key] = before[key]
                else:
                    del namespace[key]
        return ", ".join(lost)


def _matters(value: Any, before: Any) -> bool:
    """Whether a written attribute carries something out of forward: a tensor, or a count of calls."""
    numbers = (int, float)
    return isinstance(value, fx.Proxy) or (
        isinstance(value, numbers) and isinstance(before, numbers) and value != before
    )
