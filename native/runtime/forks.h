// Forks of this process. A child has the memory of its parent, but only the thread that forked: threads that it inherits
// do not exist, and what they held locked stays so.
#pragma once

#include <memory>
#include <utility>

namespace convgate {

// How many forks lie between this process and the one that loaded the library.
int generation();

// While it lives, no other thread has one. In a child nobody has, whoever had one in the parent.
class Turn {
public:
    Turn();
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

private:
    const int generation_;
};

// Something with threads or locks that belongs to one process, and is made anew in a child that uses it. What a child
// inherits is left as it is, neither used nor destroyed: that would wait for threads that do not exist.
template <typename T>
class PerProcess {
public:
    PerProcess() = default;
    ~PerProcess() { leave_inherited(); }
    PerProcess(const PerProcess&) = delete;
    PerProcess& operator=(const PerProcess&) = delete;

    // What belongs to this process, made by `make()`, a std::unique_ptr<T>, if need be. Safe from several threads.
    template <typename Make>
    T& get(Make make) {
        const Turn turn;
        leave_inherited();
        if (!held_) held_ = make();
        return *held_;
    }

private:
    void leave_inherited() {
        if (made_ == generation()) return;
        (void)held_.release();
        made_ = generation();
    }

    std::unique_ptr<T> held_;
    int made_ = generation();
};

}  // namespace convgate
