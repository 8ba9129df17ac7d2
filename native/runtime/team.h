// A team of threads that share out the items of a loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace convgate {

// Runs f(item, thread) for each item < n once, on up to `threads()` threads; thread 0 is the caller. Each thread begins with
// a range of its own, the same part of every loop: where items follow positions, a thread finds in its cache what it wrote
// there in the loop before. A thread that is done takes items from the ends of others' ranges, so that a slow or
// descheduled core does fewer. If any f throws, the loop ends as any other does, and then throws one of the exceptions.
class Team {
public:
    virtual ~Team() = default;
    virtual int threads() const = 0;

    template <typename Function>
    void run(int items, Function&& f) {
        using F = std::remove_reference_t<Function>;
        if (items > 0) share(items, [](void* f, int item, int thread) { (*static_cast<F*>(f))(item, thread); }, &f);
    }

    // The same, by the caller alone unless it `pays` to share the items out.
    template <typename Function>
    void run_if(bool pays, int items, Function&& f) {
        if (pays) return run(items, f);
        run(1, [&](int, int thread) {
            for (int item = 0; item < items; item++) f(item, thread);
        });
    }

protected:
    using Body = void (*)(void*, int item, int thread);
    virtual void share(int items, Body body, void* context) = 0;
};

// The caller alone, under the number of the thread that it is.
class Alone final : public Team {
public:
    explicit Alone(int thread) : thread_(thread) {}
    int threads() const override { return 1; }

private:
    void share(int items, Body body, void* context) override {
        for (int i = 0; i < items; i++) body(context, i, thread_);
    }
    int thread_;
};

// Its own threads. They wait for work actively for a short while, so that the layers of one call follow each other
// without a system call, and then sleep.
class Pool final : public Team {
public:
    explicit Pool(int threads);
    ~Pool() override;
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    int threads() const override { return static_cast<int>(workers_.size()) + 1; }

private:
    // The items of a thread's range that nobody has taken: where they begin (the lower 32 bits) and end.
    struct alignas(64) Range {
        std::atomic<std::uint64_t> left{0};
    };

    void share(int items, Body body, void* context) override;
    void work(int thread);
    void take_items(int thread);
    int run_all(Range& range, bool from_end, int thread);
    void dismiss();

    std::vector<Range> ranges_;
    std::atomic<Body> body_{nullptr};
    std::atomic<void*> context_{nullptr};
    std::atomic<int> done_{0};
    std::atomic<int> calls_{0};  // changes with each loop; what sleepers wait on
    std::atomic<int> sleepers_{0};
    std::atomic<bool> stop_{false};
    std::mutex failing_;
    std::exception_ptr failure_;  // of the loop under way
    std::vector<std::thread> workers_;
};

// Seconds that a loop takes of which every thread has one item, and which do nothing but wait for each other: what it costs
// to share work out, by how near the cores are to each other.
double seconds_to_share(int threads);

}  // namespace convgate
