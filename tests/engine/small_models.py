"""Small models that each use PyTorch in one way of its own: what the lowering must translate exactly, or refuse.

Each takes images [N, 8, 12, 12]. `NATIVE` are all translated; `REFUSED` need PyTorch; `UNUSUAL` may be either, as long
as what is translated is right.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    """A model whose forward is a function of (self, x)."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def conv(inputs=8, outputs=8, kernel=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, **options)


class Standardised(nn.Conv2d):
    """Its weights are computed when it runs."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias, self.stride, self.padding)


class NormAct(nn.BatchNorm2d):
    """A norm with an activation inside, and questions about its input's shape."""

    def forward(self, x):
        torch._assert(x.ndim == 4, "not a map")
        training = self.training or not self.track_running_stats
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training, 0.1, self.eps)
        return F.relu(y, inplace=True)


def attend(m, x):
    s = F.adaptive_avg_pool2d(x, 1)
    return x * F.hardsigmoid(m.b(F.relu(m.a(s))))


def residual_in_place(m, x):
    y = m.a(x)
    z = F.relu(y, inplace=True)
    return m.b(z) + y  # y, too, is positive now


def in_place_after_view(m, x):
    y = m.a(x)
    flat = y.flatten(1)
    z = y.relu_()
    return m.fc(flat) + m.fc(z.flatten(1))


def read_twice(m, x):
    y = m.norm(m.a(x))
    return torch.cat([F.relu(y), y], 1)


def two_norms(m, x):
    return torch.relu(m.norm(m.a(x))) + m.other(m.a(x))


def pad_read_twice(m, x):
    y = F.pad(m.a(x), (1, 2, 0, 1))
    return m.b(y) + m.c(y)


def transform_input(m, x):
    parts = [x[:, i].unsqueeze(1) * (0.5 + i) + 0.1 * i for i in range(3)]
    return m.a(torch.cat(parts, 1))


def dictionary(m, x):
    y = m.a(x)
    return {"map": F.relu(y), "vector": y.mean((2, 3))}


def pool_then_view(m, x):
    n, c, h, w = x.shape
    return m.fc(F.avg_pool2d(m.a(x), (h - 2, w - 2)).view(n, c))


def size_arithmetic(m, x):
    y = m.a(x)
    return m.fc(y.reshape(y.size(0), y.size(1) * y.size(2) * y.size(3)))


def chunk_changed_in_place(m, x):
    y = m.a(x)
    a, b = y.chunk(2, 1)
    return torch.cat([a.relu_(), b, y], 1)


def odd_part_changed_in_place(m, x):
    y = m.a(x)
    z = y[:, :, 1::2, 1::2].relu_()
    return m.b(y).mean((2, 3)) + z.mean((2, 3))


def changed_part(m, x):
    y = m.a(x)
    z = y[:, :4].relu_()
    return m.b(y) + m.c(z)


def view_changed_by_module(m, x):
    y = m.a(x)
    flat = y.flatten(1)
    return m.fc(flat) + m.other(m.relu(y).flatten(1))


def changed_by_position(m, x):
    y = m.a(x)
    z = F.relu(y, True)
    return torch.cat([y, z], 1)


