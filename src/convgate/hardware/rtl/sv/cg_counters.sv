// What is counted. Each register has the name of a field of convgate's simulator: `cycles_` causes, `words_` tensors,
// `actions_` actions.
`define COUNT(NUMBER, NAME) counts[NUMBER] <= counts[NUMBER] + 48'(NAME)
module cg_counters (
    input  logic        clk,
    input  logic        rst,
    input  logic        clear,
    input  logic        cycles_compute,
    input  logic        cycles_weight_loading,
    input  logic        cycles_fill_and_drain,
    input  logic        cycles_memory,
    input  logic        cycles_waiting_for_decisions,
    input  logic        cycles_index,
    input  logic        words_inputs,
    input  logic        words_weights,
    input  logic        words_added,
    input  logic        words_outputs,
    input  logic [15:0] actions_mac,
    input  logic [7:0]  actions_input_buffer_read,
    input  logic [7:0]  actions_weight_buffer_read,
    input  logic [7:0]  actions_sum_buffer_read,
    input  logic [7:0]  actions_sum_buffer_write,
    input  logic        actions_weight_buffer_write,
    input  logic        actions_input_buffer_write,
    input  logic [4:0]  number,
    output logic [47:0] count
);
    logic [16:0][47:0] counts;
    assign count = counts[number];
    always_ff @(posedge clk) begin
        if (rst || clear) counts <= '0;
        else begin
            `COUNT(0, cycles_compute);
            `COUNT(1, cycles_weight_loading);
            `COUNT(2, cycles_fill_and_drain);
            `COUNT(3, cycles_memory);
            `COUNT(4, cycles_waiting_for_decisions);
            `COUNT(5, cycles_index);
            `COUNT(6, words_inputs);
            `COUNT(7, words_weights);
            `COUNT(8, words_added);
            `COUNT(9, words_outputs);
            `COUNT(10, actions_mac);
            `COUNT(11, actions_input_buffer_read);
            `COUNT(12, actions_weight_buffer_read);
            `COUNT(13, actions_sum_buffer_read);
            `COUNT(14, actions_sum_buffer_write);
            `COUNT(15, actions_weight_buffer_write);
            `COUNT(16, actions_input_buffer_write);
        end
    end
endmodule
`undef COUNT
