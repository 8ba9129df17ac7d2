"""What an evaluation keeps grows by a few numbers an image, so that ImageNet's 50,000 fit anywhere."""

import gc
from itertools import pairwise

import pytest
import torch

from convgate import gate
from convgate.analysis import evaluate
from convgate.methods import create as create_method
from convgate.models import create

BATCH, N_BATCHES = 4, 5
KEPT = 3 * 8  # bytes per image: the predicted class, the true one and the MACs, int64 each


def live_bytes():
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("method", ["ChannelGating", "DualGating"])
def test_an_evaluation_keeps_24_bytes_an_image(method):
    torch.manual_seed(0)
    x = torch.zeros(2, 3, 32, 32)
    network = gate(create("cifar_resnet8", width=4), create_method(method, {}), x)
    live = []

    def batches():
        for i in range(N_BATCHES):
            # What the network did with one batch is let go when the next one has been asked for.
            live.append(live_bytes())
            yield torch.full((BATCH, 3, 32, 32), i / N_BATCHES), torch.full((BATCH,), i)

    measured = evaluate(network, batches())
    grown = [after - before for before, after in pairwise(live[2:])]
    assert grown == [KEPT * BATCH] * len(grown)
    kept = (measured.predictions, measured.labels, measured.spending.macs)
    assert sum(part.untyped_storage().nbytes() for part in kept) == KEPT * BATCH * N_BATCHES
