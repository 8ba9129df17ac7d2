"""yosys reads the sources, and what it counts is counted right."""

import pytest

from convgate.errors import ConvgateError, InputError, MissingDependencyError
from convgate.hardware import accelerator
from convgate.hardware.rtl.synth import area, areas
from convgate.hardware.rtl.tools import yosys


@pytest.fixture
def sources(tmp_path):
    """A module in which everything can be counted by hand, twice."""
    try:
        yosys()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    path = tmp_path / "small.sv"
    path.write_text("""
        module cg_pe #(parameter int W = 4) (
            input logic clk, write, input logic [3:0] to, from, input logic [W-1:0] a, b, output logic [2*W-1:0] y,
            output logic [W-1:0] later, now
        );
            logic [W-1:0] sync[16], table_[8];
            always_ff @(posedge clk) begin
                if (write) begin sync[to] <= a; table_[to[2:0]] <= b; end
                later <= sync[from];
                y <= a * b;
            end
            assign now = table_[from[2:0]] ^ a;
        endmodule
        module two #(parameter int W = 4) (
            input logic clk, write, input logic [3:0] to, from, input logic [W-1:0] a, b, c,
            output logic [2*W-1:0] y, z, output logic [W-1:0] l, m, n, o
        );
            cg_pe #(.W(W)) one (.clk, .write, .to, .from, .a, .b, .y, .later(l), .now(m));
            cg_pe #(.W(W)) other (.clk, .write, .to, .from, .a(b), .b(c), .y(z), .later(n), .now(o));
        endmodule""")
    return [path]


def test_every_kind_is_counted_and_modules_as_often_as_they_are_there(sources):
    found = area("two", {"W": 5}, sources)
    assert found.multipliers == 2
    assert found.memory_bits == 2 * 16 * 5
    assert found.table_bits == 2 * 8 * 5
    assert found.registers == 2 * 10  # of the products: what memories answer is held in them
    assert found.luts == 2 * 5


def test_what_yosys_cannot_do_is_told(sources):
    sources[0].write_text("module two (input logic a, output logic b); assign b = nowhere; nonsense endmodule")
    with pytest.raises(ConvgateError, match="could not read two"):
        area("two", {}, sources)
    with pytest.raises(ConvgateError, match="did not end within 0 s"):
        area("two", {}, sources, seconds=0.01)


def test_machines_that_the_rtl_has_no_form_for_are_refused():
    with pytest.raises(InputError, match="rows is 300, and may be 255 at most"):
        next(areas(accelerator("dgnet-ultra96", rows=300)))
