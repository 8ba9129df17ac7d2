import pytest
from torch import nn

from convgate.reading.modes import evaluating, get_modes, set_modes


@pytest.fixture
def mixed():
    """In training, but for a frozen batch norm."""
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.Dropout()))
    module[1][0].eval()
    return module


def test_modes_survive_a_block_of_evaluation(mixed):
    before = get_modes(mixed)
    assert before == {"": True, "0": True, "1": True, "1.0": False, "1.1": True}
    with evaluating(mixed):
        assert not any(get_modes(mixed).values())
    assert get_modes(mixed) == before


def test_modes_are_restored_after_an_error(mixed):
    before = get_modes(mixed)
    with pytest.raises(RuntimeError), evaluating(mixed):
        raise RuntimeError
    assert get_modes(mixed) == before


def test_unknown_names_are_left_alone(mixed):
    set_modes(mixed, {"0": False, "elsewhere": False})
    assert get_modes(mixed) == {"": True, "0": False, "1": True, "1.0": False, "1.1": True}
