#include "layouts.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <stdexcept>

#include "convolution.h"
#include "simple.h"

namespace convgate {
namespace {

constexpr long long most_positions = 1LL << 26, most_floats = (1LL << 31) - 1;
constexpr std::size_t most_bytes = std::size_t{1} << 34;

// The free parts of memory, of which the end is as long as need be.
class Rooms {
public:
    // The first that is large enough.
    std::size_t take(std::size_t size) {
        for (auto room = free_.begin(); room != free_.end(); ++room) {
            if (room->second < size) continue;
            const auto [offset, length] = *room;
            free_.erase(room);
            if (length > size) free_.emplace(offset + size, length - size);
            return offset;
        }
        const std::size_t offset = end_;
        end_ += size;
        return offset;
    }
    void give_back(std::size_t offset, std::size_t size) {
        auto after = free_.lower_bound(offset);
        if (after != free_.end() && offset + size == after->first) size += after->second, after = free_.erase(after);
        if (after != free_.begin())
            if (const auto before = std::prev(after); before->first + before->second == offset) {
                offset = before->first;
                size += before->second;
                free_.erase(before);
            }
        if (offset + size == end_)
            end_ = offset;
        else
            free_.emplace(offset, size);
    }

private:
    std::map<std::size_t, std::size_t> free_;  // offset, size
    std::size_t end_ = 0;
};

// What integers of a value lie within.
struct Range {
    int low = 0, high = 0;
    void include(const Range& other) { low = std::min(low, other.low), high = std::max(high, other.high); }
};

struct Planner {
    const Program& program;
    std::vector<GateUse>& gates;
    Layouts plan;
    std::vector<std::vector<int>> readers;  // operations, per value
    std::vector<int> writer;                // operation, or -1 for inputs
    std::vector<bool> kept;                 // inputs and outputs of the program
    std::vector<Activation> rectified;      // per value
    std::vector<Range> ranges;              // per value of integers
    std::vector<std::pair<int, int>> conversions;  // the layout, and the operation that it is for

    Planner(const Program& program, std::vector<GateUse>& gates) : program(program), gates(gates) {
        const std::size_t n = program.values.size(), operations = program.operations.size();
        plan.values.resize(n);
        for (std::size_t v = 0; v < n; v++) plan.values[v].value = program.values[v];
        plan.in_place.assign(operations, 0);
        plan.addend_done.assign(operations, 0);
        plan.compacted.assign(operations, -1);
        readers.resize(n);
        writer.assign(n, -1);
        kept.assign(n, false);
        for (std::size_t i = 0; i < operations; i++) {
            const Operation& op = program.operations[i];
            for (int v : op.inputs) readers[v].push_back(static_cast<int>(i));
            if (op.kind != Kind::decide) writer[op.output] = static_cast<int>(i);
        }
        for (int v : program.inputs) kept[v] = true;
        for (int v : program.outputs) kept[v] = true;
    }

    // A value may be kept compact, and its closed positions empty, if whatever reads it can read it so.
    void choose_compact() {
        const std::vector<int> readable = find_readable();
        for (const Operation& op : program.operations) {
            if (op.kind == Kind::decide || kept[op.output]) continue;
            Layout& layout = plan.values[op.output];
            if (op.kind == Kind::conv && op.inputs.size() == 1) {
                layout.closed_unread = op.positions >= 0 && reads_open_positions(op);
                if (op.out_channels >= 0 && (readable[op.output] == op.out_channels || readable[op.output] == any_gate))
                    keep_open(layout, op.out_channels);
            } else if (const int map = carried(op); map >= 0 && plan.values[map].compact()) {
                keep_open(layout, plan.values[map].channels_gate);
            }
        }
        for (std::size_t i = 0; i < program.operations.size(); i++) copy_if_dense(static_cast<int>(i));
    }

    void keep_open(Layout& layout, int gate) {
        layout.channels_gate = gate;
        layout.channels_use = gates[gate].spread(layout.value.channels);
    }

