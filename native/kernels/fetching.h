// Part of simd.h, and of what else fetches so.

// Spreads over a call what it fetches for a later one (`A`: Ahead of some type of weights): a core that waits for as many lines as it can
// keep in mind stands still. In turns, between loops that have no registers to spare for it.
template <typename A>
class Fetching {
public:
    // So many lines of each row, in so many turns, if any.
    Fetching(const A& a, int lines, int turns) : ahead_(a), lines_(lines) {
        if (turns == 0 || a.count == 0) return;
        each_ = (a.count * lines + turns - 1) / turns;
        begin_row();
    }

    __attribute__((always_inline)) void turn() {
        Address next = next_;
        int left = left_;
        for (int n = each_; n > 0 && left > 0; n--) {
            __builtin_prefetch(next, 0, 2);
            next += line_bytes / sizeof(*next);
            if (--left > 0) continue;
            begin_row();
            next = next_, left = left_;
        }
        next_ = next, left_ = left;
    }

private:
    using Address = decltype(A::weights);

    void begin_row() {
        left_ = row_ < ahead_.count ? lines_ : 0;
        if (left_ > 0) next_ = ahead_.weights + static_cast<std::ptrdiff_t>(ahead_.rows ? ahead_.rows[row_] : row_) * ahead_.stride;
        row_++;
    }

    const A& ahead_;
    const int lines_;
    int each_ = 0;
    int row_ = 0, left_ = 0;  // of the row that `next_` is in
    Address next_ = nullptr;
};
