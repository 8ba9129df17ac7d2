"""The two verbs: plan what a method would gate in a model, and gate it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from convgate.cost import Ledger, count_macs, node_macs
from convgate.errors import ConvgateError, InputError, PlanError
from convgate.gated.around import GatedModel, around
from convgate.gated.check import check_gate, check_sites
from convgate.gated.costs import accountable, fill_macs, head_macs, layer_costs, layer_names, uncounted
from convgate.gated.find_part import find_part
from convgate.gated.method import Method
from convgate.gated.network import GatedNetwork
from convgate.gated.plan import Plan, Site
from convgate.gated.skipping import layer_gates
from convgate.gating.heads import Start
from convgate.models import identify
from convgate.models.create import on_meta
from convgate.reading.faithful import check_faithful
from convgate.reading.structure import Feature, Rejected, describe, features
from convgate.reading.trace import Trace, trace
from convgate.reading.tracer import COUNTED_MODULES
from convgate.reading.wrappers import unwrapped

__all__ = ["gate", "plan"]


def plan(model: nn.Module, method: Method, example: Any, *, inside: str | Sequence[str] = ()) -> Plan:
    """What `gate` would do to `model`: every site, gated or skipped and why. The model stays unchanged.

    It can be printed, edited and applied; see `Plan`.

    Args:
        model: a CNN; `torch.fx` must be able to trace it.
        method: e.g. `convgate.DualGating()`.
        example: float images [N, C, H, W] as the model takes them; or whatever else it takes, see `gate`.
        inside: see `gate`.

    Raises:
        TraceError: the model cannot be traced or does not take the example.
        PlanError: an option of the method does not suit the model, or the method's sites contradict each other or the
            model.
        InputError: an argument of the wrong kind, or an example that is not a batch of images.

    """
    return _source(model, method, example, inside).planned()


@torch.inference_mode(False)  # what is created in inference mode can never be trained
def gate(
    model: nn.Module,
    method: Method,
    example: Any,
    *,
    exclude: str | Iterable[str] = (),
    inside: str | Sequence[str] = (),
) -> Any:
    """A gated copy of `model`: same weights, same state-dict keys, and all that is added under `gates.`.

    Takes and raises what `plan` does, and raises `PlanError` when there is nothing to gate. The new network is in the
    model's mode (training or evaluation) and on its device. It can be trained even when it is made within
    `torch.inference_mode()`.

    >>> import convgate, torch
    >>> from convgate.models import create
    >>> model, example = create("cifar_resnet8"), torch.zeros(1, 3, 16, 16)
    >>> net = convgate.gate(model, convgate.DualGating(), example, exclude="layer3")
    >>> [site.name for site in net.plan.sites]
    ['layer1.0', 'layer2.0']

    A detector, which takes a list of images: `convgate.gate(detector, method, [image])`. It is run on the example to
    find its convolutional part (the backbone, and heads that are given what the backbone returns), which is gated; the
    Python around it stays. `net(images, targets)` and `net(images)` are the detector's own.

    Args:
        model: a CNN.
        method: e.g. `convgate.DualGating()`.
        example: float images [N, C, H, W] as the model takes them; or, for a model that has such a part, whatever it
            takes as its one argument.
        exclude: sites to leave alone, by name or by the name of a module that contains them; see `Plan.without`.
        inside: the name or names of the sub-modules that make up the part, if it is not to be the one that is found:
            "backbone.body".

    Returns:
        A `GatedNetwork`; for a model with a part, a `GatedModel`, which is also of the model's class.

    """
    names = [exclude] if isinstance(exclude, str) else list(exclude)
    source = _source(model, method, example, inside)
    planned = source.planned()
    return source.build(planned.without(*names) if names else planned, source.trace)


def _source(model: nn.Module, method: Method, example: Any, inside: str | Sequence[str]) -> "_Source":
    model = _checked(model, method)
    named = (inside,) if isinstance(inside, str) else tuple(inside)
    if isinstance(example, Tensor) and not named:
        return _Source(model, method, example, trace(model, example, block_hooks=True))
    found = find_part(model, example, named)
    return _Source(found.part, method, found.images, found.trace, model, named)


def _checked(model: nn.Module, method: Method) -> nn.Module:
    """The model without wrappers, if it and the method can be used."""
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    model = unwrapped(model)
    if isinstance(model, GatedNetwork | GatedModel):
        raise InputError("the model is gated already; give the one that it was made from")
    if not isinstance(method, Method):
        given = getattr(method, "__name__", type(method).__name__)
        raise InputError(f"the method is {given}; give an instance of a method, e.g. convgate.DualGating()")
    return model


@dataclass(eq=False)
class _Source:
    """What a plan was made from; see `convgate.gated.plan.Source`.

    `whole` is the model that `model` is a part of, asked for by `inside`.
    """

    model: nn.Module
    method: Method
    example: Tensor
    trace: Trace
    whole: nn.Module | None = None
    inside: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The model's class."""
        return type(self.model if self.whole is None else self.whole).__name__

    @property
    def name(self) -> str:
        """The method's, for errors."""
        return type(self.method).__name__

    @cached_property
    def macs(self) -> dict[str, int]:
        """What each node costs, with every gate open."""
        return node_macs(self.trace)

    @cached_property
    def features(self) -> list[Feature]:
        """The features that channel gates may be for."""
        return features(self.trace)[0]

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        """Errors of the method's own code, with its name; those that say what to do pass as they are."""
        try:
            yield
        except ConvgateError:
            raise
        except Exception as error:
            raise PlanError(
                f"{self.name}: {what} fails for this {self.title} with {type(error).__name__}: {error}"
            ) from error

    def planned(self) -> Plan:
        """The plan of all the method's sites."""
        with self._naming("sites()"):
            sites, skipped = self.method.sites(self.trace)
        return self.plan(sites, skipped)

    def plan(self, sites: Sequence[Site], skipped: Sequence[Rejected]) -> Plan:
        traced, method = self.trace, self.method
        trunk = on_meta(lambda: method.trunk(traced.example))
        check_sites(self.name, sites, traced, has_trunk=trunk is not None)
        heads = {}
        for site in sites:
            for spec in site.gates:
                with self._naming(f"gate() of '{spec.name}', site '{site.name}',"):
                    gate = on_meta(lambda spec=spec: method.gate(spec))  # type: ignore[misc]
                check_gate(self.name, site.name, spec, gate)
                heads[spec.name] = gate.head
        names = layer_names(traced, self.macs)
        kept, unaccountable = accountable(traced, self.macs, sites, self.features)
        gates = {} if trunk is None else {"trunk": count_macs(trunk, traced.example[1:])}
        gates |= {spec.name: head_macs(spec, heads[spec.name]) for site in kept for spec in site.gates}
        layers = layer_costs(traced, self.macs, names, layer_gates(traced, kept, self.features))
        rejected = [*skipped, *unaccountable]
        return Plan(
            model=self.title,
            spec=identify(self.model if self.whole is None else self.whole),
            method=method.describe(),
            example=traced.example,
            sites=tuple(kept),
            skipped=(*rejected, *unlisted(traced, names, kept, rejected)),
            ledger=Ledger(layers, gates, uncounted(traced, self.macs), fill_macs(kept)),
            layer_names=names,
            fingerprint=traced.fingerprint(),
            starts={spec.name: start for site in kept for spec in site.gates if (start := _start(heads[spec.name]))},
            source=self,
        )

    def apply(self, plan: Plan) -> nn.Module:
        # Traced again: a network takes over the copy that was traced, with the weights of this moment.
        traced = trace(self.model, self.example, block_hooks=True)
        if traced.fingerprint() != plan.fingerprint:
            raise PlanError(f"{plan.model} has changed since it was planned; plan it again")
        return self.build(plan, traced)

    def build(self, plan: Plan, traced: Trace) -> nn.Module:
        """The network of a plan, which takes over `traced`, in the model that it is a part of."""
        if not plan.sites:
            raise PlanError(f"{self.name} finds nothing to gate in {plan.model}:\n{plan}")
        check_faithful(traced, plan.ledger.dense)
        network = GatedNetwork(traced, plan.detached(), self.method)
        parameter = next(self.model.parameters(), None)
        if parameter is not None:
            network.convgate.to(parameter.device, parameter.dtype)
        return network if self.whole is None else around(self.whole, network, self.inside)


