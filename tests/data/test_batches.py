from collections import Counter

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convgate.data import Batches, ImageSet
from convgate.errors import InputError


def numbered(n):
    """Image i holds the number i in its two channels."""
    i = torch.arange(n)
    images = torch.stack([i // 256, i % 256], 1).to(torch.uint8).view(n, 2, 1, 1)
    return ImageSet(images, i % 10, tuple("0123456789"), (0.5, 0.5), (0.5, 0.5))


def seen(batches):
    out = []
    for images, labels in batches:
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        numbers = images[:, 0, 0, 0].long() * 256 + images[:, 1, 0, 0].long()
        assert torch.equal(numbers % 10, labels)
        out.append(numbers.tolist())
    return out


@settings(deadline=None)
@given(
    n=st.integers(1, 60),
    size=st.integers(1, 20),
    world=st.integers(1, 5),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_every_image_comes_once_an_epoch_across_ranks(n, size, world, epoch, shuffle):
    if not shuffle and world > n:
        return
    counts, shares = Counter(), []
    for rank in range(world):
        batches = Batches(numbered(n), size, shuffle=shuffle, rank=rank, world_size=world)
        batches.set_epoch(epoch)
        got = seen(batches)
        assert len(got) == len(batches)
        assert all(len(batch) == size for batch in got[:-1])
        assert 1 <= len(got[-1]) <= size
        counts.update(i for batch in got for i in batch)
        shares.append(sum(map(len, got)))
    assert set(counts) == set(range(n))
    if shuffle:
        assert len(set(shares)) == 1
        assert sum(shares) - n < world
    else:
        assert max(counts.values()) == 1
        assert max(shares) - min(shares) <= 1


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch, batches=None):
        batches = batches or Batches(numbered(50), 7, seed=seed, shuffle=True)
        batches.set_epoch(epoch)
        return seen(batches)

    used = Batches(numbered(50), 7, seed=0, shuffle=True)
    for epoch in range(3):
        order(0, epoch, used)
        torch.rand(3)
    assert order(0, 3, used) == order(0, 3)
    # An epoch must not be the same as another seed's.
    assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    state = torch.get_rng_state()
    order(0, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_set_epoch_leaves_a_pass_alone_that_has_begun():
    batches = Batches(numbered(50), 7, shuffle=True)
    expected, running = seen(batches), iter(batches)
    first = next(running)
    batches.set_epoch(1)
    assert seen([first, *running]) == expected != seen(batches)


def test_an_iterator_made_before_set_epoch_follows_it():
    """Lightning makes the iterator of a resumed run's first epoch before it calls set_epoch."""
    batches, resumed = Batches(numbered(50), 7, shuffle=True), Batches(numbered(50), 7, shuffle=True)
    batches.set_epoch(3)
    early = iter(resumed)
    resumed.set_epoch(3)
    assert seen(early) == seen(batches)


def test_not_shuffled_is_in_order_whatever_the_epoch():
    batches = Batches(numbered(10), 4)
    batches.set_epoch(5)
    assert seen(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_drop_last_leaves_out_the_short_batch():
    batches = Batches(numbered(10), 4, drop_last=True)
    assert len(batches) == 2
    assert seen(batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(Batches(numbered(8), 4, drop_last=True)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"world_size": 0}, "world_size is 0"),
        ({"rank": 2, "world_size": 2}, r"rank is 2.*\[0, 2\)"),
        ({"rank": -1}, "rank is -1"),
        ({"batch_size": 11, "drop_last": True}, "no batch"),
        ({"rank": 10, "world_size": 11}, "no batch"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Batches(numbered(10), **{"batch_size": 4} | options)


def test_set_epoch_refuses_a_negative_epoch():
    with pytest.raises(InputError, match="epoch is -1"):
        Batches(numbered(10), 4).set_epoch(-1)


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.train_seen, self.val_seen = [], []

    def training_step(self, batch, index):
        self.train_seen += seen([batch])
        return self.layer(batch[0].flatten(1).float()).mean()

    def validation_step(self, batch, index):
        self.val_seen += seen([batch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


# Lightning 2.6 uses a class that torch 2.15 deprecates.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_lightning_takes_them_as_loaders_and_sets_the_epoch(tmp_path):
    train, validation = Batches(numbered(10), 4, shuffle=True), Batches(numbered(6), 4)
    model = Recorder()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", num_sanity_val_steps=0, enable_model_summary=False,
        default_root_dir=tmp_path, **quiet,
    )  # fmt: skip
    trainer.fit(model, train, validation)
    expected = []
    for epoch in range(2):
        fresh = Batches(numbered(10), 4, shuffle=True)
        fresh.set_epoch(epoch)
        expected += seen(fresh)
    assert model.train_seen == expected
    assert model.val_seen == [[0, 1, 2, 3], [4, 5]] * 2