    // By which gate's channels each value can be read if only the open ones are there; or by any, or by none.
    static constexpr int any_gate = -1, no_gate = -2;
    std::vector<int> find_readable() const {
        std::vector<int> readable(program.values.size(), any_gate);
        // Whatever reads a value follows what writes it.
        for (std::size_t i = program.operations.size(); i-- > 0;) {
            const Operation& op = program.operations[i];
            for (const int v : op.inputs) {
                const int by = reads_by(op, v, readable);
                readable[v] = by_both(readable[v], by);
            }
        }
        return readable;
    }
    static int by_both(int a, int b) {
        if (a == any_gate) return b;
        if (b == any_gate || b == a) return a;
        return no_gate;
    }
    int reads_by(const Operation& op, int v, const std::vector<int>& readable) const {
        if (convolves(op, v) && op.in_channels >= 0) return op.in_channels;
        // Zeros times what is not finite are no zeros; a convolution of open channels does not look at them.
        const bool zeros = writer[v] >= 0 && program.operations[writer[v]].kind != Kind::multiply;
        if (op.kind == Kind::pool_to_grid && program.values[op.output].positions() == 1) return zeros ? any_gate : no_gate;
        return carried(op) == v && !kept[op.output] ? readable[op.output] : no_gate;
    }
    // As its input, not as what is added.
    static bool convolves(const Operation& op, int v) {
        return op.kind == Kind::conv && op.inputs[0] == v && (op.inputs.size() < 2 || op.inputs[1] != v);
    }

    // The map whose channels an operation passes on one by one, zeros as zeros; or -1.
    int carried(const Operation& op) const {
        switch (op.kind) {
            case Kind::quantize:
            case Kind::dequantize: return op.inputs[0];
            case Kind::lookup: return op.weight.bytes[program.values[op.inputs[0]].is_signed() ? 128 : 0] == 0 ? op.inputs[0] : -1;
            case Kind::multiply: {
                // By a number for each channel, as in squeeze and excitation.
                const Value& out = program.values[op.output];
                const auto has_all = [&](int v) { return program.values[v].channels == out.channels; };
                const auto is_map = [&](int v) { return same_size(program.values[v], out); };
                const int a = op.inputs[0], b = op.inputs[1];
                if (a == b || !has_all(a) || !has_all(b)) return -1;
                return is_map(a) && program.values[b].positions() == 1 ? a : is_map(b) && program.values[a].positions() == 1 ? b : -1;
            }
            default: return -1;
        }
    }

    // Whether those that a convolution's gate closes are read by none of its readers, which compute the same ones, or fewer.
    bool reads_open_positions(const Operation& op) const {
        return std::ranges::all_of(readers[op.output], [&](int reader) {
            const Operation& to = program.operations[reader];
            const bool pointwise = convolves(to, op.output) && to.kernel.y == 1 && to.kernel.x == 1 && to.stride.y == 1 &&
                                   to.stride.x == 1 && same_size(program.values[op.output], program.values[to.output]);
            return pointwise && to.positions == op.positions && to.reach.y <= op.reach.y && to.reach.x <= op.reach.x;
        });
    }

    static bool same_size(const Value& a, const Value& b) { return a.height == b.height && a.width == b.width; }

    // A convolution that skips closed input channels reads them compact; where the value is not, it reads a copy.
    void copy_if_dense(int operation) {
        const Operation& op = program.operations[operation];
        if (op.kind != Kind::conv || op.in_channels < 0) return;
        const Layout& from = plan.values[op.inputs[0]];
        if (from.channels_gate == op.in_channels) return;
        const bool depthwise = op.groups > 1 && op.groups == from.value.channels &&
                               from.value.channels == program.values[op.output].channels;
        // It reads channels wherever they lie, in runs of those that lie together; of short ones a copy is quicker.
        const bool runs = program.gates[op.in_channels].group >= costs::least_run || !plan.values[op.output].compact();
        if (depthwise && op.in_channels == op.out_channels && runs) return;
        Layout copy;
        copy.value = from.value;
        copy.value.storage = form_of(program, op).in;
        copy.channels_gate = op.in_channels;
        copy.channels_use = gates[op.in_channels].spread(from.value.channels);
        plan.compacted[operation] = static_cast<int>(plan.values.size());
        plan.values.push_back(copy);
    }

