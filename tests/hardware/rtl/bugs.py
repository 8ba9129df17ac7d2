"""Bugs put into copies of the RTL: each is on if its number stands in the upper bits of a step's flags."""

import dataclasses

from convgate.hardware.rtl import Model, registers
from convgate.hardware.rtl.sources import sources

_BUG = "(cg_top.written_d[14][31:28] == 4'd{})"

LAYER_BUGS = {
    "a fold's first activation does not bring its weights": (
        "cg_pe.sv", "now     = a_flip ?", "now     = a_flip && !{} ?"
    ),
    "a weight stays from the fold before": ("cg_pe.sv", "(full ? shadow : '0)", "(full || {} ? shadow : '0)"),
    "the last position of a fold is left out": (
        "cg_folds.sv", "start ? count - 16'd1", "start ? count - 16'd1 - 16'({} && count != 16'd1)"
    ),
    "an input channel goes into the wrong bank": (
        "cg_load.sv", "bank + 8'd1 == 8'(ROWS)", "bank + 8'd1 == 8'(ROWS) - 8'({})"
    ),
    "results are not limited from above": ("cg_post.sv", "whole > 25'(high) ? high", "whole > 25'(high) && !{} ? high"),
    "halves are rounded down": ("cg_bring.sv", "half    = (WIDTH+16)'(", "half    = {} ? '0 : (WIDTH+16)'("),
    "sums are added to before they are written": ("cg_folds.sv", ">= SUM_LATENCY", ">= ({} ? 0 : SUM_LATENCY)"),
    "empty words of a mask cost nothing": ("cg_index.sv", "nothing   = scanning", "nothing   = scanning && !{}"),
}  # fmt: skip
PARTIAL_BUGS = {
    "sums that reach their threshold are completed": (
        "cg_decide.sv", "$signed(run + threshold[c]) > 0", "$signed(run + threshold[c]) > -$signed(32'({}))"
    ),
    "what is closed is completed, too": (
        "cg_post.sv", "at_sum.rest ? kept_open", "at_sum.rest ? kept_open | {COLUMNS{{}}}"
    ),
    "the array goes on while weights of a completion are loaded": ("cg_top.sv", ".on(!hold ||", ".on(!hold || {} ||"),
    "weights of other columns count as words": (
        "cg_top.sv", ".words_weights(to_valid &&", ".words_weights((to_valid || (to_clear && {})) &&"
    ),
}  # fmt: skip
BUGS = {**LAYER_BUGS, **PARTIAL_BUGS}


def with_bugs(folder):
    """Copies of the sources in which every bug can be switched on."""
    texts = {path.name: path.read_text() for path in sources()}
    for number, (name, before, after) in enumerate(BUGS.values(), 1):
        assert texts[name].count(before) == 1, before
        texts[name] = texts[name].replace(before, after.replace("{}", _BUG.format(number)))
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / path.name for path in sources()]


@dataclasses.dataclass(eq=False)
class Buggy(Model):
    """A model of sources with bugs, of which number `bug` is on; 0 for none."""

    bug: int = 0

    def run(self, job):
        flags = registers()["FLAGS"]
        writes = [(w, to, data | self.bug << 28 if (w, to) == (0, flags) else data) for w, to, data in job.writes]
        return super().run(dataclasses.replace(job, writes=writes, most_clocks=1 << 20))
