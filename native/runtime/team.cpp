#include "team.h"

#include <chrono>
#include <stdexcept>

namespace convgate {
namespace {

constexpr int bits = 22;
constexpr std::uint64_t field = (std::uint64_t{1} << bits) - 1;
constexpr auto patience = std::chrono::microseconds(60);

}  // namespace

Pool::Pool(int threads) {
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
    // Room in the field for the items that late threads try to take past the end.
    if (static_cast<std::uint64_t>(items) > field / 2) throw std::length_error("too many items in one parallel loop");
    if (workers_.empty() || items == 1) {
        for (int i = 0; i < items; i++) body(context, i, 0);
        return;
    }
    body_.store(body, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const std::uint64_t serial = (loop_.load(std::memory_order_relaxed) >> (2 * bits)) + 1;
    loop_.store(serial << (2 * bits) | static_cast<std::uint64_t>(items) << bits);
    calls_.fetch_add(1);
    if (sleepers_.load() > 0) calls_.notify_all();
    take_items(0);
    while (done_.load(std::memory_order_acquire) < items) {
    }
}

void Pool::take_items(int thread) {
    for (;;) {
        const std::uint64_t seen = loop_.fetch_add(1, std::memory_order_acq_rel);
        const int item = static_cast<int>(seen & field), items = static_cast<int>(seen >> bits & field);
        if (item >= items) return;
        // The loop cannot end before this item is done, so its body and context are still the ones read here.
        body_.load(std::memory_order_relaxed)(context_.load(std::memory_order_relaxed), item, thread);
        done_.fetch_add(1, std::memory_order_release);
    }
}

void Pool::work(int thread) {
    int last = 0;
    while (!stop_) {
        const auto begin = std::chrono::steady_clock::now();
        int tries = 0;
        while (calls_.load(std::memory_order_acquire) == last) {
            if (++tries % 256 || std::chrono::steady_clock::now() - begin < patience) continue;
            sleepers_++;
            calls_.wait(last);
            sleepers_--;
        }
        last = calls_.load(std::memory_order_acquire);
        take_items(thread);
    }
}

}  // namespace convgate
