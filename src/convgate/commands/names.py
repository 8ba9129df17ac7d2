"""Names of models and methods that commands are given, checked before torch is imported.

Importing torch, torchvision and timm takes seconds; a misspelt name is answered without. Which names there are is read
off the source files of the installed packages, by the decorators that register them. What cannot be read in this way
(a package without source files, a model in the user's own code) is left to the check that follows once the packages
are imported.
"""

import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from convgate.errors import InputError
from convgate.suggestions import did_you_mean, same_name

__all__ = ["check_method", "check_model", "method_names", "model_names"]

# The decorators as convgate, torchvision and timm write them, and timm's table of former names.
_OWN_MODEL = re.compile(r'^@register_model\(\s*"([^"]+)"', re.MULTILINE)
_MODEL = re.compile(r"^@register_model(?:\(\))?[ \t]*\n(?:(?!def ).*\n)*?def (\w+)", re.MULTILINE)
_METHOD = re.compile(r"^@register_method\n(?:@.*\n)*class (\w+)", re.MULTILINE)
_FORMER = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"""['"]([\w.]+)['"]\s*:""")


def check_model(name: str) -> None:
    """Raise `InputError` for a name that no model of the installed packages has.

    Places of code (`package.module:function`, `net.py:Net`) pass, and so does every name where a package has no sources
    or models have been registered by code of the caller's.
    """
    if "convgate.models" in sys.modules or ":" in name or name.endswith(".py"):
        return
    package, own = ("timm" if name.startswith("timm/") else "torchvision"), name.removeprefix("timm/")
    if not model_names(package) or own in model_names(package) or name in model_names("convgate"):
        return
    if package == "timm" and own.partition(".")[0] in {*model_names("timm"), *_former_names()}:
        return  # NAME.TAG names one of several sets of weights
    known = [*model_names("convgate"), *model_names("torchvision"), *(f"timm/{n}" for n in model_names("timm"))]
    raise InputError(
        f"there is no model '{name}'{did_you_mean(name, known, 3)} Give the name of a registered or a torchvision "
        "classification model, timm/NAME, or the place of your own: package.module:function or path/to/file.py:Class"
    )


def check_method(name: str) -> None:
    """Raise `InputError` for a name that none of convgate's methods has, unless the caller's code registered others."""
    known = method_names()
    if "convgate.methods" in sys.modules or not known or name in known or same_name(name, known):
        return
    raise InputError(f"there is no method '{name}'{did_you_mean(name, known)} The methods are: {', '.join(known)}")


@cache
def model_names(package: str) -> tuple[str, ...]:
    """The names that "convgate", "torchvision" or "timm" registers; none where the package has no source files."""
    pattern = _OWN_MODEL if package == "convgate" else _MODEL
    return tuple(name for text in _sources(package, "models") for name in pattern.findall(text))


@cache
def method_names() -> tuple[str, ...]:
    """The names of convgate's own methods, in alphabetical order."""
    return tuple(sorted(name for text in _sources("convgate", "methods") for name in _METHOD.findall(text)))


@cache
def _former_names() -> frozenset[str]:
    tables = (table for text in _sources("timm", "models") for table in _FORMER.findall(text))
    return frozenset(key for table in tables for key in _KEY.findall(table))


def _sources(package: str, folder: str) -> list[str]:
    """The texts of a package's files in a folder, without importing it."""
    found = find_spec(package)
    if found is None or found.origin is None:
        return []
    return [path.read_text(encoding="utf-8") for path in sorted((Path(found.origin).parent / folder).glob("*.py"))]