def unlisted(
    traced: Trace, names: Mapping[str, str], sites: Sequence[Site], skipped: Sequence[Rejected]
) -> list[Rejected]:
    """The layers on the ledger that are neither in a site nor among what the method skipped, and why they are not."""
    listed = {names[conv] for site in sites for conv in site.convs} | {rejected.name for rejected in skipped}
    found = []
    for node, name in names.items():
        if name in listed:
            continue
        if traced.convolution(traced.node(node)) is not None:
            reason = "is a part of nothing that this method gates"
        else:
            reason = _not_a_layer(traced, traced.node(node))
        found.append(Rejected(name, reason))
    return found


def _not_a_layer(traced: Trace, node: fx.Node) -> str:
    """Why gates skip nothing of a node that multiplies and is no `nn.Conv2d`."""
    layer = traced.layer(node)
    what = f"is {_article(describe(traced, node))}, and gates skip the work of Conv2d layers alone"
    if isinstance(node.target, torch._ops.OpOverload):
        return f"{what}; give the model itself, not what torch.export made of it"
    if layer is None and "conv" in str(getattr(node.target, "__name__", node.target)):
        return f"{what}; write it as a layer, nn.Conv2d, that holds its weight"
    if layer is not None and not isinstance(layer, COUNTED_MODULES):
        return f"{what}; what it computes by functions can be gated where it is written with layers"
    return what


def _article(what: str) -> str:
    return f"{'an' if what[:1].lower() in 'aeiou' else 'a'} {what}"


def _start(head: nn.Module) -> Start | None:
    start = getattr(head, "start", None)
    return start if isinstance(start, Start) else None
