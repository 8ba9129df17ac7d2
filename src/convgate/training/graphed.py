"""Training steps that an NVIDIA GPU repeats: forward and backward pass are recorded as a CUDA graph and replayed.

A step of a gated ResNet-20 is some 5,000 kernels, most of them on a few numbers for each image, and each is launched by
Python. A replay launches all of them at once; compiled, they are some 900.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convgate.errors import RecipeError
from convgate.training.compiling import as_otherwise, compile_step
from convgate.training.module import TrainingModule

__all__ = ["GraphedModule", "Recording"]

_EAGER = 3
# So many steps are taken one operation at a time first, in which libraries choose and allocate what they need.
_RECORDINGS = 64
# What a method schedules in its gates is a constant of a recording, so a stage has up to so many.
_LEAST_STEPS = 32
# That each is replayed, if the stage is long enough; in short stages little else would be done than recording.


class Recording:
    """A computation on the current GPU, recorded from one call on a stream, and repeated by `replay`.

    Raises `RecipeError` for what cannot be recorded.

    Attributes:
        results: what the call returned; each replay writes new values into these tensors.

    """

    def __init__(self, compute: Callable[[], Any], stream: Any) -> None:
        self._graph = torch.cuda.CUDAGraph()
        try:
            # Of this thread: what others do on the GPU meanwhile is their own affair.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self.results = compute()
        except RuntimeError as error:
            raise RecipeError(
                f"hardware.graphs: this step cannot be recorded ({error}). Steps that copy from the processor, or ask "
                "for a value, cannot; set hardware.graphs to false"
            ) from error

    def replay(self) -> None:
        """Compute again, with what the inputs' memory holds now."""
        self._graph.replay()


class GraphedModule(TrainingModule):
    """A `TrainingModule` whose steps are recorded and replayed.

    Its noise is that of a `TrainingModule`, seeded by step. What methods schedule in gates by progress (temperatures)
    changes at each recording instead of each step; weights of terms and learning rates change each step.

    Args:
        compiled: compile what is recorded: its many short operations become few.

    Raises `RecipeError` for batches of several shapes.
    """

    recorder: Callable[..., Recording] = Recording
    compiler: Callable[..., Any] = staticmethod(compile_step)

    def __init__(self, *args: Any, compiled: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._compute = type(self).compiler(self.scheduled_loss) if compiled else self.scheduled_loss
        self._progress: Tensor
        self.register_buffer("_progress", torch.zeros(()), persistent=False)  # where recordings read it
        self._eager_left = _EAGER
        self._recording: Recording | None = None
        self._recorded = -1  # which part of the stage the recording is for
        self._compiled = compiled
        self._replayed = False  # whether the present step is a replay
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._streams: dict[str, Any] = {}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # In training, `training_step` does it, beside the step that the GPU is at.
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if not self.trainer.training else batch

    def training_step(self, batch: tuple[Any, Any], index: int) -> Tensor:
        self._take(*self._fed(batch, index))
        part, progress = self._part(index)
        self._progress.fill_(self.progress(index))
        if part != self._recorded:
            self._recorded, self._recording = part, None
            if self._compiled and self._eager_left == 0:
                self._eager_left = 1  # what the part schedules may have to be compiled, which a recording cannot do
        self._replayed = self._eager_left == 0
        if self._replayed:
            if self._recording is None:
                self._recording = self._record(progress)
            self._recording.replay()
            loss, noted = self._recording.results
        else:
            loss, noted = self._on_the_recordings_stream(lambda: self._loss_of_inputs(progress))
            self._eager_left -= 1
        self.note(noted)
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self._replayed:  # a replay has computed the gradients
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if not self._replayed:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def on_validation_model_zero_grad(self) -> None:
        """Gradients stay: replays write into them. (Lightning drops them before it validates.)"""

    def _part(self, index: int) -> tuple[int, float]:
        """Which part of the stage this step of the epoch lies in, each with a recording, and the progress amid it."""
        if self.method is None:
            return 0, self.progress(index)  # nothing is scheduled
        steps = self.trainer.num_training_batches * self.stage.epochs
        parts = int(min(max(1, steps // _LEAST_STEPS), _RECORDINGS))
        part = int(self.progress(index) * parts)
        return part, (part + 0.5) / parts

    def _record(self, progress: float) -> Recording:
        # The memory of the last recording, where gradients lie, too, is free for this one.
        self.zero_grad()
        return type(self).recorder(lambda: self._forward_and_backward(progress), self._stream("recording"))

    def _forward_and_backward(self, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        self.zero_grad()  # drops them: the backward pass then writes gradients instead of adding to them
        loss, noted = self._loss_of_inputs(progress)
        with torch.autocast(self.device.type, enabled=False):  # as where Lightning calls it
            loss.backward()
        return loss.detach(), {name: value.detach() for name, value in noted.items()}

    def _loss_of_inputs(self, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss without autocast's cache: a recording must cast the weights anew in each replay."""
        assert self._inputs is not None
        kind = self.device.type
        asked, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        with torch.autocast(kind, dtype=dtype, enabled=asked, cache_enabled=False):
            self.schedule(progress)
            # In the first step tables that are kept are made, which are not to be compiled.
            compute = self.scheduled_loss if self._eager_left == _EAGER else self._compute
            with as_otherwise():
                return compute(*self._inputs, self._progress)

    def _take(self, x: Tensor, targets: Tensor) -> None:
        """Put a batch where recordings read it."""
        if self._inputs is None:
            self._inputs = x.clone(), targets.clone()
        if (x.shape, targets.shape) != (self._inputs[0].shape, self._inputs[1].shape):
            raise RecipeError(
                f"hardware.graphs repeats a step for batches of one shape, and after {list(self._inputs[0].shape)} "
                f"came {list(x.shape)}; set hardware.graphs to false"
            )
        for place, values in zip(self._inputs, (x, targets), strict=True):
            place.copy_(values)

    def _fed(self, batch: tuple[Tensor, Tensor], index: int) -> tuple[Tensor, Tensor]:
        """The batch of this step on the device, made while the device is still at the last step."""
        images, targets = batch
        stream = self._stream("feeding")
        with torch.cuda.stream(stream):  # nothing, without a GPU
            fed = self.drawn((images.to(self.device), targets.to(self.device)), index)
        if stream is not None:
            torch.cuda.current_stream().wait_stream(stream)
            for part in fed:
                part.record_stream(torch.cuda.current_stream())  # its memory is not free before it was read there
        return fed

    def _on_the_recordings_stream(self, compute: Callable[[], Any]) -> Any:
        """What `compute` returns: gradients are then added up on that stream, as recordings need it."""
        stream = self._stream("recording")
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            results = compute()
        if stream is not None:
            torch.cuda.current_stream().wait_stream(stream)
        return results

    def _stream(self, name: str) -> Any:
        if self.device.type != "cuda":
            return None
        if name not in self._streams:
            self._streams[name] = torch.cuda.Stream()
        return self._streams[name]
