"""Operations that decide gates, or apply them by themselves; and those that PyTorch carries out."""

from dataclasses import dataclass

from convgate.engine.program.operation import ArrayName, GateName, Operation

__all__ = ["Decide", "External", "FillClosed", "Mask"]


@dataclass(frozen=True)
class Decide(Operation):
    """Decides the gate named by `output`: open where a logit is >= 0, or > 0 if `strict`, and where it is NaN.

    The logits are inputs[0] + offset, both of the gate's shape; `offset` names an array. Of an activation gate, a
    unit's logit is the mean over its channels of inputs[0] * scale + shift, plus the offset [units, 1, 1]; `scale` and
    `shift` name arrays [channels], or nothing.
    """

    output: GateName
    offset: ArrayName
    scale: ArrayName = ""
    shift: ArrayName = ""
    strict: bool = False


@dataclass(frozen=True)
class Mask(Operation):
    """inputs[0] with zeros where `gate` is closed; of a mask of tiles, but for `reach` rows and columns around it."""

    gate: GateName
    reach: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class FillClosed(Operation):
    """inputs[0], and inputs[1] added to it where `gate`, of tiles, is closed: a map of one position for each tile."""

    gate: GateName


@dataclass(frozen=True)
class External(Operation):
    """The node `target` of the network's graph, which PyTorch computes; a program with one cannot be saved.

    It reads the values `inputs` and the masks of the gates `gates`, decides the gates `decides`, and writes `output`,
    or nothing ("") where no other kind of operation reads its result.
    """

    target: str
    gates: tuple[GateName, ...] = ()
    decides: tuple[GateName, ...] = ()
