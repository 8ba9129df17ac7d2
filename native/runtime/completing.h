// What completions of partial sums have in common, whatever maps and sums are stored as: block by block of output channels,
// positions where any of the block's channels is open, in batches, apart from those where none is.
#pragma once

#include <algorithm>

#include "rest.h"
#include "steps.h"

namespace convgate {

template <typename Map, typename Sum>
class CompletingOf : public ConvolutionOf<Map, Map> {
public:
    void run(Sample& s, Team& team) const final {
        const Run run = this->begin(s);
        const Tensors tensors{run, s.view_of<Sum>(*sums_), s.gates[spec_.operation->gate]};
        const int blocks = static_cast<int>(blocks_.all().size()), parts = parts_of_positions(team);
        team.run(blocks * parts, [&](int item, int thread) {
            const int number = item / parts, part = item % parts;
            const int first = even_part(run.count, part, parts), last = even_part(run.count, part + 1, parts);
            this->count(s, blocks_.all()[number].macs * compute(tensors, number, s.scratch[thread], first, last));
        });
    }

protected:
    using Base = ConvolutionOf<Map, Map>;
    using typename Base::Run;
    using Base::addend_at_, Base::chunk, Base::in_at_, Base::out_at_, Base::spec_;

    // least_macs: worth an item of its own.
    CompletingOf(const ConvolutionSpec& spec, const Layout& sums, const Gate& gate, RestShape shape, long long least_macs)
        : Base(spec), blocks_(spec, gate, shape), gate_(gate), sums_(&sums), least_macs_(least_macs) {
        const Value& out = spec_.out->value;
        for (int y = 0; y < out.height; y++)
            for (int x = 0; x < out.width; x++) sums_at_.push_back(sums.position(y, x));
    }

    struct Tensors {
        const Run& run;
        ViewOf<Sum> sums;
        const GateState& gate;
    };
    // Positions for one call of a kernel.
    struct Batch {
        int count = 0;
        std::int32_t positions[Base::chunk];
    };

    // A batch's activations of a block, with the rest of their sums if any are open.
    virtual void finish(const Tensors&, int block, Scratch&, const Batch&, bool open) const = 0;

    // A batch's places in the sums, the output and the addend, from a channel on.
    void point_batch(const Tensors& tensors, Scratch& scratch, const Batch& batch, int channel, const Sum** sums) const {
        Places<Map>& places = scratch.places<Map>();
        for (int i = 0; i < batch.count; i++) {
            const int p = batch.positions[i];
            const auto at = [&](const auto& view, std::int32_t position) {
                return view.data + static_cast<std::ptrdiff_t>(position) * view.stride + channel;
            };
            sums[i] = at(tensors.sums, sums_at_[p]);
            places.outputs[i] = at(tensors.run.out, out_at_[p]);
            if (spec_.addend) places.addends[i] = at(tensors.run.addend, addend_at_[p]);
        }
    }
    // Which channels of a block in several units are open, or null: all of a batch's are.
    const std::uint8_t* const* open_channels(const RestBlock& block, const Scratch& scratch) const {
        return block.unit < 0 ? scratch.open.data() : nullptr;
    }
    const Map* input(const Tensors& tensors, int position) const {
        return tensors.run.in.data + static_cast<std::ptrdiff_t>(in_at_[position]) * tensors.run.in.stride;
    }

    const RestBlocks blocks_;

private:
    int parts_of_positions(const Team& team) const {
        if (team.threads() == 1) return 1;
        const int blocks = static_cast<int>(blocks_.all().size()), positions = spec_.out->value.positions();
        const RestBlock& block = blocks_.all()[0];
        return costs::parts_of_completions(positions, positions * block.macs * block.width / least_macs_, blocks, team.threads());
    }

    // Positions [first, last) of a block; returns how many activations are open.
    long long compute(const Tensors& tensors, int number, Scratch& scratch, int first, int last) const {
        const RestBlock& block = blocks_.all()[number];
        Batch open, closed;
        long long activations = 0;
        const auto flush = [&](Batch& batch, bool is_open) {
            if (batch.count) finish(tensors, number, scratch, batch, is_open);
            batch.count = 0;
        };
        for (int p = first; p < last; p++) {
            const std::uint8_t* units = tensors.gate.at(p);
            const int channels = block.unit >= 0 ? units[block.unit] * block.width : spread(block, units, scratch, open.count);
            activations += channels;
            Batch& batch = channels ? open : closed;
            batch.positions[batch.count++] = p;
            if (batch.count == chunk) flush(batch, channels > 0);
        }
        flush(open, true);
        flush(closed, false);
        return activations;
    }

    // Which of the block's channels are open, for the i-th position of a batch; how many.
    int spread(const RestBlock& block, const std::uint8_t* units, Scratch& scratch, int i) const {
        int channels = 0;
        if (gate_.group == 1) {
            scratch.open[i] = units + block.begin;
            for (int c = 0; c < block.width; c++) channels += scratch.open[i][c];
            return channels;
        }
        std::uint8_t* to = scratch.spread.data() + static_cast<std::ptrdiff_t>(i) * blocks_.row(block);
        scratch.open[i] = to;
        for (int c = 0; c < block.width; c++) channels += to[c] = units[(block.begin + c) / gate_.group];
        return channels;
    }

    const Gate gate_;
    const Layout* sums_;
    std::vector<std::int32_t> sums_at_;
    const long long least_macs_;
};

}  // namespace convgate
