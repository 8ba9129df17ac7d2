import math

import pytest
import torch

from convgate.errors import RecipeError
from convgate.gating import Decision, Decisions, Tiles
from convgate.recipes.recipe import Supervision
from convgate.tasks import create_task
from convgate.training.supervise import fit_to, supervision, weight_at


def decided(logits):
    return Decisions({"a.spatial": Decision(Tiles(4), (logits >= 0).float(), logits)})


def test_the_term_by_hand():
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    regions = torch.zeros(1, 1, 8, 8)
    regions[..., 3:4, 5:6] = 1  # one pixel, in the tile at the upper right
    term = supervision(decided(logits), regions)
    assert float(term.detach()) == pytest.approx(math.log(2))
    term.backward()
    # Half of the weight on the one tile with an object, half on the three others; the slope of softplus at 0 is 1/2.
    torch.testing.assert_close(logits.grad, torch.tensor([[[[1 / 12, -1 / 4], [1 / 12, 1 / 12]]]]))
    right = torch.where(torch.tensor([[[[False, True], [False, False]]]]), 20.0, -20.0)
    assert float(supervision(decided(right), regions)) < 1e-6
    assert float(supervision(Decisions({}), regions)) == 0


def test_boxes_are_the_regions():
    x = [torch.zeros(3, 6, 8), torch.zeros(3, 4, 10)]
    targets = [{"boxes": torch.tensor([[1.5, 2.0, 3.2, 4.0]])}, {"boxes": torch.zeros(0, 4)}]
    regions = create_task("detection").regions(x, targets)
    assert regions.shape == (2, 1, 6, 10)
    assert regions.nonzero()[:, 2:].unique(dim=0).tolist() == [[y, x] for y in (2, 3) for x in (1, 2, 3)]
    assert fit_to(regions, (32, 32)).sum() == regions.sum()
    with pytest.raises(RecipeError, match="keep their images' size"):
        fit_to(regions, (300, 400))
    with pytest.raises(RecipeError, match="no objects with boxes"):
        create_task("classification").regions(None, None)


def test_the_weight_falls_to_nothing():
    told = Supervision(2.0, until=0.5)
    assert [weight_at(told, progress) for progress in (0.0, 0.25, 0.5, 0.9)] == [2.0, 1.0, 0.0, 0.0]
    with pytest.raises(RecipeError, match="until"):
        Supervision(until=0.0)
