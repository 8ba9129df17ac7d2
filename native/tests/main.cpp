// native_tests [--seed N] [--iterations N] [--require SET].. [test..]: each iteration of a test has a seed of its own, the next
// number, so that `--seed <the one printed> --iterations 1 <test>` repeats a failure. Fails if an instruction set that is
// required is not found: tests run those that are.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "../kernels/bf16.h"
#include "../kernels/int8.h"
#include "testing.h"

using namespace convgate;
using namespace convgate::testing;

namespace {

struct Test {
    const char* name;
    int iterations;
    void (*run)(Random&);
};

const Test tests[] = {
    {"kernels", 100, test_kernels},
    {"bf16", 100, test_bf16},
    {"int8", 60, test_int8},
    {"networks", 250, test_networks},
    {"wide_networks", 30, test_wide_networks},
    {"large_weights", 6, test_large_weights},
    {"bf16_networks", 150, test_bf16_networks},
    {"wide_bf16_networks", 20, test_wide_bf16_networks},
    {"bf16_winograd", 300, test_bf16_winograd},
    {"int8_winograd", 200, test_int8_winograd},
    {"int8_networks", 200, test_int8_networks},
    {"shared_network", 6, test_shared_network},
    {"pool", 10, test_pool},
    {"shared_buffers", 10, test_shared_buffers},
    {"fixed_vector", 50, test_fixed_vector},
    {"malformed", 8000, test_malformed},
    {"malformed_int8", 1000, test_malformed_int8},
    {"borders", 1, test_borders},
    {"long_grids", 1, test_long_grids},
    {"many_gates", 1, test_many_gates},
    {"long_products", 1, test_long_products},
    {"wide_strides", 1, test_wide_strides},
    {"wide_windows", 1, test_wide_windows},
    {"long_programs", 1, test_long_programs},
};

// The iteration: said of a failure, of a crash by the handler, or by the sanitizer on its way out.
struct {
    const char* test;
    unsigned long long seed;
} under_way;

void say(const char* what) { std::fprintf(stderr, "\n%s: native_tests --iterations 1 --seed %llu %s\n", what, under_way.seed, under_way.test); }

[[maybe_unused]] void crash(int signal) {
    say("crashed");
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

bool run(const Test& test, std::uint64_t seed, int iterations) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < iterations; i++) {
        under_way = {test.name, static_cast<unsigned long long>(seed + i)};
        Random random(seed + i);
        try {
            test.run(random);
        } catch (const std::exception& error) {
            say("FAILED");
            std::fprintf(stderr, "%s\n", error.what());
            return false;
        }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::fprintf(stderr, "%s: %d iterations from seed %llu in %.1f s\n", test.name, iterations,
                 static_cast<unsigned long long>(seed), seconds);
    return true;
}

}  // namespace

extern "C" void __asan_on_error() { say("crashed"); }

int main(int count, char** arguments) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    for (const int signal : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL}) std::signal(signal, crash);
#endif
    std::uint64_t seed = 1;
    int iterations = 0;
    std::vector<std::string> wanted, required;
    for (int i = 1; i < count; i++) {
        if (!std::strcmp(arguments[i], "--seed") && i + 1 < count)
            seed = std::strtoull(arguments[++i], nullptr, 10);
        else if (!std::strcmp(arguments[i], "--iterations") && i + 1 < count)
            iterations = std::atoi(arguments[++i]);
        else if (!std::strcmp(arguments[i], "--require") && i + 1 < count)
            required.push_back(arguments[++i]);
        else
            wanted.push_back(arguments[i]);
    }
    std::fprintf(stderr, "instruction sets for float32, bfloat16 and 8-bit integers:\n");
    for (const char* const* names : {available_kernels(), available_bf16_kernels(), available_int8_kernels()}) {
        for (; *names; names++) {
            std::fprintf(stderr, " %s", *names);
            std::erase(required, *names);
        }
        std::fprintf(stderr, "\n");
    }
    for (const std::string& name : required) std::fprintf(stderr, "not found here: %s\n", name.c_str());
    if (!required.empty()) return 1;
    int ran = 0, failed = 0;
    for (const Test& test : tests) {
        bool chosen = wanted.empty();
        for (const std::string& name : wanted) chosen |= name == test.name;
        if (!chosen) continue;
        ran++;
        failed += !run(test, seed, iterations > 0 ? iterations : test.iterations);
    }
    if (ran == 0 || ran < static_cast<int>(wanted.size())) {
        std::fprintf(stderr, "no such test; they are:");
        for (const Test& test : tests) std::fprintf(stderr, " %s", test.name);
        std::fprintf(stderr, "\n");
        return 2;
    }
    return failed > 0;
}
