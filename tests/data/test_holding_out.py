import pytest
from tests.data.numbered import make, origins

from convgate.data import split_off
from convgate.data.holding_out import hold_out
from convgate.data.scenes import BoxSet
from convgate.errors import InputError


def test_split_off_shares_nothing_and_loses_nothing():
    rest, held_out = split_off(make(), 5, seed=3)
    assert len(held_out) == 5
    assert sorted(origins(rest) + origins(held_out)) == list(range(12))
    assert origins(split_off(make(), 5, seed=4)[1]) != origins(held_out)
    for n in (0, 12):
        with pytest.raises(InputError, match="neither part"):
            split_off(make(), n, seed=0)


def test_images_are_held_out_by_number_or_by_share():
    whole = make(40)
    assert hold_out(whole, 0, seed=0) == (whole, whole)
    assert [len(part) for part in hold_out(whole, None, seed=0)] == [36, 4]
    assert [len(part) for part in hold_out(whole, None, most=5, seed=0)] == [36, 4]
    assert [len(part) for part in hold_out(whole, None, most=3, seed=0)] == [37, 3]
    rest, held_out = hold_out(whole, 11, seed=0)
    assert sorted(origins(rest) + origins(held_out)) == list(range(40))


def test_scenes_are_held_out():
    whole = BoxSet(list(range(12)), ("car",))
    assert hold_out(whole, 0, seed=0) == (whole, whole)
    rest, held_out = hold_out(whole, 5, seed=0)
    numbers = [[part.scenes[i] for i in range(len(part))] for part in (rest, held_out)]
    assert [len(part) for part in numbers] == [7, 5]
    assert sorted(numbers[0] + numbers[1]) == list(range(12))


@pytest.mark.parametrize("n", [-1, 12, 13])
def test_something_is_left_to_learn_from(n):
    with pytest.raises(InputError, match=rf"validation is {n}.*\[0, 11\]"):
        hold_out(make(), n, seed=0)
    with pytest.raises(InputError, match=rf"validation is {n}.*\[0, 11\]"):
        hold_out(BoxSet(list(range(12)), ("car",)), n, seed=0)
