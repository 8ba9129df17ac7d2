"""Hooks on blocks of a gated network: they are called as if the block had been.

A captured graph calls layers, not the blocks that hold them, so that hooks of layers are called and those of blocks
(Grad-CAM on `net.layer4`) would not be. Where a block has hooks the graph gets two more nodes for each of its calls:
one before the block's nodes, for pre-hooks, and one behind them, for forward hooks; backward hooks need both.
"""

import operator
from collections.abc import Collection
from typing import Any

from torch import Tensor, fx, nn
from torch.utils.hooks import BackwardHook

from convgate.errors import InputError
from convgate.gated.gate_set import place_in

__all__ = ["call_hooks", "hooked_blocks"]

_STACK = "nn_module_stack"
INSERTED = "convgate_inserted"
"""Marks the nodes in a graph's `meta` that are gates' and not the model's."""


def hooked_blocks(network: nn.Module, graph: fx.Graph) -> tuple[str, ...]:
    """The modules with hooks that `graph` does not call itself, by name; the root's hooks are PyTorch's to call."""
    if not any(_has_hooks(module) for module in network.modules()):
        return ()
    called = tuple(f"{node.target}." for node in graph.nodes if node.op == "call_module")
    return tuple(
        name
        for name, module in network.named_modules(remove_duplicate=False)
        if name and _has_hooks(module) and not f"{name}.".startswith((f"{place_in(network)}.", *called))
    )


def call_hooks(graph: fx.Graph, blocks: Collection[str]) -> fx.Graph:
    """A copy of `graph` that also calls the hooks of `blocks`.

    Raises `InputError` for a block whose output is not one tensor.
    """
    copied: dict[fx.Node, fx.Node] = {}
    hooked = fx.Graph()
    hooked.output(hooked.graph_copy(graph, copied))
    for original, node in copied.items():
        node.meta = dict(original.meta)
    calls: dict[str, str] = {}
    for node in hooked.nodes:
        calls |= {key: path for key, path in _stack(node).items() if path in blocks}
    for key, path in calls.items():
        _wrap(hooked, key, path)
    hooked.lint()
    return hooked


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _stack(node: fx.Node) -> dict[str, str]:
    """The calls of modules that a node belongs to, from the outside in: key -> name of the module."""
    return {key: value[0] for key, value in (node.meta.get(_STACK) or {}).items()}


def _wrap(graph: fx.Graph, key: str, path: str) -> None:
    """Put the nodes that call a block's hooks around one call of it."""
    region = [node for node in graph.nodes if key in _stack(node)]
    inside = set(region)
    outputs = [node for node in region if any(user not in inside and not _is_gates(user) for user in node.users)]
    if len(outputs) != 1:
        raise InputError(
            f"'{path}' has hooks and returns {len(outputs)} tensors; in a gated network hooks are called on blocks "
            "that return one. Register them on blocks or layers within it"
        )
    inputs = list(
        dict.fromkeys(
            source
            for node in region
            for source in node.all_input_nodes
            if source not in inside and source.op != "get_attr" and not _is_gates(source)
        )
    )
    outer = {}
    for name, value in region[0].meta[_STACK].items():
        if name == key:
            break
        outer[name] = value
    with graph.inserting_before(region[0]):
        block = graph.get_attr(path)
        entered = graph.call_function(enter, (block, tuple(inputs)))
        arguments = graph.call_function(operator.getitem, (entered, 0))
        parts = [graph.call_function(operator.getitem, (arguments, index)) for index in range(len(inputs))]
    for source, part in zip(inputs, parts, strict=True):
        for node in region:
            node.replace_input_with(source, part)
    output = outputs[0]
    users = [user for user in output.users if user not in inside]
    with graph.inserting_after(output):
        left = graph.call_function(leave, (block, entered, output))
    for user in users:
        user.replace_input_with(output, left)
    for node in (block, entered, arguments, *parts, left):
        node.meta[_STACK] = outer


def _is_gates(node: fx.Node) -> bool:
    """Whether a node decides: reads features for a gate, or is the gate."""
    return bool(node.meta.get(INSERTED)) and not _stack(node)


def enter(block: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], BackwardHook | None]:
    """Call the forward pre-hooks of `block`; (its inputs, what backward hooks need when it is left)."""
    for number, hook in list(block._forward_pre_hooks.items()):
        if number in block._forward_pre_hooks_with_kwargs:
            changed: Any = hook(block, inputs, {})
            changed = None if changed is None else changed[0]
        else:
            changed = hook(block, inputs)
        if changed is not None:
            inputs = changed if isinstance(changed, tuple) else (changed,)
    full, _ = block._get_backward_hooks()
    before = block._get_backward_pre_hooks()
    if not full and not before:
        return inputs, None
    backward = BackwardHook(block, full, before)
    return backward.setup_input_hook(inputs), backward


def leave(block: nn.Module, entered: tuple[tuple[Tensor, ...], BackwardHook | None], output: Tensor) -> Tensor:
    """Call the forward hooks of `block`; its output."""
    inputs, backward = entered
    for number, hook in list(block._forward_hooks.items()):
        if number in block._forward_hooks_with_kwargs:
            changed = hook(block, inputs, {}, output)
        else:
            changed = hook(block, inputs, output)
        output = output if changed is None else changed
    return output if backward is None else backward.setup_output_hook(output)
