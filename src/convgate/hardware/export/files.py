"""One image's layers as files of another simulator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from convgate.engine.program import Program
from convgate.errors import InputError
from convgate.hardware.accelerator import Accelerator, require_accelerator
from convgate.hardware.export import accelergy, scalesim, timeloop
from convgate.hardware.export.products import Product, products_of
from convgate.hardware.report import Simulation
from convgate.hardware.simulate import simulate
from convgate.hardware.trace import Trace
from convgate.hardware.workload import Workload

__all__ = ["FORMATS", "export"]


@dataclass(frozen=True, eq=False)
class _Image:
    machine: Accelerator
    dense: list[Product]
    gated: list[Product]
    simulation: Simulation


def export(program: Program, trace: Trace, machine: Accelerator, tool: str, image: int = 0) -> Mapping[str, str]:
    """File name -> text, of one image of a trace, dense and gated.

    Raises `InputError` for an unknown tool, and for an image that the trace does not have.
    """
    require_accelerator(machine)
    if tool not in FORMATS:
        raise InputError(f"there is no export for {tool!r}: known are {', '.join(FORMATS)}")
    if not 0 <= image < trace.images:
        raise InputError(f"the trace has images 0 to {trace.images - 1}, not {image}")
    one = trace.part(image, image + 1)
    workload = Workload.of(one.check(program))
    masks = {gate.name: one.mask(gate.name) for gate in one.gates}
    found = _Image(
        machine,
        products_of(workload.dense(), {}, machine),
        products_of(workload, masks, machine),
        simulate(program, one, machine),
    )
    return FORMATS[tool](found)


def _scalesim(image: _Image) -> dict[str, str]:
    return {
        "scalesim.cfg": scalesim.configuration(image.machine),
        "layout.csv": scalesim.layout(),
        "dense.csv": scalesim.topology(image.dense),
        "gated.csv": scalesim.topology(image.gated),
    }


def _timeloop(image: _Image) -> dict[str, str]:
    found = {}
    for kind, products in (("dense", image.dense), ("gated", image.gated)):
        for number, product in enumerate(products):
            name = product.name.replace("/", "_").replace(":", "_").replace("#", "_")
            found[f"{kind}/{number:03}-{name}.yaml"] = _yaml(timeloop.problem(product))
    return found


def _accelergy(image: _Image) -> dict[str, str]:
    table = image.simulation.energy
    found = {"ERT.yaml": _yaml(accelergy.reference_table(table))}
    for kind, report in (("dense", image.simulation.dense), ("gated", image.simulation.gated)):
        counts = {action: int(n.sum()) for action, n in report.actions.items()}
        found[f"{kind}_action_counts.yaml"] = _yaml(accelergy.action_counts(counts, table))
    return found


FORMATS: Mapping[str, Callable[[Any], dict[str, str]]] = {
    "scalesim": _scalesim,
    "timeloop": _timeloop,
    "accelergy": _accelergy,
}
"""Tool -> what writes its files."""


def _yaml(data: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False)
    return text
