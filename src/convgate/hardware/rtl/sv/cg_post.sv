// From sums to results, for all columns at once: bias, scale, what is added, limits. Six clocks after the array.
//
// Partial sums (`completed`) become results where nothing is open, and stay where something is; there, the last of their
// completion does. Two blocks of columns are under way at a time, each with its half of the sums' memory.
//
// The sums' memory is read, added to and written in one pass; with the last part of a sum, the result goes on to the
// output buffer, in which what is added to it lies already.
module cg_post #(
    parameter int COLUMNS = 4,
    parameter int S = 32,
    parameter int SUMS = 1024,       // positions of which sums are kept
    parameter int OUTPUTS = 4096,    // of the output buffer: positions of all blocks of columns
    parameter int BLOCKS = 64,       // of columns
    parameter bit PARTIAL = 1,       // there are partial sums
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
    input  logic                      soon_rest,  // of a completion
    input  logic [15:0]               soon_block,
    input  logic [15:0]               soon_base,
    input  logic [COLUMNS-1:0][S-1:0] sum,
    input  logic                      raw,
    input  logic                      completed,
    input  logic                      added,
    input  logic                      added_signed,
    input  logic [15:0]               add_multiplier,
    input  logic [5:0]                add_shift,
    input  logic signed [9:0]         low,
    input  logic signed [9:0]         high,
    input  logic                      lane_write,   // bias, multiplier and shift of a column
    input  logic [7:0]                lane,
    input  logic [15:0]               lane_block,
    input  logic [53:0]               lane_data,
    input  logic                      rest_write,   // what is added to a completion's sum, its multiplier and shift
    input  logic [7:0]                rest_lane,
    input  logic [15:0]               rest_block,
    input  logic [53:0]               rest_data,
    input  logic                      buffer_write, // what is added
    input  logic [7:0]                buffer_bank,
    input  logic [15:0]               buffer_to,
    input  logic [7:0]                buffer_data,
    input  logic                      outside,      // the output buffer is read from outside
    input  logic [15:0]               outside_from,
    output logic [COLUMNS-1:0][7:0]   outside_found,
    output logic [COLUMNS-1:0][S-1:0] outside_sums,
    output logic                      deciding,     // on these sums, of this block at this position
    output logic [15:0]               deciding_block,
    output logic [15:0]               deciding_rank,
    output logic [COLUMNS-1:0][S-1:0] deciding_sums,
    input  logic [COLUMNS-1:0]        decided_open,
    output logic [NS-1:0]             kept_from,
    input  logic [COLUMNS-1:0]        kept_open,    // what was decided on the sums that are completed
    output logic                      ready         // one more position's results are there
);
    typedef struct packed {
        logic        valid, first, last, rest;
        logic [15:0] rank, block, to;
    } tag_t;
    tag_t at_sum, at_total, at_product, at_shift, at_result;

    logic [COLUMNS-1:0] now, at_total_now, at_product_now, at_shift_now, at_result_now;
    assign deciding       = completed && at_sum.valid && at_sum.last && !at_sum.rest;
    assign deciding_block = at_sum.block;
    assign deciding_rank  = at_sum.rank;
    assign now            = !at_sum.last || raw ? '0 : !completed ? '1 : at_sum.rest ? kept_open : ~decided_open;

    // Sums of every second block lie in the upper half.
    function automatic logic [NS-1:0] place(input logic [15:0] rank, input logic [15:0] to, input logic odd);
        place = NS'(raw ? to : rank) | {completed && odd, (NS-1)'(0)};
    endfunction
    logic [NS-1:0] sums_from;
    assign kept_from = place(soon_rank, soon_base + soon_rank, soon_block[0]);
    assign sums_from = outside ? NS'(outside_from) : kept_from;
    always_ff @(posedge clk) begin
        if (rst) begin
            {at_sum, at_total, at_product, at_shift, at_result} <= '0;
        end else begin
            at_sum     <= {soon, soon_first, soon_last, soon_rest, soon_rank, soon_block, soon_base + soon_rank};
            at_total   <= at_sum;
            at_product <= at_total;
            at_shift   <= at_product;
            at_result  <= at_shift;
        end
        {at_total_now, at_product_now, at_shift_now, at_result_now} <= {now, at_total_now, at_product_now, at_shift_now};
    end
    assign ready = at_result.valid;

    for (genvar c = 0; c < COLUMNS; c++) begin : g_column
        logic signed [S-1:0] kept, total, bias, more_bias, total_q;
        logic [15:0]         multiplier, plain_multiplier, rest_multiplier;
        logic [5:0]          shift, plain_shift, rest_shift;
        logic signed [23:0]  scaled, more;
        logic [7:0]          buffered, result;
        logic signed [8:0]   operand;
        logic signed [24:0]  whole;
        logic signed [9:0]   limited;

        cg_ram #(.WIDTH(S), .DEPTH(SUMS)) sums (
            .clk, .write(at_sum.valid), .to(place(at_sum.rank, at_sum.to, at_sum.block[0])), .data(total),
            .read(1'b1), .from(sums_from), .found(kept)
        );
        cg_table #(.WIDTH(S), .DEPTH(BLOCKS)) biases (
            .clk, .write(lane_write && lane == 8'(c)), .to(NB'(lane_block)), .data(lane_data[31:0]),
            .from(NB'(at_sum.block)), .found(bias)
        );
        cg_table #(.WIDTH(22), .DEPTH(BLOCKS)) scales (
            .clk, .write(lane_write && lane == 8'(c)), .to(NB'(lane_block)), .data(lane_data[53:32]),
            .from(NB'(at_total.block)), .found({plain_shift, plain_multiplier})
        );
        if (PARTIAL) begin : g_partial
            cg_table #(.WIDTH(S), .DEPTH(BLOCKS)) rest_biases (
                .clk, .write(rest_write && rest_lane == 8'(c)), .to(NB'(rest_block)), .data(rest_data[31:0]),
                .from(NB'(at_sum.block)), .found(more_bias)
            );
            cg_table #(.WIDTH(22), .DEPTH(BLOCKS)) rest_scales (
                .clk, .write(rest_write && rest_lane == 8'(c)), .to(NB'(rest_block)), .data(rest_data[53:32]),
                .from(NB'(at_total.block)), .found({rest_shift, rest_multiplier})
            );
        end else begin : g_whole
            assign {more_bias, rest_shift, rest_multiplier} = '0;
        end
        assign {shift, multiplier} = at_total.rest ? {rest_shift, rest_multiplier} : {plain_shift, plain_multiplier};
        assign total = (at_sum.first && !at_sum.rest ? bias : kept) + $signed(sum[c])
                     + (at_sum.first && at_sum.rest ? more_bias : '0);
        assign deciding_sums[c] = total;
        always_ff @(posedge clk) total_q <= total;

        cg_bring #(.WIDTH(S)) bring (.clk, .value(total_q), .multiplier, .shift, .brought(scaled));

        cg_ram #(.WIDTH(8), .DEPTH(OUTPUTS)) buffer (
            .clk,
            .write(buffer_write ? buffer_bank == 8'(c) : at_result.valid && at_result_now[c]),
            .to(NO'(buffer_write ? buffer_to : at_result.to)), .data(buffer_write ? buffer_data : result),
            .read(1'b1), .from(NO'(outside ? outside_from : at_sum.to)), .found(buffered)
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
