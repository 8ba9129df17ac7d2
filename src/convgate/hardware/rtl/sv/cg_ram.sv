// A memory with one port for writing and one for reading; what is read appears in the next clock, and stays without `read`.
module cg_ram #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 1024,
    localparam int N = $clog2(DEPTH)
) (
    input  logic             clk,
    input  logic             write,
    input  logic [N-1:0]     to,
    input  logic [WIDTH-1:0] data,
    input  logic             read,
    input  logic [N-1:0]     from,
    output logic [WIDTH-1:0] found
);
    logic [WIDTH-1:0] memory[DEPTH];
    always_ff @(posedge clk) begin
        if (write) memory[to] <= data;
        if (read) found <= memory[from];
    end
endmodule
