// The folds of a step: for each block of columns, each tap of the kernel and each block of rows, weights are loaded and all
// open positions are sent through them. The next fold's weights go into the array, a row per clock, while this one's
// positions are sent; a fold begins when the one before has sent its last position, its weights are loaded, and the
// sums' memory is ready again.
//
// Partial sums (`completed`): base paths of two blocks of columns, then the completion of the first, the next base path, the
// next completion, and so on. A completion sends the positions at which anything is open. Whether there are any is known
// when the last sum of its base path is decided on; weights are not loaded before, and a completion of nothing is left out.
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
    input  logic        completed,
    input  logic [15:0] planes,          // of the input buffer, all of them
    input  logic [15:0] chunk,           // channels of an output's partial sum, and those that complete it
    input  logic [15:0] others,
    output logic [15:0] what_block,      // of a block of columns, in its base path or to complete it:
    output logic        what_rest,
    input  logic [15:0] what_rows,       // how many channels are read,
    input  logic [15:0] what_plane,      // where the first of them is, the plane and the row's buffer
    input  logic [7:0]  what_turn,
    input  logic [15:0] rest_from,       // weights of completions in their buffer
    input  logic [15:0] decided,         // blocks of columns of which all is decided,
    input  logic [1:0][15:0] counts,     // positions of even and odd ones at which anything is open,
    output logic        list_odd,        // and the list of them
    output logic [15:0] list_from,
    input  logic [15:0] list_rank,
    input  logic [7:0]  list_columns,
    output logic        issue,           // position `rank` is sent
    output logic        flip,            // it is the first of its fold
    output logic [15:0] rank,
    output logic [15:0] down,            // where the tap is, from the position's corner
    output logic [15:0] right,
    output logic [15:0] offset,          // the same in the input buffer,
    output logic [15:0] offset_more,     // and a plane further: there the buffers of the first `turn` rows are read
    output logic [7:0]  turn,
    output logic [15:0] block,           // of columns
    output logic [15:0] block_base,      // block * positions
    output logic [7:0]  rows_used,
    output logic [7:0]  columns_used,
    output logic [15:0] macs,            // of this position, but for those that are zero or complete nothing
    output logic        first,           // nothing was added to these sums yet, by the base path or by its completion
    output logic        last,            // nothing is added to them any more
    output logic        rest,            // it is a completion
    output logic        all_issued,      // with the last position of the last fold, or when nothing is left to be completed
    output logic        begun,
    output logic        loaded,          // the next fold's weights are in the array
    output logic        undecided,       // which fold follows is not known yet
    output logic        push,            // a row of weights is loaded
    output logic [15:0] push_from,
    output logic [7:0]  push_columns
);
    typedef struct packed {
        logic        there, rest;
        logic [15:0] inputs, outputs;    // that are left, with this fold's
        logic [15:0] all_inputs, from;   // of the block, and the plane in which they begin
        logic [7:0]  turn;
        logic [15:0] plane;              // of the input buffer: a block of rows after another
        logic [15:0] block, block_base;
        logic [7:0]  y, x;
        logic [15:0] down, right, line;
    } fold_t;

    fold_t current, following, third, advanced, beyond, now, loading;
    logic [15:0] left, count, index, next_index, rows_in, rows_now, line_step, push_base, push_rest;
    logic [1:0]  since;
    logic        start, last_rows, last_x, last_y, last_block, known, nothing, refill, take, drop, first_rows;

    // The block of columns after this one.
    assign last_block = third.outputs <= 16'(COLUMNS);
    logic signed [2:0] by;
    always_comb begin
        beyond = '0;
        beyond.there = 1'b1;
        by = 3'sd1;
        if (!completed) beyond.there = !last_block;
        else if (!third.rest) begin
            if (third.block != '0 || last_block) begin
                beyond.rest = 1'b1;
                by = third.block == '0 ? 3'sd0 : -3'sd1;
            end
        end else if (third.outputs > 16'(2 * COLUMNS)) by = 3'sd2;
        else begin
            beyond.rest  = 1'b1;
            beyond.there = !last_block;
        end
        beyond.block      = third.block + 16'(by);
        beyond.outputs    = third.outputs - 16'(by * COLUMNS);
        beyond.block_base = third.block_base + (by == -3'sd1 ? -positions : by == 3'sd0 ? '0 : by == 3'sd1 ? positions : positions << 1);
        beyond.all_inputs = completed ? what_rows : inputs;
        beyond.inputs     = beyond.all_inputs;
        beyond.from       = completed ? what_plane : '0;
        beyond.turn       = completed ? what_turn : '0;
        beyond.plane      = beyond.from;
    end
    assign what_block = begin_step ? '0 : beyond.block;
    assign what_rest  = !begin_step && beyond.rest;

    function automatic logic [15:0] after(input logic [15:0] plane);
        after = plane + area == planes ? '0 : plane + area;
    endfunction

    assign last_rows = third.inputs <= 16'(ROWS);
    assign last_x    = third.x + 8'd1 == kernel_width;
    assign last_y    = third.y + 8'd1 == kernel_height;
    always_comb begin
        advanced = third;
        if (!last_rows) begin
            advanced.inputs = third.inputs - 16'(ROWS);
            advanced.plane  = completed ? after(third.plane) : third.plane + area;
        end else begin
            advanced.inputs = completed ? third.all_inputs : inputs;
            advanced.plane  = completed ? third.from : '0;
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
                end else advanced = beyond;
            end
        end
    end

    // Three folds are known: the one that is sent, the next, whose weights are loaded, and the one after, which may turn out
    // to complete nothing.
    assign known     = !completed || !third.rest || decided > third.block;
    assign nothing   = completed && third.rest && counts[third.block[0]] == '0;
    assign refill    = start || !following.there;
    assign take      = refill && third.there && known && !nothing;
    assign drop      = third.there && known && nothing;
    assign undecided = begun && !following.there && !take;

    assign start   = send && left == '0 && following.there && loaded && 32'(since) >= SUM_LATENCY;
    assign now     = start ? following : current;
    assign issue   = start || left != '0;
    assign flip    = start;
    assign index   = start ? 16'd0 : next_index;
    assign count   = completed && following.rest ? counts[following.block[0]] : positions;
    assign rank    = rest ? list_rank : index;
    always_comb begin
        loading       = refill ? third : following;
        loading.there = refill ? take : following.there;
    end

    // The list answers in the next clock: what is asked for is what will be sent then, at the earliest.
    always_comb begin
        {list_odd, list_from} = {loading.block[0], 16'd0};
        if (start && count != 16'd1) {list_odd, list_from} = {following.block[0], 16'd1};
        else if (!start && left > 16'd1) {list_odd, list_from} = {current.block[0], next_index + 16'd1};
    end

    function automatic logic [7:0] at_most(input logic [15:0] amount, input int most);
        at_most = amount > 16'(most) ? 8'(most) : 8'(amount);
    endfunction

    assign loaded       = following.there && rows_in == 16'(at_most(following.inputs, ROWS));
    assign rows_now     = refill ? 16'd0 : rows_in;
    assign push         = (load || send) && loading.there && rows_now < 16'(at_most(loading.inputs, ROWS));
    assign push_columns = at_most(loading.outputs, COLUMNS);
    assign push_from    = completed && loading.rest ? push_rest : push_base;

    assign down         = now.down;
    assign right        = now.right;
    assign offset       = now.plane + now.line + now.right;
    assign offset_more  = after(now.plane) + now.line + now.right;
    assign turn         = completed ? now.turn : '0;
    assign block        = now.block;
    assign block_base   = now.block_base;
    assign rows_used    = at_most(now.inputs, ROWS);
    assign columns_used = at_most(now.outputs, COLUMNS);
    assign rest         = completed && now.rest;
    assign first_rows   = now.inputs == (completed ? now.all_inputs : inputs);
    assign first        = now.x == '0 && now.y == '0 && first_rows;
    assign last         = now.x + 8'd1 == kernel_width && now.y + 8'd1 == kernel_height && now.inputs <= 16'(ROWS);
    assign macs         = !completed ? 16'(rows_used * 16'(columns_used)) : !first_rows ? '0
                        : rest ? 16'(others * list_columns) : 16'(chunk * columns_used);
    assign all_issued   = send && (begun || start) && (issue ? (start ? count : left) == 16'd1 : 1'b1)
                        && (start || !following.there) && (!third.there || (drop && !beyond.there));

    logic [1:0] filling;
    always_ff @(posedge clk) begin
        if (rst) begin
            filling         <= '0;
            left            <= '0;
            following.there <= 1'b0;
            third.there     <= 1'b0;
            since           <= '1;
            rows_in         <= '0;
            {push_base, push_rest} <= '0;
            begun           <= 1'b0;
        end else if (begin_step) begin
            third            <= '0;
            third.there      <= 1'b1;
            third.all_inputs <= completed ? what_rows : inputs;
            third.inputs     <= completed ? what_rows : inputs;
            third.from       <= completed ? what_plane : '0;
            third.plane      <= completed ? what_plane : '0;
            third.turn       <= completed ? what_turn : '0;
            third.outputs    <= outputs;
            following        <= '0;
            line_step        <= 16'(dilation_down * width);
            filling          <= 2'd1;
            left             <= '0;
            since            <= '1;
            rows_in          <= '0;
            push_base        <= '0;
            push_rest        <= rest_from;
            begun            <= 1'b0;
        end else if (filling != '0) begin
            following <= third;
            third     <= advanced;
            filling   <= filling - 2'd1;
        end else begin
            if (start) begin
                current <= following;
                begun   <= 1'b1;
            end
            if (refill) begin
                following       <= third;
                following.there <= take;
            end
            if (take) third <= advanced;
            else if (drop) third <= beyond;
            since      <= start ? 2'd1 : (since == '1 ? since : since + 2'd1);
            left       <= start ? count - 16'd1 : (left == '0 ? left : left - 16'd1);
            next_index <= index + 16'd1;
            rows_in    <= rows_now + 16'(push);
            if (completed && loading.rest) push_rest <= push_rest + 16'(push);
            else push_base <= push_base + 16'(push);
        end
    end
endmodule
