"""The order of norm, activation and convolution, written out once more."""

import pytest
import torch
import torch.nn.functional as F

from convgate.models import DenseNetBC, PreActResNet


def activated(norm, x):
    return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))


@pytest.mark.parametrize("narrow", [True, False])
def test_blocks_are_activated_before_their_convolutions_and_not_after(narrow, randomise):
    x = torch.randn(2, 3, 16, 16)
    model = randomise(PreActResNet(20, width=8, narrow=narrow), x)
    changed = []
    with torch.no_grad():
        y = F.conv2d(x, model.conv1.weight, padding=1)
        for number, group in enumerate((model.layer1, model.layer2, model.layer3)):
            for place, b in enumerate(group):
                stride = 2 if number and not place else 1
                a = activated(b.bn1, y)
                z = activated(b.bn2, F.conv2d(a, b.conv1.weight))
                z = activated(b.bn3, F.conv2d(z, b.conv2.weight, stride=stride, padding=1))
                z = F.conv2d(z, b.conv3.weight)
                if b.downsample is not None:
                    changed.append((number, place))
                    y = F.conv2d(a, b.downsample.weight, stride=stride)
                y = y + z
        expected = model.fc(activated(model.bn, y).mean((2, 3)))
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    # GaterNet's first group is as wide as the stem, so that its first shortcut is the identity.
    assert changed == ([] if narrow else [(0, 0)]) + [(1, 0), (2, 0)]


@pytest.mark.parametrize(("narrow", "widths"), [(True, [(4, 16), (32, 128), (64, 256)]), (False, [(16, 64)])])
def test_widths_of_the_groups(narrow, widths):
    # GaterNet (CVPR 2019), footnote 2: 16, 4, 16 in the first group. He et al.: 64, 16, 64.
    model = PreActResNet(11, narrow=narrow)
    groups = [group[0] for group in (model.layer1, model.layer2, model.layer3)]
    found = [(block.conv1.out_channels, block.conv3.out_channels) for block in groups]
    assert found[: len(widths)] == widths


def test_dense_layers_read_all_before_them(randomise):
    x = torch.randn(2, 3, 8, 8)
    model = randomise(DenseNetBC(16, 4), x)
    with torch.no_grad():
        y = F.conv2d(x, model.conv1.weight, padding=1)
        for block, transition in (
            (model.block1, model.transition1),
            (model.block2, model.transition2),
            (model.block3, None),
        ):
            for layer in block:
                z = F.conv2d(activated(layer.bn1, y), layer.conv1.weight)
                y = torch.cat([y, F.conv2d(activated(layer.bn2, z), layer.conv2.weight, padding=1)], 1)
            if transition is not None:
                y = F.avg_pool2d(F.conv2d(activated(transition.bn, y), transition.conv.weight), 2)
        expected = model.fc(activated(model.bn, y).mean((2, 3)))
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
