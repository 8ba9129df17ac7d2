"""The published DGNet, written again as plain modules, against what `gate` makes of the same weights.

Source of every rule below: DGNet (ICCV 2021) and its code.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convgate import Decision, Decisions, DualGating, gate
from convgate.gating import ChannelGroups, Tiles
from convgate.models import create

TEMPERATURE = 0.66667


class Book:
    """What a published network decided, in order, and what it cost."""

    def __init__(self, given=None):
        self.given, self.masks, self.logits, self.macs = given, {}, {}, 0

    def decide(self, name, logits, training):
        self.logits[name] = logits
        if self.given is not None:
            mask = self.given[name].mask
        elif training:
            u = torch.rand_like(logits)
            noise = torch.log(u + 1e-8) - torch.log(1 - u + 1e-8)
            soft = torch.sigmoid((logits + noise) / TEMPERATURE)
            mask = (soft >= 0.5).float() - soft.detach() + soft
        else:
            mask = (logits >= 0).float()
        self.masks[name] = mask
        return mask

    def dense(self, conv, y):
        self.macs = self.macs + conv.weight.numel() * y[0, 0].numel()


class SpatialGate(nn.Module):
    def __init__(self, channels, grid):
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x, book, name):
        book.macs = book.macs + self.grid[0] * self.grid[1] * x.shape[1] * 9
        return book.decide(name, self.conv(F.adaptive_avg_pool2d(x, self.grid)), self.training)


class ChannelGate(nn.Module):
    def __init__(self, channels, outputs):
        super().__init__()
        hidden = channels // 4
        self.fc1, self.bn, self.fc2 = (
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Conv2d(hidden, outputs, 1),
        )

    def forward(self, x, book, name):
        hidden = self.fc1.out_channels
        book.macs = book.macs + x.shape[1] * hidden + hidden * self.fc2.out_channels
        return book.decide(name, self.fc2(F.relu(self.bn(self.fc1(F.adaptive_avg_pool2d(x, 1))))), self.training)


def spread(mask, size):
    return F.interpolate(mask, size=size, mode="nearest")


def kept(mask):
    return mask.double().sum((1, 2, 3))


class Basic(nn.Module):
    def __init__(self, block, size, tile):
        super().__init__()
        self.block = block
        channels = block.conv1.in_channels
        self.size = size
        grid = (math.ceil(size[0] / tile), math.ceil(size[1] / tile))
        self.spatial, self.channel = SpatialGate(channels, grid), ChannelGate(channels, block.conv1.out_channels)

    def forward(self, x, book, name):
        b = self.block
        mask_s = spread(self.spatial(x, book, f"{name}.spatial"), self.size)
        mask_c = self.channel(x, book, f"{name}.conv1.channel")
        out = F.relu(b.bn1(b.conv1(x)))
        out = out * mask_c if self.training else out * mask_c * mask_s
        out = b.bn2(b.conv2(out)) * mask_s
        s, c = kept(mask_s), kept(mask_c)
        book.macs = book.macs + 9 * s * c * b.conv1.in_channels + 9 * s * c * b.conv2.out_channels
        return F.relu(out + shortcut(b, x, book))


class Bottleneck(nn.Module):
    def __init__(self, block, size, tile):
        super().__init__()
        self.block = block
        channels, width = block.conv1.in_channels, block.conv1.out_channels
        self.size = size
        grid = (math.ceil(size[0] / tile), math.ceil(size[1] / tile))
        self.spatial, self.channel1 = SpatialGate(channels, grid), ChannelGate(channels, width)
        self.channel2 = ChannelGate(width, width)

    def forward(self, x, book, name):
        b = self.block
        mask = self.spatial(x, book, f"{name}.spatial")
        mask_s1, mask_s = spread(mask, x.shape[2:]), spread(mask, self.size)
        mask_c1 = self.channel1(x, book, f"{name}.conv1.channel")
        out = F.relu(b.bn1(b.conv1(x)))
        out = out * mask_c1 if self.training else out * mask_c1 * mask_s1
        mask_c2 = self.channel2(out, book, f"{name}.conv2.channel")
        out = F.relu(b.bn2(b.conv2(out)))
        out = out * mask_c2 if self.training else out * mask_c2 * mask_s
        out = b.bn3(b.conv3(out)) * mask_s
        s1, s, c1, c2 = kept(mask_s1), kept(mask_s), kept(mask_c1), kept(mask_c2)
        book.macs = book.macs + s1 * c1 * b.conv1.in_channels + 9 * s * c1 * c2 + s * c2 * b.conv3.out_channels
        return F.relu(out + shortcut(b, x, book))


def shortcut(block, x, book):
    if block.downsample is None:
        return x
    y = block.downsample(x)
    book.dense(block.downsample[0], y)
    return y


class Published(nn.Module):
    """A ResNet (torchvision's or the CIFAR one) whose blocks are gated as published."""

    def __init__(self, model, tiles, size):
        super().__init__()
        self.model = model
        self.blocks = nn.ModuleDict()
        with torch.no_grad():
            x = self.stem(torch.zeros(2, 3, *size), Book())
            for stage, tile in enumerate(tiles, 1):
                for i, block in enumerate(getattr(model, f"layer{stage}")):
                    x = block(x)
                    kind = Bottleneck if hasattr(block, "conv3") else Basic
                    self.blocks[f"layer{stage}-{i}"] = kind(block, tuple(x.shape[2:]), tile)

    def stem(self, x, book):
        m = self.model
        y = m.conv1(x)
        book.dense(m.conv1, y)
        y = F.relu(m.bn1(y))
        return m.maxpool(y) if hasattr(m, "maxpool") else y

    def forward(self, x, book):
        x = self.stem(x, book)
        for name, block in self.blocks.items():
            x = block(x, book, name.replace("-", "."))
        book.macs = book.macs + self.model.fc.weight.numel()
        return self.model.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def gates(self):
        """(name, gate) in convgate's names."""
        for name, block in self.blocks.items():
            name = name.replace("-", ".")
            yield f"{name}.spatial", block.spatial
            if isinstance(block, Basic):
                yield f"{name}.conv1.channel", block.channel
            else:
                yield f"{name}.conv1.channel", block.channel1
                yield f"{name}.conv2.channel", block.channel2


class Inverted(nn.Module):
    """MobileNetV2: only blocks with a shortcut are gated."""

    def __init__(self, block, size, tile):
        super().__init__()
        self.block, self.size = block, size
        expand = block.conv[0][0]
        grid = (math.ceil(size[0] / tile), math.ceil(size[1] / tile))
        self.spatial, self.channel = (
            SpatialGate(expand.in_channels, grid),
            ChannelGate(expand.in_channels, expand.out_channels),
        )

    def forward(self, x, book, name):
        expand, depthwise, project, norm = self.block.conv
        mask_s = spread(self.spatial(x, book, f"{name}.spatial"), self.size)
        mask_c = self.channel(x, book, f"{name}.1.0.channel")
        out = expand(x)
        out = out if self.training else out * mask_s
        out = depthwise(out) * mask_c
        out = out if self.training else out * mask_s
        s, c = kept(mask_s), kept(mask_c)
        book.macs = book.macs + s * c * x.shape[1] + 9 * s * c + s * c * project.out_channels
        return x + norm(project(out)) * mask_s


class PublishedMobileNet(nn.Module):
    def __init__(self, model, tiles, size):
        super().__init__()
        self.model = model
        self.blocks = nn.ModuleDict()
        with torch.no_grad():
            x = torch.zeros(2, 3, *size)
            for i, feature in enumerate(model.features):
                x = feature(x)
                if getattr(feature, "use_res_connect", False):
                    self.blocks[str(i)] = Inverted(feature, tuple(x.shape[2:]), tiles[x.shape[2]])

    def forward(self, x, book):
        for i, feature in enumerate(self.model.features):
            if str(i) in self.blocks:
                x = self.blocks[str(i)](x, book, f"features.{i}.conv")
            else:
                hooks = [
                    m.register_forward_hook(lambda m, a, y: book.dense(m, y))
                    for m in feature.modules()
                    if isinstance(m, nn.Conv2d)
                ]
                x = feature(x)
                for hook in hooks:
                    hook.remove()
        book.macs = book.macs + self.model.classifier[1].weight.numel()
        return self.model.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def gates(self):
        for i, block in self.blocks.items():
            yield f"features.{i}.conv.spatial", block.spatial
            yield f"features.{i}.conv.1.0.channel", block.channel


def copy_gates(published, net):
    """The gates' weights, from convgate's to the published network."""
    ours = dict(net.gate_modules())
    names = []
    for name, theirs in published.gates():
        names.append(name)
        head = ours[name].head
        pairs = [(theirs.conv, head.conv)] if isinstance(theirs, SpatialGate) else [
            (theirs.fc1, head.reduce), (theirs.bn, head.norm), (theirs.fc2, head.expand),
        ]  # fmt: skip
        for a, b in pairs:
            # Their fully connected layers are 1x1 convolutions.
            state = {k: v[:, :, None, None] if v.dim() == 2 else v for k, v in b.state_dict().items()}
            a.load_state_dict(state)
    assert sorted(names) == sorted(ours)


# Tiles: 4, 2, 2 on CIFAR, 8, 4, 2, 1 for a ResNet at 224 pixels (here 4, 2, 1, 1 at 64 pixels, and an uneven 3).
CASES = {
    "cifar_resnet20": (32, (4, 2, 2), {32: 4, 16: 2, 8: 2}),
    "resnet18": (64, (4, 2, 1, 1), {16: 4, 8: 2, 4: 1, 2: 1}),
    "resnet50": (64, (3, 3, 2, 2), {16: 3, 8: 3, 4: 2, 2: 2}),
    # As at 224 pixels, a tile of 2 on an odd map (here 5x5) makes uneven tiles.
    "mobilenet_v2": (160, {40: 8, 20: 4, 10: 2, 5: 2}, {40: 8, 20: 4, 10: 2, 5: 2}),
}


@pytest.fixture(scope="module", params=list(CASES))
def pair(request, randomise, scatter):
    size, published_tiles, tiles = CASES[request.param]
    torch.manual_seed(0)
    x = torch.randn(2 if size > 100 else 3, 3, size, size)
    model = randomise(create(request.param), x)
    for m in model.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    net = scatter(gate(model, DualGating(tile=tiles), x))
    with torch.no_grad():
        for _, module in net.gate_modules():
            module.offset.zero_()
            head = module.head
            for name, parameter in head.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-1, 1)
    kind = PublishedMobileNet if request.param == "mobilenet_v2" else Published
    published = kind(model, published_tiles, (size, size)).eval()
    copy_gates(published, net)
    return net, published, x


