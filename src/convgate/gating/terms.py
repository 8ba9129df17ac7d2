"""What a method adds to the task loss, by name."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from convgate.errors import InputError

__all__ = ["LossTerms"]


class LossTerms(Mapping[str, Tensor]):
    """Loss terms by name, each a scalar, in the order in which they were added; a name is given once.

    >>> terms = LossTerms("DualGating")
    >>> terms.add("budget", torch.tensor(0.5))
    >>> terms.add("bounds", torch.tensor(0.25))
    >>> terms.total
    tensor(0.7500)

    Args:
        owner: whose terms they are, for errors.
        terms: the first ones.

    """

    def __init__(self, owner: str, terms: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        self._owner = owner
        self._terms: dict[str, Tensor] = {}
        self.update(terms)

    def add(self, name: str, term: Tensor) -> None:
        """Add a term. Raises `InputError` for a name that there is already, and for what is not a scalar tensor."""
        if name in self._terms:
            raise InputError(f"{self._owner} has two loss terms called '{name}'; give each its own name")
        if not isinstance(term, Tensor) or term.numel() != 1:
            given = f"of shape {list(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise InputError(f"the loss term '{name}' of {self._owner} is {given}; it must be a scalar tensor")
        self._terms[name] = term

    def update(self, terms: Mapping[str, Tensor]) -> None:
        """Add several terms."""
        for name, term in terms.items():
            self.add(name, term)

    @property
    def total(self) -> Tensor:
        """Their sum; 0 if there are none."""
        return torch.stack([term.reshape(()) for term in self._terms.values()]).sum() if self else torch.zeros(())

    def __getitem__(self, name: str) -> Tensor:
        return self._terms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __repr__(self) -> str:
        return f"LossTerms({', '.join(f'{name}={float(term):.4g}' for name, term in self.items())})"
