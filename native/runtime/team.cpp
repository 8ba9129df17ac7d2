#include "team.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "../kernels/even_parts.h"
#include "costs.h"
#include "floating_point.h"

namespace convgate {
namespace {

// While a thread waits actively: its core's other thread, if it has one, gets what this one would use.
void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

constexpr std::uint64_t range(std::uint64_t begin, std::uint64_t end) { return begin | end << 32; }

constexpr auto patience = std::chrono::microseconds(costs::patience_microseconds);

}  // namespace

Pool::Pool(int threads) : ranges_(threads) {
    try {
        for (int thread = 1; thread < threads; thread++) workers_.emplace_back([this, thread] { work(thread); });
    } catch (...) {
        dismiss();
        throw;
    }
}

Pool::~Pool() { dismiss(); }

void Pool::dismiss() {
    stop_ = true;
    calls_++;
    calls_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::share(int items, Body body, void* context) {
    if (workers_.empty() || items == 1) {
        for (int i = 0; i < items; i++) body(context, i, 0);
        return;
    }
    body_.store(body, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    // From here on a thread that is still looking for items of the last loop may find these.
    const int threads = static_cast<int>(ranges_.size());
    for (int t = 0; t < threads; t++)
        ranges_[t].left.store(range(even_part(items, t, threads), even_part(items, t + 1, threads)), std::memory_order_release);
    calls_.fetch_add(1);
    if (sleepers_.load() > 0) calls_.notify_all();
    take_items(0);
    while (done_.load(std::memory_order_acquire) < items) relax();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Pool::take_items(int thread) {
    const int threads = this->threads();
    int done = run_all(ranges_[thread], false, thread);
    for (int other = 1; other < threads; other++) done += run_all(ranges_[(thread + other) % threads], true, thread);
    if (done > 0) done_.fetch_add(done, std::memory_order_release);
}

// Returns how many items of the range it took and ran.
int Pool::run_all(Range& from, bool from_end, int thread) {
    int done = 0;
    std::uint64_t left = from.left.load(std::memory_order_acquire);
    for (;;) {
        const std::uint64_t begin = left & 0xffffffff, end = left >> 32;
        if (begin == end) return done;
        const std::uint64_t rest = from_end ? range(begin, end - 1) : range(begin + 1, end);
        if (!from.left.compare_exchange_weak(left, rest, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        // The loop cannot end before this item is counted as done, so its body and context are the ones read here.
        try {
            body_.load(std::memory_order_relaxed)(context_.load(std::memory_order_relaxed),
                                                  static_cast<int>(from_end ? end - 1 : begin), thread);
        } catch (...) {
            const std::lock_guard lock(failing_);
            failure_ = std::current_exception();
        }
        done++;
        left = from.left.load(std::memory_order_acquire);
    }
}

void Pool::work(int thread) {
    const DefaultFloatingPoint mode;
    int last = 0;
    while (!stop_) {
        const auto begin = std::chrono::steady_clock::now();
        int tries = 0;
        while (calls_.load(std::memory_order_acquire) == last) {
            relax();
            if (++tries % 256 || std::chrono::steady_clock::now() - begin < patience) continue;
            sleepers_++;
            calls_.wait(last);
            sleepers_--;
        }
        last = calls_.load(std::memory_order_acquire);
        take_items(thread);
    }
}

double seconds_to_share(int threads) {
    constexpr int samples = 15;
    constexpr double most = 0.02;  // seconds of a sample; of more threads than there are cores a loop takes milliseconds
    const auto now = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
    Pool pool(threads);
    std::vector<double> seconds;
    for (int sample = 0; sample < samples; sample++) {
        const double begin = now();
        int loops = 0;
        for (; loops == 0 || (loops < 500 && now() - begin < most); loops++) {
            std::atomic<int> there{0};
            pool.run(threads, [&](int, int) {
                there++;
                while (there.load(std::memory_order_acquire) < threads) relax();
            });
        }
        seconds.push_back((now() - begin) / loops);
    }
    std::nth_element(seconds.begin(), seconds.begin() + samples / 2, seconds.end());
    return seconds[samples / 2];
}

}  // namespace convgate