def assert_close(actual, expected):
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def assert_same(net, published_output, book, output, decisions, cost):
    assert_close(output, published_output)
    for name, decision in decisions.items():
        assert torch.equal(decision.mask, book.masks[name]), name
        if decision.logits is not None:
            assert_close(decision.logits, book.logits[name])
    assert cost.macs.tolist() == book.macs.long().tolist()


@torch.no_grad()
def test_evaluation_is_as_published(pair):
    net, published, x = pair
    net.eval()
    published.eval()
    book = Book()
    expected = published(x, book)
    output, decisions = net.decide(x)
    open_share = torch.cat([d.mask.flatten() for d in decisions.values()]).mean()
    assert 0.2 < open_share < 0.8, "the gates do not decide both ways, so this shows nothing"
    assert_same(net, expected, book, output, decisions, net.cost(decisions))


@torch.no_grad()
def test_training_is_as_published_with_the_same_masks(pair, random_decisions):
    """With masks given to both: batch norms on batch statistics, and the training graph's masks."""
    net, published, x = pair
    decisions = random_decisions(net, len(x), 0.7)
    state = {k: v.clone() for k, v in published.state_dict().items()}
    net_state = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    published.train()
    book = Book(given=decisions)
    expected = published(x, book)
    output = net.replay(x, decisions)
    net.eval()
    published.eval()
    net.load_state_dict(net_state)
    published.load_state_dict(state)
    assert_close(output, expected)
    assert net.cost(decisions).macs.tolist() == book.macs.long().tolist()


