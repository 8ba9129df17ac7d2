#include "forks.h"

#include <pthread.h>

#include <atomic>
#include <thread>

namespace convgate {
namespace {

std::atomic<int> forks{0};
std::atomic<bool> taken{false};

// Runs in a child before anything else does.
void born() {
    forks.fetch_add(1);
    taken.store(false);
}

const bool watching = [] { return pthread_atfork(nullptr, nullptr, born) == 0; }();

}  // namespace

int generation() { return watching ? forks.load(std::memory_order_acquire) : 0; }

// Held for as long as it takes to start threads: waiting may sleep, but must not use a lock that a fork could break.
Turn::Turn() : generation_(generation()) {
    while (taken.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
}

Turn::~Turn() {
    if (generation_ == generation()) taken.store(false, std::memory_order_release);
}

}  // namespace convgate