    // Borders as wide as the convolutions that read a value reach past it.
    void choose_borders() {
        for (std::size_t i = 0; i < program.operations.size(); i++) {
            const Operation& op = program.operations[i];
            if (op.kind == Kind::conv_transpose) {
                int top, left, bottom, right;
                reach_of_transposed(op, program.values[op.inputs[0]], program.values[op.output], &top, &left, &bottom, &right);
                widen(plan.values[op.inputs[0]], top, left, bottom, right);
            }
            if (op.kind != Kind::conv && op.kind != Kind::complete) continue;
            if (computes_taps_apart(program, op)) continue;
            Layout& in = plan.values[plan.compacted[i] >= 0 ? plan.compacted[i] : op.inputs[0]];
            const Value& out = program.values[op.output];
            const int below = (out.height - 1) * op.stride.y + (op.kernel.y - 1) * op.dilation.y + 1 - in.value.height - op.top;
            const int right = (out.width - 1) * op.stride.x + (op.kernel.x - 1) * op.dilation.x + 1 - in.value.width - op.left;
            // Where a 3x3 convolution is computed in squares of 2x2 outputs, the last one may end outside.
            const bool squares = op.kind == Kind::conv && op.kernel.y == 3 && op.kernel.x == 3;
            widen(in, op.top, op.left, std::max(below, 0) + (squares && out.height % 2), std::max(right, 0) + (squares && out.width % 2));
        }
        // Values that share memory share the border: they form chains, along which it is passed back, then on.
        const std::size_t n = program.operations.size();
        for (std::size_t i = n; i-- > 0;)
            if (plan.in_place[i]) widen(addend(i), output(i));
        for (std::size_t i = 0; i < n; i++)
            if (plan.in_place[i]) widen(output(i), addend(i));
    }

    Layout& output(std::size_t operation) { return plan.values[program.operations[operation].output]; }
    Layout& addend(std::size_t operation) { return plan.values[program.operations[operation].inputs[1]]; }

    // Where a value is not stored as what an operation computes with, the operation reads or writes a copy, border and all.
    void choose_conversions() {
        plan.reads.resize(program.operations.size());
        plan.writes.assign(program.operations.size(), -1);
        for (std::size_t i = 0; i < program.operations.size(); i++) {
            const Operation& op = program.operations[i];
            const Form form = form_of(program, op);
            // What is added to a convolution's results is stored as these.
            const bool adds = op.kind == Kind::conv;
            for (std::size_t k = 0; k < op.inputs.size(); k++)
                plan.reads[i].push_back(stored_as(op.inputs[k], adds && k > 0 ? form.out : form.in, static_cast<int>(i)));
            if (op.kind != Kind::decide) plan.writes[i] = stored_as(op.output, form.out, static_cast<int>(i));
        }
    }
    int stored_as(int v, Storage storage, int operation) {
        if (program.values[v].storage == storage || integral(program.values[v].storage) || summed(program.values[v].storage)) return v;
        Layout copy = plan.values[v];
        copy.value.storage = storage;
        plan.values.push_back(copy);
        conversions.push_back({static_cast<int>(plan.values.size()) - 1, operation});
        return conversions.back().first;
    }

    // Borders add up over readers; positions are counted in ints.
    void check_sizes() const {
        for (const Layout& layout : plan.values) {
            const long long height = static_cast<long long>(layout.value.height) + layout.top + layout.bottom;
            const long long width = static_cast<long long>(layout.value.width) + layout.left + layout.right;
            if (height > most_positions || width > most_positions || height * width > most_positions ||
                height * width * layout.value.channels > most_floats)
                throw std::invalid_argument("a value that is too large with the padding that its readers need");
        }
    }

    static void widen(Layout& layout, const Layout& as) { widen(layout, as.top, as.left, as.bottom, as.right); }
    static void widen(Layout& layout, int top, int left, int bottom, int right) {
        layout.top = std::max(layout.top, top);
        layout.left = std::max(layout.left, left);
        layout.bottom = std::max(layout.bottom, bottom);
        layout.right = std::max(layout.right, right);
    }

    int last_reader(int v) const {
        if (kept[v]) return static_cast<int>(program.operations.size());
        int last = writer[v];
        for (int reader : readers[v]) last = std::max(last, reader);
        return last;
    }

    // What each value has gone through that a maximum, a mean or a sum with zero cannot undo: relu, relu6 or nothing.
    void find_rectified() {
        rectified.assign(program.values.size(), Activation::none);
        for (const Operation& op : program.operations) {
            if (op.kind == Kind::decide || op.inputs.empty()) continue;
            const bool passes = op.kind == Kind::pool || op.kind == Kind::pool_to_grid || op.kind == Kind::mask || op.kind == Kind::slice;
            const Activation own = op.activation.kind;
            if (passes)
                rectified[op.output] = rectified[op.inputs[0]];
            else if (own == Activation::relu || own == Activation::relu6)
                rectified[op.output] = own;
        }
    }
    bool already(int v, Activation activation) const {
        if (activation == Activation::none) return true;
        if (activation != Activation::relu && activation != Activation::relu6) return false;
        return rectified[v] == activation || (activation == Activation::relu && rectified[v] == Activation::relu6);
    }

