"""Tasks by name. Imports neither torch nor the tasks themselves until one is asked for."""

import dataclasses
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from convgate.errors import InputError
from convgate.suggestions import did_you_mean

if TYPE_CHECKING:
    from convgate.tasks.task import Task

__all__ = ["create_task", "list_tasks", "register_task"]

AnyTask = TypeVar("AnyTask", bound="type[Task]")

_OWN = ("classification", "segmentation", "detection")
# The modules of this package that register a task of the same name.
_REGISTERED: "dict[str, type[Task]]" = {}


def register_task(name: str) -> Callable[[AnyTask], AnyTask]:
    """Class decorator: recipes know the task by this name, and its fields as `task_options`.

    Raises `InputError` for a class that is not a `Task` and a dataclass, and for a name that another class has.
    """
    from convgate.tasks.task import Task

    def register(task: AnyTask) -> AnyTask:
        if not (isinstance(task, type) and issubclass(task, Task) and dataclasses.is_dataclass(task)):
            raise InputError(f"register_task({name!r}): {task!r} is not a subclass of Task that is a frozen dataclass")
        known = _REGISTERED.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (task.__module__, task.__qualname__):
            raise InputError(f"two tasks are called '{name}': {known.__module__}.{known.__qualname__} is registered")
        _REGISTERED[name] = task
        return task

    return register


def list_tasks() -> list[str]:
    """The names of all tasks.

    >>> list_tasks()[:3]
    ['classification', 'segmentation', 'detection']
    """
    return [*dict.fromkeys((*_OWN, *_REGISTERED))]


def create_task(name: str, options: Mapping[str, Any] | None = None) -> "Task":
    """The task of that name; `options` are values of its fields.

    Raises `InputError` for an unknown name or option, or a value that an option does not take.

    >>> create_task("detection", {"crop": 256}).crop
    256
    """
    if name in _OWN:
        import_module(f"convgate.tasks.{name}")
    if name not in _REGISTERED:
        known = list_tasks()
        raise InputError(
            f"there is no task '{name}'{did_you_mean(name, known)} The tasks are: {', '.join(known)}. One of another "
            "package is known once that package is imported"
        )
    chosen, options = _REGISTERED[name], dict(options or {})
    fields = [field.name for field in dataclasses.fields(chosen)]
    unknown = [option for option in options if option not in fields]
    if unknown:
        raise InputError(
            f"the task {name} has no option {', '.join(map(repr, unknown))}{did_you_mean(unknown[0], fields)} Its "
            f"options are: {', '.join(fields) or 'none'}"
        )
    return chosen(**options)
