// `clk` while `on`, which may change after its rising edge. On a device, its own cell for this takes the place.
module cg_clock (
    input  logic clk,
    input  logic on,
    output logic gated
);
    logic held;
    always_latch if (!clk) held = on;
    assign gated = clk & held;
endmodule
