// Part of simd.h, and of what else fetches so.

// Spreads over a call what it fetches for a later one: a core that waits for as many lines as it can keep in mind stands still.
class Fetching {
public:
    // So many lines of each row, in so many turns, if any.
    Fetching(const Ahead& a, int lines, int turns) : ahead_(a), lines_(lines) {
        if (turns == 0 || a.count == 0) return;
        each_ = (a.count * lines + turns - 1) / turns;
        begin_row();
    }

    __attribute__((always_inline)) void turn() {
        const float* next = next_;
        int left = left_;
        for (int n = each_; n > 0 && left > 0; n--) {
            __builtin_prefetch(next, 0, 2);
            next += line;
            if (--left > 0) continue;
            begin_row();
            next = next_, left = left_;
        }
        next_ = next, left_ = left;
    }

private:
    void begin_row() {
        left_ = row_ < ahead_.count ? lines_ : 0;
        if (left_ > 0) next_ = ahead_.weights + static_cast<std::ptrdiff_t>(ahead_.rows ? ahead_.rows[row_] : row_) * ahead_.stride;
        row_++;
    }

    const Ahead& ahead_;
    const int lines_;
    int each_ = 0;
    int row_ = 0, left_ = 0;  // of the row that `next_` is in
    const float* next_ = nullptr;
};
