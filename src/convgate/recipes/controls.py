"""Controls: what a row is to be compared with, made of its recipe. `convgate train RECIPE@CONTROL` trains one.

A control has all that its row has (images, augmentation, length, decay, rates, teacher) but for what its name says, so
that a difference between the two is a difference in that. Changes on the command line are the row's: they are made
before the control is derived. A recipe names those that belong beside it (`controls`), and the page of results says
which of them were not run. What is left out of a method is for the method to say (`Method.ablations`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from convgate.errors import RecipeError
from convgate.recipes.recipe import MethodChoice, Recipe
from convgate.suggestions import did_you_mean, same_name

if TYPE_CHECKING:
    from convgate.gated.method import Ablation
    from convgate.models import ModelSpec

__all__ = ["SIGN", "derived", "list_controls", "register_control", "split_name"]

SIGN = "@"
"""What stands between a recipe's name and a control's."""

Control = Callable[[Recipe, Recipe], Recipe]
AnyControl = TypeVar("AnyControl", bound=Control)

_CONTROLS: dict[str, Control] = {}


def register_control(name: str) -> Callable[[AnyControl], AnyControl]:
    """Decorator for a function (the row's recipe as it is run, that recipe as it is written) -> the control's recipe.

    Raises `RecipeError` for a name that is taken.
    """

    def register(control: AnyControl) -> AnyControl:
        if name in _CONTROLS:
            raise RecipeError(f"there is already a control named '{name}'; choose another name")
        _CONTROLS[name] = control
        return control

    return register


def list_controls() -> dict[str, str]:
    """Name of a control -> what it is, in a sentence.

    >>> list_controls()["random"]
    "Masks drawn at random, the same for all images, at the row's budget"
    """
    general = {name: (control.__doc__ or "").partition(".")[0] for name, control in _CONTROLS.items()}
    own = {name: "; or: ".join(dict.fromkeys(one.words for one in of.values())) for name, of in _ablations().items()}
    return general | {name: words for name, words in own.items() if name not in general}


def split_name(source: str) -> tuple[str, str]:
    """(a recipe's name or path, a control's name or "") of what was asked for.

    >>> split_name("digits-demo@dense"), split_name("digits-demo")
    (('digits-demo', 'dense'), ('digits-demo', ''))
    """
    recipe, sign, control = source.rpartition(SIGN)
    return (recipe, control) if sign else (source, "")


def derived(row: Recipe, name: str, *, of: str, written: Recipe | None = None) -> Recipe:
    """The control of that name to a row.

    Args:
        row: the row's recipe as it is run.
        name: which control.
        of: the row's recipe's name.
        written: the row's recipe as it is written, without the changes of a run; None for `row`.

    Raises:
        RecipeError: there is no such control, or it makes no sense for this recipe.

    """
    known = list_controls()
    if name not in known:
        raise RecipeError(
            f"there is no control '{name}'{did_you_mean(name, list(known))} The controls are: {', '.join(known)}"
        )
    if row.method.is_static:
        raise RecipeError(f"the recipe {of} has no gates that decide, so it has no controls")
    if name in _CONTROLS:
        if same_name(row.method.name or "", _ablations().get(name, {})):
            raise RecipeError(
                f"'{name}' is a control of any recipe, and {row.method.name} calls something else so; the method must "
                "name it otherwise"
            )
        control = _CONTROLS[name](row, written or row)
    else:
        control = _ablated(row, name)
    return replace(control, title=f"Control of {of}: {name}", controls=(), control=name, control_of=of)


# -- the controls -----------------------------------------------------------------------------------------------------


@register_control("dense")
def _dense(row: Recipe, _: Recipe) -> Recipe:
    """The network without gates, trained further for as long and in the same way, teacher included."""
    return replace(row, method=MethodChoice(None), budget=None)


@register_control("narrower")
def _narrower(row: Recipe, written: Recipe) -> Recipe:
    """A network without gates and with fewer channels, of the row's MACs, trained from scratch first."""
    from convgate.recipes.narrow import narrowed

    budget = _budget(row)
    widths = narrowed(_spec(row), budget)
    plain = replace(_dense(row, written), budget=budget)
    return _of_another_width(plain, written, {"width": None, "widths": widths})


@register_control("wider")
def _wider(row: Recipe, written: Recipe) -> Recipe:
    """A network without gates and with more channels, of the gated one's parameters, trained from scratch first."""
    import torch

    from convgate.gated import gate
    from convgate.methods import create_method
    from convgate.models import input_shape
    from convgate.models.widen import count_parameters, widened

    spec = _spec(row)
    assert row.method.name is not None
    method = create_method(row.method.name, row.method.options)
    with torch.random.fork_rng(devices=[]):
        gated = gate(spec.create(), method, torch.zeros(2, *input_shape(spec.name)))
    return _of_another_width(_dense(row, written), written, dict(widened(spec, count_parameters(gated)).options))


@register_control("squeeze")
def _squeeze(row: Recipe, written: Recipe) -> Recipe:
    """A network without gates but with squeeze-and-excitation in every block, trained from scratch first."""
    # The reduction with which a ResNet-20 or -56 has the parameters of GaterNet's table; see docs/backbones.md.
    return _of_another_width(_dense(row, written), written, {"squeeze": 4})


@register_control("random")
def _random(row: Recipe, _: Recipe) -> Recipe:
    """Masks drawn at random, the same for all images, at the row's budget."""
    method = replace(row.method, masks="random", weights=None)
    return replace(row, method=method, finish=replace(row.finish, quantized=False), budget=_budget(row))


# -- what they have in common -----------------------------------------------------------------------------------------


def _budget(row: Recipe) -> float:
    """What the row is to spend: what it is calibrated to or, where it is not, what its method trains to."""
    budget = row.budget if row.budget is not None else row.method.options.get("budget")
    if not isinstance(budget, int | float):
        raise RecipeError("this control has the MACs of a row's budget, and the recipe has none")
    return budget


def _spec(row: Recipe) -> "ModelSpec":
    from convgate.models import ModelSpec

    return ModelSpec(row.model.name, row.model.options)


def _of_another_width(recipe: Recipe, written: Recipe, options: Mapping[str, Any]) -> Recipe:
    """The recipe with another form of its network, for which there are no weights: dense training comes first.

    It is as long as the row's, or, if the row started from weights, as the recipe is written. Where the row's dense
    network came with weights and teaches, it teaches the control, too; else the control's own dense network does.
    """
    model = replace(recipe.model, options={**recipe.model.options, **options}, weights=None, rename={})
    dense = replace(recipe.dense, epochs=recipe.dense.epochs or written.dense.epochs)
    distillation = recipe.distillation
    if distillation.weight and distillation.teacher is None and recipe.model.weights:
        distillation = replace(distillation, teacher=recipe.model)
    return replace(recipe, model=model, dense=dense, distillation=distillation)


def _ablations() -> dict[str, dict[str, "Ablation"]]:
    """Name of an ablation -> name of a method that has it -> what it is."""
    from convgate.methods import METHODS

    found: dict[str, dict[str, Ablation]] = {}
    for method, kind in METHODS.items():
        for name, ablation in kind.ablations.items():
            found.setdefault(name, {})[method] = ablation
    return found


def _ablated(row: Recipe, name: str) -> Recipe:
    """The row with its method's options changed to those of an ablation; the method may be among another's options."""
    of = _ablations()[name]
    found = []

    def changed(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [changed(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        value = {key: changed(item) for key, item in value.items()}
        method = same_name(value["name"], of) if isinstance(value.get("name"), str) else None
        if method is not None:
            found.append(method)
            value["options"] = {**(value.get("options") or {}), **of[method].options}
        return value

    now = changed({"name": row.method.name, "options": row.method.options})
    if not found:
        raise RecipeError(f"this control changes {' or '.join(of)}, and the recipe's method is {row.method.name}")
    return replace(row, method=replace(row.method, options=now["options"]))
