"""Self-contained HTML pages from templates, which look alike; a missing name is an error, and text is escaped."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["page_template", "svg_uri"]


def page_template(path: Path) -> "Template":
    """A Jinja template, which may extend `base.html.j2`.

    In it `share | percent(digits)` writes a share, and `svg | svg_uri` embeds a figure.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([path.parent, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=1: f"{share:.{digits}%}"
    environment.filters["svg_uri"] = svg_uri
    return environment.get_template(path.name)


def svg_uri(svg: str) -> str:
    """A data URI of an SVG document.

    >>> svg_uri("<svg/>")
    'data:image/svg+xml;base64,PHN2Zy8+'
    """
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
