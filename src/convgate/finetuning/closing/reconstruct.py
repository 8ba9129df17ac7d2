"""Layers learn to do without closed channels, one after another, by least squares: no gradients, no learning rate.

Each layer that reads closed units is given new weights W, those that come closest to what the dense network computes
there: the least of E |W x + b - W_dense x_dense|^2 + ridge, with x what the layer reads in the gated network, in which
the layers before it have their new weights already. So errors do not add up from layer to layer. Both networks run
node by node, side by side, once. There is no b where nothing behind the layer could add it.

Source: He, Zhang, Sun: Channel pruning for accelerating very deep neural networks, ICCV 2017, section 3.1 (the least
squares step, from the pruned network's inputs to the whole one's outputs); here with a constant and a ridge towards the
weights as they were.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from convgate.finetuning.closing.moments import output_size, rows, some_places, with_one
from convgate.finetuning.closing.order import RIDGES, regularised
from convgate.finetuning.closing.readers import Closable, Reader
from convgate.gated import GatedNetwork
from convgate.gating import Decision, Decisions
from convgate.reading.modes import evaluating

__all__ = ["first", "is_checked_on", "masks_of", "reconstruct", "shift_output", "two_at_least"]

_FIRM = 30.0
# A ridge with which layers hardly move: what late layers see of errors before them is mostly chance.
_ROWS = 4
# For each unknown of a layer, so many rows of its equations at least ..
_LEAST = 8192
# .. and at least so many in all.
_BYTES = 8e8
# The images are as many as keep the largest map below this: all are held at once.


@torch.no_grad()
def reconstruct(
    network: GatedNetwork,
    whole: GatedNetwork,
    gates: Sequence[Closable],
    is_open: Mapping[str, Tensor],
    batches: Sequence[Tensor],
) -> None:
    """Give the readers of gates that closed something new weights. In place.

    Args:
        network: the network that is to do without the closed units.
        whole: the same network with the weights that it had when every gate was open.
        gates: see `convgate.finetuning.closing.readers`.
        is_open: bool [units] of each of these gates; the network's other gates are taken to be open.
        batches: images [N, C, H, W]; those of the first one's size are used.

    """
    size = (batches[0].shape[2], batches[0].shape[3])
    graph = network.graphs_at(size)[False]
    readers = {
        reader.layer: (gate, reader) for gate in gates for reader in gate.readers if not is_open[gate.gate].all()
    }
    with evaluating(network), evaluating(whole):
        batches = _few(whole, graph, size, batches)
        ours = [_Running(network, graph, size, x, masks_of(network, is_open, len(x), size)) for x in batches]
        theirs = [_Running(whole, graph, size, x, whole.open_decisions(len(x), size)) for x in batches]
        for node in graph.nodes:
            if node.op == "call_module" and str(node.target) in readers:
                gate, reader = readers[str(node.target)]
                read = node.all_input_nodes[0]
                pairs = [(a.values[read], b.values[read]) for a, b in zip(ours, theirs, strict=True)]
                _solve(network, whole, reader, gate.spread(is_open[gate.gate]), pairs)
            for running in (*ours, *theirs):
                running.run(node)


def is_checked_on(number: int) -> bool:
    """Whether a batch is left out of what is fitted, to choose ridges and to measure costs: one in four is."""
    return number % 4 == 1


def two_at_least(batches: list[Tensor]) -> list[Tensor]:
    """The batches; a single one in two parts, so that there is one to check on."""
    return batches if len(batches) > 1 else list(batches[0].chunk(2))


def masks_of(network: GatedNetwork, is_open: Mapping[str, Tensor], n: int, size: tuple[int, int]) -> Decisions:
    """Decisions for `n` images of which these gates' units are open, and all of the other gates'."""

    def decided(name: str, decision: Decision) -> Decision:
        if name not in is_open:
            return decision
        units = is_open[name].to(decision.mask).view(1, -1, 1, 1)
        return Decision(decision.kind, units.expand_as(decision.mask).contiguous())

    return network.open_decisions(n, size).map(decided)


class _Running:
    """A network that is run node by node on one batch; values are dropped when nobody reads them any more."""

    def __init__(
        self, network: GatedNetwork, graph: fx.Graph, size: tuple[int, int], images: Tensor, given: Decisions
    ) -> None:
        self._interpreter = fx.Interpreter(network.graph_root(size), graph=graph)
        self.values = self._interpreter.env = {}
        self._arguments = iter([images, *(decision.mask for decision in given.values())])

    def run(self, node: fx.Node) -> None:
        if node.op == "output":
            return
        self.values[node] = next(self._arguments) if node.op == "placeholder" else self._interpreter.run_node(node)
        for unread in self._interpreter.user_to_last_uses.get(node, []):
            del self.values[unread]


def _solve(
    network: GatedNetwork, whole: GatedNetwork, reader: Reader, is_open: Tensor, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Least squares for one layer, from (what it reads, what the dense network's reads) of each batch."""
    layer, before = network.get_submodule(reader.layer), whole.get_submodule(reader.layer)
    assert isinstance(layer, nn.Conv2d)
    assert isinstance(before, nn.Conv2d)
    dense = before.weight.detach().float().flatten(1)
    taps = dense.shape[1] // len(is_open)
    stays = is_open.to(dense.device).repeat_interleave(taps)
    shifts = reader.takes_constants
    unknowns = int(stays.sum()) + shifts
    height, width = output_size(layer, pairs[0][0])
    images = sum(len(x) for x, _ in pairs)
    if height * width * images < _ROWS * unknowns:
        return  # too little to learn from; and such layers are the ones that take long
    places = some_places(height * width, math.ceil(max(_ROWS * unknowns, _LEAST) / images))
    known = _shift(network, whole, reader, dense)
    kept = layer.weight.detach().float().flatten(1)[:, stays]
    kept = (torch.cat([kept, known[:, None]], 1) if shifts else kept).cpu().double()
    fitted, checked = _Equations(unknowns, dense, shifts), _Equations(unknowns, dense, shifts)
    for number, (x, theirs) in enumerate(pairs):
        points = rows(layer, x, places)[:, stays]
        wanted = rows(before, theirs, places) @ dense.T
        (checked if is_checked_on(number) else fitted).add(with_one(points) if shifts else points, wanted)
    ridge = _FIRM
    if checked.count:
        ridge = min((*RIDGES, _FIRM), key=lambda ridge: checked.error(fitted.solution(kept, ridge)))
    found = (fitted + checked).solution(kept, ridge)
    weights = torch.zeros_like(dense)
    weights[:, stays] = found[:, : int(stays.sum())].to(dense)
    layer.weight.copy_(weights.view_as(layer.weight))
    if shifts:
        shift_output(network, reader, found[:, -1].to(dense) - known)


