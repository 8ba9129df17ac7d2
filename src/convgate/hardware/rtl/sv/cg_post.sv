// From sums to results, for all columns at once: bias, scale, what is added, limits. Six clocks after the array.
//
// The sums' memory is read, added to and written in one pass; with the last part of a sum, the result goes on to the
// output buffer, in which what is added to it lies already.
module cg_post #(
    parameter int COLUMNS = 4,
    parameter int S = 32,
    parameter int SUMS = 1024,       // positions of which sums are kept
    parameter int OUTPUTS = 4096,    // of the output buffer: positions of all blocks of columns
    parameter int BLOCKS = 64,       // of columns
    localparam int NS = $clog2(SUMS),
    localparam int NO = $clog2(OUTPUTS),
    localparam int NB = $clog2(BLOCKS)
) (
    input  logic                      clk,
    input  logic                      rst,
    input  logic                      soon,       // in the next clock, sums leave the array:
    input  logic [15:0]               soon_rank,  // those of this position
    input  logic                      soon_first,
    input  logic                      soon_last,
    input  logic                      soon_end,
    input  logic [15:0]               soon_block,
    input  logic [15:0]               soon_base,
    input  logic [COLUMNS-1:0][S-1:0] sum,
    input  logic                      raw,
    input  logic                      added,
    input  logic                      added_signed,
    input  logic [14:0]               add_multiplier,
    input  logic [5:0]                add_shift,
    input  logic signed [9:0]         low,
    input  logic signed [9:0]         high,
    input  logic                      lane_write,   // bias, multiplier and shift of a column
    input  logic [7:0]                lane,
    input  logic [15:0]               lane_block,
    input  logic [52:0]               lane_data,
    input  logic                      buffer_write, // what is added
    input  logic [7:0]                buffer_bank,
    input  logic [15:0]               buffer_to,
    input  logic [7:0]                buffer_data,
    input  logic                      outside,      // the output buffer is read from outside
    input  logic [15:0]               outside_from,
    output logic [COLUMNS-1:0][7:0]   outside_found,
    output logic [COLUMNS-1:0][S-1:0] outside_sums,
    output logic                      finished      // the last result of the step is written
);
    typedef struct packed {
        logic        valid, first, last, finish;
        logic [15:0] rank, block, to;
    } tag_t;
    tag_t at_sum, at_total, at_product, at_shift, at_result;

    logic [NS-1:0] sums_from;
    assign sums_from = outside ? NS'(outside_from) : NS'(raw ? soon_base + soon_rank : soon_rank);
    always_ff @(posedge clk) begin
        if (rst) begin
            {at_sum, at_total, at_product, at_shift, at_result} <= '0;
        end else begin
            at_sum     <= {soon, soon_first, soon_last, soon_end, soon_rank, soon_block, soon_base + soon_rank};
            at_total   <= at_sum;
            at_product <= at_total;
            at_shift   <= at_product;
            at_result  <= at_shift;
        end
    end
    assign finished = at_result.valid && at_result.finish;

    for (genvar c = 0; c < COLUMNS; c++) begin : g_column
        logic signed [S-1:0] kept, total, bias, total_q;
        logic [14:0]         multiplier;
        logic [5:0]          shift;
        logic signed [23:0]  scaled, more;
        logic [7:0]          buffered, result;
        logic signed [8:0]   operand;
        logic signed [24:0]  whole;
        logic signed [9:0]   limited;

        cg_ram #(.WIDTH(S), .DEPTH(SUMS)) sums (
            .clk, .write(at_sum.valid), .to(NS'(raw ? at_sum.to : at_sum.rank)), .data(total),
            .from(sums_from), .found(kept)
        );
        cg_table #(.WIDTH(S), .DEPTH(BLOCKS)) biases (
            .clk, .write(lane_write && lane == 8'(c)), .to(NB'(lane_block)), .data(lane_data[31:0]),
            .from(NB'(at_sum.block)), .found(bias)
        );
        cg_table #(.WIDTH(21), .DEPTH(BLOCKS)) scales (
            .clk, .write(lane_write && lane == 8'(c)), .to(NB'(lane_block)), .data(lane_data[52:32]),
            .from(NB'(at_total.block)), .found({shift, multiplier})
        );
        assign total = (at_sum.first ? bias : kept) + $signed(sum[c]);
        always_ff @(posedge clk) total_q <= total;

        cg_bring #(.WIDTH(S)) bring (.clk, .value(total_q), .multiplier, .shift, .brought(scaled));

        cg_ram #(.WIDTH(8), .DEPTH(OUTPUTS)) buffer (
            .clk,
            .write(buffer_write ? buffer_bank == 8'(c) : at_result.valid && at_result.last && !raw),
            .to(NO'(buffer_write ? buffer_to : at_result.to)), .data(buffer_write ? buffer_data : result),
            .from(NO'(outside ? outside_from : at_sum.to)), .found(buffered)
        );
        assign operand = {added_signed && buffered[7], buffered};
        cg_bring #(.WIDTH(9)) bring_added (
            .clk, .value(operand), .multiplier(add_multiplier), .shift(add_shift), .brought(more)
        );

        // One clock for the sum and its limits.
        assign whole   = 25'(scaled) + (added ? 25'(more) : 25'sd0);
        assign limited = whole < 25'(low) ? low : whole > 25'(high) ? high : 10'(whole);
        always_ff @(posedge clk) result <= limited[7:0];
        assign outside_found[c] = buffered;
        assign outside_sums[c]  = kept;
    end
endmodule
