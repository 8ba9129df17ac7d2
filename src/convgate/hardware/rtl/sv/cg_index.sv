// The dynamic index module: masks in, indices of what is open out, one per clock.
//
// Of a mask of positions it gives the positions of open tiles, tile by tile; of a mask of channels it writes the list of
// open units into the slot's memory. It looks at BITS entries at once; a word without an open entry costs a clock.
module cg_index #(
    parameter int BITS = 64,
    parameter int WORDS = 16,     // of a mask, at most
    parameter int SLOTS = 4,
    parameter int BOUNDS = 128,   // tiles of a row or a column, at most, and one
    localparam int MASKS = WORDS * SLOTS,
    localparam int UNITS = WORDS * BITS,
    localparam int N = $clog2(BITS),
    localparam int NM = $clog2(MASKS),
    localparam int NT = $clog2(4*BOUNDS)
) (
    input  logic                      clk,
    input  logic                      rst,
    input  logic                      mask_write,
    input  logic [NM-1:0]  mask_to,      // slot * WORDS + word
    input  logic [BITS-1:0]           mask_data,
    input  logic                      bound_write,  // where tiles begin: rows, columns, those of the input
    input  logic [NT-1:0] bound_to,
    input  logic [15:0]               bound_data,
    input  logic                      start,
    input  logic                      list,         // list units, else give positions
    input  logic [$clog2(SLOTS)-1:0]  slot,
    input  logic [15:0]               entries,
    input  logic                      of_input,     // the tiles are those of the map that is read
    input  logic [15:0]               tile_columns,
    input  logic [20:0]               tile_inverse,
    output logic                      busy,
    output logic                      scanning,     // it is past its start
    output logic                      nothing,      // this clock's word holds nothing that is open
    output logic                      there,        // a position is here
    output logic [15:0]               row,
    output logic [15:0]               column,
    input  logic                      next,         // it is taken
    output logic [SLOTS-1:0]          any,          // the slot's mask has an open entry
    input  logic [$clog2(SLOTS)-1:0]  unit_slot,
    input  logic [$clog2(UNITS)-1:0]  unit_rank,
    output logic [15:0]               unit,
    output logic [SLOTS-1:0][15:0]    units         // how many units are open, of the slots listed so far
);
    logic [1:0]                warm;       // the memory answers, the first word is here
    logic                      listing, input_tiles;
    logic [$clog2(SLOTS)-1:0]  from_slot;
    logic [15:0]               word, words, base;
    logic [BITS-1:0]           found;
    logic                      valid, last, take, load;
    logic [N-1:0]              bit_index;
    logic [15:0]               entry, tile_row, tile_column, top, bottom, left, right, y, x;
    logic                      partway;     // of a tile, after its first position
    logic                      tile_done;

    logic [NM-1:0] mask_from;
    assign mask_from = start ? NM'(32'(slot) * WORDS) : NM'(32'(from_slot) * WORDS + 32'(word) + 32'(load));
    cg_ram #(.WIDTH(BITS), .DEPTH(MASKS)) masks (
        .clk, .write(mask_write), .to(mask_to), .data(mask_data),
        .read(1'b1), .from(mask_from), .found
    );
    always_ff @(posedge clk) begin
        if (rst) any <= '0;
        else if (mask_write) begin
            if (32'(mask_to) % WORDS == 0) any[32'(mask_to) / WORDS] <= mask_data != '0;
            else any[32'(mask_to) / WORDS] <= any[32'(mask_to) / WORDS] | (mask_data != '0);
        end
    end

    // The scanner takes its next word with the last index of this one, or when this one is empty.
    assign load = warm[1] || (scanning && (!valid || (take && last)) && word != words);
    cg_scan #(.BITS(BITS)) scan (
        .clk, .rst, .load, .mask(found), .next(take), .valid, .index(bit_index), .last
    );
    assign entry       = base + 16'(bit_index);
    assign tile_row    = 16'((37'(entry) * 37'(tile_inverse)) >> 20);
    assign tile_column = entry - tile_row * tile_columns;

    logic [NT-1:0] rows_at, columns_at;
    assign rows_at    = NT'((input_tiles ? 2 * BOUNDS : 0) + 32'(tile_row));
    assign columns_at = NT'((input_tiles ? 3 * BOUNDS : BOUNDS) + 32'(tile_column));
    cg_table #(.WIDTH(16), .DEPTH(4*BOUNDS)) tops (.clk, .write(bound_write), .to(bound_to), .data(bound_data), .from(rows_at), .found(top));
    cg_table #(.WIDTH(16), .DEPTH(4*BOUNDS)) bottoms (.clk, .write(bound_write), .to(bound_to), .data(bound_data), .from(rows_at + 1'b1), .found(bottom));
    cg_table #(.WIDTH(16), .DEPTH(4*BOUNDS)) lefts (.clk, .write(bound_write), .to(bound_to), .data(bound_data), .from(columns_at), .found(left));
    cg_table #(.WIDTH(16), .DEPTH(4*BOUNDS)) rights (.clk, .write(bound_write), .to(bound_to), .data(bound_data), .from(columns_at + 1'b1), .found(right));

    assign row       = partway ? y : top;
    assign column    = partway ? x : left;
    assign tile_done = row + 16'd1 == bottom && column + 16'd1 == right;
    assign there     = scanning && !listing && valid;
    assign take      = scanning && valid && (listing || (next && tile_done));
    assign nothing   = scanning && !valid;
    assign busy      = warm != '0 || scanning;

    cg_table #(.WIDTH(16), .DEPTH(SLOTS*UNITS)) lists (
        .clk, .write(scanning && listing && valid),
        .to($clog2(SLOTS*UNITS)'(32'(from_slot) * UNITS + 32'(units[from_slot]))), .data(entry),
        .from($clog2(SLOTS*UNITS)'(32'(unit_slot) * UNITS + 32'(unit_rank))), .found(unit)
    );

    always_ff @(posedge clk) begin
        if (rst) begin
            warm <= '0;
            scanning <= 1'b0;
            partway <= 1'b0;
            units <= '0;
        end else begin
            warm <= {warm[0], start};
            if (start) begin
                listing <= list;
                from_slot <= slot;
                input_tiles <= of_input;
                words <= 16'((32'(entries) + BITS - 1) / BITS);
                word <= '0;
                partway <= 1'b0;
                if (list) units[slot] <= '0;
            end
            if (load) begin
                word <= word + 16'd1;
                base <= 16'(32'(word) * BITS);
            end
            if (warm[1]) scanning <= 1'b1;
            else if (scanning && word == words && (!valid || (take && last))) scanning <= 1'b0;
            if (scanning && listing && valid) units[from_slot] <= units[from_slot] + 16'd1;
            if (there && next) begin
                partway <= !tile_done;
                y <= column + 16'd1 == right ? row + 16'd1 : row;
                x <= column + 16'd1 == right ? left : column + 16'd1;
            end
        end
    end
endmodule
