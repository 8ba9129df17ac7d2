"""Training steps that an NVIDIA GPU repeats: forward and backward pass are recorded as a CUDA graph and replayed.

A gated ResNet-20 has some 1,600 kernels in a step, each shorter than the time that Python takes to launch it. A replay
launches all of them at once, so the processor's time per step no longer depends on the network.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convgate.errors import RecipeError
from convgate.training.module import TrainingModule

__all__ = ["GraphedModule", "Recording"]

_EAGER = 3
# So many steps are taken one operation at a time first, in which libraries choose and allocate what they need.
_RECORDINGS = 64
# What a method schedules by the progress of a stage is a constant of a recording, so each stage has so many.


class Recording:
    """A computation on the current GPU, recorded from one call and repeated by `replay`.

    Attributes:
        results: what the call returned; each replay writes new values into these tensors.

    """

    def __init__(self, compute: Callable[[], Any], stream: Any) -> None:
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self.results = compute()

    def replay(self) -> None:
        """Compute again, with what the inputs' memory holds now."""
        self._graph.replay()


class GraphedModule(TrainingModule):
    """A `TrainingModule` whose steps are recorded and replayed.

    Its noise is that of a `TrainingModule`, seeded by step. What methods schedule by progress (temperatures, weights of
    terms) changes at each recording instead of each step; learning rates change each step.

    Raises `RecipeError` for batches that are no tensors of one shape.
    """

    recorder: Callable[..., Recording] = Recording

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eager = _EAGER
        self.recording: Recording | None = None
        self.recorded_at = -1
        self.replayed = False
        self.given: tuple[Tensor, Tensor] | None = None
        self.streams: dict[str, Any] = {}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # In training, `training_step` does it, beside the step that the GPU is at.
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if not self.trainer.training else batch

    def training_step(self, batch: tuple[Any, Any], index: int) -> Tensor:
        x, targets = self._fed(batch, index)
        self.replayed = self.eager == 0
        if not self.replayed:
            self.eager -= 1
            loss, noted = self._beside("recording", lambda: self._uncached(x, targets, self.progress(index)))
            self.note(noted)
            return loss
        if self.given is None:
            self.given = x.clone(), targets.clone()
        if (x.shape, targets.shape) != (self.given[0].shape, self.given[1].shape):
            raise RecipeError(
                f"hardware.graphs repeats a step for batches of one shape, and after {list(self.given[0].shape)} came "
                f"{list(x.shape)}; set hardware.graphs to false"
            )
        for place, values in zip(self.given, (x, targets), strict=True):
            place.copy_(values)
        self._record(index)
        assert self.recording is not None
        self.recording.replay()
        loss, noted = self.recording.results
        self.note(noted)
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self.replayed:  # a replay has computed the gradients
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if not self.replayed:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def _record(self, index: int) -> None:
        """Record a step, where the last recording has served its share of the stage."""
        share = int(self.progress(index) * _RECORDINGS) if self.method is not None else 0
        if self.recording is not None and share == self.recorded_at:
            return
        progress = (share + 0.5) / _RECORDINGS
        self.recording = None  # its memory is free for the next
        self.recording = type(self).recorder(lambda: self._forward_and_backward(progress), self._stream("recording"))
        self.recorded_at = share

    def _forward_and_backward(self, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.given is not None
        for parameter in self.parameters():
            parameter.grad = None  # the backward pass then writes gradients instead of adding to them
        loss, noted = self._uncached(*self.given, progress)
        loss.backward()
        return loss.detach(), {name: value.detach() for name, value in noted.items()}

    def _uncached(self, x: Tensor, targets: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss without autocast's cache: a recording must cast the weights anew in each replay."""
        kind = self.device.type
        asked, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        with torch.autocast(kind, dtype=dtype, enabled=asked, cache_enabled=False):
            return self.loss(x, targets, progress)

    def _fed(self, batch: tuple[Any, Any], index: int) -> tuple[Tensor, Tensor]:
        """The batch of this step on the device, made while the device is still at the last step."""
        if not all(isinstance(part, Tensor) for part in batch):
            raise RecipeError(
                "hardware.graphs repeats a step for batches of one shape, and these images have sizes of their own; "
                "set hardware.graphs to false"
            )
        images, targets = batch
        fed: tuple[Tensor, Tensor] = self._beside(
            "feeding", lambda: self.drawn((images.to(self.device), targets.to(self.device)), index)
        )
        if self.streams:
            for part in fed:
                part.record_stream(torch.cuda.current_stream())  # its memory is not free before it was read there
        return fed

    def _beside(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, computed on a stream of its own; what follows on the current one waits for it."""
        stream = self._stream(name)
        if stream is None:
            return compute()
        if name == "recording":
            stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            results = compute()
        torch.cuda.current_stream().wait_stream(stream)
        return results

    def _stream(self, name: str) -> Any:
        if self.device.type != "cuda":
            return None
        if name not in self.streams:
            self.streams[name] = torch.cuda.Stream()
        return self.streams[name]
