// Threads: every item of a loop runs once, whatever the loops' lengths, and pools in several threads do not disturb each
// other.
#include <atomic>
#include <new>
#include <numeric>
#include <thread>

#include "../runtime/team.h"
#include "testing.h"

namespace convgate::testing {
namespace {

void stress(std::uint64_t seed, std::string& error) {
    Random random(seed);
    try {
        for (int pools = 0; pools < 6; pools++) {
            Pool pool(random.from(1, 4));
            std::vector<int> counts;
            std::vector<long long> by_thread(pool.threads());
            for (int loop = 0; loop < 1500; loop++) {
                const int items = random.chance(0.9) ? random.from(0, 6) : random.from(0, 300);
                counts.assign(items, 0);
                by_thread.assign(pool.threads(), 0);
                // Plain memory, of the item and of the thread: a race here is one of the pool.
                pool.run(items, [&](int item, int thread) {
                    counts[item]++;
                    by_thread[thread]++;
                });
                for (int item = 0; item < items; item++)
                    require(counts[item] == 1, "item ", item, " of ", items, " ran ", counts[item], " times");
                require(std::accumulate(by_thread.begin(), by_thread.end(), 0LL) == items,
                        "threads ran another number of items");
                // Long enough, now and then, for the others to go to sleep.
                if (random.chance(0.01)) std::this_thread::sleep_for(std::chrono::microseconds(200));
            }
        }
    } catch (const std::exception& failure) {
        error = failure.what();
    }
}

// What an item throws reaches the caller, from whichever thread, when all others are done; the next loop is as any other.
void throwing(Random& random) {
    Pool pool(random.from(1, 4));
    for (int loop = 0; loop < 200; loop++) {
        const int items = random.from(1, 40), bad = random.from(0, items - 1);
        std::vector<std::atomic<int>> ran(items);
        bool caught = false;
        try {
            pool.run(items, [&](int item, int) {
                ran[item]++;
                if (item == bad) throw std::bad_alloc();
            });
        } catch (const std::bad_alloc&) {
            caught = true;
        }
        require(caught, "an exception got lost");
        if (pool.threads() > 1 && items > 1)
            for (int item = 0; item < items; item++) require(ran[item] == 1, "item ", item, " ran ", ran[item].load(), " times");
        std::atomic<int> count{0};
        pool.run(items, [&](int, int) { count++; });
        require(count == items, "after an exception ", count.load(), " of ", items, " items ran");
    }
}

}  // namespace

void test_pool(Random& random) {
    std::string errors[3];
    std::vector<std::thread> threads;
    for (std::string& error : errors)
        threads.emplace_back(stress, static_cast<std::uint64_t>(random.from(0, 1 << 30)), std::ref(error));
    for (std::thread& thread : threads) thread.join();
    for (const std::string& error : errors) require(error.empty(), error);
    throwing(random);
    // Pools that have nothing to do still end.
    for (int i = 0; i < 50; i++) Pool(random.from(1, 6));
}

}  // namespace convgate::testing
