// What a machine without an index module has in its place: all positions of the output, row by row.
module cg_raster (
    input  logic        clk,
    input  logic        rst,
    input  logic        start,
    input  logic [15:0] height,
    input  logic [15:0] width,
    output logic        there,
    output logic [15:0] row,
    output logic [15:0] column,
    input  logic        next
);
    always_ff @(posedge clk) begin
        if (rst) there <= 1'b0;
        else if (start) begin
            there <= 1'b1;
            {row, column} <= '0;
        end else if (there && next) begin
            column <= column + 16'd1;
            if (column + 16'd1 == width) begin
                column <= '0;
                row    <= row + 16'd1;
                if (row + 16'd1 == height) there <= 1'b0;
            end
        end
    end
endmodule
