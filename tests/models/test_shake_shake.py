"""What Shake-Shake does at random, and what it does not."""

import torch
from torch import nn

from convgate.models import ShakeShake
from convgate.models.shake_shake import Shake, _TwoFlows


def test_evaluation_takes_the_mean():
    a, b = torch.randn(2, 3, 4, 5, 5)
    torch.testing.assert_close(Shake().eval()(a, b), (a + b) / 2)


def test_training_mixes_each_image_by_a_number_of_its_own():
    torch.manual_seed(0)
    a, b = torch.randn(2, 200, 4, 3, 3)
    y = Shake().train()(a, b)
    alpha = ((y - b) / (a - b)).median(1, keepdim=True).values[..., :1, :1]
    torch.testing.assert_close(y, alpha * a + (1 - alpha) * b, rtol=1e-4, atol=1e-4)
    # Uniform in [0, 1): standard error of the mean 0.02.
    assert 0 <= alpha.min() < 0.1 < 0.9 < alpha.max() <= 1
    assert abs(alpha.mean() - 0.5) < 0.08
    assert alpha.unique().numel() == 200


def test_backward_uses_other_numbers_than_forward():
    torch.manual_seed(0)
    a, b = torch.randn(2, 200, 4, 3, 3, dtype=torch.float64).unbind()
    a.requires_grad_(True)
    b.requires_grad_(True)
    y = Shake().train()(a, b)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    beta = (a.grad / gradient)[:, :1, :1, :1]
    torch.testing.assert_close(a.grad, beta * gradient)
    torch.testing.assert_close(b.grad, (1 - beta) * gradient)
    assert 0 <= beta.min() < 0.1 < 0.9 < beta.max() <= 1
    with torch.no_grad():
        alpha = ((y - b) / (a - b))[:, :1, :1, :1]
        assert (alpha - beta).abs().max() > 0.5
        assert abs(torch.corrcoef(torch.cat([alpha, beta], 1)[..., 0, 0].T)[0, 1]) < 0.25


def test_seeds_repeat_a_step():
    model, x = ShakeShake(8, 4).train(), torch.randn(2, 3, 8, 8)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    gradients = []
    for _ in range(2):
        model.load_state_dict(state)
        model.zero_grad()
        torch.manual_seed(7)
        model(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


def test_the_flows_of_a_shortcut_see_the_even_and_the_odd_positions():
    shortcut = _TwoFlows(2, 4, 2).eval()
    shortcut.bn = nn.Identity()
    for conv in (shortcut.conv1, shortcut.conv2):
        nn.init.eye_(conv.weight.data.view(2, 2))
    x = torch.randn(1, 2, 6, 8)
    y = shortcut(x)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 2:], x[:, :, 1::2, 1::2])


def test_the_compiled_model_trains():
    """torch.compile and the backward pass of our own go together."""
    torch.manual_seed(0)
    model = ShakeShake(8, 4).train()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(torch.randn(2, 3, 8, 8)).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
