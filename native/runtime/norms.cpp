// Norms over groups of channels and all positions; and what is computed from the channels of each position.
#include <algorithm>
#include <cmath>

#include "simple.h"

namespace convgate {
namespace {

class GroupNorm final : public Layer {
public:
    explicit GroupNorm(SimpleSpec spec) : spec_(std::move(spec)) {
        const Operation& op = *spec_.operation;
        const std::size_t channels = spec_.out->value.channels;
        scale_ = Buffer(channels);
        shift_ = Buffer(channels);
        for (std::size_t c = 0; c < channels; c++) scale_[c] = op.weight.data ? op.weight.data[c] : 1;
        if (op.bias.data) std::copy_n(op.bias.data, channels, shift_.data());
    }

    // Sums by the line, added up in their order: the same on any number of threads.
    void run(Sample& s, Team& team) const override {
        const View in = s.view(*spec_.in[0]), out = s.view(*spec_.out);
        const Value& value = spec_.out->value;
        const Kernels& k = *spec_.kernels;
        const int channels = value.channels;
        std::vector<float> sums(static_cast<std::size_t>(value.height) * channels), centers(channels), scales(channels), shifts(channels);
        const Chunks lines = lines_of(value, costs::simple_elements, team);
        const auto each = [&](auto position) {
            team.run(lines.items, [&](int item, int) {
                for (int y = lines.begin(item); y < lines.end(item); y++)
                    for (int x = 0; x < value.width; x++) position(y, in.at(y, x));
            });
        };
        const auto sum = [&](int y) { return sums.data() + static_cast<std::size_t>(y) * channels; };
        each([&](int y, const float* from) { k.add(sum(y), sum(y), from, channels, Activation::none); });
        const std::vector<double> means = by_group(sums);
        const int size = channels / spec_.operation->groups;
        for (int c = 0; c < channels; c++) centers[c] = static_cast<float>(means[c / size]);
        std::fill(sums.begin(), sums.end(), 0.0f);
        each([&](int y, const float* from) { k.deviations(sum(y), from, centers.data(), channels); });
        const std::vector<double> variances = by_group(sums);
        for (int c = 0; c < channels; c++) {
            scales[c] = static_cast<float>(scale_[c] / std::sqrt(variances[c / size] + spec_.operation->epsilon));
            shifts[c] = shift_[c] - static_cast<float>(means[c / size] * scales[c]);
        }
        each_line(out, lines, team, [&](int y) {
            for (int x = 0; x < value.width; x++) k.affine(out.at(y, x), in.at(y, x), scales.data(), shifts.data(), channels, Activation::none);
        });
    }

private:
    // Means over each group's channels and all positions.
    std::vector<double> by_group(const std::vector<float>& sums) const {
        const Value& value = spec_.out->value;
        const int groups = spec_.operation->groups, size = value.channels / groups;
        std::vector<double> means(groups);
        for (int y = 0; y < value.height; y++)
            for (int c = 0; c < value.channels; c++) means[c / size] += sums[static_cast<std::size_t>(y) * value.channels + c];
        for (double& mean : means) mean /= static_cast<double>(size) * value.positions();
        return means;
    }

    SimpleSpec spec_;
    Buffer scale_, shift_;
};

class OverChannels final : public Layer {
public:
    explicit OverChannels(SimpleSpec spec) : spec_(std::move(spec)) {
        const Operation& op = *spec_.operation;
        const std::size_t channels = spec_.in[0]->value.channels;
        scale_ = Buffer(channels);
        shift_ = Buffer(channels);
        for (std::size_t c = 0; c < channels; c++) scale_[c] = op.weight.data ? op.weight.data[c] : 1;
        if (op.bias.data) std::copy_n(op.bias.data, channels, shift_.data());
    }

    void run(Sample& s, Team& team) const override {
        const View in = s.view(*spec_.in[0]), out = s.view(*spec_.out);
        const Value& value = spec_.in[0]->value;
        each_line(out, lines_of(value, costs::complex_elements, team), team, [&](int y) {
            for (int x = 0; x < value.width; x++) position(in.at(y, x), out.at(y, x));
        });
    }

private:
    void position(const float* from, float* to) const {
        const Operation& op = *spec_.operation;
        const Kernels& k = *spec_.kernels;
        const int n = spec_.in[0]->value.channels;
        if (op.kind == Kind::layer_norm) return k.normalize(to, from, scale_.data(), shift_.data(), n, op.epsilon);
        if (op.kind == Kind::softmax) return k.softmax(to, from, n);
        *to = k.reduce(from, n, op.maximum);
    }

    SimpleSpec spec_;
    Buffer scale_, shift_;
};

}  // namespace

std::unique_ptr<Layer> make_group_norm(const SimpleSpec& spec) { return std::make_unique<GroupNorm>(spec); }
std::unique_ptr<Layer> make_over_channels(const SimpleSpec& spec) { return std::make_unique<OverChannels>(spec); }

}  // namespace convgate
