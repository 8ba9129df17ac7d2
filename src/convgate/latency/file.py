"""Latency models as JSON files."""

import json
import math
import sys
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from convgate.errors import CheckpointError
from convgate.files import write_text
from convgate.latency.model import LatencyModel, Term
from convgate.latency.origin import Origin
from convgate.latency.shares import Activations, Channels, Positions, Share, Squares

__all__ = ["load", "save"]

_VERSION = 1
_SHARES: dict[str, type[Share]] = {kind.__name__: kind for kind in (Positions, Squares, Channels, Activations)}


def save(model: LatencyModel, path: str | PathLike[str]) -> None:
    """Write a model, complete or not at all."""
    data = {
        "latency_model": _VERSION,
        "origin": asdict(model.origin),
        "error": model.error,
        "spread": model.spread,
        "factor": model.factor,
        "handed": model.handed,
        "terms": [
            {
                "operation": term.operation,
                "layer": term.layer,
                "shares": [{"of": type(share).__name__, **asdict(share)} for share in term.shares],
                "weights": list(term.weights),
            }
            for term in model.terms
        ],
    }
    write_text(Path(path), json.dumps(data, indent=1) + "\n")


def load(path: str | PathLike[str]) -> LatencyModel:
    """Read a model. `LatencyModel.check_for` says whether it is one of an engine here.

    Raises `CheckpointError` for a file that is not a latency model, or is damaged.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a latency model: it is not JSON ({error})") from error
    if not isinstance(data, dict) or data.get("latency_model") != _VERSION:
        raise CheckpointError(
            f"{path} is not a latency model of version {_VERSION}; make one with convgate.latency.fit_latency"
        )
    try:
        terms = tuple(map(_term, data["terms"]))
        numbers = {key: _number(data[key]) for key in ("error", "spread", "factor")}
        handed = float(data.get("handed", 0.0))  # older files do not tell
        if not math.isfinite(handed):
            raise ValueError(f"{handed!r} milliseconds")
        return LatencyModel(Origin(**data["origin"]), terms, handed=handed, **numbers)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {error}); fit the model again") from error


def _term(data: dict[str, Any]) -> Term:
    shares = tuple(
        _SHARES[share["of"]](**{name: _tupled(value) for name, value in share.items() if name != "of"})
        for share in data["shares"]
    )
    weights = tuple(map(_number, data["weights"]))
    if len(weights) != 2 ** len(shares):
        raise ValueError(f"{len(weights)} weights for {len(shares)} shares")
    return Term(str(data["operation"]), str(data["layer"]), shares, weights)


def _tupled(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{value!r} is not a number of at least 0")
    return float(value)
