// A small memory that is read within the clock: what look-up tables hold.
module cg_table #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 64,
    localparam int N = $clog2(DEPTH)
) (
    input  logic             clk,
    input  logic             write,
    input  logic [N-1:0]     to,
    input  logic [WIDTH-1:0] data,
    input  logic [N-1:0]     from,
    output logic [WIDTH-1:0] found
);
    logic [WIDTH-1:0] memory[DEPTH];
    always_ff @(posedge clk) if (write) memory[to] <= data;
    assign found = memory[from];
endmodule