def test_training_with_noise_is_as_published(pair):
    """The same uniform numbers, gate by gate in the graph's order; outputs, masks, logits and gradients."""
    net, published, x = pair
    state = {k: v.clone() for k, v in published.state_dict().items()}
    net_state = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    published.train()
    torch.manual_seed(5)
    output, decisions = net.decide(x)
    uniform = {}
    # convgate may ask its gates in another order: hand the published ones the noise that fits their name.
    torch.manual_seed(5)
    order = [
        n.target.removeprefix("convgate.gates.")
        for n in net.graphs[True].nodes
        if str(n.target).startswith("convgate.gates.")
    ]
    for name in order:
        uniform[name] = torch.rand(decisions[name].mask.shape)

    class NoisyBook(Book):
        def decide(self, name, logits, training):
            u = uniform[name]
            soft = torch.sigmoid((logits + torch.log(u + 1e-8) - torch.log(1 - u + 1e-8)) / TEMPERATURE)
            self.logits[name] = logits
            self.masks[name] = (soft >= 0.5).float() - soft.detach() + soft
            return self.masks[name]

    book = NoisyBook()
    expected = published(x, book)
    cost = net.cost(decisions)
    (output.square().mean() + cost.ratio.mean()).backward()
    (expected.square().mean() + (book.macs / net.ledger.dense).mean()).backward()
    net.eval()
    published.eval()
    net.load_state_dict(net_state)
    published.load_state_dict(state)
    for name, decision in decisions.items():
        assert torch.equal(decision.mask, book.masks[name].round()), name
        assert (decision.logits - book.logits[name]).abs().max() <= 1e-4 * (1 + book.logits[name].abs().max()), name
    assert (output - expected).abs().max() <= 1e-4 * expected.abs().max()
    torch.testing.assert_close(cost.macs.double(), book.macs, rtol=1e-6, atol=0)
    ours = dict(net.gate_modules())
    for name, theirs in published.gates():
        ending = "conv.bias" if isinstance(theirs, SpatialGate) else "expand.bias"
        mine = dict(ours[name].head.named_parameters())[ending].grad
        other = (theirs.conv if isinstance(theirs, SpatialGate) else theirs.fc2).bias.grad
        # The 2e-6 is float32's rounding of sums in another order: in float64 all four networks agree to
        # 1e-7 * max + 1e-9.
        assert (mine - other).abs().max() <= 1e-3 * other.abs().max() + 2e-6, name
    net.zero_grad()
    published.zero_grad()


