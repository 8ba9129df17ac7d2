"""Recipes: everything that a training run depends on, as validated plain data.

A recipe is a YAML file whose keys are the fields below; `convgate train FILE --gated.epochs 3` overrides any of them.
A file may also name others, `base: FILE` or a list of them, relative to itself, whose fields it takes but for those
that it sets; of several the last one that sets a field counts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convgate.data import Augmentation
from convgate.errors import ConvgateError, RecipeError

if TYPE_CHECKING:
    import jsonargparse

__all__ = [
    "DataChoice",
    "Distillation",
    "Hardware",
    "MethodChoice",
    "ModelChoice",
    "Recipe",
    "Stage",
    "dump_recipe",
    "epochs_of",
    "load_recipe",
    "recipe_parser",
    "shipped_recipes",
]


@dataclass(frozen=True)
class ModelChoice:
    """Which network is gated.

    Args:
        name: as `convgate.models.create` takes it: cifar_resnet20, resnet18, timm/NAME, ..
        options: of the builder, e.g. num_classes.
        weights: a file to start from (safetensors, .pt, .pth); or "pretrained": what torchvision or timm publishes.
        rename: prefixes of the file's keys to replace, e.g. {linear: fc}.

    """

    name: str = "cifar_resnet20"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    rename: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataChoice:
    """Which images.

    Args:
        name: digits, cifar10, cifar100 or imagenet.
        options: of the loader in `convgate.data`, e.g. root.

    """

    name: str = "digits"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodChoice:
    """Which gating method.

    Args:
        name: of the method's class, e.g. DualGating; `convgate.methods.METHODS` has them all.
        options: of the method's class.
        weights: a safetensors file that a part of the method starts from, if it has one that is trained on its own.

    """

    name: str = "DualGating"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None


@dataclass(frozen=True)
class Stage:
    """One training stage, by SGD with momentum. No epochs: the stage is left out.

    Args:
        epochs: passes over the training images.
        batch_size: images per step and process.
        lr: learning rate after the warm-up.
        gate_lr: the gates' learning rate, as a multiple of `lr`.
        momentum: of SGD.
        nesterov: Nesterov's form of it.
        weight_decay: on all parameters but those of the gates.
        decay_vectors: also on parameters of one dimension: scales and shifts of norms, biases.
        schedule: cosine: to 0, per step; steps: times `gamma` at each of `milestones`.
        milestones: shares of the stage, in (0, 1).
        gamma: see schedule.
        warmup: share of the stage in which the learning rate rises from 0.
        label_smoothing: of the cross-entropy.

    """

    epochs: int = 0
    batch_size: int = 128
    lr: float = 0.1
    gate_lr: float = 1.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_vectors: bool = True
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    warmup: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _require(self.epochs >= 0, "epochs", self.epochs, "at least 0")
        _require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        _require(self.lr > 0, "lr", self.lr, "above 0")
        _require(self.gate_lr >= 0, "gate_lr", self.gate_lr, "at least 0")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        _require(all(0 < m < 1 for m in self.milestones), "milestones", self.milestones, "shares in (0, 1)")
        _require(0 <= self.warmup < 1, "warmup", self.warmup, "in [0, 1)")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")


@dataclass(frozen=True)
class Distillation:
    """A teacher in gated training: adds weight * T^2 * KL(teacher || network), both softened by the temperature T.

    Args:
        weight: of the term; 0: no teacher.
        temperature: T.
        teacher: another network of the same classes, with weights of its own; none: the recipe's dense network.

    """

    weight: float = 0.0
    temperature: float = 1.0
    teacher: ModelChoice | None = None

    def __post_init__(self) -> None:
        _require(0 <= self.weight < math.inf, "weight", self.weight, "at least 0, and finite")
        _require(0 < self.temperature < math.inf, "temperature", self.temperature, "above 0, and finite")


_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


@dataclass(frozen=True)
class Hardware:
    """How the work is done. Several processes each take a batch, so together they take larger steps.

    Args:
        precision: auto: bfloat16 autocast where the processor computes in it natively, else float32.
        channels_last: keep images as NHWC in memory.
        compile: torch.compile the network: about a minute to start, then faster; for long runs.
        threads: of PyTorch in each process, and of the engine when it is timed; none: as many as there are cores.
        accelerator: cpu, gpu, .. or auto, as Lightning takes it.
        devices: processes on each machine (data-parallel if more than one).
        nodes: machines.

    """

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    threads: int | None = None
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1

    def __post_init__(self) -> None:
        _require(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1, or null")
        _require(self.devices >= 1, "devices", self.devices, "at least 1")
        _require(self.nodes >= 1, "nodes", self.nodes, "at least 1")
        _require(self.accelerator in _ACCELERATORS, "accelerator", self.accelerator, f"one of {_ACCELERATORS}")


@dataclass(frozen=True)
class Recipe:
    """A training run: dense training, gating, training with the method's penalty, calibration, finish, calibration.

    Args:
        title: what the run is, in a few words.
        data: the images.
        augmentation: random crops and flips.
        model: the network.
        dense: training before gating (0 epochs: start from model.weights, or from scratch).
        method: how it is gated.
        gated: training after gating.
        finish: more training after calibration, in which the gates stay as they are and decide as in evaluation, so
            that the network adapts to what they leave; then calibration again.
        distillation: a teacher in gated training and finish.
        budget: share of the dense MACs to calibrate to after training; none: the logits stay as trained.
        calibration_images: how many training images to calibrate on.
        seed: of everything random.
        hardware: how the work is done.

    """

    title: str = "convgate run"
    data: DataChoice = field(default_factory=DataChoice)
    augmentation: Augmentation = field(default_factory=Augmentation)
    model: ModelChoice = field(default_factory=ModelChoice)
    dense: Stage = field(default_factory=Stage)
    method: MethodChoice = field(default_factory=MethodChoice)
    gated: Stage = field(default_factory=Stage)
    finish: Stage = field(default_factory=Stage)
    distillation: Distillation = field(default_factory=Distillation)
    budget: float | None = None
    calibration_images: int = 2000
    seed: int = 0
    hardware: Hardware = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        _require(self.budget is None or 0 < self.budget <= 1, "budget", self.budget, "in (0, 1], or null")
        _require(self.calibration_images >= 1, "calibration_images", self.calibration_images, "at least 1")
        _require(self.seed >= 0, "seed", self.seed, "at least 0")


def epochs_of(recipe: Recipe) -> dict[str, int]:
    """Stage -> its epochs, in the order in which the stages are run."""
    return {name: getattr(recipe, name).epochs for name in ("dense", "gated", "finish")}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with command-line style overrides such as `["--gated.epochs", "3"]`.

    Args:
        source: a path, or the name of a recipe that comes with convgate (see `shipped_recipes`).
        overrides: fields and values, nested fields with dots.

    Raises:
        RecipeError: no such file, an unknown key, or a value of the wrong kind; the message names it.

    """
    import jsonargparse

    path = _find(source)
    parser = recipe_parser()
    try:
        text = dump_plain(_with_base(path))
        values = parser.instantiate(parser.parse_args(["--config", text, *overrides]))
    except (jsonargparse.ArgumentError, ConvgateError, OSError) as error:
        changes = f" with {' '.join(overrides)}" if overrides else ""
        raise RecipeError(
            f"recipe {path}{changes}: {error}. `convgate recipe --fields` describes the fields"
        ) from error
    return Recipe(**{name: value for name, value in values.as_dict().items() if name != "config"})


