"""The file that a finetuning goes on from: read, and checked whole before anything is loaded from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import CheckpointError
from convgate.weights import misfit

__all__ = ["ADVICE", "check_fit", "read_state"]

ADVICE = "delete that file to begin anew, or give another folder"
"""What to do about a file that nothing can go on from."""

_PARTS = {
    **dict.fromkeys(("network", "optimiser", "budget", "how", "about", "descent"), Mapping),
    "share": float,
    "history": list,
    "before": Mapping | None,
    **dict.fromkeys(("progress", "elapsed"), int | float),
    **dict.fromkeys(("step", "epoch", "batch"), int),
}
_EARLIER: Mapping[str, Any] = {"how": {}, "about": {}, "descent": {}}
# What earlier versions did not write; whoever compares it says what differs.


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """What a killed run wrote, each part of its kind. Raises `CheckpointError` for a damaged or foreign file."""
    try:
        state = torch.load(path, weights_only=True, map_location=device)
    except Exception as error:  # damaged bytes may raise anything while they are read
        raise CheckpointError(f"{path} is damaged, or of another program ({type(error).__name__}); {ADVICE}") from error
    state = {**_EARLIER, **state} if isinstance(state, Mapping) else {}
    wrong = [name for name, kind in _PARTS.items() if name not in state or not isinstance(state[name], kind)]
    if wrong:
        raise CheckpointError(f"{path} does not hold a finetuning (it lacks {', '.join(wrong)}); {ADVICE}")
    return state


def check_fit(path: Path, state: Mapping[str, Any], network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Raise `CheckpointError` unless network and optimiser can take what a file holds, all keys and shapes."""
    problem = _unlike(network.state_dict(), state["network"]) or _unlike_steps(optimiser, state["optimiser"])
    if problem:
        raise CheckpointError(f"{path} is of a run of another network ({problem}); {ADVICE}")


def _unlike(expected: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    if expected.keys() == given.keys():
        kinds = [key for key in expected if isinstance(expected[key], Tensor) != isinstance(given[key], Tensor)]
        if kinds:
            return f"other type: {', '.join(kinds[:4])}"
    ours, theirs = ({key: v for key, v in values.items() if isinstance(v, Tensor)} for values in (expected, given))
    return misfit(ours, theirs)


def _unlike_steps(optimiser: torch.optim.Optimizer, given: Mapping[str, Any]) -> str | None:
    """What keeps an optimiser from going on with what another one of its kind had gathered."""
    own = optimiser.state_dict()["param_groups"]
    groups, gathered = given.get("param_groups"), given.get("state")
    if not isinstance(groups, list) or not isinstance(gathered, Mapping) or len(groups) != len(own):
        return "other groups of weights"
    for ours, theirs in zip(own, groups, strict=True):
        if not isinstance(theirs, Mapping) or theirs.keys() != ours.keys() or theirs["params"] != ours["params"]:
            return "other groups of weights"
    weights = dict(enumerate(p for group in optimiser.param_groups for p in group["params"]))
    for number, values in gathered.items():
        shapes = {name: tuple(value.shape) for name, value in values.items()} if isinstance(values, Mapping) else {}
        expected = (
            {name: tuple(weights[number].shape) for name in ("exp_avg", "exp_avg_sq")} if number in weights else {}
        )
        if shapes != {"step": (), **expected}:
            return "the optimiser's means are of weights of other shapes"
    return None
