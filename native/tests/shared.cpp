// Buffers that are kept once: equal ones are one for as long as any is in use, others are not, from several threads too.
#include "../runtime/shared.h"

#include <functional>
#include <thread>
#include <utility>

#include "testing.h"

namespace convgate::testing {
namespace {

Buffer filled(int what, std::size_t size) {
    Buffer buffer(size);
    for (std::size_t i = 0; i < size; i++) buffer[i] = static_cast<float>(i % 97);
    buffer[size - 1] = static_cast<float>(what);
    return buffer;
}

void stress(std::uint64_t seed, std::string& error) {
    Random random(seed);
    std::vector<std::pair<int, SharedBuffer>> held;
    const std::size_t size = 5000;
    for (int step = 0; step < 300 && error.empty(); step++) {
        const int what = random.from(0, 5);
        held.emplace_back(what, SharedBuffer(filled(what, size)));
        for (const auto& [other, buffer] : held) {
            if (buffer[size - 1] != static_cast<float>(other)) error = "a buffer holds another's numbers";
            if ((buffer.data() == held.back().second.data()) != (other == what)) error = "equal buffers are two, or others are one";
        }
        if (random.chance(0.1)) held.erase(held.begin(), held.begin() + random.from(1, static_cast<int>(held.size())));
    }
}

}  // namespace

void test_shared_buffers(Random& random) {
    std::vector<std::string> errors(3);
    std::vector<std::thread> threads;
    for (std::string& error : errors) threads.emplace_back(stress, random.from(0, 1 << 30), std::ref(error));
    for (std::thread& thread : threads) thread.join();
    for (const std::string& error : errors) require(error.empty(), error);
    require(SharedBuffer().data() == nullptr, "an empty buffer has numbers");
    const SharedBuffer small(filled(1, 3)), again(filled(1, 3));
    require(small.data() != again.data(), "so small a buffer is looked for");
}

}  // namespace convgate::testing
