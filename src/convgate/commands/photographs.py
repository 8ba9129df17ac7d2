"""Photographs in folders as what a network is given: read anew in each pass, so that memory does not grow with them."""

import random
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
        folders: of images; of more than `most` as many are taken, evenly, in an order that a fixed seed draws: folders
            are often one for each class, and who reads some takes the first.
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
        random.Random(0).shuffle(self._paths)
        self._preparation, self._at_once = preparation, at_once

    @classmethod
    def of(
        cls,
        network: "GatedNetwork | GatedModel | Engine",
        source: Path,
        folders: Sequence[str | Path],
        most: int,
        at_once: int = 1,
    ) -> "Photographs":
        """As `network`, of the file or folder `source`, is given them when it is used.

        Raises `InputError` if it does not say how images are prepared.
        """
        from convgate.errors import InputError
        from convgate.gated import GatedModel

        if isinstance(network, GatedModel):
            return cls(folders, most, None)
        if network.preparation is None:
            raise InputError(
                f"{source} does not say how images are prepared; in Python, set network.preparation (see "
                "convgate.preparation_of) and save it again, or call convgate.quantize(network, batches) or "
                "convgate.calibrate. In place of a detector's .cgm file give the checkpoint that it was made of"
            )
        return cls(folders, most, network.preparation, at_once)

    def __iter__(self) -> Iterator[Any]:
        if self._preparation is None:
            from convgate.data.scenes import read_scene_image

            yield from ([read_scene_image(path).float() / 255] for path in self._paths)
            return
        from torch import from_numpy

        for begin in range(0, len(self._paths), self._at_once):
            yield from_numpy(self._preparation.read(self._paths[begin : begin + self._at_once]))
