"""What finetuning does, beside its budget and its time."""

from dataclasses import dataclass
from typing import Annotated

from convgate.gated.options import Bounds, NotNegative, Positive, Share, check_options

__all__ = ["Settings"]

Count = Annotated[int, Bounds(least=0)]
PositiveShare = Annotated[float, Bounds(above=0, most=1)]


@dataclass(frozen=True)
class Settings:
    """What finetuning does, beside its budget and its time. Shares of time are shares of the whole.

    Args:
        lr: of the network's weights (AdamW, a cosine to 0).
        gate_lr: of the gates; None for what lets a logit travel 8 units while the budget comes down.
        weight_decay: of matrices and kernels; gates do not decay.
        temperature: of the distillation.
        features: weight of the distance between features (`convgate.finetuning.features`); only where the teacher is
            the dense network.
        rounds: in so many rounds at the most, in the part of the training that is the ramp, units of gates of channels
            close for good and the layers behind them make up for it (`convgate.finetuning.closing`); 0 leaves it to the
            gates to learn what to close, as it is in networks whose gates decide of too few units or too few MACs.
            Gates that close for good learn nothing: `gate_lr`, `order`, `noise`, `gate_temperature`, `finish` and
            `points` are for those that learn.
        order: where gates learn what to close: shift gates that have closed nothing yet so that those which are missed
            least close first (`convgate.finetuning.importance`), by so much for each standard deviation; 0 leaves them.
        mix: of so many of the steps the images are mixed in pairs, pixel by pixel, in shares drawn evenly from [0, 1];
            the teacher answers the same mixtures. Few images then do as more would. Only where units close for good
            (gates that learn are to decide of images), and not where labels are learned from.
        small: the first part, trained on images of `small_size` times their size, for more steps in the same time.
        small_size: a share of the images' sides; sizes are rounded to multiples of 32.
        label_weight: of the cross-entropy, where labels are given; 0 leaves them to the report.
        ramp: while the budget comes down from 1.
        noise: while sampling noise fades from `noise_from` to nothing.
        noise_from: the noise at the start; 1 is DGNet's.
        gate_temperature: of the sigmoid whose gradient passes through a gate.
        finish: the last part, after calibration: gates are held and decide as in evaluation, weights learn on.
        clip: the largest norm of a step's gradient.
        points: at how many budgets, from this one up, what stays is measured at the end (`Finetuned.curve`).

    Raises:
        InputError: a value that its field does not take.

    """

    lr: NotNegative = 5e-5
    gate_lr: Positive | None = None
    weight_decay: NotNegative = 0.0
    temperature: Positive = 1.0
    features: NotNegative = 0.0
    rounds: Count = 4
    order: NotNegative = 1.5
    mix: Share = 0.5
    small: Share = 0.0
    small_size: PositiveShare = 0.72
    label_weight: NotNegative = 0.0
    ramp: Share = 0.4
    noise: Share = 0.7
    noise_from: NotNegative = 0.5
    gate_temperature: Positive = 1.0
    finish: Share = 0.2
    clip: Positive = 5.0
    points: Count = 5

    def __post_init__(self) -> None:
        check_options(self)
