"""Making a trained network cheaper with few images and little time, labelled or not, without losing what it answers."""

from convgate.finetuning.budget import Budget
from convgate.finetuning.finetune import finetune
from convgate.finetuning.finetuned import Finetuned
from convgate.finetuning.parameters import parameter_groups, train_gates
from convgate.finetuning.views import Photographs, Views
from convgate.tasks.distillation import distillation

__all__ = [
    "Budget",
    "Finetuned",
    "Photographs",
    "Views",
    "distillation",
    "finetune",
    "parameter_groups",
    "train_gates",
]