# -- the loss ------------------------------------------------------------------------------------------------------


def two_kinds():
    """Two samples; spatial gates with densities 0.25 and 1, a channel gate with 0.5 and 0: means 0.625 and 0.25."""
    s = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]]).view(2, 1, 2, 2)
    c = torch.tensor([[1.0, 0], [0, 0]]).view(2, 2, 1, 1)
    return Decisions({"s": Decision(Tiles(1), s), "c": Decision(ChannelGroups(c.shape[1]), c)})


class FlatLedger:
    """A network of 100 MACs of which a batch spends 30 and 50."""

    dense = 100

    def cost(self, decisions):
        class Cost:
            macs = torch.tensor([30, 50])

        return Cost


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("annealing", [6.0, 5.0])
def test_loss_terms_are_as_published(progress, annealing):
    target = 0.64
    terms = DualGating(budget=target, annealing=annealing).penalty(two_kinds(), FlatLedger(), progress)
    # rloss = 5 (F / F_ori - Td)^2 with F / F_ori = 0.4
    assert terms["budget"].item() == pytest.approx(5 * (0.4 - 0.64) ** 2, rel=1e-5)
    # bloss = sum over kinds of mean relu(p t - rho)^2 + mean relu(rho - (1 - p + p t))^2, t = sqrt(Td) = 0.8
    p = math.exp(-annealing * progress)
    expected = 0.0
    for rho in (0.625, 0.25):
        expected += max(0.0, p * 0.8 - rho) ** 2 + max(0.0, rho - (1 - p + p * 0.8)) ** 2
    assert terms["bounds"].item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    if progress == 0.0:
        # At the start p = 1 and both bounds are 0.8: (0.8 - 0.625)^2 + (0.8 - 0.25)^2 = 0.030625 + 0.3025
        assert terms["bounds"].item() == pytest.approx(0.333125, rel=1e-5)


def test_upper_bound_and_weights():
    opened = Decisions(
        {
            "c": Decision(ChannelGroups(4), torch.ones(2, 4, 1, 1)),
            "d": Decision(ChannelGroups(4), torch.zeros(2, 4, 1, 1)),
        }
    )
    terms = DualGating(budget=0.25, budget_weight=2.0, bounds_weight=3.0).penalty(opened, FlatLedger(), 0.0)
    # t = 0.5, p = 1: mean of (1 - 0.5)^2 and 0 above, of 0 and (0.5 - 0)^2 below; times 3.
    assert terms["bounds"].item() == pytest.approx(3 * (0.125 + 0.125))
    assert terms["budget"].item() == pytest.approx(2 * 0.15**2, rel=1e-5)


def test_noise_free_budget_counts_what_evaluation_would(make_small):
    net, x = make_small(DualGating(budget=0.3, counted="noise_free"))
    net.train()
    _, decisions = net.decide(x)
    free = Decisions((k, Decision(d.kind, (d.logits >= 0).float())) for k, d in decisions.items())
    share = (net.cost(free).macs.float() / net.ledger.dense).mean().item()
    sampled = (net.cost(decisions.detach()).macs.float() / net.ledger.dense).mean().item()
    assert share != pytest.approx(sampled)
    terms = DualGating(budget=0.3, counted="noise_free").penalty(decisions, net.ledger, 0.0)
    assert terms["budget"].item() == pytest.approx(5 * (share - 0.3) ** 2, rel=1e-4)
    published = DualGating(budget=0.3).penalty(decisions, net.ledger, 0.0)
    assert published["budget"].item() == pytest.approx(5 * (sampled - 0.3) ** 2, rel=1e-4)
    # At progress 0 the bounds are (rho - sqrt(T))^2 of each gate, averaged by kind, on the same masks as the budget.
    for found, counted in ((terms, free), (published, decisions.detach())):
        expected = 0.0
        for kind in (Tiles, ChannelGroups):
            rho = torch.stack([d.density.mean() for d in counted.of_kind(kind).values()])
            expected += (rho - 0.3**0.5).square().mean().item()
        assert found["bounds"].item() == pytest.approx(expected, rel=1e-4)
    terms["budget"].backward()
    assert all(p.grad is not None for p in net.gate_parameters())
