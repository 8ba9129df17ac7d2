// What a step reads from memory: open weights, the inputs that open positions need, what is added to the results. One word
// per clock, as the memory takes requests; answers come in the same order.
import cg_registers::*;
module cg_load #(
    parameter int ROWS = 4,
    parameter int COLUMNS = 4,
    parameter int POSITIONS = 1024,
    localparam int NP = $clog2(POSITIONS)
) (
    input  logic                       clk,
    input  logic                       rst,
    input  logic [REGISTERS-1:0][31:0] d,
    input  logic [15:0]                inputs,       // open channels
    input  logic [15:0]                outputs,
    input  logic                       live,         // there is something to compute
    input  logic                       weights_start,
    input  logic                       rest_start,   // the weights that complete one block of columns
    input  logic [15:0]                rest_block,
    input  logic                       inputs_start,
    input  logic                       added_start,
    output logic                       busy,
    // lists of open channels
    output logic [15:0]                in_rank,
    input  logic [15:0]                in_channel,
    output logic [15:0]                out_rank,
    input  logic [15:0]                out_channel,
    // partial sums: rows of weights of a block, with those of other columns alone; the chunk that an output's base is
    output logic [15:0]                block,
    input  logic [15:0]                block_rows,
    input  logic [7:0]                 own_chunk,
    output logic [15:0]                weights_end,  // of the weight buffer
    // positions from the index module, and the list of them
    input  logic                       index_busy,
    input  logic                       there,
    input  logic [15:0]                row,
    input  logic [15:0]                column,
    output logic                       next,
    output logic [15:0]                positions,    // so far
    output logic                       list_write,
    output logic [15:0]                list_place,
    output logic [15:0]                list_y,
    output logic [15:0]                list_x,
    output logic [15:0]                list_base,
    output logic [15:0]                list_rank,    // to read the list
    input  logic [15:0]                place,
    // which input positions are open, where they lie, which were read already
    output logic [15:0]                source,
    input  logic                       source_open,
    input  logic [15:0]                source_rank,
    input  logic                       fetched,
    output logic                       fetch_mark,
    // memory
    output logic                       rd_valid,
    input  logic                       rd_ready,
    output logic [31:0]                rd_addr,
    output logic [1:0]                 rd_tensor,    // 0 inputs, 1 weights, 2 added
    input  logic                       rs_valid,
    output logic                       rs_ready,
    // buffers
    output logic [1:0]                 to_tensor,
    output logic                       to_valid,     // a word from memory,
    output logic                       to_clear,     // or a zero
    output logic [7:0]                 to_bank,
    output logic [15:0]                to_address
);
    typedef enum logic [2:0] {IDLE, WEIGHTS, POSITION, TAP, FETCH, LIST, ADD, WAIT} state_t;
    state_t state;

    logic [15:0] taps, tap, y, x, corner_y, corner_x, in_y, in_x, block_base, part, plane, area;
    logic [7:0]  bank, ky, kx;
    logic [15:0] to, rank;
    logic        in_map, wanted, full, accepted, last_tap, tap_done;
    logic [31:0] address;

    // Tags of the requests that were not answered yet.
    localparam int DEPTH = 8;
    logic [DEPTH-1:0][25:0] tags;
    logic [2:0]             head, tail;
    logic [3:0]             waiting;
    assign full       = waiting == 4'(DEPTH);
    assign rs_ready   = !to_clear;
    assign to_valid   = rs_valid && waiting != '0 && !to_clear;
    assign {to_tensor, to_bank, to_address} = to_clear ? {2'd1, bank, to} : tags[head];
    assign accepted   = rd_valid && rd_ready;

    assign taps     = 16'(d[KERNEL_HEIGHT] * d[KERNEL_WIDTH]);
    assign area     = 16'(d[IN_HEIGHT] * d[IN_WIDTH]);
    assign last_tap = ky + 8'd1 == 8'(d[KERNEL_HEIGHT]) && kx + 8'd1 == 8'(d[KERNEL_WIDTH]);

    // Of partial sums, a block's columns may be of several chunks: weights that a column has not are zero, in both parts.
    logic        completed, rest, of_rest, own, wanted_row, row_done, last_row;
    logic [15:0] rows, in_chunk;
    logic [7:0]  first_chunk, first_of_block, chunk, chunk_then;
    logic [31:0] w_offset;
    assign completed   = d[FLAGS][COMPLETED];
    assign rest        = completed && of_rest;
    assign rows        = completed ? block_rows : inputs;
    assign first_of_block = bank == '0 ? own_chunk : first_chunk;
    assign chunk       = part != '0 ? chunk_then : rest ? '0 : first_of_block;
    assign own         = chunk == own_chunk;
    assign wanted_row  = !completed || (rest ? !own || rows != 16'(d[IN_CHANNELS]) : own);
    assign to_clear    = state == WEIGHTS && !wanted_row;
    assign row_done    = state == WEIGHTS && (accepted || to_clear);
    assign last_row    = bank + 8'd1 == 8'(COLUMNS) || rank + 16'd1 == outputs;
    assign weights_end = block_base;

    // Where the window of a position begins.
    assign corner_y = 16'(row * 16'(d[STRIDE_DOWN])) - 16'(d[PADDING_TOP]);
    assign corner_x = 16'(column * 16'(d[STRIDE_RIGHT])) - 16'(d[PADDING_LEFT]);
    assign list_y     = corner_y;
    assign list_x     = corner_x;
    assign list_base  = corner_y * 16'(d[IN_WIDTH]) + corner_x;
    assign list_place = row * 16'(d[OUT_WIDTH]) + column;
    assign list_write = state == POSITION && there;
    assign list_rank  = rank;

    assign in_y   = y + ky * 16'(d[DILATION_DOWN]);
    assign in_x   = x + kx * 16'(d[DILATION_RIGHT]);
    assign in_map = in_y < 16'(d[IN_HEIGHT]) && in_x < 16'(d[IN_WIDTH]);  // below 0 is far above
    assign source = 16'(in_y * d[IN_WIDTH]) + in_x;
    assign wanted = in_map && !fetched && (source_open || !d[FLAGS][GATED_READ]);
    assign fetch_mark = state == TAP && wanted && live;
    // A tap is done with when there is nothing to read for it, or its last channel is asked for.
    assign tap_done = state == TAP ? !(wanted && live) : state == FETCH && accepted && part + 16'd1 == inputs;
    assign next     = (state == POSITION && !live) || (tap_done && last_tap);

    always_comb begin
        rd_tensor = 2'd0;
        in_rank   = part;
        out_rank  = rank;
        address   = '0;
        case (state)
            WEIGHTS: begin
                rd_tensor = 2'd1;
                address   = rest ? d[R_BASE] + out_channel * d[R_STRIDE] + w_offset
                          : d[W_BASE] + out_channel * d[W_STRIDE] + (completed ? w_offset : 32'(in_channel * taps) + 32'(tap));
            end
            FETCH: begin
                if (d[FLAGS][COMPACT_INPUT])
                    address = d[X_BASE] + (d[FLAGS][GATED_READ] ? source_rank : source) * 32'(inputs) + 32'(part);
                else address = d[X_BASE] + source * d[X_STRIDE] + 32'(in_channel);
            end
            ADD: begin
                rd_tensor = 2'd2;
                out_rank  = part;
                address   = d[A_BASE] + place * d[A_STRIDE] + 32'(out_channel);
            end
            default: ;
        endcase
    end
    assign rd_valid = ((state == WEIGHTS && wanted_row) || state == FETCH || state == ADD) && !full;
    assign rd_addr  = address;
    assign busy     = weights_start || rest_start || inputs_start || added_start || state != IDLE;

    always_ff @(posedge clk) begin
        if (rst) begin
            state <= IDLE;
            head <= '0;
            tail <= '0;
            waiting <= '0;
        end else begin
            if (accepted) begin
                tags[tail] <= {rd_tensor, bank, to};
                tail <= tail + 3'd1;
            end
            if (to_valid) head <= head + 3'd1;
            waiting <= waiting + 4'(accepted) - 4'(to_valid);

            case (state)
                IDLE: begin
                    rank <= '0;
                    part <= '0;
                    tap <= '0;
                    bank <= '0;
                    to <= rest_start ? block_base : '0;
                    w_offset <= '0;
                    of_rest <= rest_start;
                    if (weights_start) block_base <= '0;
                    if (rest_start) begin
                        rank  <= 16'(rest_block * COLUMNS);
                        block <= rest_block;
                    end else block <= '0;
                    if (weights_start || rest_start) state <= WEIGHTS;
                    if (inputs_start) begin
                        state <= POSITION;
                        positions <= '0;
                    end
                    if (added_start) state <= LIST;
                end
                // Output channel by output channel, as they lie; the buffer has a row for each tap and input channel.
                WEIGHTS: if (row_done) begin
                    if (bank == '0) first_chunk <= own_chunk;
                    if (accepted) w_offset <= w_offset + 32'd1;
                    tap <= tap + 16'd1;
                    to  <= to + rows;
                    if (tap + 16'd1 == taps) begin
                        tap      <= '0;
                        part     <= part + 16'd1;
                        to       <= block_base + part + 16'd1;
                        in_chunk <= part == '0 ? 16'd1 : in_chunk + 16'd1;
                        chunk_then <= chunk;
                        if ((part == '0 ? 16'd1 : in_chunk + 16'd1) == 16'(d[CHUNK])) begin
                            in_chunk   <= '0;
                            chunk_then <= chunk + 8'd1;
                        end
                        if (part + 16'd1 == rows) begin
                            part <= '0;
                            rank <= rank + 16'd1;
                            bank <= bank + 8'd1;
                            to   <= block_base;
                            w_offset <= '0;
                            if (last_row) begin
                                bank       <= '0;
                                block      <= block + 16'd1;
                                block_base <= block_base + 16'(taps * rows);
                                to         <= block_base + 16'(taps * rows);
                            end
                            if (rank + 16'd1 == outputs || (rest && last_row)) state <= WAIT;
                        end
                    end
                end
                // The window of each open position; what was read already is not read again.
                POSITION: begin
                    if (there) begin
                        positions <= positions + 16'd1;
                        y <= corner_y;
                        x <= corner_x;
                        ky <= '0;
                        kx <= '0;
                        if (live) state <= TAP;
                    end else if (!index_busy) state <= WAIT;
                end
                TAP: begin
                    part  <= '0;
                    bank  <= '0;
                    plane <= '0;
                    to    <= source;
                    if (wanted && live) state <= FETCH;
                end
                FETCH: if (accepted) begin
                    part <= part + 16'd1;
                    bank <= bank + 8'd1;
                    if (bank + 8'd1 == 8'(ROWS)) begin
                        bank <= '0;
                        to   <= to + area;
                    end
                end
                LIST: begin  // the list answers in the next clock
                    state <= ADD;
                    part  <= '0;
                    bank  <= '0;
                    to    <= rank;
                end
                ADD: if (accepted) begin
                    part <= part + 16'd1;
                    bank <= bank + 8'd1;
                    if (bank + 8'd1 == 8'(COLUMNS)) begin
                        bank <= '0;
                        to   <= to + positions;
                    end
                    if (part + 16'd1 == outputs) begin
                        rank  <= rank + 16'd1;
                        state <= rank + 16'd1 == positions ? WAIT : LIST;
                    end
                end
                WAIT: if (waiting == '0) state <= IDLE;
                default: state <= IDLE;
            endcase
            if (tap_done) begin
                state <= last_tap ? POSITION : TAP;
                kx    <= kx + 8'd1 == 8'(d[KERNEL_WIDTH]) ? '0 : kx + 8'd1;
                ky    <= kx + 8'd1 == 8'(d[KERNEL_WIDTH]) ? ky + 8'd1 : ky;
            end
        end
    end
endmodule
