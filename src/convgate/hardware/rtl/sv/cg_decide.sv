// Partial sums are decided on as they leave the array: which columns are completed, at which positions.
//
// Neighbouring columns that share a decision have one threshold: their sums are added from column to column, and their last
// one compares. Of the positions at which any column is open a list is kept, for two blocks of columns in turn, with how
// many are; and each column's decision, for when its sum is complete.
module cg_decide #(
    parameter int COLUMNS = 4,
    parameter int S = 32,
    parameter int SUMS = 1024,       // positions of two blocks
    parameter int BLOCKS = 64,
    localparam int NS = $clog2(SUMS),
    localparam int NB = $clog2(BLOCKS)
) (
    input  logic                      clk,
    input  logic                      rst,
    input  logic                      begin_step,
    input  logic                      write,        // of a column of a block: in use, the last of its unit, threshold
    input  logic [15:0]               write_block,
    input  logic [7:0]                write_lane,
    input  logic [33:0]               write_data,
    input  logic                      deciding,     // on `sum`, of this block of columns at this position
    input  logic [15:0]               block,
    input  logic [15:0]               rank,
    input  logic                      ends,         // it is the block's last position
    input  logic [COLUMNS-1:0][S-1:0] sum,
    output logic [COLUMNS-1:0]        open,
    input  logic [NS-1:0]             kept_from,
    output logic [COLUMNS-1:0]        kept,         // what was decided
    input  logic [NS-1:0]             list_from,
    output logic [15:0]               list_rank,
    output logic [7:0]                list_columns, // of them that are open there
    output logic [1:0][15:0]          counts,       // positions on the list, of even and of odd blocks
    output logic [15:0]               decided,      // blocks of which all is decided
    output logic                      fetch,        // the last of them was just now, and is to be completed
    output logic [15:0]               fetch_block
);
    logic [COLUMNS-1:0]        used, last, above;
    logic [COLUMNS-1:0][S-1:0] threshold;
    logic [S-1:0]              run;          // of a unit's sums, so far
    logic                      unit;
    logic [15:0]               listed, in_all;
    logic [7:0]                amount;

    for (genvar c = 0; c < COLUMNS; c++) begin : g_column
        cg_table #(.WIDTH(34), .DEPTH(BLOCKS)) thresholds (
            .clk, .write(write && write_lane == 8'(c)), .to(NB'(write_block)), .data(write_data),
            .from(NB'(block)), .found({used[c], last[c], threshold[c]})
        );
    end
    always_comb begin
        run    = '0;
        unit   = 1'b0;
        amount = '0;
        for (int c = 0; c < COLUMNS; c++) begin
            run      = run + sum[c];
            above[c] = $signed(run + threshold[c]) > 0;
            if (last[c]) run = '0;
        end
        for (int c = COLUMNS - 1; c >= 0; c--) begin
            if (last[c]) unit = above[c];
            open[c] = used[c] && unit;
            amount  = amount + 8'(open[c]);
        end
    end

    assign listed = rank == '0 ? '0 : counts[block[0]];
    assign in_all = listed + 16'(open != '0);
    cg_ram #(.WIDTH(COLUMNS), .DEPTH(SUMS)) decisions (
        .clk, .write(deciding), .to({block[0], rank[NS-2:0]}), .data(open), .read(1'b1), .from(kept_from), .found(kept)
    );
    cg_ram #(.WIDTH(24), .DEPTH(SUMS)) list (
        .clk, .write(deciding && open != '0), .to({block[0], listed[NS-2:0]}), .data({amount, rank}),
        .read(1'b1), .from(list_from), .found({list_columns, list_rank})
    );
    always_ff @(posedge clk) begin
        fetch       <= !rst && deciding && ends && in_all != '0;
        fetch_block <= block;
        if (rst || begin_step) decided <= '0;
        else if (deciding) begin
            counts[block[0]] <= in_all;
            decided          <= decided + 16'(ends);
        end
    end
endmodule