def shuffle(m, x):
    n, c, h, w = x.shape
    return m.a(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def changed_after_shuffle(m, x):
    y = m.a(x)
    z = y.view(-1, 2, 4, 10, 10).transpose(1, 2)
    y.relu_()
    return z.reshape(y.shape) + y


def changed_after_expand(m, x):
    y = x.mean((2, 3), keepdim=True)
    z = y.expand_as(x)
    y.relu_()
    return m.a(x) * z


class Same(nn.Conv2d):
    """A convolution that asks how large its input is to pad it, as TensorFlow does."""

    def forward(self, x):
        more = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, s, k in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        ]
        if any(n > 0 for n in more):
            x = F.pad(x, (more[1] // 2, more[1] - more[1] // 2, more[0] // 2, more[0] - more[0] // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Slopes(nn.Module):
    """PReLU with slopes that differ."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 2, channels))

    def forward(self, x):
        return F.prelu(x, self.weight)


def channels_last(m, x):
    y = x.permute(0, 2, 3, 1)
    y = m.b(F.gelu(m.a(m.norm(y)))) * m.scale + y / 2
    return x + y.permute(0, 3, 1, 2)


def attend_to_positions(m, x):
    return x * torch.sigmoid(m.a(x))


def hooked():
    model = Model(lambda m, x: m.a(x), a=conv())
    model.a.register_forward_hook(lambda module, args, y: 2 * y)
    return model


NATIVE = {
    "conv_bias": Model(lambda m, x: m.a(x), a=conv(padding=1)),
    "conv_strided_dilated": Model(
        lambda m, x: m.a(x), a=conv(8, 6, (3, 2), stride=(2, 1), dilation=(1, 3), padding=(1, 2))
    ),
    "conv_grouped": Model(lambda m, x: m.a(x), a=conv(8, 12, 3, groups=4)),
    "conv_depthwise": Model(lambda m, x: m.a(x), a=conv(8, 8, 5, groups=8, padding=2)),
    "conv_multiplier": Model(lambda m, x: m.a(x), a=conv(8, 16, 3, groups=8)),
    "conv_same": Model(lambda m, x: m.a(x), a=conv(padding="same")),
    "conv_same_even": Model(lambda m, x: m.a(x), a=conv(kernel=4, padding="same", bias=False)),
    "conv_function": Model(lambda m, x: F.conv2d(x, m.a.weight, m.a.bias, padding=2), a=conv()),
    "conv_standardised": Model(lambda m, x: F.relu(m.norm(m.a(x))), a=Standardised(8, 8, 3), norm=nn.BatchNorm2d(8)),
    "times_a_number": Model(lambda m, x: 0.5 * m.a(x) * 3, a=conv()),
    "clamped": Model(lambda m, x: m.a(x).clamp(0, 6).clamp_(min=0.0), a=conv()),
    "hard_tanh": Model(lambda m, x: F.hardtanh(m.a(x), 0, 6), a=conv()),
    "scaled": Model(lambda m, x: 0.5 * m.a(x) - 1.25, a=conv()),
    "divided": Model(lambda m, x: F.relu6(m.a(x) + 3) / 6, a=conv()),
    "layer_scale": Model(
        lambda m, x: x + m.scale * m.a(x), a=conv(padding=1), scale=nn.Parameter(torch.rand(8, 1, 1) + 0.5)
    ),
    "difference": Model(lambda m, x: m.a(x) - m.b(x), a=conv(), b=conv()),
    "added_with_factor": Model(lambda m, x: torch.add(m.a(x), m.b(x), alpha=2), a=conv(), b=conv()),
    "from_a_number": Model(lambda m, x: (1 - m.a(x)) / 3, a=conv()),
    "sum_of_branches": Model(lambda m, x: 0 + m.a(x) + sum([m.b(x), m.a(x)]), a=conv(), b=conv()),
    "difference_in_place": Model(lambda m, x: m.b(x).sub_(m.a(x), alpha=0.5).div_(2), a=conv(), b=conv()),
    "bias_of_vector": Model(
        lambda m, x: m.fc(x.mean((2, 3))) + m.bias, fc=nn.Linear(8, 5), bias=nn.Parameter(torch.rand(5))
    ),
    "batched_scale": Model(lambda m, x: m.a(x) * m.scale, a=conv(), scale=nn.Parameter(torch.rand(1, 8, 1, 1) + 0.5)),
    "mean_of_two": Model(lambda m, x: (m.a(x) + m.b(x)).mul_(0.5), a=conv(), b=conv()),
    "norm_first": Model(lambda m, x: m.a(F.relu(m.norm(x))), a=conv(), norm=nn.BatchNorm2d(8)),
    "norm_act_class": Model(lambda m, x: m.norm(m.a(x)), a=conv(), norm=NormAct(8)),
    "norm_read_twice": Model(read_twice, a=conv(), norm=nn.BatchNorm2d(8)),
    "norm_not_affine": Model(lambda m, x: m.norm(m.a(x)), a=conv(), norm=nn.BatchNorm2d(8, affine=False)),
    "norm_eps": Model(lambda m, x: m.norm(m.a(x)), a=conv(bias=False), norm=nn.BatchNorm2d(8, eps=0.5)),
    "norm_1d": Model(lambda m, x: m.norm(m.fc(x.mean((2, 3)))), fc=nn.Linear(8, 5), norm=nn.BatchNorm1d(5)),
    "norms_of_one_conv": Model(two_norms, a=conv(), norm=nn.BatchNorm2d(8), other=nn.BatchNorm2d(8)),
    "linear_of_map": Model(lambda m, x: m.fc(x.flatten(1)), fc=nn.Linear(8 * 144, 5)),
    "linear_of_view": Model(lambda m, x: m.fc(x.view(x.size(0), -1)), fc=nn.Linear(8 * 144, 5, bias=False)),
    "linear_of_sizes": Model(size_arithmetic, a=conv(), fc=nn.Linear(8 * 100, 5)),
    "linear_twice": Model(
        lambda m, x: m.b(F.relu(m.a(torch.flatten(x, 1)))), a=nn.Linear(8 * 144, 7), b=nn.Linear(7, 3)
    ),
    "relu_of_flat_map": Model(lambda m, x: m.fc(F.relu(x.flatten(1))), fc=nn.Linear(8 * 144, 5)),
    "activations": Model(
        lambda m, x: F.silu(m.a(F.hardswish(m.b(F.relu6(m.c(torch.sigmoid(x))))))), a=conv(), b=conv(), c=conv()
    ),
    "activation_methods": Model(lambda m, x: m.b(m.a(x).relu()).sigmoid(), a=conv(), b=conv()),
    "activation_modules": Model(
        lambda m, x: m.r(m.q(m.p(x))), p=nn.Hardswish(inplace=True), q=nn.ReLU6(), r=nn.Hardsigmoid()
    ),
    "dropouts": Model(
        lambda m, x: F.dropout(m.d(m.a(x)), 0.5, m.training), a=conv(), d=nn.Sequential(nn.Dropout2d(), nn.Identity())
    ),
    "squeeze_and_expand": Model(
        lambda m, x: x * torch.sigmoid(m.b(F.relu(m.a(x.mean((2, 3)))))).view(x.size(0), 8, 1, 1).expand_as(x),
        a=nn.Linear(8, 2),
        b=nn.Linear(2, 8),
    ),
    "squeeze_and_excitation": Model(attend, a=conv(8, 2, 1), b=conv(2, 8, 1)),
    "residual": Model(lambda m, x: F.relu(m.a(x) + x), a=conv(padding=1)),
    "residual_both_convs": Model(lambda m, x: F.relu(m.a(x) + m.b(x)), a=conv(), b=conv()),
    "residual_added_in_place": Model(lambda m, x: F.relu(m.a(x).add_(m.b(x)), inplace=True), a=conv(), b=conv()),
    "residual_in_place": Model(residual_in_place, a=conv(padding=1), b=conv(padding=1)),
    "in_place_after_view": Model(in_place_after_view, a=conv(), fc=nn.Linear(800, 3)),
    "view_changed_by_module": Model(
        view_changed_by_module, a=conv(), relu=nn.ReLU(inplace=True), fc=nn.Linear(800, 3), other=nn.Linear(800, 3)
    ),
    "changed_by_position": Model(changed_by_position, a=conv()),
    "twice_itself": Model(lambda m, x: F.relu(m.a(x)) + F.relu(m.a(x)), a=conv()),
    "added_to_itself": Model(lambda m, x: (lambda y: y + y)(m.a(x)), a=conv()),
    "add_vector": Model(lambda m, x: m.a(x) + F.adaptive_avg_pool2d(m.b(x), 1), a=conv(), b=conv()),
    "vector_add_map": Model(lambda m, x: F.adaptive_avg_pool2d(m.b(x), 1) + m.a(x), a=conv(), b=conv()),
    "concat": Model(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], dim=-3)), a=conv(8, 3), b=conv(8, 5), c=conv()),
    "chunk": Model(lambda m, x: torch.cat(m.a(x).chunk(3, dim=1)[::-1], 1), a=conv()),
    "split": Model(lambda m, x: m.b(torch.split(m.a(x), [2, 6], 1)[1]), a=conv(), b=conv(6, 2)),
    "channels_by_index": Model(lambda m, x: m.b(m.a(x)[:, 2:6]), a=conv(), b=conv(4, 4)),
    "channels_from_the_end": Model(lambda m, x: m.b(m.a(x)[:, -3:]), a=conv(), b=conv(3, 4)),
    "odd_positions": Model(lambda m, x: m.a(m.b(x)[:, :, 1::2, 1::2]), a=conv(), b=conv()),
    "odd_rows": Model(lambda m, x: m.a(x[:, :, 1::2]), a=conv()),
    "odd_columns_of_every_third_row": Model(lambda m, x: m.a(x[:, 2:5, ::3, 1::2]), a=conv(3, 4)),
    "subsample": Model(lambda m, x: m.a(x[:, :, ::2, ::3]), a=conv()),
    "option_a": Model(
        lambda m, x: m.a(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 1)), a=conv(8, 12, 3, stride=2, padding=1)
    ),
    "pad_conv": Model(lambda m, x: m.a(F.pad(x, (0, 1, 2, 3))), a=conv()),
    "pad_strided": Model(lambda m, x: m.a(F.pad(x, (0, 1, 0, 1))), a=conv(stride=2)),
    "pad_module": Model(lambda m, x: m.a(m.pad(x)), a=conv(padding=1), pad=nn.ZeroPad2d((1, 0, 2, 0))),
    "pad_read_twice": Model(pad_read_twice, a=conv(), b=conv(), c=conv()),
    "max_pool": Model(lambda m, x: F.max_pool2d(m.a(x), 3, 2, 1), a=conv()),
    "max_pool_ceil": Model(lambda m, x: F.max_pool2d(m.a(x), 3, 2, ceil_mode=True), a=conv(8, 8, 2)),
    "max_pool_dilated": Model(lambda m, x: m.p(x), p=nn.MaxPool2d((3, 2), stride=1, padding=1, dilation=(2, 1))),
    "average_pool": Model(lambda m, x: F.avg_pool2d(x, 2), a=conv()),
    "average_pool_padding": Model(lambda m, x: m.p(x), p=nn.AvgPool2d(3, 2, 1)),
    "average_pool_without_padding": Model(lambda m, x: m.p(x), p=nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "average_pool_ceil": Model(lambda m, x: m.p(m.a(x)), a=conv(8, 8, 2), p=nn.AvgPool2d(2, 2, 1, ceil_mode=True)),
    "average_pool_ceil_without_padding": Model(
        lambda m, x: m.p(m.a(x)), a=conv(8, 8, 2), p=nn.AvgPool2d(2, 2, 1, ceil_mode=True, count_include_pad=False)
    ),
    "adaptive_pool": Model(lambda m, x: m.p(x), p=nn.AdaptiveAvgPool2d((5, 7))),
    "adaptive_pool_one_side": Model(lambda m, x: m.p(x), p=nn.AdaptiveAvgPool2d((None, 4))),
    "pool_then_view": Model(pool_then_view, a=conv(), fc=nn.Linear(8, 3)),
    "mean_keepdim": Model(lambda m, x: m.a(x.mean([2, 3], keepdim=True)), a=conv(8, 4, 1)),
    "mean_from_the_end": Model(lambda m, x: m.fc(x.mean((-2, -1))), fc=nn.Linear(8, 4)),
    "squeezed": Model(lambda m, x: m.fc(F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)), fc=nn.Linear(8, 4)),
    "vector_to_map": Model(lambda m, x: x * torch.sigmoid(m.fc(x.mean((2, 3))))[:, :, None, None], fc=nn.Linear(8, 8)),
    "vector_to_map_by_view": Model(
        lambda m, x: x * torch.sigmoid(m.fc(x.mean((2, 3)))).view(x.size(0), 8, 1, 1), fc=nn.Linear(8, 8)
    ),
    "vector_to_map_by_unsqueeze": Model(
        lambda m, x: m.a(x) * torch.sigmoid(m.fc(x.mean((2, 3)))).unsqueeze(-1).unsqueeze(2),
        a=conv(),
        fc=nn.Linear(8, 8),
    ),
    "expanded": Model(lambda m, x: x.mean((2, 3), keepdim=True).expand(-1, -1, 12, 12) + m.a(x), a=conv(padding=1)),
    "shuffled_channels": Model(shuffle, a=conv()),
    "shuffled_by_permute": Model(
        lambda m, x: m.b(m.a(x).view(-1, 4, 2, 10, 10).permute(0, 2, 1, 3, 4).flatten(1)), a=conv(), b=nn.Linear(800, 3)
    ),
    "shuffled_by_module": Model(lambda m, x: m.a(m.s(x)), a=conv(groups=2), s=nn.ChannelShuffle(2)),
    "contiguous": Model(lambda m, x: m.a(x.contiguous()), a=conv()),
    "several_outputs": Model(lambda m, x: (m.a(x), m.fc(m.a(x).mean((2, 3)))), a=conv(), fc=nn.Linear(8, 3)),
    "output_read_again": Model(lambda m, x: (lambda y: [y, F.relu(y)])(m.a(x)), a=conv()),
    "dictionary": Model(dictionary, a=conv()),
    **{
        f"module_{name}": Model(lambda m, x: m.b(m.f(m.a(x))), a=conv(), b=conv(), f=function)
        for name, function in {
            "leaky": nn.LeakyReLU(0.2, inplace=True),
            "prelu": nn.PReLU(init=0.3),
            "prelu_by_channel": Slopes(8),
            "prelu_module": nn.PReLU(8, init=0.3),
            "gelu": nn.GELU(),
            "gelu_tanh": nn.GELU("tanh"),
            "mish": nn.Mish(inplace=True),
            "elu": nn.ELU(0.7),
            "celu": nn.CELU(0.7),
            "selu": nn.SELU(),
            "tanh": nn.Tanh(),
            "softplus": nn.Softplus(2, 5),
            "hardtanh": nn.Hardtanh(-0.4, 0.3),
            "upsample": nn.Upsample(scale_factor=(2, 1.5)),
            "upsample_exact": nn.Upsample(size=(7, 15), mode="nearest-exact"),
            "upsample_bilinear": nn.Upsample(scale_factor=1.7, mode="bilinear"),
            "upsample_corners": nn.UpsamplingBilinear2d(scale_factor=2),
            "upsample_nearest": nn.UpsamplingNearest2d(size=9),
        }.items()
    },
    "transposed_everything": Model(
        lambda m, x: m.norm(m.a(x)).relu(),
        a=nn.ConvTranspose2d(8, 12, (3, 2), (2, 3), (1, 0), (1, 1), groups=4, dilation=(2, 1)),
        norm=nn.BatchNorm2d(12),
    ),
    "transposed_depthwise": Model(
        lambda m, x: F.conv_transpose2d(x, m.a.weight, None, 2, 1, groups=8), a=nn.ConvTranspose2d(8, 8, 4, groups=8)
    ),
    "padding_modes": Model(
        lambda m, x: m.c(m.b(m.a(x))),
        a=conv(padding=(2, 1), padding_mode="replicate"),
        b=conv(padding="same", padding_mode="circular"),
        c=conv(padding=1, padding_mode="reflect", stride=2),
    ),
    "pad_functions": Model(
        lambda m, x: m.a(F.pad(F.pad(x, (1, 2, 0, 1), mode="reflect"), (0, 1, 1, 0), value=0.5)), a=conv()
    ),
    "max_pool_same": Model(
        lambda m, x: F.max_pool2d(F.pad(m.a(x), (0, 1, 0, 1), value=-float("inf")), 3, 2), a=conv(padding=1)
    ),
    "norms": Model(
        lambda m, x: m.instance(m.a(m.group(x))) + m.one(m.a(x)),
        a=conv(),
        group=nn.GroupNorm(4, 8),
        instance=nn.InstanceNorm2d(8, affine=True),
        one=nn.GroupNorm(1, 8, affine=False),
    ),
    "pixels": Model(
        lambda m, x: m.b(F.pixel_unshuffle(m.s(m.a(x)), 4)), a=conv(8, 12), s=nn.PixelShuffle(2), b=conv(48, 4, 1)
    ),
    "eca": Model(
        lambda m, x: x * m.a(x.mean((2, 3)).view(x.shape[0], 1, -1)).sigmoid().view(x.shape[0], -1, 1, 1).expand_as(x),
        a=nn.Conv1d(1, 1, 3, padding=1, bias=False),
    ),
    "eca_of_its_authors": Model(
        lambda m, x: (
            x * m.a(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1).sigmoid()
        ),
        a=nn.Conv1d(1, 1, 3, padding=1, bias=False),
    ),
    "pooled_both_ways": Model(
        lambda m, x: m.a(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).softmax(1), a=conv(2, 5)
    ),
    "by_rows_and_columns": Model(  # coordinate attention
        lambda m, x: x * m.a(x.mean(3, keepdim=True)).sigmoid() * m.a(x.mean(2, keepdim=True)).sigmoid(),
        a=conv(8, 8, 1),
    ),
    "channels_last": Model(
        channels_last, norm=nn.LayerNorm(8), a=nn.Linear(8, 12), b=nn.Linear(12, 8), scale=nn.Parameter(torch.rand(8))
    ),
    "norm_of_vector": Model(lambda m, x: m.norm(x.mean((2, 3))), norm=nn.LayerNorm(8, eps=0.1)),
    "same_as_tensorflow": Model(lambda m, x: m.b(m.a(x).relu()), a=Same(8, 8, 3, 2), b=Same(8, 8, 5, 2, groups=8)),
    "functions_in_place": Model(
        lambda m, x: m.b(F.leaky_relu_(m.a(x), 0.1)).tanh_().clamp_min_(-0.5) + m.c(x),
        a=conv(),
        b=conv(),
        c=conv(kernel=5),
    ),
    "clamped_from_above": Model(lambda m, x: torch.clamp(m.a(x), max=0.25), a=conv()),
    "resized": Model(
        lambda m, x: F.interpolate(m.a(x), x.shape[-2:], mode="bilinear", align_corners=False) + m.b(x),
        a=conv(),
        b=conv(padding=1),
    ),
    "resized_by_recomputed_scale": Model(
        lambda m, x: F.interpolate(m.a(x), scale_factor=1.25, mode="bilinear", recompute_scale_factor=True), a=conv()
    ),
    "resized_by_area": Model(lambda m, x: F.interpolate(m.a(x), size=4, mode="area"), a=conv()),
    "largest_of_two": Model(
        lambda m, x: torch.maximum(m.a(x), m.b(x)) - torch.minimum(m.a(x), m.b(x)), a=conv(), b=conv()
    ),
    "negative": Model(lambda m, x: m.b(-m.a(x)), a=conv(), b=conv()),
    "number_divided": Model(lambda m, x: 2 / (m.a(x).sigmoid() + 1), a=conv()),
    "rows_and_columns": Model(
        lambda m, x: m.a(x) * m.rows.sigmoid() * m.columns + m.corner,
        a=conv(),
        rows=nn.Parameter(torch.rand(8, 10, 1)),
        columns=nn.Parameter(torch.rand(1, 1, 10)),
        corner=nn.Parameter(torch.rand(1, 8, 10, 10)),
    ),
    "gelu": Model(lambda m, x: m.b(F.gelu(m.a(x))), a=conv(), b=conv()),
    "upsampled": Model(lambda m, x: m.b(F.interpolate(m.a(x), scale_factor=2)), a=conv(), b=conv()),
    "leaky": Model(lambda m, x: F.leaky_relu(m.a(x), 0.1), a=conv()),
    "clamped_elsewhere": Model(lambda m, x: m.a(x).clamp(-1, 1), a=conv()),
    "divided_by_itself": Model(lambda m, x: m.a(x) / (m.a(x).sigmoid() + 1), a=conv()),
    "attend_to_positions": Model(attend_to_positions, a=conv(8, 1, 1)),
    "scale_of_every_position": Model(
        lambda m, x: m.a(x) * m.scale, a=conv(), scale=nn.Parameter(torch.rand(8, 10, 10))
    ),
    "last_axis_scale": Model(lambda m, x: m.scale * m.a(x), a=conv(), scale=nn.Parameter(torch.rand(10) + 0.5)),
    "transposed": Model(lambda m, x: m.b(m.a(x)), a=nn.ConvTranspose2d(8, 4, 2, 2), b=conv(4, 4)),
    "group_norm": Model(lambda m, x: m.a(m.n(x)), a=conv(), n=nn.GroupNorm(2, 8)),
    "softmax": Model(lambda m, x: m.fc(x.mean((2, 3))).softmax(1), fc=nn.Linear(8, 4)),
    "max_over_positions": Model(lambda m, x: m.a(torch.amax(x, (2, 3), keepdim=True)), a=conv(8, 4, 1)),
    "adaptive_max_pool": Model(lambda m, x: F.adaptive_max_pool2d(m.a(x), 1), a=conv()),
    "pad_average_pool": Model(lambda m, x: F.avg_pool2d(F.pad(m.a(x), (1, 1, 1, 1)), 3, 2), a=conv()),
    "pad_max_pool": Model(lambda m, x: F.max_pool2d(F.pad(m.a(x), (1, 1, 1, 1)), 3, 2), a=conv()),
    "pad_uneven_max_pool": Model(lambda m, x: F.max_pool2d(F.pad(m.a(x), (0, 1, 0, 1)), 3, 2), a=conv()),
    "pad_then_activation": Model(lambda m, x: m.b(torch.sigmoid(F.pad(m.a(x), (1, 1, 1, 1)))), a=conv(), b=conv()),
    "pad_output": Model(lambda m, x: F.pad(m.a(x), (1, 1, 2, 2)), a=conv()),
    "mean_over_channels": Model(lambda m, x: m.a(x.mean(1, keepdim=True)), a=conv(1, 4)),
    "mean_over_rows": Model(lambda m, x: m.a(x.mean(2, keepdim=True)), a=conv(8, 4, 1)),
    "crop_by_pad": Model(lambda m, x: m.a(F.pad(x, (-1, -1, -1, -1))), a=conv()),
    "reflected": Model(lambda m, x: m.a(x), a=conv(padding=1, padding_mode="reflect")),
    "layer_norm": Model(lambda m, x: m.n(m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2), a=conv(), n=nn.LayerNorm(8)),
}

UNUSUAL = {
    "channels_left_last": Model(lambda m, x: m.a(x).permute(0, 2, 3, 1), a=conv()),
    "channels_last_and_first": Model(
        lambda m, x: m.a(x).permute(0, 2, 3, 1).relu() + m.b(x), a=conv(8, 10), b=conv(8, 10)
    ),
    "channels_last_reversed": Model(lambda m, x: m.a(x).permute(0, 2, 3, 1).permute(0, 2, 3, 1), a=conv(8, 10)),
    "mean_of_channels_last": Model(lambda m, x: m.a(x).permute(0, 2, 3, 1).mean((1, 2)), a=conv()),
    "convolved_channels_last": Model(lambda m, x: m.b(m.a(x).permute(0, 2, 3, 1)), a=conv(8, 8), b=conv(10, 4)),
    "slopes_of_channels_last": Model(lambda m, x: m.b(m.a(x).permute(0, 2, 3, 1)), a=conv(8, 10), b=Slopes(10)),
    "largest_of_channels_last": Model(lambda m, x: torch.sort(m.a(x).permute(0, 2, 3, 1), 3)[0], a=conv()),
    "vector_and_map_scale": Model(
        lambda m, x: m.fc(x.mean((2, 3))) * m.scale, fc=nn.Linear(8, 5), scale=nn.Parameter(torch.rand(5, 1))
    ),
    "transform_input": Model(transform_input, a=conv(3, 4)),
    "chunk_changed_in_place": Model(chunk_changed_in_place, a=conv()),
    "changed_odd_part": Model(odd_part_changed_in_place, a=conv(), b=conv()),
    "odd_positions_of_an_odd_size": Model(lambda m, x: m.b(m.a(x)[:, :, 1::2, 1::2]), a=conv(kernel=2), b=conv()),
    "from_the_third_position": Model(lambda m, x: m.a(x[:, :, 2::2]), a=conv()),
    "changed_after_shuffle": Model(changed_after_shuffle, a=conv()),
    "changed_after_expand": Model(changed_after_expand, a=conv(padding=1)),
    "transposed_map": Model(lambda m, x: m.a(x.transpose(2, 3)), a=conv(kernel=(2, 3))),
    "cut_otherwise": Model(lambda m, x: m.a(x.view(-1, 4, 4, 6, 12).transpose(1, 2).reshape(x.shape)), a=conv()),
    "activation_of_cut_map": Model(lambda m, x: m.a(x.view(-1, 2, 4, 12, 12).sigmoid().view(x.shape)), a=conv()),
    "map_in_another_shape": Model(lambda m, x: m.a(x.view(-1, 4, 12, 24)), a=conv(4, 4)),
    "expanded_twice": Model(
        lambda m, x: m.a(x) * (x.mean((2, 3), keepdim=True).expand_as(x) + x.mean((2, 3), keepdim=True).expand_as(x)),
        a=conv(padding=1),
    ),
    "expanded_output": Model(lambda m, x: m.a(x).mean((2, 3), keepdim=True).expand(-1, -1, 2, 2), a=conv()),
    "row_expanded": Model(lambda m, x: m.a(x) * x.mean(2, keepdim=True).expand_as(x), a=conv(padding=1)),
    "squeezed_rows": Model(lambda m, x: m.a(x[:, :, :1].squeeze(2).unsqueeze(2)), a=conv(kernel=1)),
    "flat_unsqueezed": Model(lambda m, x: m.a(x.flatten(1).unsqueeze(-1).unsqueeze(-1)), a=conv(1152, 4, 1)),
    "changed_part": Model(changed_part, a=conv(), b=conv(), c=conv(4, 8)),
    "expanded_in_vain": Model(lambda m, x: m.a(x.mean((2, 3), keepdim=True).expand_as(x)), a=conv()),
    "hooked": hooked(),
    "weight_normalised": Model(lambda m, x: m.a(x), a=nn.utils.parametrizations.weight_norm(conv())),
    "squeezed_at_once": Model(lambda m, x: m.fc(F.adaptive_avg_pool2d(x, 1).squeeze()), fc=nn.Linear(8, 4)),
    "flat_output": Model(lambda m, x: m.a(x).flatten(1), a=conv()),
    "norm_of_flat_map": Model(lambda m, x: m.norm(x.flatten(1)), norm=nn.BatchNorm1d(8 * 144)),
    "concat_of_flat_maps": Model(
        lambda m, x: m.fc(torch.cat([x.flatten(1), m.a(x).flatten(1)], 1)), a=conv(), fc=nn.Linear(1952, 3)
    ),
    "view_by_wrong_size": Model(lambda m, x: m.fc(x.view(-1, 144)).view(x.size(0), -1), fc=nn.Linear(144, 2)),
    "crop": Model(lambda m, x: m.a(x[:, :, 1:, :-2]), a=conv()),
    "every_second_channel": Model(lambda m, x: m.a(x[:, ::2]), a=conv(4, 4)),
    "divisor": Model(lambda m, x: F.avg_pool2d(x, 2, divisor_override=3), a=conv()),
    "stack_of_samples": Model(lambda m, x: m.a(torch.cat([x, x], 0)), a=conv()),
}


def _rows(x):
    return x.flatten(2).transpose(1, 2)


REFUSED = {
    "sum_of_rows": Model(lambda m, x: m.c(_rows(m.a(x)) + _rows(m.b(x))), a=conv(), b=conv(), c=nn.Linear(8, 4)),
    "greater_of_rows": Model(
        lambda m, x: m.c(torch.maximum(_rows(m.a(x)), _rows(m.b(x)))), a=conv(), b=conv(), c=nn.Linear(8, 4)
    ),
    "cumulated": Model(lambda m, x: m.b(m.a(x).cumsum(1)), a=conv(), b=conv()),
    "logarithm": Model(lambda m, x: m.b((m.a(x).sigmoid() + 1).log()), a=conv(), b=conv()),
    "indices": Model(lambda m, x: m.b(m.p(m.a(x))[0]), a=conv(), b=conv(), p=nn.MaxPool2d(2, return_indices=True)),
    "indices_of_function": Model(lambda m, x: m.b(F.max_pool2d(m.a(x), 2, return_indices=True)[0]), a=conv(), b=conv()),
    "indices_of_grid": Model(
        lambda m, x: m.b(m.p(m.a(x))[0]), a=conv(), b=conv(), p=nn.AdaptiveMaxPool2d(4, return_indices=True)
    ),
    "indices_of_grid_function": Model(
        lambda m, x: m.b(F.adaptive_max_pool2d(m.a(x), 4, return_indices=True)[0]), a=conv(), b=conv()
    ),
}
