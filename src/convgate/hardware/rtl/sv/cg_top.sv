// The accelerator: executes one step of a network at a time, a convolution of 8-bit integers of which decisions close
// positions, input channels and output channels.
//
// The host writes a descriptor (cg_registers.sv), the masks of the gates, where their tiles begin and each channel's bias
// and scale, then starts the step. Weights and maps lie in memory, with everything that is closed; the accelerator asks
// for what it needs. Memory may take any time for anything: only `cycles_memory` depends on it.
//
// Partial sums are decided on here, and their completion's weights are asked for when it is known that they are needed; the
// array and all that belongs to it stand still until they have come.
import cg_registers::*;
module cg_top #(
    parameter int ROWS = 4,
    parameter int COLUMNS = 4,
    parameter int INDEX_BITS = 64,    // of a mask that are looked at in one clock
    parameter int MASK_WORDS = 16,    // of INDEX_BITS, of one mask
    parameter int POSITIONS = 1024,   // of a map
    parameter int CHANNELS = 256,
    parameter int INPUTS = 8192,      // words of one row's input buffer
    parameter int WEIGHTS = 16384,    // rows of the weight buffer
    parameter int SUMS = 1024,        // positions of which sums are kept
    parameter int OUTPUTS = 16384,    // words of one column's output buffer
    parameter bit GATED = 1,          // with an index module; else everything is computed
    parameter bit PARTIAL = 1,        // with partial sums, decided on and completed; else all sums are whole
    parameter int INDEX_LATENCY = 2,
    parameter int DECISION_LATENCY = 2,
    localparam int SLOTS = 4,
    localparam int BOUNDS = 128,
    localparam int S = 32,
    localparam int UNITS = MASK_WORDS * INDEX_BITS
) (
    input  logic        clk,
    input  logic        rst,
    input  logic        host_write,
    // 0 descriptor, 1 masks, 2 where tiles begin, 3 biases and scales; of partial sums: 4 what a block reads, 5 thresholds,
    // 6 biases and scales of completions
    input  logic [2:0]  host_what,
    input  logic [15:0] host_to,
    input  logic [63:0] host_data,
    input  logic        start,
    output logic        busy,
    input  logic [4:0]  counter,
    output logic [47:0] count,
    output logic        rd_valid,
    input  logic        rd_ready,
    output logic [31:0] rd_addr,
    output logic [1:0]  rd_tensor,
    input  logic        rs_valid,
    output logic        rs_ready,
    input  logic [7:0]  rs_data,
    output logic        wr_valid,
    input  logic        wr_ready,
    output logic [31:0] wr_addr,
    output logic [7:0]  wr_data
);
    localparam int NP = $clog2(POSITIONS);
    localparam int NC = $clog2(CHANNELS);
    typedef enum logic [4:0] {
        IDLE, CLEAR, INDEX, LIST_OUTPUTS_, LIST_INPUTS_, EXPAND_OUTPUTS, EXPAND_INPUTS, READ_POSITIONS, READING,
        LOAD_WEIGHTS, LOAD_INPUTS, LOAD_ADDED, WAIT_DECISION, PREPARE, PRELOAD, COMPUTE, LOAD_REST, DRAIN, STORE
    } state_t;
    state_t state;
    logic [REGISTERS-1:0][31:0] written_d, d;
    always_ff @(posedge clk) if (host_write && host_what == 3'd0) written_d[6'(host_to)] <= host_data[31:0];
    always_comb begin
        d = written_d;
        if (!GATED) begin
            d[FLAGS][LIST_OUTPUTS:GATED_POSITIONS] = '0;
            d[FLAGS][WHOLE_OUTPUT:COMPACT_INPUT]   = '0;
            {d[FLAGS][INDEXED], d[FLAGS][DECIDED], d[FLAGS][LIST_ONLY]} = '0;
        end
        if (!PARTIAL) d[FLAGS][COMPLETED] = 1'b0;
    end

    // --- the clock of the array and all that belongs to it ---
    logic run, hold;
    if (PARTIAL) begin : g_clock
        cg_clock clock (.clk, .on(!hold || rst), .gated(run));
    end else begin : g_same
        assign run = clk;
    end

    // --- the index module ---
    logic        scan, scan_list, scan_busy, scanning, nothing, there, next, load_next;
    logic [1:0]  scan_slot;
    logic        scan_input, reading;
    assign reading = state == READING;
    logic [15:0] scan_entries, row, column, unit, unit_rank;
    logic [3:0]  any;
    logic [3:0][15:0] units;
    logic [1:0]  unit_slot;
    if (GATED) begin : g_index
        cg_index #(.BITS(INDEX_BITS), .WORDS(MASK_WORDS), .SLOTS(SLOTS), .BOUNDS(BOUNDS)) index (
            .clk, .rst,
            .mask_write(host_write && host_what == 3'd1), .mask_to($clog2(MASK_WORDS * SLOTS)'(host_to)),
            .mask_data(INDEX_BITS'(host_data)),
            .bound_write(host_write && host_what == 3'd2), .bound_to($clog2(4 * BOUNDS)'(host_to)), .bound_data(16'(host_data)),
            .start(scan), .list(scan_list), .slot(scan_slot), .entries(scan_entries), .of_input(scan_input),
            .tile_columns(16'(reading ? d[READ_TILE_COLUMNS] : d[TILE_COLUMNS])),
            .tile_inverse(21'(reading ? d[READ_TILE_INVERSE] : d[TILE_INVERSE])),
            .busy(scan_busy), .scanning, .nothing, .there, .row, .column, .next, .any,
            .unit_slot, .unit_rank($clog2(UNITS)'(unit_rank)), .unit, .units
        );
    end else begin : g_raster
        assign {scanning, nothing, unit, units} = '0;
        assign any       = '1;
        assign scan_busy = there;
        cg_raster raster (
            .clk, .rst, .start(scan), .height(16'(d[OUT_HEIGHT])), .width(16'(d[OUT_WIDTH])), .there, .row, .column, .next
        );
    end

    // --- what is open ---
    logic [15:0] outputs, inputs, positions, n, most;
    logic        clear, live, some;
    logic [7:0]  group_part, lane;
    logic [15:0] lane_block, channel;
    logic        expand_outputs, expand_inputs, expand_done, whole_units, has_channel;
    logic [15:0] of_units, group, dense;
    assign clear          = state == CLEAR;
    assign expand_outputs = state == EXPAND_OUTPUTS;
    assign expand_inputs  = state == EXPAND_INPUTS;
    assign whole_units    = expand_outputs ? !d[FLAGS][GATED_OUTPUTS] : !d[FLAGS][GATED_INPUTS];
    assign unit_slot      = 2'(expand_outputs ? d[OUT_SLOT] : d[IN_SLOT]);
    assign group          = 16'(expand_outputs ? d[OUT_GROUP] : d[IN_GROUP]);
    assign dense          = 16'(expand_outputs ? d[OUT_CHANNELS] : d[IN_CHANNELS]);
    assign of_units       = units[unit_slot];
    assign channel        = whole_units ? unit_rank : unit * group + 16'(group_part);
    assign has_channel    = (expand_outputs || expand_inputs) && !expand_done && channel < dense;
    assign expand_done    = unit_rank == (whole_units ? dense : of_units);
    assign some           = any[2'(d[POSITION_SLOT])];
    assign live           = some && inputs != '0 && outputs != '0;

    logic [15:0] in_rank, in_channel, out_rank, out_channel, load_in_rank, load_out_rank, store_out_rank;
    logic [61:0] parameters;
    logic        storing;
    assign storing  = state == STORE;
    assign in_rank  = load_in_rank;
    assign out_rank = storing ? store_out_rank : load_out_rank;
    logic [15:0] in_listed, out_listed;
    assign in_channel  = GATED ? in_listed : in_rank;
    assign out_channel = GATED ? out_listed : out_rank;
    cg_table #(.WIDTH(16), .DEPTH(CHANNELS)) in_list (
        .clk, .write(expand_inputs && has_channel), .to(NC'(inputs)), .data(channel), .from(NC'(in_rank)), .found(in_listed)
    );
    cg_table #(.WIDTH(16), .DEPTH(CHANNELS)) out_list (
        .clk, .write(expand_outputs && has_channel), .to(NC'(outputs)), .data(channel), .from(NC'(out_rank)), .found(out_listed)
    );
    localparam int WORD = PARTIAL ? 62 : 54;  // with the chunk of a partial sum
    logic [WORD-1:0] scale;
    assign parameters = 62'(scale);
    cg_table #(.WIDTH(WORD), .DEPTH(CHANNELS)) scales (
        .clk, .write(host_write && host_what == 3'd3), .to(NC'(host_to)), .data(host_data[WORD-1:0]),
        .from(NC'(expand_outputs ? channel : out_channel)), .found(scale)
    );

    logic        fetched, fetch_mark, source_open, open_position, open_channel, list_write;
    logic [15:0] source, source_rank, read_place, whole_place, whole_channel, list_place, read_count;
    assign read_place = 16'(row * d[IN_WIDTH]) + column;
    cg_table #(.WIDTH(1), .DEPTH(POSITIONS)) fetched_at (
        .clk, .write(clear || fetch_mark), .to(NP'(clear ? n : source)), .data(!clear), .from(NP'(source)), .found(fetched)
    );
    cg_table #(.WIDTH(17), .DEPTH(POSITIONS)) sources (
        .clk, .write(clear || (reading && there)), .to(NP'(clear ? n : read_place)), .data({!clear, read_count}),
        .from(NP'(source)), .found({source_open, source_rank})
    );
    cg_table #(.WIDTH(1), .DEPTH(POSITIONS)) open_positions (
        .clk, .write(clear || list_write), .to(NP'(clear ? n : list_place)), .data(!clear),
        .from(NP'(whole_place)), .found(open_position)
    );
    cg_table #(.WIDTH(1), .DEPTH(CHANNELS)) open_channels (
        .clk, .write((clear && 32'(n) < CHANNELS) || (expand_outputs && has_channel)), .to(NC'(clear ? n : channel)),
        .data(!clear), .from(NC'(whole_channel)), .found(open_channel)
    );

    // --- the list of open positions: where each is in the output, and where its window begins ---
    logic [15:0] list_y, list_x, list_base, place, corner_y, corner_x, corner_base, load_list_rank, store_list_rank, rank;
    cg_ram #(.WIDTH(64), .DEPTH(POSITIONS)) list (
        .clk(run), .write(list_write), .to(NP'(positions)), .data({list_place, list_y, list_x, list_base}),
        .read(1'b1), .from(NP'(storing ? store_list_rank : state == LOAD_ADDED ? load_list_rank : rank)),
        .found({place, corner_y, corner_x, corner_base})
    );

    // --- partial sums: what a block of columns reads, and what was decided ---
    localparam int BLOCKS = (CHANNELS + COLUMNS - 1) / COLUMNS;
    localparam int NB = $clog2(2 * BLOCKS);
    localparam int NS = $clog2(SUMS);
    logic [15:0]               what_block, what_rows, what_plane, of_block, block_to_load, decided, fetch_block, open_rank, list_from;
    logic [7:0]                what_turn, open_columns;
    logic                      what_rest, of_rest, loading_weights, fetch, list_odd, deciding;
    logic [1:0][15:0]          open_counts;
    logic [15:0]               deciding_block, deciding_rank;
    logic [COLUMNS-1:0][S-1:0] deciding_sums;
    logic [COLUMNS-1:0]        decided_open, kept_open;
    logic [NS-1:0]             kept_from;
    assign loading_weights = state == LOAD_WEIGHTS || state == LOAD_REST;
    assign of_block        = loading_weights ? block_to_load : what_block;
    assign of_rest         = loading_weights ? state == LOAD_REST : what_rest;
    if (PARTIAL) begin : g_partial
        cg_table #(.WIDTH(40), .DEPTH(2 * BLOCKS)) blocks (
            .clk, .write(host_write && host_what == 3'd4), .to(NB'(host_to)), .data(host_data[39:0]),
            .from(NB'({of_block, of_rest})), .found({what_turn, what_plane, what_rows})
        );
        cg_decide #(.COLUMNS(COLUMNS), .S(S), .SUMS(SUMS), .BLOCKS(BLOCKS)) decide (
            .clk(run), .rst, .begin_step(state == PREPARE && n == '0),
            .write(host_write && host_what == 3'd5), .write_block(host_to), .write_lane(host_data[63:56]),
            .write_data(host_data[33:0]), .deciding, .block(deciding_block), .rank(deciding_rank),
            .ends(deciding_rank + 16'd1 == positions), .sum(deciding_sums), .open(decided_open), .kept_from, .kept(kept_open),
            .list_from({list_odd, list_from[NS-2:0]}), .list_rank(open_rank), .list_columns(open_columns),
            .counts(open_counts), .decided, .fetch, .fetch_block
        );
    end else begin : g_whole
        assign {what_turn, what_plane, what_rows, decided_open, kept_open, open_rank, open_columns, open_counts, decided} = '0;
        assign {fetch, fetch_block} = '0;
    end

    // --- loading ---
    logic        load_busy, weights_start, rest_start, inputs_start, added_start, load_rd_valid, to_valid, to_clear;
    logic [15:0] weights_end;
    logic [31:0] load_rd_addr;
    logic [1:0]  load_tensor, to_tensor;
    logic [7:0]  to_bank;
    logic [15:0] to_address;
    cg_load #(.ROWS(ROWS), .COLUMNS(COLUMNS), .POSITIONS(POSITIONS)) load (
        .clk, .rst, .d, .inputs, .outputs, .live, .weights_start, .rest_start, .rest_block(fetch_block), .inputs_start, .added_start, .busy(load_busy),
        .in_rank(load_in_rank), .in_channel, .out_rank(load_out_rank), .out_channel,
        .block(block_to_load), .block_rows(what_rows), .own_chunk(parameters[61:54]), .weights_end,
        .index_busy(scan_busy), .there(there && state == LOAD_INPUTS), .row, .column, .next(load_next), .positions,
        .list_write, .list_place, .list_y, .list_x, .list_base, .list_rank(load_list_rank), .place,
        .source, .source_open, .source_rank, .fetched, .fetch_mark,
        .rd_valid(load_rd_valid), .rd_ready(rd_ready && !storing), .rd_addr(load_rd_addr), .rd_tensor(load_tensor),
        .rs_valid(rs_valid && !storing), .rs_ready, .to_tensor, .to_valid, .to_clear, .to_bank, .to_address
    );
    assign next = reading || load_next;

    // --- folds ---
    logic        issue, flip, first, last, rest, all_issued, begun, loaded, undecided, push;
    logic [15:0] down, right, offset, offset_more, block, block_base, macs, push_from;
    logic [7:0]  rows_used, columns_used, push_columns, turn;
    cg_folds #(.ROWS(ROWS), .COLUMNS(COLUMNS)) folds (
        .clk(run), .rst, .begin_step(state == PREPARE && n == '0), .load(state == PRELOAD), .send(state == COMPUTE),
        .positions, .inputs, .outputs, .area(16'(d[IN_HEIGHT] * d[IN_WIDTH])), .width(16'(d[IN_WIDTH])),
        .kernel_height(8'(d[KERNEL_HEIGHT])), .kernel_width(8'(d[KERNEL_WIDTH])),
        .dilation_down(16'(d[DILATION_DOWN])), .dilation_right(16'(d[DILATION_RIGHT])),
        .completed(d[FLAGS][COMPLETED]), .planes(16'(d[PLANES])), .chunk(16'(d[CHUNK])),
        .others(16'(d[IN_CHANNELS] - d[CHUNK])), .what_block, .what_rest, .what_rows, .what_plane, .what_turn,
        .rest_from(weights_end), .decided, .counts(open_counts), .list_odd, .list_from, .list_rank(open_rank),
        .list_columns(open_columns),
        .issue, .flip, .rank, .down, .right, .offset, .offset_more, .turn, .block, .block_base, .rows_used, .columns_used,
        .macs, .first, .last, .rest, .all_issued, .begun, .loaded, .undecided, .push, .push_from, .push_columns
    );

    // --- activations: list, buffer, array ---
    logic        issue_1, flip_1, issue_2, flip_2, inside_1, inside_2, got_2;
    logic [15:0] down_1, right_1, offset_1, more_1, y_1, x_1, at_1, at_more_1;
    logic [7:0]  turn_1, turn_2;
    logic        push_1, push_2;
    assign y_1      = corner_y + down_1;
    assign x_1      = corner_x + right_1;
    assign at_1     = corner_base + offset_1;
    assign at_more_1 = corner_base + more_1;
    assign inside_1 = y_1 < 16'(d[IN_HEIGHT]) && x_1 < 16'(d[IN_WIDTH]);
    always_ff @(posedge run) begin
        if (rst) {issue_1, flip_1, issue_2, flip_2, push_1, push_2} <= '0;
        else begin
            {issue_1, flip_1, push_1} <= {issue, flip, push};
            {issue_2, flip_2, push_2} <= {issue_1, flip_1, push_1};
        end
        {down_1, right_1, offset_1, more_1} <= {down, right, offset, offset_more};
        {turn_1, turn_2} <= {turn, turn_1};
        inside_2 <= inside_1 && (!d[FLAGS][GATED_READ] || got_2);
    end
    // Closed positions of the input were not read: they count as zero.
    logic [15:0] source_1;
    assign source_1 = 16'(y_1 * d[IN_WIDTH]) + x_1;
    cg_table #(.WIDTH(1), .DEPTH(POSITIONS)) there_at (
        .clk, .write(clear || fetch_mark), .to(NP'(clear ? n : source)), .data(!clear), .from(NP'(source_1)), .found(got_2)
    );

    logic [ROWS-1:0]           a_valid, a_flip;
    logic [ROWS-1:0][8:0]      a;
    logic [COLUMNS-1:0]        w_valid;
    logic [COLUMNS-1:0][7:0]   w;
    logic [COLUMNS-1:0][S-1:0] sum, aligned;
    // A block of channels may begin in any row's buffer: then rows are read in turn, those before it from the next plane.
    logic [ROWS-1:0][7:0] read_words;
    for (genvar r = 0; r < ROWS; r++) begin : g_row
        logic [7:0] word, from_row;
        cg_ram #(.WIDTH(8), .DEPTH(INPUTS)) buffer (
            .clk(run), .write(to_valid && to_tensor == 2'd0 && to_bank == 8'(r)), .to($clog2(INPUTS)'(to_address)),
            .data(rs_data), .read(1'b1), .from($clog2(INPUTS)'(8'(r) < turn_1 ? at_more_1 : at_1)), .found(read_words[r])
        );
        assign from_row = 8'(r) + turn_2 < 8'(ROWS) ? 8'(r) + turn_2 : 8'(r) + turn_2 - 8'(ROWS);
        assign word     = read_words[$clog2(ROWS)'(from_row)];
        cg_delay #(.WIDTH(11), .CLOCKS(r)) skew (
            .clk(run), .rst, .in({issue_2 && inside_2, flip_2, d[FLAGS][SIGNED_INPUT] && word[7], word}), .out({a_valid[r], a_flip[r], a[r]})
        );
    end
    for (genvar c = 0; c < COLUMNS; c++) begin : g_column
        logic [7:0] word, word_2;
        cg_ram #(.WIDTH(8), .DEPTH(WEIGHTS)) buffer (
            .clk, .write((to_valid || to_clear) && to_tensor == 2'd1 && to_bank == 8'(c)), .to($clog2(WEIGHTS)'(to_address)),
            .data(to_clear ? '0 : rs_data), .read(!hold), .from($clog2(WEIGHTS)'(push_from)), .found(word)
        );
        always_ff @(posedge run) word_2 <= word;
        cg_delay #(.WIDTH(9), .CLOCKS(c)) skew (.clk(run), .rst, .in({push_2, word_2}), .out({w_valid[c], w[c]}));
        cg_delay #(.WIDTH(S), .CLOCKS(COLUMNS - 1 - c)) deskew (.clk(run), .rst, .in(sum[c]), .out(aligned[c]));
    end
    cg_array #(.ROWS(ROWS), .COLUMNS(COLUMNS), .A(9), .W(8), .S(S)) array (.clk(run), .rst, .a_valid, .a_flip, .a, .w_valid, .w, .sum);

    // --- results ---
    logic        soon, soon_first, soon_last, soon_rest, result, store_busy, store_start, store_rd_valid, written;
    logic [15:0] soon_rank, soon_block, soon_base, from;
    logic [31:0] store_rd_addr;
    logic [COLUMNS-1:0][7:0]   found;
    logic [COLUMNS-1:0][S-1:0] found_sums;
    cg_delay #(.WIDTH(52), .CLOCKS(ROWS + COLUMNS)) way (
        .clk(run), .rst, .in({issue, first, last, rest, rank, block, block_base}),
        .out({soon, soon_first, soon_last, soon_rest, soon_rank, soon_block, soon_base})
    );
    cg_post #(.COLUMNS(COLUMNS), .S(S), .SUMS(SUMS), .OUTPUTS(OUTPUTS), .BLOCKS(BLOCKS), .PARTIAL(PARTIAL)) post (
        .clk(run), .rst, .soon, .soon_rank, .soon_first, .soon_last, .soon_rest, .soon_block, .soon_base, .sum(aligned),
        .raw(d[FLAGS][RAW]), .completed(d[FLAGS][COMPLETED]), .added(d[FLAGS][ADDED]), .added_signed(d[FLAGS][SIGNED_ADDED]),
        .add_multiplier(16'(d[ADD_MULTIPLIER])), .add_shift(6'(d[ADD_SHIFT])), .low(10'(d[LOW])), .high(10'(d[HIGH])),
        .lane_write(expand_outputs && has_channel), .lane, .lane_block, .lane_data(parameters[53:0]),
        .rest_write(host_write && host_what == 3'd6), .rest_lane(host_data[63:56]), .rest_block(host_to), .rest_data(host_data[53:0]),
        .buffer_write(to_valid && to_tensor == 2'd2), .buffer_bank(to_bank), .buffer_to(to_address), .buffer_data(rs_data),
        .outside(storing), .outside_from(from), .outside_found(found), .outside_sums(found_sums),
        .deciding, .deciding_block, .deciding_rank, .deciding_sums, .decided_open, .kept_from, .kept_open, .ready(result)
    );
    cg_store #(.COLUMNS(COLUMNS), .S(S)) store (
        .clk, .rst, .d, .outputs, .positions, .live, .start(store_start), .busy(store_busy),
        .list_rank(store_list_rank), .place, .out_rank(store_out_rank), .out_channel, .parameters(parameters[53:0]), .from, .found,
        .sums(found_sums), .whole_place, .whole_channel, .open(open_position && open_channel),
        .rd_valid(store_rd_valid), .rd_ready(rd_ready && storing), .rd_addr(store_rd_addr), .rs_valid(rs_valid && storing),
        .rs_data, .wr_valid, .wr_ready, .wr_addr, .wr_data, .written
    );
    assign rd_valid  = storing ? store_rd_valid : load_rd_valid;
    assign rd_addr   = storing ? store_rd_addr : load_rd_addr;
    assign rd_tensor = storing ? 2'd2 : load_tensor;

    // --- the step ---
    logic [15:0] in_area, out_area;
    logic        last_clear, index_done;
    assign in_area    = 16'(d[IN_HEIGHT] * d[IN_WIDTH]);
    assign out_area   = 16'(d[OUT_HEIGHT] * d[OUT_WIDTH]);
    assign most       = in_area > out_area ? (in_area > 16'(d[OUT_CHANNELS]) ? in_area : 16'(d[OUT_CHANNELS]))
                                           : (out_area > 16'(d[OUT_CHANNELS]) ? out_area : 16'(d[OUT_CHANNELS]));
    assign last_clear = clear && n + 16'd1 == most;
    assign index_done = 32'(n) + 1 >= INDEX_LATENCY;

    always_comb begin
        scan         = 1'b0;
        scan_list    = 1'b0;
        scan_slot    = 2'(d[POSITION_SLOT]);
        scan_entries = 16'(d[TILES]);
        scan_input   = 1'b0;
        if (last_clear && d[FLAGS][LIST_OUTPUTS]) begin
            {scan, scan_list} = 2'b11;
            scan_slot    = 2'(d[OUT_SLOT]);
            scan_entries = 16'(d[OUT_UNITS]);
        end else if ((last_clear || (state == LIST_OUTPUTS_ && !scan_busy)) && d[FLAGS][LIST_INPUTS]) begin
            {scan, scan_list} = 2'b11;
            scan_slot    = 2'(d[IN_SLOT]);
            scan_entries = 16'(d[IN_UNITS]);
        end else if (state == READ_POSITIONS) begin
            {scan, scan_input} = 2'b11;
            scan_slot    = 2'(d[READ_SLOT]);
            scan_entries = 16'(d[READ_TILES]);
        end else if (inputs_start) scan = 1'b1;
    end

    logic began;
    state_t loaded_all;
    assign loaded_all = live ? PREPARE : d[FLAGS][DECIDED] ? WAIT_DECISION : STORE;
    assign weights_start = state == LOAD_WEIGHTS && !began && live;
    assign inputs_start  = state == LOAD_INPUTS && !began;
    assign added_start   = state == LOAD_ADDED && !began;
    assign rest_start    = PARTIAL && state == LOAD_REST && !began;
    assign store_start   = state == STORE && !began;

    always_ff @(posedge clk) begin
        if (rst) state <= IDLE;
        else begin
            began <= 1'b1;
            n     <= n + 16'd1;
            case (state)
                IDLE: if (start) enter(CLEAR);
                CLEAR: begin
                    outputs <= '0;
                    inputs <= '0;
                    read_count <= '0;
                    unit_rank <= '0;
                    group_part <= '0;
                    {lane, lane_block} <= '0;
                    if (last_clear) enter(d[FLAGS][INDEXED] ? INDEX : EXPAND_OUTPUTS);
                end
                INDEX: if (index_done)
                    enter(d[FLAGS][LIST_OUTPUTS] ? LIST_OUTPUTS_ : d[FLAGS][LIST_INPUTS] ? LIST_INPUTS_ : EXPAND_OUTPUTS);
                LIST_OUTPUTS_: if (!scan_busy) enter(d[FLAGS][LIST_INPUTS] ? LIST_INPUTS_ : d[FLAGS][LIST_ONLY] ? IDLE : EXPAND_OUTPUTS);
                LIST_INPUTS_: if (!scan_busy) enter(d[FLAGS][LIST_ONLY] ? IDLE : EXPAND_OUTPUTS);
                EXPAND_OUTPUTS, EXPAND_INPUTS: begin
                    if (has_channel) begin
                        if (expand_outputs) begin
                            outputs <= outputs + 16'd1;
                            lane    <= lane + 8'd1 == 8'(COLUMNS) ? '0 : lane + 8'd1;
                            if (lane + 8'd1 == 8'(COLUMNS)) lane_block <= lane_block + 16'd1;
                        end else inputs <= inputs + 16'd1;
                    end
                    group_part <= group_part + 8'd1;
                    if (whole_units || 16'(group_part) + 16'd1 == group) begin
                        group_part <= '0;
                        unit_rank  <= unit_rank + 16'd1;
                    end
                    if (expand_done) begin
                        unit_rank  <= '0;
                        group_part <= '0;
                        enter(expand_outputs ? EXPAND_INPUTS : d[FLAGS][GATED_READ] ? READ_POSITIONS : LOAD_WEIGHTS);
                    end
                end
                READ_POSITIONS: enter(READING);
                READING: begin
                    if (there) read_count <= read_count + 16'd1;
                    if (!scan_busy) enter(LOAD_WEIGHTS);
                end
                LOAD_WEIGHTS: if (!weights_start && !load_busy) enter(LOAD_INPUTS);
                LOAD_INPUTS: if (!load_busy)
                    enter(some && outputs != '0 && d[FLAGS][ADDED] ? LOAD_ADDED : loaded_all);
                LOAD_ADDED: if (began && !load_busy) enter(loaded_all);
                PREPARE: if (n == 16'd2) enter(d[FLAGS][DECIDED] ? WAIT_DECISION : d[FLAGS][LOADED] ? PRELOAD : COMPUTE);
                WAIT_DECISION: if (32'(n) + 1 == DECISION_LATENCY) enter(live ? COMPUTE : STORE);
                PRELOAD: if (loaded) enter(COMPUTE);
                COMPUTE: if (hold) enter(LOAD_REST);
                         else if (all_issued) enter(DRAIN);
                LOAD_REST: if (began && !load_busy) enter(COMPUTE);
                DRAIN: if (finished) enter(STORE);
                STORE: if (began && !store_busy) enter(IDLE);
                default: enter(IDLE);
            endcase
        end
    end
    task automatic enter(input state_t to);
        state <= to;
        began <= 1'b0;
        n     <= '0;
    endtask
    assign busy = state != IDLE;

    // Positions whose results are not there yet.
    logic [15:0] under_way;
    logic        finished;
    assign finished = result && under_way == 16'd1;
    always_ff @(posedge run) begin
        if (rst) under_way <= '0;
        else under_way <= under_way + 16'(issue) - 16'(result);
    end

    // Weights of a completion are loaded while the array stands still.
    logic served;
    assign hold = PARTIAL && (state == LOAD_REST || (state == COMPUTE && fetch && !served));
    always_ff @(posedge clk) served <= !rst && (state == LOAD_REST || (served && hold));

    // --- counters ---
    logic computing, sends, waits, of_index, of_memory;
    assign computing = state == COMPUTE && !hold;
    assign sends     = computing && issue;
    assign waits     = computing && !issue;
    assign of_index  = state == INDEX || ((state == LIST_OUTPUTS_ || state == LIST_INPUTS_) && scanning) ||
                       (state == LOAD_INPUTS && nothing && some);
    assign of_memory = busy && !computing && state != DRAIN && state != WAIT_DECISION && !of_index;
    cg_counters counters (
        .clk, .rst, .clear(start && !busy),
        .cycles_compute(sends),
        .cycles_weight_loading(waits && !undecided && (begun || !d[FLAGS][DECIDED])),
        .cycles_fill_and_drain(state == DRAIN),
        .cycles_memory(of_memory),
        .cycles_waiting_for_decisions(state == WAIT_DECISION || (waits && (undecided || (!begun && d[FLAGS][DECIDED])))),
        .cycles_index(of_index),
        .words_inputs(to_valid && to_tensor == 2'd0),
        .words_weights(to_valid && to_tensor == 2'd1),
        .words_added((to_valid && to_tensor == 2'd2) || (storing && rs_valid)),
        .words_outputs(written),
        .actions_mac(sends ? macs : 16'd0),
        .actions_input_buffer_read(sends ? rows_used : 8'd0),
        .actions_weight_buffer_read(push && !hold ? push_columns : 8'd0),
        .actions_sum_buffer_read(sends ? columns_used : 8'd0),
        .actions_sum_buffer_write(sends ? columns_used : 8'd0),
        .actions_weight_buffer_write(to_valid && to_tensor == 2'd1),
        .actions_input_buffer_write((to_valid && to_tensor != 2'd1) || (storing && rs_valid)),
        .number(counter), .count
    );
endmodule
