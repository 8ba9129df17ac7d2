"""convgate: convolutional networks that decide, for each input, which channels and regions to compute.

The names below are the library's public face; each is imported when it is first used, so that `import convgate` is
light and the parts that need no PyTorch do not load it.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convgate.calibration.calibrate import calibrate
    from convgate.checkpoint import load, save
    from convgate.cost import Cost
    from convgate.data import register_dataset
    from convgate.engine.compile import compile  # noqa: A004
    from convgate.errors import ConvgateError
    from convgate.finetuning import Budget, train_gates
    from convgate.finetuning.finetune import finetune
    from convgate.gated import GatedNetwork, Plan, gate, plan
    from convgate.gating import Decision, Decisions
    from convgate.methods import (
        BatchShaping,
        ChannelGating,
        Combined,
        DualGating,
        GlobalGater,
        LayerSkipping,
        create_method,
        list_methods,
        register_method,
    )
    from convgate.models import create_model, list_models, preparation_of, register_model
    from convgate.onnx_export import export_onnx
    from convgate.preparation import Preparation
    from convgate.quantization.quantize import quantize
    from convgate.recipes import list_recipes, register_recipe
    from convgate.tasks.distillation import distillation

__version__ = "0.2.0.dev0"

_HOME = {
    "BatchShaping": "convgate.methods",
    "Budget": "convgate.finetuning",
    "ChannelGating": "convgate.methods",
    "Combined": "convgate.methods",
    "ConvgateError": "convgate.errors",
    "Cost": "convgate.cost",
    "Decision": "convgate.gating",
    "Decisions": "convgate.gating",
    "DualGating": "convgate.methods",
    "GatedNetwork": "convgate.gated",
    "GlobalGater": "convgate.methods",
    "LayerSkipping": "convgate.methods",
    "Plan": "convgate.gated",
    "Preparation": "convgate.preparation",
    "calibrate": "convgate.calibration",
    "compile": "convgate.engine.compile",
    "create_method": "convgate.methods",
    "create_model": "convgate.models",
    "distillation": "convgate.tasks.distillation",
    "export_onnx": "convgate.onnx_export",
    "finetune": "convgate.finetuning",
    "gate": "convgate.gated",
    "list_methods": "convgate.methods",
    "list_models": "convgate.models",
    "list_recipes": "convgate.recipes",
    "load": "convgate.checkpoint",
    "plan": "convgate.gated",
    "preparation_of": "convgate.models",
    "quantize": "convgate.quantization",
    "register_dataset": "convgate.data",
    "register_method": "convgate.methods",
    "register_model": "convgate.models",
    "register_recipe": "convgate.recipes",
    "save": "convgate.checkpoint",
    "train_gates": "convgate.finetuning",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None and (name.startswith("_") or find_spec(f"{__name__}.{name}") is None):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        return getattr(import_module(home), name) if home else import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        from convgate.extras import missing

        if explained := missing(error):
            raise explained from error
        raise


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
