// Decisions for single activations: a logit for each unit of channels at each position.
#include <algorithm>

#include "simple.h"

namespace convgate {
namespace {

// In eight parts, so that no addition waits for the one before.
float sum(const float* a, int n) {
    float parts[8] = {};
    int i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) parts[j] += a[i + j];
    for (int j = 0; i < n; i++, j++) parts[j] += a[i];
    for (int step = 4; step > 0; step /= 2)
        for (int j = 0; j < step; j++) parts[j] += parts[j + step];
    return parts[0];
}

class ActivationDecision final : public Layer {
public:
    ActivationDecision(SimpleSpec spec, const Gate& gate, Needs& needs)
        : spec_(std::move(spec)), gate_(gate), scale_(channels()), shift_(gate.units) {
        const Operation& op = *spec_.operation;
        // A mean of scaled channels is a sum of channels with other scales.
        for (int u = 0; u < gate_.units; u++) {
            const int begin = u * gate_.group, end = std::min(begin + gate_.group, channels()), n = end - begin;
            double shift = 0;
            for (int c = begin; c < end; c++) {
                scale_[c] = (op.scale.data ? op.scale.data[c] : 1.0f) / static_cast<float>(n);
                shift += op.shift.data ? op.shift.data[c] : 0.0f;
            }
            shift_[u] = static_cast<float>(shift / n + op.weight.data[u]);
        }
        Needs mine;
        mine.accumulators = channels();
        needs.cover(mine);
    }

    void run(Sample& s, Team& team) const override {
        GateState& gate = s.gates[spec_.operation->output];
        const View in = s.view(*spec_.in[0]);
        const Chunks lines(gate_.rows, costs::simple_elements / (gate_.columns * channels()) + 1, team);
        team.run(lines.items, [&](int item, int thread) {
            for (int y = lines.begin(item); y < lines.end(item); y++)
                for (int x = 0; x < gate_.columns; x++) {
                    const std::size_t at = (static_cast<std::size_t>(y) * gate_.columns + x) * gate_.units;
                    decide(in.at(y, x), s.scratch[thread].accumulators.data(), gate.logits.data() + at, gate.mask.data() + at);
                }
        });
        gate.decide(s.given ? s.given[spec_.operation->output] : nullptr);
    }

private:
    int channels() const { return spec_.in[0]->value.channels; }

    void decide(const float* from, float* scaled, float* logits, std::uint8_t* mask) const {
        const Kernels& k = *spec_.kernels;
        const int units = gate_.units, group = gate_.group;
        if (group == 1) {
            k.affine(logits, from, scale_.data(), shift_.data(), units, Activation::none);
        } else {
            k.multiply(scaled, from, scale_.data(), channels());
            for (int u = 0; u < units; u++)
                logits[u] = sum(scaled + u * group, std::min(group, channels() - u * group)) + shift_[u];
        }
        const bool strict = spec_.operation->strict;
        for (int u = 0; u < units; u++) mask[u] = is_open(logits[u], strict);
    }

    SimpleSpec spec_;
    const Gate gate_;
    Buffer scale_, shift_;  // per channel; per unit
};

}  // namespace

std::unique_ptr<Layer> make_decide_activations(const SimpleSpec& spec, const Gate& gate, Needs& needs) {
    return std::make_unique<ActivationDecision>(spec, gate, needs);
}

}  // namespace convgate
