"""Any folders of images, by class or not: which files there are, and which labels they have."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from convgate.data.vocabulary import outputs_of
from convgate.errors import DataError
from convgate.preparation.files import images_in

__all__ = ["Listing", "label", "list_images", "read_classes"]

_Called = Callable[[Path], list[Path]]
"""What the file at a path is called."""


@dataclass(frozen=True)
class Listing:
    """Files of images, in alphabetical order; `labels` are outputs of a network, one per file, or None.

    `how` says in words where the labels come from. `numbered` are the names of all outputs, where nothing but the order
    of the names told which is which; else empty.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...] | None = None
    how: str = "no labels"
    numbered: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


def list_images(folders: Sequence[str | PathLike[str]]) -> tuple[Path, ...]:
    """All image files in folders and below, by their suffix; hidden ones are left out.

    Raises `DataError` for a folder that is not there or holds no image.
    """
    found = [path for folder in folders for path in images_in(folder)]
    return tuple(dict.fromkeys(found))


def label(
    folders: Sequence[str | PathLike[str]],
    labels: str,
    outputs: int,
    classes: Sequence[str] = (),
    codes: Sequence[str] = (),
) -> Listing:
    """The images in folders with their labels.

    Args:
        folders: see `list_images`.
        labels: "none"; "folders": an image's class is the name of the folder that it lies in; "auto": "folders" where
            every image lies in a folder of its class, below those given, else "none"; or the path of a CSV file with a
            head line, whose columns `file` and `label` (or `class`) name an image and its class. `file` is the image's
            path, as it is or from a folder given; its name, or its name without the suffix, will do where no other
            row and no other image has that.
        outputs: of the network.
        classes: names of the outputs, see `outputs_of`.
        codes: codes of the outputs, see `outputs_of`.

    Raises:
        DataError: labels that fit no output, images without a label or with several, or a file that cannot be read.

    """
    paths = list_images(folders)
    if labels == "none":
        return Listing(paths)
    if labels in ("auto", "folders"):
        roots = {Path(folder).expanduser() for folder in folders}
        flat = [path for path in paths if path.parent in roots]
        if labels == "auto" and flat:
            return Listing(paths)
        if flat:
            raise DataError(f"{flat[0]} does not lie in a folder of its class; sort the images, or use --labels none")
        names, how = [path.parent.name for path in paths], "the folders that the images lie in"
    else:
        names, how = _listed(Path(labels), folders, paths), labels
    numbers = outputs_of(names, outputs, classes, codes, place=how)
    found = tuple(numbers[name] for name in names)
    if classes or len(numbers) < outputs or list(numbers) != sorted(numbers) or all(map(str.isdigit, numbers)):
        return Listing(paths, found, how)
    return Listing(paths, found, f"{how}, numbered in the order of their names", tuple(numbers))


def _listed(table: Path, folders: Sequence[str | PathLike[str]], paths: Sequence[Path]) -> list[str]:
    """The names of the images' classes, as a CSV file has them."""
    if not table.is_file():
        raise DataError(
            f"--labels {table}: there is no such file; give a CSV file (columns file, label), folders, or none"
        )
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as CSV: {error}") from error
    columns = list(rows[0]) if rows else []
    column = next((name for name in ("label", "class") if name in columns), None)
    if "file" not in columns or column is None:
        raise DataError(
            f"{table} has the columns {', '.join(columns) or 'of nothing'}; it needs file, and label or class"
        )
    known: dict[Path, str] = {}
    for row in rows:
        if row["file"] and row[column] and known.setdefault(Path(row["file"]), row[column]) != row[column]:
            raise DataError(f"{table} has two labels for {row['file']}, {known[Path(row['file'])]} and {row[column]}")
    files = _matched(table, known, [Path(folder).expanduser() for folder in folders], paths)
    missing = [path for path in paths if path not in files]
    if missing:
        raise DataError(
            f"{table} has no label for {len(missing)} of {len(paths)} images ({missing[0]}, ..); add them, or use "
            "--labels none"
        )
    return [known[files[path]] for path in paths]


def _matched(table: Path, files: Iterable[Path], folders: Iterable[Path], paths: Sequence[Path]) -> dict[Path, Path]:
    """Image -> the file of a table that it is: by the path, else by what only this file and this image are called.

    Raises `DataError` where that is not one file and one image.
    """
    roots = tuple(dict.fromkeys(folders))
    # What a file of the table is called, and an image.
    ways: tuple[tuple[_Called, _Called], ...] = (
        (lambda file: [file], lambda path: [path]),
        (lambda file: [file], lambda path: [path.relative_to(root) for root in roots if path.is_relative_to(root)]),
        (lambda file: [Path(file.name)], lambda path: [Path(path.name)]),
        (lambda file: [Path(file.stem)], lambda path: [Path(path.stem)]),
    )
    found: dict[Path, Path] = {}
    for file_called, image_called in ways:
        rows, images = _by(file_called, files), _by(image_called, paths)
        for path in [path for path in paths if path not in found]:
            for name in [name for name in image_called(path) if name in rows]:
                if len(rows[name]) > 1 or len(images[name]) > 1:
                    raise DataError(
                        f"{table} does not say which label {path} has: '{name}' is {len(rows[name])} of its files "
                        f"({rows[name][0]}, ..) and {len(images[name])} images ({images[name][0]}, ..); write paths "
                        "from the folder given into its column file"
                    )
                found[path] = rows[name][0]
    return found


def _by(called: _Called, paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """What files are called -> those that are."""
    found = defaultdict(list)
    for path in paths:
        for name in called(path):
            found[name].append(path)
    return dict(found)


def read_classes(path: str | PathLike[str]) -> tuple[str, ...]:
    """Names of a network's outputs, in their order: a text file with one a line, or a JSON list.

    Raises `DataError` for a file that is missing or holds something else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a list of classes: {error}") from error
    while names and isinstance(names, list) and names[-1] == "":
        names.pop()
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"{path} is not a list of classes: it needs one name per output, in their order, none empty")
    return tuple(name.strip() for name in names)
