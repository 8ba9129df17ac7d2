// ROWS x COLUMNS processing elements. Row r's activations arrive r clocks late, column c's weights c clocks late; the sums
// of column c leave ROWS + c clocks after row 0 got the activation.
module cg_array #(
    parameter int ROWS = 4,
    parameter int COLUMNS = 4,
    parameter int A = 9,
    parameter int W = 8,
    parameter int S = 32
) (
    input  logic                      clk,
    input  logic                      rst,
    input  logic [ROWS-1:0]           a_valid,
    input  logic [ROWS-1:0]           a_flip,
    input  logic [ROWS-1:0][A-1:0]    a,
    input  logic [COLUMNS-1:0]        w_valid,
    input  logic [COLUMNS-1:0][W-1:0] w,
    output logic [COLUMNS-1:0][S-1:0] sum
);
    logic [ROWS-1:0][COLUMNS:0]           av, af;
    logic [ROWS-1:0][COLUMNS:0][A-1:0]    ad;
    logic [ROWS:0][COLUMNS-1:0]           wv;
    logic [ROWS:0][COLUMNS-1:0][W-1:0]    wd;
    logic [ROWS:0][COLUMNS-1:0][S-1:0]    sd;

    for (genvar r = 0; r < ROWS; r++) begin : g_row
        assign av[r][0] = a_valid[r];
        assign af[r][0] = a_flip[r];
        assign ad[r][0] = a[r];
        for (genvar c = 0; c < COLUMNS; c++) begin : g_column
            cg_pe #(.A(A), .W(W), .S(S)) pe (
                .clk, .rst,
                .a_valid(av[r][c]), .a_flip(af[r][c]), .a(ad[r][c]),
                .w_valid(wv[r][c]), .w(wd[r][c]), .sum(sd[r][c]),
                .a_valid_q(av[r][c+1]), .a_flip_q(af[r][c+1]), .a_q(ad[r][c+1]),
                .w_valid_q(wv[r+1][c]), .w_q(wd[r+1][c]), .sum_q(sd[r+1][c])
            );
        end
    end
    assign wv[0] = w_valid;
    assign wd[0] = w;
    assign sd[0] = '0;
    assign sum   = sd[ROWS];
`ifdef VERILATOR
    always_ff @(posedge clk) if (!rst) assert (wv[ROWS] == '0) else $error("a weight fell out of the array");
`endif
endmodule
