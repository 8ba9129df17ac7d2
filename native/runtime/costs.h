// What work costs on a processor, and what follows from it: which way a layer is computed, in what pieces, and when threads
// share it. What was measured rather than derived stands here; `make costs` measures what single kernels decide, by the names
// that it has here, and the times of whole networks decided the rest.
//
// What decides in which order numbers are added up must not depend on the machine, or results would: `keeps_elements`,
// `winograd_pays` and `bf16_winograd_pays`, `dots_pay`, `taps_apart_pay`, `parts_of_mean`. They are
// made for vectors of `lanes_of_choices`, not of a kernel's, or for none. Of the rest, what depends on the second-level cache's size
// asks the machine for it; 1 MB and 512 KB were measured.
#pragma once

#include <algorithm>
#include <cstddef>

#include "../kernels/even_parts.h"

namespace convgate {

// How a layer is computed decides in which order products are added up. So that results do not depend on a processor's
// vectors, it is chosen as for vectors of so many lanes.
constexpr int lanes_of_choices = 16;

}  // namespace convgate

namespace convgate::costs {

// -- caches ---------------------------------------------------------------------------------------------------------------

// Bytes of the second-level cache that a core has to itself: as the system says, in bounds; 1 MB where it does not say.
std::size_t second_cache();

// What may stay in a cache while all else passes by: half of it.
inline std::size_t kept_in_second_cache() { return second_cache() / 2; }
inline bool stays_in_second_cache(std::size_t bytes) { return bytes <= kept_in_second_cache(); }

// Of the first-level cache, of which processors have 32 or 48 KB: bytes of weights that all positions of a product use before
// the next ones', and of inputs that are transposed at once.
constexpr int step_bytes = 32 << 10;
constexpr int transposed_bytes = 24 << 10;

// Of an output, positions and channels that are written for the caller at once, each channel a row of the caller's array.
constexpr int written_positions = 64, written_rows = 8;

// Channels that a gate opens and closes together, from which on a depthwise convolution reads them where they lie in a dense map. With 4
// it takes as long as with a copy, of single ones 1.05 to 1.25 times as long (a MobileNetV3's first, Zen 3).
constexpr int least_run = 4;

// So many positions at most are computed at once, of which pointers and sums stay in the caches.
constexpr int positions_at_once = 192;

// -- what is worth a thread -----------------------------------------------------------------------------------------------

// To share a loop out takes 0.2 to 1.1 microseconds, by how near the cores are to each other. What a thread does in about half
// a microsecond is worth an item of a loop, or that a loop is shared out; of elements half or a quarter as wide as a float
// two or four times as many. A loop has a few items for each thread, as threads are disturbed; after a loop they wait for the
// next one for some time before they sleep.
constexpr int items_per_thread = 4;
constexpr int patience_microseconds = 60;
template <typename T>
constexpr int per_float = sizeof(float) / sizeof(T);

constexpr long long depthwise_macs = 1 << 14, integer_depthwise_macs = 1 << 15;
constexpr long long dot_macs = 1 << 15;
template <typename T>
constexpr long long product_macs = per_float<T> * (1LL << 15);
template <typename T>
constexpr long long along_lanes_macs = per_float<T> * (1LL << 16);
template <typename T>
constexpr long long winograd_macs = sizeof(T) == 1 ? 1 << 17 : 1 << 16;  // integers are multiplied in pairs, all else as floats
constexpr long long completion_macs = 1 << 16, integer_completion_macs = 1 << 17;

// Elements: of copies, of what takes an operation or two each, of what takes several, of what windows give.
constexpr int copied_elements = 1 << 14, simple_elements = 1 << 13, complex_elements = 1 << 12, window_elements = 1 << 11;
// Bytes of a map, of which the mean is taken.
constexpr long long averaged_bytes = 1 << 16;

// In how many parts of its lines the mean of a map is taken, so that threads share it.
inline int parts_of_mean(long long elements, int positions, int height) {
    constexpr int most = 8, least_elements = 1 << 12, least_positions = 64;
    return static_cast<int>(std::clamp<long long>(elements / least_elements, 1, std::max(std::min({most, height, positions / least_positions}), 1)));
}

// -- products -------------------------------------------------------------------------------------------------------------

// How many positions are few: blocks of output channels are then shared out, and each thread reads the weights of its own.
inline bool shares_blocks(int positions, int threads) { return positions < 48 * threads; }

// In how many parts each of `blocks` is computed, of so many MACs and positions each: many items where each is worth a
// while, so that no thread waits long for the last one, and no part of a few positions.
template <typename T>
inline int parts_per_block(long long macs, int positions, int blocks, int threads) {
    constexpr long long worthwhile = per_float<T> * (1LL << 22);
    constexpr int least_positions = 24;
    const long long items = std::clamp<long long>(macs * blocks / worthwhile, 4, 16) * threads;
    const long long wanted = std::max<long long>((items + blocks - 1) / blocks, 1);
    const long long sensible = std::min<long long>(positions / least_positions, macs / product_macs<T>);
    return static_cast<int>(std::clamp<long long>(wanted, 1, std::max<long long>(sensible, 1)));
}

// The same where each position of a block is finished by itself: eight items for each thread, `worthwhile` at most.
inline int parts_of_completions(int positions, long long worthwhile, int blocks, int threads) {
    const long long sensible = std::min<long long>(positions / 48, worthwhile);
    return static_cast<int>(std::clamp<long long>(ceil_div(8 * threads, blocks), 1, std::max<long long>(sensible, 1)));
}

// How many vectors wide a panel of output channels is: `widest`, or halves of it, down to `least`, until there is a panel
// for each thread.
inline int panel_for_threads(int widest, int least, int outs, int lanes, int threads) {
    int vectors = widest;
    while (vectors > least && ceil_div(outs, vectors * lanes) < threads) vectors = ceil_div(vectors, 2);
    return vectors;
}

// Where output channels are closed, either the weights of the open ones are packed, or all lanes are computed and some kept.
// In products of a vector of weights with an input: to pack one, and to keep some lanes of a vector of results.
struct Packing {
    int packing, keeping;
};
constexpr Packing packing_floats{28, 20}, packing_halves{28, 100}, packing_bytes{8, 150};

// Of `rows` of inputs with `length` elements each: `open` of `outs` outputs. `preparing`: what else it takes, for each
// vector of weights, to make them ready; `results`: how many vectors of results a row has for each vector of outputs.
inline bool packing_pays(const Packing& of, int open, int outs, int lanes, int rows, long long length, int preparing = 0, int results = 1) {
    if (open == outs) return false;
    const long long all = ceil_div(outs, lanes), closed = all - ceil_div(open, lanes);
    return ((rows + preparing) * closed - of.packing * all) * length + static_cast<long long>(rows) * results * all * of.keeping > 0;
}

// -- positions along the lanes ----------------------------------------------------------------------------------------------

// Maps of so few positions that packed weights never pay.
constexpr int few_positions = 256;

// Whether it serves better than packing weights, in what is not float32: between vectors that are mostly empty and weights
// that are used often enough to be packed; with so many outputs and inputs that transposing is a small part.
struct AlongLanes {
    int outputs, inputs;
};
constexpr AlongLanes halves_along_lanes{128, 256}, bytes_along_lanes{64, 128};
inline bool suits_along_lanes(const AlongLanes& least, int positions, int outs, long long length) {
    return positions > 48 && positions <= 1024 && outs >= least.outputs && length >= least.inputs;
}

// Of these: vectors of positions, and outputs, that are computed at once; in float32, inputs that are transposed at once.
constexpr int vectors_at_once = 12, outputs_at_once = 128;
constexpr int transposed_inputs = 96;
// Panels that are computed together, of so many weights each for a part of the inputs: these are in the first-level cache while inputs
// pass by.
inline int panels_together(int floats) { return std::max((18 << 10) / static_cast<int>(sizeof(float)) / floats, 1); }
// In bfloat16, panels of outputs that are computed at once, and of inputs that can be closed how many are paired for them at once.
constexpr int panels_at_once = 2, paired_inputs = 192;

// In float32: of how many groups of vectors for each thread these are shared out, rather than outputs; and how many items each of more
// than two threads has, which was not measured.
constexpr int groups_per_thread = 4, items_of_many = 2;

// In float32, of a panel of `vectors`: all its lanes at each of the positions, or all positions' lanes for each of its open
// outputs, which also loads a weight for each, and transposes the inputs.
inline bool whole_is_cheaper(int positions, int vectors, int open, int lanes) {
    return 10 * positions * vectors <= 11 * open * ceil_div(positions, lanes);
}

// In bfloat16, where one way is taken for all outputs: products of all lanes at each of the positions, or with positions along the
// lanes, for each open output and vector of positions. Such a one takes as long as so many of the former: where there is one
// vector, each loads a word of weights.
constexpr double product_along_one_vector = 1.35, product_along_vectors = 0.9;
inline bool product_of_halves_is_cheaper(int positions, int outs, int open, int lanes) {
    const int vectors = ceil_div(positions, lanes);
    const double along = static_cast<double>(open) * vectors * (vectors == 1 ? product_along_one_vector : product_along_vectors);
    return static_cast<double>(positions) * ceil_div(outs, lanes) <= along;
}

// How many positions, after those that fill vectors, are computed one by one, `most` at once, all lanes of each panel while its
// weights are in the cache: where that takes less than a vector for each open channel.
inline int left_over(int positions, int lanes, int most, int vectors, int panels, int open) {
    const int rest = positions % lanes;
    if (positions < lanes || rest > most) return 0;
    return 3 * rest * vectors * panels <= 2 * open ? rest : 0;
}

// -- Winograd's F(2x2, 3x3) -------------------------------------------------------------------------------------------------

// Of a square of 2x2 outputs there are 16 products for each input, of its positions 9 each.
constexpr int winograd_products = 16, direct_products = 9;

// In products of a vector: to transform a vector of weights, all its elements; to transpose a vector of squares of an input
// and back of an output.
constexpr int transforming = 200, transforming_halves = 110, transforming_bytes = 40, transposing = 16;

// Elements' weights that are kept, in floats; more would have to come from memory. With fewer squares than `few_squares`,
// reading weights takes longer than multiplying.
constexpr std::size_t kept_elements = 3u << 18;
constexpr int few_squares = 24;

// Squares that are computed at once, at least; inputs whose weights are transformed when they are needed; outputs whose results
// are transformed back together.
constexpr int least_squares = 48, transformed_inputs = 64, transformed_outputs = 64;

// They are kept where they are small, or where to transform them in each call would take more than a tenth of the time of
// the products with all squares.
inline bool keeps_elements(std::size_t floats, int squares) {
    return floats <= kept_elements || 10 * transforming > winograd_products * squares;
}
inline bool winograd_pays(bool keeps, int squares, int positions) {
    return winograd_products * squares + (keeps ? 0 : transforming) < direct_products * positions;
}

// Of bfloat16 and integers they are transformed in each call, so that they take no more memory than they are stored in.
inline bool bf16_winograd_pays(int squares, int positions) {
    return winograd_products * squares + transforming_halves < direct_products * positions;
}
inline bool integer_winograd_pays(int squares, int positions) {
    return winograd_products * squares + transforming_bytes < direct_products * positions;
}

// Where they are transformed in each call, each part of the squares transforms them anew. So blocks are shared out among threads,
// rather than squares, where that would take more than a third of the time of a thread's products; and a part has some squares.
inline bool shares_transformed(int squares, int transforming, int threads) { return winograd_products * squares < 3 * transforming * threads; }
constexpr int least_part(int transforming) { return transforming / 10; }

// With squares along the lanes, rather than output channels: with three quarters of the outputs open, or all lanes of all outputs. Where
// weights are kept sums are the same either way, so that a processor's lanes may decide.
inline bool winograd_columns_suit(int squares, int outs, int lanes) {
    return ceil_div(squares, lanes) * (3 * outs / 4 + transposing) < squares * ceil_div(outs, lanes);
}

// Where weights come from memory: there an output's lie together, so that they are read as a stream, of which closed inputs are left
// out. Among output channels a row of weights is a line or two, and to leave out rows at random takes as long as to read them all.
// Measured on AVX2 and a Zen 3, where each weight serves two vectors of squares.
inline bool winograd_columns_stream(int squares, int outs, int lanes, std::size_t floats) {
    const long long along_lanes = static_cast<long long>(ceil_div(squares, lanes)) * (outs + transposing);
    const long long across = static_cast<long long>(squares) * ceil_div(outs, lanes);
    return floats > kept_elements && squares >= 2 * lanes && 10 * along_lanes <= 11 * across;
}

// -- few outputs --------------------------------------------------------------------------------------------------------------

// Dot products along the inputs, where most lanes of output channels would stay empty.
inline bool dots_pay(int outs, int length) { return 2 * outs <= lanes_of_choices && length >= lanes_of_choices; }
// Taps computed apart: of so few products a position and so many channels that adding up the lanes takes less than is saved.
inline bool taps_apart_pay(long long products, int channels) { return products <= 16 && channels >= 128; }

}  // namespace convgate::costs
