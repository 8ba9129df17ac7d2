"""Files for Timeloop: each product as a problem of version 0.4, of the shape that its `gemm_ABZ.yaml` has.

Source: NVlabs/timeloop, problem-shapes/gemm_ABZ.yaml.
"""

from typing import Any

from convgate.hardware.export.products import Product

__all__ = ["problem"]


def problem(product: Product) -> dict[str, Any]:
    """A product: M positions, N outputs, K inputs times taps."""

    def space(name: str, *dimensions: str) -> dict[str, Any]:
        return {"name": name, "projection": [[[dimension]] for dimension in dimensions]}

    spaces = [space("A", "M", "K"), space("B", "N", "K"), space("Z", "M", "N") | {"read_write": True}]
    return {
        "problem": {
            "version": 0.4,
            "shape": {
                "name": "gemm_ABZ",
                "dimensions": ["M", "N", "K"],
                "data_spaces": spaces,
            },
            "instance": {"M": product.positions, "N": product.width, "K": product.depth},
        }
    }
