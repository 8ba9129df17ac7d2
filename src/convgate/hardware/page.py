"""The hardware page: one self-contained HTML file of what a simulation found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convgate.files import write_text
from convgate.hardware import curves, figures
from convgate.hardware.area import ArrayArea
from convgate.hardware.fragmentation import FRAGMENTATION_IMAGES, Grouped
from convgate.hardware.layer_figure import cycles_by_layer
from convgate.hardware.report import Simulation, Spread
from convgate.hardware.roofline import roofline
from convgate.hardware.table import layers, summary
from convgate.pages import page_template

__all__ = ["write_page"]


def write_page(
    path: str | Path,
    simulation: Simulation,
    *,
    title: str,
    sweep: Sequence[dict[str, Any]] = (),
    groups: Sequence[Grouped] = (),
    area: ArrayArea | None = None,
) -> None:
    """Write the page to `path`, complete or not at all.

    Args:
        path: of the HTML file.
        simulation: what `convgate.hardware.simulate` found.
        title: heading of the page: the network.
        sweep: rows of `convgate.hardware.sweep.row_of`, for the figure of several machines.
        groups: what `convgate.hardware.fragmentation.fragmentation` found; () says that there are no channels to group.
        area: what the array takes of a chip, see `convgate.hardware.area.area_of`.

    """
    gated = simulation.gated
    context = {
        "title": title,
        "machine": simulation.machine,
        "images": simulation.images,
        "speedup": Spread.of(simulation.speedup),
        "macs_cut": Spread.of(simulation.macs_cut),
        "realised": Spread.of(simulation.realised),
        "heads": float(gated.by_line[:, gated.heads].sum() / gated.by_line.sum()),
        "speed": figures.speedup_by_macs(simulation),
        "causes": figures.cycles_by_cause(simulation),
        "traffic": figures.traffic_by_tensor(simulation),
        "roofline": roofline(simulation),
        "layers": cycles_by_layer(simulation),
        "sweep": curves.sweep_curves(sweep) if sweep else None,
        "groups": groups,
        "grouped_images": min(simulation.images, FRAGMENTATION_IMAGES),
        "added": curves.added_by_groups(groups) if groups else None,
        "grouped": curves.realised_by_groups(groups) if groups else None,
        "area": area,
        "summary": summary(simulation),
        "steps": layers(simulation),
    }
    template = page_template(Path(__file__).parent / "templates" / "hardware.html.j2")
    write_text(path, template.render(context))
