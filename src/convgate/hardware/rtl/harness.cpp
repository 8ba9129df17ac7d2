// Drives the accelerator: jobs from the standard input, what became of them to the standard output, all numbers in the
// machine's byte order. A job is
//   u32 writes, u32 bytes of memory, u32 seed, u32 percent of clocks in which memory does nothing, u64 most clocks,
//   u32 region of memory that is given back (begin, size), then the writes (u32 what, u32 to, u64 data), then the memory.
// The answer is u32 0 or 1 (too many clocks) or 2 (an address outside the memory), u64 clocks, u64 lines of memory of 64
// bytes touched by tensor (inputs, weights, added, outputs), u64 counters, the region.
#include <cstdint>
#include <cstdio>
#include <deque>
#include <set>
#include <vector>

#include "Vcg_top.h"
#include "verilated.h"

namespace {
constexpr int kCounters = 17, kTensors = 4, kLine = 64;

template <typename T>
bool get(T& value) {
    return std::fread(&value, sizeof(T), 1, stdin) == 1;
}
template <typename T>
void put(const T& value) {
    std::fwrite(&value, sizeof(T), 1, stdout);
}

struct Write {
    uint32_t what, to;
    uint64_t data;
};

struct Random {  // xorshift
    uint64_t state;
    bool rests(uint32_t percent) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state % 100 < percent;
    }
};
}  // namespace

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vcg_top top{&context};
    auto clock = [&] {
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
    };
    top.host_write = top.start = top.rd_ready = top.rs_valid = top.wr_ready = 0;
    top.rst = 1;
    clock();
    clock();
    top.rst = 0;
    uint32_t writes;
    while (get(writes)) {
        uint32_t bytes, seed, percent, begin, size;
        uint64_t most;
        if (!get(bytes) || !get(seed) || !get(percent) || !get(most) || !get(begin) || !get(size)) return 3;
        for (uint32_t i = 0; i < writes; i++) {
            Write write;
            if (!get(write)) return 3;
            top.host_write = 1;
            top.host_what = write.what;
            top.host_to = write.to;
            top.host_data = write.data;
            clock();
        }
        top.host_write = 0;
        std::vector<uint8_t> memory(bytes);
        if (bytes && std::fread(memory.data(), 1, bytes, stdin) != bytes) return 3;
        std::set<uint32_t> lines[kTensors];
        std::deque<uint8_t> answers;
        Random random{0x9e3779b97f4a7c15ull ^ seed};
        uint64_t clocks = 0;
        uint32_t failure = 0;
        top.start = 1;
        for (;;) {
            // What the memory does in this clock is settled before the accelerator's part of it is looked at.
            top.rd_ready = !random.rests(percent);
            top.wr_ready = !random.rests(percent);
            top.rs_valid = !answers.empty() && !random.rests(percent);
            top.rs_data = answers.empty() ? 0 : answers.front();
            top.clk = 0;
            top.eval();
            if (top.rs_valid && top.rs_ready) answers.pop_front();
            if (top.rd_valid && top.rd_ready) {
                if (top.rd_addr >= bytes) { failure = 2; break; }
                answers.push_back(memory[top.rd_addr]);
                lines[top.rd_tensor].insert(top.rd_addr / kLine);
            }
            if (top.wr_valid && top.wr_ready) {
                if (top.wr_addr >= bytes) { failure = 2; break; }
                memory[top.wr_addr] = top.wr_data;
                lines[3].insert(top.wr_addr / kLine);
            }
            top.clk = 1;
            top.eval();
            clocks++;
            top.start = 0;
            if (!top.busy) break;
            if (clocks == most) { failure = 1; break; }
        }
        put(failure);
        put(clocks);
        for (const auto& touched : lines) put(uint64_t{touched.size()});
        for (int i = 0; i < kCounters; i++) {
            top.counter = i;
            top.eval();
            put(uint64_t{top.count});
        }
        std::fwrite(memory.data() + begin, 1, size, stdout);
        std::fflush(stdout);
        if (failure) {
            top.rst = 1;
            top.start = 0;
            clock();
            top.rst = 0;
        }
    }
    return 0;
}
