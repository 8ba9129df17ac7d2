"""Files for SCALE-Sim 3: a configuration and topologies of matrix products (`-i gemm`).

What its loader wants, and says nowhere: the last field of every row is dropped, so rows end in a comma; a name with
"DP" in it stands for a depthwise layer, whatever the layer is; the layout's file must be there, though it is not used.
Source: scalesim 3.0.0, `topology_utils.py` and `scale_config.py`.
"""

from collections.abc import Sequence
from typing import Any

from convgate.hardware.accelerator import Accelerator
from convgate.hardware.export.products import Product

__all__ = ["configuration", "layout", "topology"]


def topology(products: Sequence[Product]) -> str:
    """The rows name, M, N, K: positions, width and depth."""
    rows = [f"{_name(p.name)},{p.positions},{p.width},{p.depth},\n" for p in products]
    return "Layer,M,N,K,\n" + "".join(rows)


def layout() -> str:
    """A table of layouts without any."""
    return "Layer,\n"


def configuration(machine: Accelerator) -> str:
    """The machine, as far as SCALE-Sim knows it; bandwidth is calculated, so that nothing stalls."""
    sections: dict[str, dict[str, Any]] = {
        "general": {"run_name": machine.name},
        "architecture_presets": {
            "ArrayHeight": machine.rows,
            "ArrayWidth": machine.columns,
            "IfmapSramSzkB": machine.input_buffer_kib,
            "FilterSramSzkB": machine.weight_buffer_kib,
            "OfmapSramSzkB": machine.sum_buffer_kib,
            "IfmapOffset": 0,
            "FilterOffset": 10_000_000,
            "OfmapOffset": 20_000_000,
            "Dataflow": machine.dataflow,
            "Bandwidth": machine.dram_bytes_per_cycle,
            "ReadRequestBuffer": 64,
            "WriteRequestBuffer": 64,
        },
        "layout": {
            f"{tensor}{field}": value
            for tensor in ("Ifmap", "Filter")
            for field, value in (
                ("CustomLayout", False),
                ("SRAMBankBandwidth", 10),
                ("SRAMBankNum", 10),
                ("SRAMBankPort", 2),
            )
        },
        "sparsity": {"SparsitySupport": False},
        "run_presets": {"InterfaceBandwidth": "CALC", "UseRamulatorTrace": False},
    }
    lines = []
    for section, fields in sections.items():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in fields.items()), ""]
    return "\n".join(lines)


def _name(name: str) -> str:
    return name.replace("DP", "Dp").replace(",", "_")
