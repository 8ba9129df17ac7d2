"""Training batches follow from the seed and the place in training alone; what is drawn for closing disturbs nothing."""

import random
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from convgate.errors import InputError
from convgate.finetuning.batches import Batches, checksum


class Noisy(Dataset):
    """Images that each of the three global generators has a part in."""

    def __len__(self):
        return 6

    def __getitem__(self, number):
        drawn = torch.rand(()) + random.random() + np.random.rand()
        return torch.full((3, 4, 4), number + float(drawn) / 10)


class Counting(RandomSampler):
    """An order that follows the epoch it was told."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter([(number + self.epoch) % 6 for number in range(6)])


def loaders():
    drawing = torch.Generator().manual_seed(7)
    return {
        "shuffled": DataLoader(Noisy(), 2, shuffle=True),
        "own generator": DataLoader(Noisy(), 2, shuffle=True, generator=drawing),
        "replacing": DataLoader(Noisy(), 2, sampler=RandomSampler(Noisy(), replacement=True, generator=drawing)),
        "epochs": DataLoader(Noisy(), 2, sampler=Counting(Noisy())),
        "workers": DataLoader(Noisy(), 2, shuffle=True, num_workers=1),
    }


def batches(loader, seed=3):
    return Batches(loader, None, None, False, torch.device("cpu"), seed)


def seen(data, epoch, skip, n):
    return [checksum(images) for _, _, images, _ in islice(data.epochs(epoch, skip), n)]


@pytest.mark.parametrize("which", loaders())
def test_a_run_that_goes_on_sees_the_batches_that_it_would_have_seen(which):
    first = batches(loaders()[which])
    whole = seen(first, 0, 0, 6)
    random.seed(), np.random.seed(), torch.seed()
    again = batches(loaders()[which])
    assert [checksum(x) for x, _ in again.held_out] == [checksum(x) for x, _ in first.held_out]
    told = []
    images = [checksum(x) for _, _, x, _ in islice(again.epochs(1, 1, lambda x: told.append(checksum(x))), 2)]
    assert images == whole[4:]
    assert told == whole[3:4]
    assert len(set(whole)) == 6


def test_another_seed_is_another_order():
    loader = loaders()["own generator"]
    assert seen(batches(loader, 0), 0, 0, 3) != seen(batches(loader, 1), 0, 0, 3)


@pytest.mark.parametrize("which", ["shuffled", "replacing"])
def test_looking_at_training_images_disturbs_no_epoch(which):
    def read(looking):
        data = Batches(loaders()[which], None, [torch.zeros(1, 3, 4, 4)], False, torch.device("cpu"), 3)
        found = []
        for _, number, images, _ in islice(data.epochs(0, 0), 6):
            found.append(checksum(images))
            if looking and number == 1:
                assert len(data.to_close_on(1)) == 4
        return found

    assert read(looking=True) == read(looking=False)


def test_loaders_whose_workers_persist_are_refused():
    with pytest.raises(InputError, match="persist"):
        batches(DataLoader(Noisy(), 2, num_workers=1, persistent_workers=True))