    void find_ranges() {
        ranges.resize(program.values.size());
        for (const Operation& op : program.operations) {
            if (op.kind == Kind::decide || !integral(program.values[op.output].storage)) continue;
            Range& range = ranges[op.output];
            const bool is_signed = program.values[op.output].is_signed();
            if (op.kind == Kind::conv || op.kind == Kind::add || op.kind == Kind::complete)
                range = {op.low, op.high};
            else if (op.kind == Kind::quantize || op.kind == Kind::lookup)
                range = {is_signed ? -127 : 0, is_signed ? 127 : 255};
            else
                for (int v : op.inputs) range.include(ranges[v]);
        }
    }
    // Whether what a convolution adds would be as it is without its sums.
    bool addend_done(const Operation& op) const {
        const int addend = op.inputs[1];
        const Form form = form_of(program, op);
        if (integral(form.out))
            return op.rescale[1].same() && program.values[addend].storage == form.out && ranges[addend].low >= op.low && ranges[addend].high <= op.high;
        // In float32 the activations that no kernel computes follow in a pass of their own, over all positions.
        return already(addend, form.in != Storage::f32 ? op.activation.kind : op.activation.inside());
    }

    void choose_in_place() {
        for (std::size_t i = 0; i < program.operations.size(); i++) {
            const Operation& op = program.operations[i];
            if (op.kind != Kind::conv || op.inputs.size() < 2) continue;
            const int addend = op.inputs[1];
            plan.addend_done[i] = addend_done(op);
            plan.in_place[i] = program.values[addend].storage == program.values[op.output].storage && last_reader(addend) == static_cast<int>(i) && op.inputs[0] != addend && !kept[addend] &&
                               (op.out_channels < 0 || plan.addend_done[i]);
        }
    }

    static std::size_t room(const Layout& layout) { return (layout.bytes() + 63) / 64 * 64; }

    // First fit, in order of birth. Values that nothing writes are not there at all.
    void place() {
        const int end = static_cast<int>(program.operations.size());
        struct Life {
            std::size_t value;
            int birth, death;
        };
        // A value that takes over another's memory prolongs the other's life: along chains, from their ends.
        std::vector<int> death(plan.values.size(), -1), same_as(plan.values.size(), -1);
        for (std::size_t v = 0; v < program.values.size(); v++) death[v] = last_reader(static_cast<int>(v));
        for (int i = end; i-- > 0;) {
            if (!plan.in_place[i]) continue;
            const int owner = program.operations[i].inputs[1], heir = program.operations[i].output;
            same_as[heir] = owner;
            death[owner] = std::max(death[owner], death[heir]);
        }
        std::vector<Life> lives;
        for (std::size_t v = 0; v < program.values.size(); v++)
            if (writer[v] >= 0 || kept[v]) lives.push_back({v, writer[v], death[v]});
        for (int i = 0; i < end; i++)
            if (plan.compacted[i] >= 0) lives.push_back({static_cast<std::size_t>(plan.compacted[i]), i, i});
        for (const auto& [layout, operation] : conversions) lives.push_back({static_cast<std::size_t>(layout), operation, operation});
        std::stable_sort(lives.begin(), lives.end(), [](const Life& a, const Life& b) { return a.birth < b.birth; });
        Rooms rooms;
        std::vector<std::vector<std::size_t>> dying(end + 1);  // values, by the last operation that they live for
        int living = 0;
        for (const Life& life : lives) {
            Layout& layout = plan.values[life.value];
            if (same_as[life.value] >= 0) {
                layout.offset = plan.values[same_as[life.value]].offset;
                continue;
            }
            for (; living < life.birth; living++)
                for (const std::size_t v : dying[living]) rooms.give_back(plan.values[v].offset, room(plan.values[v]));
            layout.offset = rooms.take(room(layout));
            plan.bytes = std::max(plan.bytes, layout.offset + room(layout));
            dying[std::max(life.death, 0)].push_back(life.value);
        }
        if (plan.bytes > most_bytes) throw std::invalid_argument("values that take too much memory together");
    }
};

}  // namespace

Layouts lay_out(const Program& program, std::vector<GateUse>& gates) {
    Planner planner(program, gates);
    planner.choose_compact();
    planner.find_rectified();
    planner.find_ranges();
    planner.choose_in_place();
    planner.choose_borders();
    planner.choose_conversions();
    planner.check_sizes();
    planner.place();
    return std::move(planner.plan);
}

}  // namespace convgate
