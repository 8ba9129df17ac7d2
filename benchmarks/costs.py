"""What does work cost here, and what does the runtime take it to cost?

    make costs

builds the program that measures it (`native/benchmarks/costs.cpp`) and gives it to this one, which shows what it says
and writes `results/costs.json`. What is measured is kernels, one thread, mostly on arrays that are in the caches; what
stands in `native/runtime/costs.h` was chosen by the times of whole networks.
"""

import json
import subprocess
import sys
from pathlib import Path

from records import record
from rich.console import Console
from rich.table import Table


def measured(program: Path) -> list[dict[str, object]]:
    """The costs: name, kernels, unit, what stands in the runtime, what was measured (median, p20 and p80)."""
    told = subprocess.run([program], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in told.stdout.splitlines()]


def main(program: Path) -> None:
    """Measure, show and record."""
    console = Console()
    with console.status("measuring, some seconds"):
        costs = measured(program)
    table = Table("cost", "kernels", "unit", "stands", "measured", "p20", "p80")
    for cost in costs:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float | int) else str(value) for value in cost.values()))
    console.print(table)
    console.print(f"written to {record('costs', {'costs': costs})}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make costs, which gives the program that measures")
    main(Path(sys.argv[1]))