def _shift(network: GatedNetwork, whole: GatedNetwork, reader: Reader, like: Tensor) -> Tensor:
    """What is added to a layer's output now that was not at first [O]."""
    if reader.norm is not None:
        now, first = (net.get_submodule(reader.norm).running_mean for net in (network, whole))
        return (first - now).to(like)  # type: ignore[operator]
    now, first = (net.get_submodule(reader.layer).bias for net in (network, whole))
    return like.new_zeros(len(like)) if now is None else (now - first).to(like)  # type: ignore[operator]


def shift_output(network: GatedNetwork, reader: Reader, constant: Tensor) -> None:
    """Add a constant [O] to the output of a layer that `takes_constants`: to its bias, or by the norm behind it."""
    if reader.norm is not None:
        mean = network.get_submodule(reader.norm).running_mean
        assert isinstance(mean, Tensor)
        mean -= constant.to(mean)
    else:
        bias = network.get_submodule(reader.layer).bias
        assert isinstance(bias, Tensor)
        bias += constant.to(bias)


class _Equations:
    """Sums over rows of a least squares problem: x x', x y' and y y'."""

    def __init__(self, unknowns: int, dense: Tensor, constant: bool) -> None:
        self.constant = constant
        self.left = torch.zeros(unknowns, unknowns, dtype=torch.double)
        self.right = torch.zeros(unknowns, len(dense), dtype=torch.double)
        self.power, self.count = 0.0, 0

    def add(self, x: Tensor, y: Tensor) -> None:
        self.left += (x.T @ x).cpu()
        self.right += (x.T @ y).cpu()
        self.power += float(y.double().square().sum())
        self.count += len(x)

    def __add__(self, other: "_Equations") -> "_Equations":
        both = copy.deepcopy(self)
        both.left, both.right = self.left + other.left, self.right + other.right
        both.power, both.count = self.power + other.power, self.count + other.count
        return both

    def solution(self, kept: Tensor, ridge: float) -> Tensor:
        """The weights [O, unknowns] that solve it, with a ridge towards `kept`."""
        moments = self.left / max(self.count, 1)
        towards = regularised(moments, ridge, constant=self.constant) - moments
        factor = torch.linalg.cholesky(moments + towards)
        return torch.cholesky_solve(self.right / max(self.count, 1) + towards @ kept.T, factor).T

    def error(self, weights: Tensor) -> float:
        """The mean squared error of weights [O, unknowns] here."""
        explained = (weights @ self.right).diagonal().sum()
        return float(self.power - 2 * explained + ((weights @ self.left) * weights).sum()) / max(self.count, 1)


def _few(whole: GatedNetwork, graph: fx.Graph, size: tuple[int, int], batches: Sequence[Tensor]) -> list[Tensor]:
    """As many images of the size as there is memory for, in batches."""
    one = _Running(whole, graph, size, batches[0][:1], whole.open_decisions(1, size))
    largest = 1
    for node in graph.nodes:
        one.run(node)
        value = one.values.get(node)
        largest = max(largest, value.numel()) if isinstance(value, Tensor) else largest
    return two_at_least(first([x for x in batches if x.shape[2:] == size], max(int(_BYTES / (4 * largest)), 16)))


def first(batches: Iterable[Tensor], images: int) -> list[Tensor]:
    """The first so many images, in batches."""
    found: list[Tensor] = []
    for batch in batches:
        if images > 0:
            found.append(batch[:images])
            images -= len(batch)
    return found
