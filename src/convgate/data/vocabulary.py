"""From names of classes, as folders and lists of labels have them, to the outputs of a network."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from convgate.errors import DataError

__all__ = ["outputs_of"]


def outputs_of(
    names: Iterable[str], outputs: int, classes: Sequence[str] = (), codes: Sequence[str] = (), place: str = "the data"
) -> dict[str, int]:
    """Which output of a network each name stands for.

    A name is one of the network's classes ("tench"; "great_white_shark" and case do not matter; of "tench, Tinca
    tinca" either part will do), a code of them (ImageNet's synsets: "n01440764"), or the number of an output ("0017").
    All names are read in one of these ways. Where the network's classes are not known and there are as many names as
    outputs, outputs are numbered in the names' order, as torchvision's `ImageFolder` does.

    Args:
        names: the names in the data.
        outputs: how many outputs the network has.
        classes: their names, in their order; empty where they are not known.
        codes: their codes, in the same order; empty where they are not known.
        place: where the names come from, for errors.

    Raises:
        DataError: names that fit no output or several.

    >>> outputs_of(["dog", "Cat"], 3, ["cat", "dog", "horse"])
    {'dog': 1, 'Cat': 0}
    >>> outputs_of(["0002", "0000"], 3)
    {'0002': 2, '0000': 0}

    """
    names = list(dict.fromkeys(names))
    readings = (_named(classes), _named(codes), _numbers(names, outputs))
    found = [{name: known.get(_plain(name), []) for name in names} for known in readings]
    best = max(found, key=lambda reading: sum(map(bool, reading.values())))
    missing = [name for name in names if not best[name]]
    if len(missing) == len(names) and len(names) == outputs and not classes:
        return {name: number for number, name in enumerate(sorted(names))}
    if missing:
        raise DataError(
            f"{place}: {len(missing)} of {len(names)} names of classes fit none of the network's {outputs} outputs "
            f"({_some(missing)}); {_known(classes, codes, outputs)}. Name them so, give --classes FILE (one name per "
            "output, in their order), or go without labels: --labels none"
        )
    double = [name for name in names if len(best[name]) > 1]
    if double:
        which = ", ".join(f"'{name}' outputs {' and '.join(map(str, best[name]))}" for name in double[:3])
        raise DataError(f"{place}: {which} have that name; use their numbers or their codes instead")
    chosen = {name: best[name][0] for name in names}
    if len(set(chosen.values())) < len(chosen):
        places = defaultdict(list)
        for name, number in chosen.items():
            places[number].append(name)
        same = next(names for names in places.values() if len(names) > 1)
        raise DataError(f"{place}: {' and '.join(same)} are the same class; merge them")
    return chosen


def _named(classes: Sequence[str]) -> dict[str, list[int]]:
    """Plain name -> the outputs of that name; a whole name counts before a part of another."""
    whole, parts = defaultdict(list), defaultdict(list)
    for number, name in enumerate(classes):
        whole[_plain(name)].append(number)
        for part in {_plain(part) for part in name.split(",")} - {_plain(name)}:
            parts[part].append(number)
    return {**parts, **whole}


def _numbers(names: Sequence[str], outputs: int) -> dict[str, list[int]]:
    numbers = {name: int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 10}
    return {_plain(name): [number] for name, number in numbers.items() if number < outputs}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", .." if len(names) > 4 else "")


def _known(classes: Sequence[str], codes: Sequence[str], outputs: int) -> str:
    ways = [f"names ({_some([name.partition(',')[0] for name in classes])})"] if classes else []
    ways += [f"codes ({_some(codes)})"] if codes else []
    return f"the network knows {', '.join([*ways, f'numbers (0 to {outputs - 1})'])}"
