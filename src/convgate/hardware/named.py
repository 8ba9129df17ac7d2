"""Descriptions that come with convgate by name, or are files of a user's: YAML, checked by who reads them."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from convgate.errors import InputError

__all__ = ["list_named", "read_named"]


def list_named(folder: str) -> tuple[str, ...]:
    """The names of what lies in a folder of this package, in alphabetical order."""
    inside = files("convgate.hardware") / folder
    return tuple(sorted(path.name[:-5] for path in inside.iterdir() if path.name.endswith(".yaml")))


def read_named(name: str | Path, folder: str, what: str) -> Any:
    """The data of what has that name in the folder, or of a YAML file.

    Raises `InputError` for an unknown name and for a file that is not YAML; `what` says in words what is looked for.
    """
    import yaml

    source = Path(name)
    if str(name) in list_named(folder):
        text = (files("convgate.hardware") / folder / f"{name}.yaml").read_text(encoding="utf-8")
    elif source.suffix in (".yaml", ".yml") and source.is_file():
        text = source.read_text(encoding="utf-8")
    else:
        raise InputError(
            f"there is no {what} {str(name)!r}: known are {', '.join(list_named(folder))}; or give a YAML file"
        )
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not YAML: {error}") from error
