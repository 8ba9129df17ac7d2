"""What networks are trained for: losses, metrics, augmentation and distillation of a task, in one file each."""

from convgate.tasks.registry import create_task, list_tasks, register_task

__all__ = ["create_task", "list_tasks", "register_task"]
