// `in`, CLOCKS clocks later.
module cg_delay #(
    parameter int WIDTH = 1,
    parameter int CLOCKS = 1
) (
    input  logic             clk,
    input  logic             rst,
    input  logic [WIDTH-1:0] in,
    output logic [WIDTH-1:0] out
);
    if (CLOCKS == 0) begin : g_none
        assign out = in;
    end else begin : g_some
        logic [CLOCKS*WIDTH-1:0] held;
        always_ff @(posedge clk) held <= rst ? '0 : (CLOCKS*WIDTH)'({held, in});
        assign out = held[CLOCKS*WIDTH-1-:WIDTH];
    end
endmodule