def recipe_parser() -> "jsonargparse.ArgumentParser":
    """The parser behind recipes; its help lists every field."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(prog="convgate train RECIPE", exit_on_error=False)
    parser.add_argument("--config", action="config", help="a recipe file")
    parser.add_class_arguments(Recipe)
    return parser


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with convgate: name -> file."""
    folder = Path(__file__).parent / "shipped"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every field written out."""
    return dump_plain(_plain(asdict(recipe)))


def dump_plain(values: Any) -> str:
    """Plain data as YAML, in its own order."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False)


def _with_base(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What the file sets, over what its base sets. Raises `RecipeError` for what is no mapping, and for circles."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no YAML ({error})") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} holds a {type(values).__name__}; a recipe is a mapping from fields to values")
    named = values.pop("base", [])
    under: dict[str, Any] = {}
    for base in named if isinstance(named, list) else [named]:
        other = path.parent / str(base)
        if other.resolve() in (*seen, path.resolve()):
            raise RecipeError(f"{path} has the base {base}, which is based on it; one of them must do without")
        if not other.is_file():
            raise RecipeError(f"{path} has the base {base}, and there is no file {other}")
        under = _merged(under, _with_base(other, (*seen, path.resolve())))
    return _merged(under, values)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _merged(under[key], over[key]) for key in over if _are_mappings(under.get(key), over[key])}
    return {**under, **over, **both}


def _are_mappings(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _find(source: str | Path) -> Path:
    path = Path(source)
    shipped = shipped_recipes()
    if path.is_file():
        return path
    if str(source) in shipped:
        return shipped[str(source)]
    raise RecipeError(f"there is no recipe file {source}; shipped recipes are: {', '.join(shipped) or 'none'}")


def _require(holds: bool, name: str, value: Any, allowed: str) -> None:
    if not holds:
        raise RecipeError(f"{name} is {value!r}; it must be {allowed}")
