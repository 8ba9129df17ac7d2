// What a step writes to memory: open results from the output buffer (or sums of 32 bits), then, if the whole map is to be
// written, what is added where nothing was computed, brought to the output's scale.
//
// If no input channel is open, nothing went through the array, and results are what the biases become.
import cg_registers::*;
module cg_store #(
    parameter int COLUMNS = 4,
    parameter int S = 32
) (
    input  logic                       clk,
    input  logic                       rst,
    input  logic [REGISTERS-1:0][31:0] d,
    input  logic [15:0]                outputs,
    input  logic [15:0]                positions,
    input  logic                       live,
    input  logic                       start,
    output logic                       busy,
    output logic [15:0]                list_rank,
    input  logic [15:0]                place,
    output logic [15:0]                out_rank,
    input  logic [15:0]                out_channel,
    input  logic [53:0]                parameters,   // bias, multiplier and shift of `out_channel`
    output logic [15:0]                from,         // the output buffer
    input  logic [COLUMNS-1:0][7:0]    found,
    input  logic [COLUMNS-1:0][S-1:0]  sums,
    output logic [15:0]                whole_place,
    output logic [15:0]                whole_channel,
    input  logic                       open,         // this position and this channel
    output logic                       rd_valid,
    input  logic                       rd_ready,
    output logic [31:0]                rd_addr,
    input  logic                       rs_valid,
    input  logic [7:0]                 rs_data,
    output logic                       wr_valid,
    input  logic                       wr_ready,
    output logic [31:0]                wr_addr,
    output logic [7:0]                 wr_data,
    output logic                       written       // a word is: a result, or a whole sum
);
    typedef enum logic [3:0] {IDLE, LIST, READ, KNOWN, SCALE, SCALED, WRITE, CHECK, ASK, ANSWER, ADD, ADDED_, CLOSED} state_t;
    state_t state;
    logic [15:0]        rank, part, base, area;
    logic [31:0]        compact;
    logic [7:0]         bank;
    logic [1:0]         octet;
    logic               raw, closed;
    logic [7:0]         operand;
    logic signed [23:0] scaled, more;
    logic signed [24:0] whole;
    logic signed [9:0]  low, high, limited;
    logic [31:0]        value;

    assign raw  = d[FLAGS][RAW];
    assign low  = 10'(d[LOW]);
    assign high = 10'(d[HIGH]);
    assign area = 16'(d[OUT_HEIGHT] * d[OUT_WIDTH]);
    assign closed = state == ADD || state == ADDED_ || state == CLOSED;

    cg_bring #(.WIDTH(32)) bring (
        .clk, .value(parameters[31:0]), .multiplier(parameters[47:32]), .shift(parameters[53:48]), .brought(scaled)
    );
    logic [7:0] waiting_operand;
    assign operand = closed ? waiting_operand : found[bank];
    cg_bring #(.WIDTH(9)) bring_added (
        .clk, .value({d[FLAGS][SIGNED_ADDED] && operand[7], operand}), .multiplier(16'(d[ADD_MULTIPLIER])),
        .shift(6'(d[ADD_SHIFT])), .brought(more)
    );
    assign whole   = (closed ? 25'sd0 : 25'(scaled)) + (d[FLAGS][ADDED] ? 25'(more) : 25'sd0);
    assign limited = whole < 25'(low) ? low : whole > 25'(high) ? high : 10'(whole);

    assign value = live ? sums[bank] : parameters[31:0];
    always_comb begin
        if (raw) wr_data = 8'(value >> {octet, 3'd0});
        else if (live && !closed) wr_data = found[bank];
        else wr_data = limited[7:0];
    end
    assign list_rank     = rank;
    assign out_rank      = part;
    assign from          = base + rank;
    assign whole_place   = rank;
    assign whole_channel = part;
    assign rd_valid      = state == ASK;
    assign rd_addr       = d[A_BASE] + rank * d[A_STRIDE] + 32'(part);
    assign wr_valid      = state == WRITE || state == CLOSED;
    assign wr_addr       = closed ? d[Y_BASE] + rank * d[Y_STRIDE] + 32'(part)
                         : d[FLAGS][COMPACT_OUTPUT] || raw ? d[Y_BASE] + compact
                         : d[Y_BASE] + place * d[Y_STRIDE] + 32'(out_channel);
    assign written       = wr_valid && wr_ready && (!raw || octet == '1);
    assign busy          = start || state != IDLE;

    always_ff @(posedge clk) begin
        if (rst) state <= IDLE;
        else case (state)
            IDLE: begin
                rank <= '0;
                part <= '0;
                bank <= '0;
                base <= '0;
                octet <= '0;
                compact <= '0;
                if (start) begin
                    if (positions != '0 && outputs != '0) state <= LIST;
                    else if (d[FLAGS][WHOLE_OUTPUT]) state <= CHECK;
                end
            end
            LIST: state <= READ;
            READ: state <= live ? WRITE : KNOWN;
            KNOWN: state <= SCALE;   // what is in the buffer, and the channel's parameters
            SCALE: state <= SCALED;
            SCALED: state <= WRITE;
            WRITE: if (wr_ready) begin
                compact <= compact + 32'd1;
                octet   <= raw ? octet + 2'd1 : '0;
                if (!raw || octet == '1) begin
                    part <= part + 16'd1;
                    bank <= bank + 8'd1;
                    if (!live) state <= KNOWN;
                    if (bank + 8'd1 == 8'(COLUMNS)) begin
                        bank  <= '0;
                        base  <= base + positions;
                        state <= LIST;
                    end
                    if (part + 16'd1 == outputs) begin
                        part <= '0;
                        bank <= '0;
                        base <= '0;
                        rank <= rank + 16'd1;
                        state <= LIST;
                        if (rank + 16'd1 == positions) begin
                            rank  <= '0;
                            state <= d[FLAGS][WHOLE_OUTPUT] ? CHECK : IDLE;
                        end
                    end
                end
            end
            CHECK: if (open) step_on();
                   else state <= ASK;
            ASK: if (rd_ready) state <= ANSWER;
            ANSWER: if (rs_valid) begin
                waiting_operand <= rs_data;
                state <= ADD;
            end
            ADD: state <= ADDED_;
            ADDED_: state <= CLOSED;
            CLOSED: if (wr_ready) step_on();
            default: state <= IDLE;
        endcase
    end

    task automatic step_on();
        state <= CHECK;
        part  <= part + 16'd1;
        if (part + 16'd1 == 16'(d[OUT_CHANNELS])) begin
            part <= '0;
            rank <= rank + 16'd1;
            if (rank + 16'd1 == area) state <= IDLE;
        end
    endtask
endmodule
