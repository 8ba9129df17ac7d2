// The folds of a step: for each block of columns, each tap of the kernel and each block of rows, weights are loaded and all
// open positions are sent through them. The next fold's weights go into the array, a row per clock, while this one's
// positions are sent; a fold begins when the one before has sent its last position, its weights are loaded, and the
// sums' memory is ready again.
module cg_folds #(
    parameter int ROWS = 4,
    parameter int COLUMNS = 4,
    parameter int SUM_LATENCY = 3
) (
    input  logic        clk,
    input  logic        rst,
    input  logic        begin_step,      // take the sizes; before `load` and `send`
    input  logic        load,            // weights may go into the array
    input  logic        send,            // positions may be sent
    input  logic [15:0] positions,       // that are open
    input  logic [15:0] inputs,          // channels that are open
    input  logic [15:0] outputs,
    input  logic [15:0] area,            // positions of the map that is read
    input  logic [15:0] width,           // of the map that is read
    input  logic [7:0]  kernel_height,
    input  logic [7:0]  kernel_width,
    input  logic [15:0] dilation_down,
    input  logic [15:0] dilation_right,
    output logic        issue,           // position `rank` is sent
    output logic        flip,            // it is the first of its fold
    output logic [15:0] rank,
    output logic [15:0] down,            // where the tap is, from the position's corner
    output logic [15:0] right,
    output logic [15:0] offset,          // the same in the input buffer
    output logic [15:0] block,           // of columns
    output logic [15:0] block_base,      // block * positions
    output logic [7:0]  rows_used,
    output logic [7:0]  columns_used,
    output logic        first,           // nothing was added to these sums yet
    output logic        last,            // nothing is added to them any more
    output logic        all_issued,      // with the last position of the last fold
    output logic        begun,
    output logic        loaded,          // the next fold's weights are in the array
    output logic        push,            // a row of weights is loaded
    output logic [15:0] push_from,
    output logic [7:0]  push_columns
);
    typedef struct packed {
        logic        there;
        logic [15:0] inputs, outputs;    // that are left, with this fold's
        logic [15:0] plane;              // of the input buffer: a block of rows after another
        logic [15:0] block, block_base;
        logic [7:0]  y, x;
        logic [15:0] down, right, line;
    } fold_t;

    fold_t current, following, third, advanced, now, loading;
    logic [15:0] left, next_rank, rows_in, rows_now, line_step;
    logic [1:0]  since;
    logic        start, last_rows, last_x, last_y;

    assign last_rows = third.inputs <= 16'(ROWS);
    assign last_x    = third.x + 8'd1 == kernel_width;
    assign last_y    = third.y + 8'd1 == kernel_height;
    always_comb begin
        advanced = third;
        if (!last_rows) begin
            advanced.inputs = third.inputs - 16'(ROWS);
            advanced.plane  = third.plane + area;
        end else begin
            advanced.inputs = inputs;
            advanced.plane  = '0;
            if (!last_x) begin
                advanced.x     = third.x + 8'd1;
                advanced.right = third.right + dilation_right;
            end else begin
                advanced.x     = '0;
                advanced.right = '0;
                if (!last_y) begin
                    advanced.y    = third.y + 8'd1;
                    advanced.down = third.down + dilation_down;
                    advanced.line = third.line + line_step;
                end else begin
                    advanced.y          = '0;
                    advanced.down       = '0;
                    advanced.line       = '0;
                    advanced.outputs    = third.outputs - 16'(COLUMNS);
                    advanced.block      = third.block + 16'd1;
                    advanced.block_base = third.block_base + positions;
                    if (third.outputs <= 16'(COLUMNS)) advanced.there = 1'b0;
                end
            end
        end
    end

    assign start   = send && left == '0 && following.there && loaded && 32'(since) >= SUM_LATENCY;
    assign now     = start ? following : current;
    assign issue   = start || left != '0;
    assign flip    = start;
    assign rank    = start ? 16'd0 : next_rank;
    assign loading = start ? third : following;

    function automatic logic [7:0] at_most(input logic [15:0] amount, input int most);
        at_most = amount > 16'(most) ? 8'(most) : 8'(amount);
    endfunction

    assign loaded       = rows_in == 16'(at_most(following.inputs, ROWS));
    assign rows_now     = start ? 16'd0 : rows_in;
    assign push         = (load || send) && loading.there && rows_now < 16'(at_most(loading.inputs, ROWS));
    assign push_columns = at_most(loading.outputs, COLUMNS);

    assign down         = now.down;
    assign right        = now.right;
    assign offset       = now.plane + now.line + now.right;
    assign block        = now.block;
    assign block_base   = now.block_base;
    assign rows_used    = at_most(now.inputs, ROWS);
    assign columns_used = at_most(now.outputs, COLUMNS);
    assign first        = now.x == '0 && now.y == '0 && now.inputs == inputs;
    assign last         = now.x + 8'd1 == kernel_width && now.y + 8'd1 == kernel_height && now.inputs <= 16'(ROWS);
    assign all_issued   = issue && last && now.outputs <= 16'(COLUMNS) && rank + 16'd1 == positions;

    // Three folds are known: the one that is sent, the next, whose weights are loaded, and the one after.
    logic [1:0] filling;
    always_ff @(posedge clk) begin
        if (rst) begin
            filling         <= '0;
            left            <= '0;
            following.there <= 1'b0;
            third.there     <= 1'b0;
            since           <= '1;
            rows_in         <= '0;
            push_from       <= '0;
            begun           <= 1'b0;
        end else if (begin_step) begin
            third         <= '0;
            third.there   <= 1'b1;
            third.inputs  <= inputs;
            third.outputs <= outputs;
            following     <= '0;
            line_step     <= 16'(dilation_down * width);
            filling       <= 2'd1;
            left          <= '0;
            since         <= '1;
            rows_in       <= '0;
            push_from     <= '0;
            begun         <= 1'b0;
        end else if (filling != '0) begin
            following <= third;
            third     <= advanced;
            filling   <= filling - 2'd1;
        end else begin
            if (start) begin
                current   <= following;
                following <= third;
                third     <= advanced;
                begun     <= 1'b1;
            end
            since     <= start ? 2'd1 : (since == '1 ? since : since + 2'd1);
            left      <= start ? positions - 16'd1 : (left == '0 ? left : left - 16'd1);
            next_rank <= rank + 16'd1;
            rows_in   <= rows_now + 16'(push);
            push_from <= push_from + 16'(push);
        end
    end
endmodule
