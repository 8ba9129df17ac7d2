"""Photographs in folders as what a network is given: read anew in each pass, so that memory does not grow with them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convgate.engine import Engine
    from convgate.gated import GatedModel, GatedNetwork
    from convgate.preparation import Preparation

__all__ = ["Photographs"]


class Photographs:
    """Batches of the photographs in some folders.

    Args:
        folders: of images; of more than `most` as many are taken, evenly.
        most: see `folders`.
        preparation: what makes images [N, C, H, W] of files. None: each is a list of one image [3, H, W] of its own
            size, values in [0, 1], as detectors are called.
        at_once: how many a batch holds where they are prepared.

    Raises:
        DataError: a folder without images; when it is read, a file that is not one.

    """

    def __init__(
        self, folders: Sequence[str | Path], most: int, preparation: "Preparation | None", at_once: int = 1
    ) -> None:
        from convgate.preparation.files import images_in

        found = [path for folder in folders for path in images_in(folder)]
        number = min(len(found), most)
        self._paths = [found[i * len(found) // number] for i in range(number)]
        self._preparation, self._at_once = preparation, at_once

    @classmethod
    def of(
        cls,
        network: "GatedNetwork | GatedModel | Engine",
        folders: Sequence[str | Path],
        most: int,
        at_once: int = 1,
    ) -> "Photographs":
        """As `network` is given them. Raises `InputError` if it does not say how images are prepared."""
        from convgate.bench.photographs import preparation_for
        from convgate.errors import InputError
        from convgate.gated import GatedModel, GatedNetwork

        if isinstance(network, GatedModel):
            return cls(folders, most, None)
        if network.preparation is None:
            raise InputError(
                "the network does not say how images are prepared; in Python, set network.preparation (see "
                "convgate.preparation_of) before it is saved or compiled"
            )
        prepares = preparation_for(network, None) if isinstance(network, GatedNetwork) else network.preparation
        return cls(folders, most, prepares, at_once)

    def __iter__(self) -> Iterator[Any]:
        from torch import from_numpy

        from convgate.data.scenes import read_scene_image

        if self._preparation is None:
            yield from ([read_scene_image(path).float() / 255] for path in self._paths)
            return
        for begin in range(0, len(self._paths), self._at_once):
            yield from_numpy(self._preparation.read(self._paths[begin : begin + self._at_once]))
