"""Architectures of users, by the place of the code: `package.module:function` or `path/to/file.py:Class`.

Naming one runs its code. That is for the command line, recipes and calls from Python; what a saved file says is never
taken for such a name.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from convgate.errors import InputError

__all__ = ["is_place", "model_builder"]


def is_place(name: str) -> bool:
    """Whether a model's name says where its code is.

    >>> is_place("mypackage.models:small"), is_place("net.py:Net"), is_place("timm/resnet18")
    (True, True, False)
    """
    return ":" in name or name.endswith(".py")


def model_builder(name: str) -> Callable[..., nn.Module]:
    """What builds the model at a place: a class or function. Modules are looked for in the working directory, too.

    Raises `InputError`, with what was tried, when there is no such file, module or attribute, or when it cannot be
    imported or called.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise InputError(f"the model '{name}': write it as package.module:function or path/to/file.py:Class")
    module = _from_file(Path(place), name) if place.endswith(".py") else _imported(place, name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"the model '{name}': {place} has no '{attribute}'{_callables(module, attribute)}")
        found = getattr(found, part)
    if not callable(found) or isinstance(found, nn.Module):
        raise InputError(
            f"the model '{name}' is a {type(found).__name__}; name a class or a function that returns the model"
        )
    return found


def _imported(place: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if not error.name or not f"{place}.".startswith(f"{error.name}."):
            raise _failed(name, place, error) from error
        raise InputError(
            f"the model '{name}': there is no module '{error.name}', neither in {here} nor installed; give "
            "package.module:function, or the path of a file: path/to/file.py:function"
        ) from error
    except Exception as error:
        raise _failed(name, place, error) from error
    finally:
        if added:
            sys.path.remove(here)


def _from_file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        raise InputError(f"the model '{name}': there is no file {path}")
    # The file's folder is searched, as it is when Python runs the file: its neighbours can be imported.
    folder = str(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == path.resolve():
        return known
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    if known is None:
        sys.modules[path.stem] = module  # so that its classes can be pickled
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if known is None:
            del sys.modules[path.stem]
        raise _failed(name, str(path), error) from error
    finally:
        sys.path.remove(folder)
    return module


def _failed(name: str, place: str, error: Exception) -> InputError:
    return InputError(f"the model '{name}': importing {place} fails: {type(error).__name__}: {error}")


def _callables(module: ModuleType, wanted: str) -> str:
    names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    close = get_close_matches(wanted, names, 3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; it has {', '.join(names[:8])}" if names else ""
