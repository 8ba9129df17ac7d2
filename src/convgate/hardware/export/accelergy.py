"""Files for Accelergy: how often each action happens, and the energies of the table that the machine names.

Source: Accelergy, action counts and energy reference tables of version 0.4.
"""

from collections.abc import Mapping
from typing import Any

from convgate.hardware.energy import EnergyTable

__all__ = ["action_counts", "reference_table"]


def action_counts(counts: Mapping[str, int], table: EnergyTable) -> dict[str, Any]:
    """Counts by component and action, of the actions that the table has an energy for."""
    local = [
        {"name": _component(action), "action_counts": [{"name": _verb(action), "counts": count}]}
        for action, count in counts.items()
        if action in table.picojoules
    ]
    return {"action_counts": {"version": 0.4, "local": local}}


def reference_table(table: EnergyTable) -> dict[str, Any]:
    """Energies in pJ by component and action."""
    tables = [
        {"name": _component(action), "actions": [{"name": _verb(action), "arguments": {}, "energy": energy}]}
        for action, energy in table.picojoules.items()
    ]
    return {"ERT": {"version": 0.4, "tables": tables}}


def _component(action: str) -> str:
    return f"convgate.{action}"


def _verb(action: str) -> str:
    ending = action.rpartition("_")[2]
    return ending if ending in ("read", "write") else "compute"
