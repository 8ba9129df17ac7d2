// (value * multiplier + 2^(shift - 1)) >> shift, in two clocks: the product, then what is left of it, which is held within
// 24 bits. That keeps every result exact: what is added to it has at most 23, and limits of 8 bits follow.
module cg_bring #(
    parameter int WIDTH = 32
) (
    input  logic                    clk,
    input  logic signed [WIDTH-1:0] value,
    input  logic signed [15:0]      multiplier, // of either sign: what follows partial sums may turn theirs
    input  logic [5:0]              shift,
    output logic signed [23:0]      brought
);
    logic signed [WIDTH+15:0] product, half, rounded;
    logic [5:0]               by;
    assign half    = (WIDTH+16)'(64'd1 << (by - 6'd1));
    assign rounded = (product + half) >>> by;
    always_ff @(posedge clk) begin
        product <= value * multiplier;
        by      <= shift;
        if (rounded > (WIDTH+16)'(32'sd8388607)) brought <= 24'sd8388607;
        else if (rounded < -(WIDTH+16)'(32'sd8388608)) brought <= -24'sd8388608;
        else brought <= 24'(rounded);
    end
endmodule
