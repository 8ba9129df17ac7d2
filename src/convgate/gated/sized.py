"""A captured model for images of any size: what is executed, planned and counted for each."""

import warnings

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import _disable_current_modes

from convgate.cost import Ledger
from convgate.errors import InputError, PlanError, TraceError
from convgate.gated.captured import CapturedModel
from convgate.gated.hooks import hooked_blocks
from convgate.gated.inputs import check_batch, check_size
from convgate.gated.layout import Layout, lay_out, plan_at
from convgate.gated.model import as_root
from convgate.gated.plan import Plan
from convgate.gating import Decisions
from convgate.reading.alone import READING

__all__ = ["SizedModel"]


class SizedModel(CapturedModel):
    """Reads its model again for images of a new size, and remembers the sizes that were used last."""

    @property
    def ledger(self) -> Ledger:
        """The MACs of every layer, and which gates they depend on, for images of the example's size."""
        return self.plan.ledger

    @property
    def graphs(self) -> dict[bool, fx.Graph]:
        """The captured graphs with gates in them, of evaluation (False) and training (True), for the example's size."""
        return self.graphs_at(self._convgate.layouts.example)

    def plan_at(self, size: tuple[int, int]) -> Plan:
        """The plan for images of `size` (height, width): the same gates, with the masks and the MACs of that size."""
        return self._layout(check_size(size)).plan

    def ledger_at(self, size: tuple[int, int]) -> Ledger:
        """The MACs of every layer, and which gates they depend on, for images of `size` (height, width).

        >>> net.ledger_at((48, 64)).dense  # doctest: +SKIP
        """
        return self.plan_at(size).ledger

    def ledger_for(self, decisions: Decisions) -> Ledger:
        """The MACs of every layer, and which gates they depend on, for images of the size that was decided for.

        That is the example's where the decisions do not say.
        """
        return self.ledger if decisions.size is None else self.ledger_at(decisions.size)

    def graphs_at(self, size: tuple[int, int]) -> dict[bool, fx.Graph]:
        """The captured graphs, of evaluation (False) and training (True), for images of `size` (height, width)."""
        return dict(self._layout(check_size(size)).graphs)

    def graph_root(self, size: tuple[int, int] | None = None) -> nn.Module:
        """The root module for an interpreter of `graphs_at(size)`: its members have the model's own names."""
        layout = self._layout(self._convgate.layouts.example if size is None else check_size(size))
        return as_root(self, self._convgate.model, layout.constants)

    def _layout_for(self, images: Tensor) -> Layout:
        """Check the images, and give what is executed for their size."""
        if torch.jit.is_tracing():
            # Sizes are constants of a trace, and meant to be.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", torch.jit.TracerWarning)
                check_batch(images, self.plan, self._buffer)
                return self._layout((int(images.shape[2]), int(images.shape[3])))
        check_batch(images, self.plan, self._buffer)
        if not torch.compiler.is_compiling():
            return self._layout((images.shape[2], images.shape[3]))
        # Sizes are constants of a compiled graph, too: len(range()) is how to tell the compiler.
        height, width = len(range(images.shape[2])), len(range(images.shape[3]))
        if torch.compiler.is_exporting() and (height, width) not in self._convgate.layouts.by_size:
            raise InputError(
                f"this network has not seen images of {height}x{width} pixels; run it once on such images before it is "
                "exported"
            )
        self._prepare(height, width)
        return self._convgate.layouts.by_size[height, width]

    def _prepare(self, height: int, width: int) -> bool:
        """Make the layout for a size. While torch.compile reads the network this is called, not read."""
        layout = self._layout((height, width))
        blocks = hooked_blocks(self, layout.graphs[self.training])
        if blocks:
            raise InputError(
                f"{', '.join(map(repr, blocks))}: hooks on blocks are not called while a gated network is compiled or "
                "exported; remove them before, or register them on layers"
            )
        return True

    # What torch.compiler.assume_constant_result sets; calling that here would import the compiler, which takes seconds.
    _prepare._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _layout(self, size: tuple[int, int]) -> Layout:
        layouts = self._convgate.layouts
        if torch.compiler.is_compiling() and size in layouts.by_size:
            return layouts.by_size[size]
        layout = layouts.find(size)
        if layout is None:
            with READING:
                # Another thread may have read it while this one waited.
                layout = layouts.find(size) or layouts.keep(size, self._lay_out(size))
        return layout

    def _lay_out(self, size: tuple[int, int]) -> Layout:
        """Read the model for images of another size, and put the gates in."""
        state = self._convgate
        # Where the network is being exported, tensors are fake and operations recorded; reading is not part of that.
        # And autocast keeps what it has cast: weights that reading cast would be fake in the run that follows.
        with _disable_current_modes(), torch.autocast(self._buffer.device.type, enabled=False):
            if state.trace is None:
                state.trace = self._read()
            if size == state.layouts.example:
                return lay_out(state.trace, state.plan)
            try:
                traced = state.trace.at(*size)
                return lay_out(traced, plan_at(state.plan, traced, self.convgate))
            except (TraceError, PlanError) as error:
                raise InputError(
                    f"this {state.plan.model} does not take images of {size[0]}x{size[1]} pixels (it was gated for "
                    f"{state.layouts.example[0]}x{state.layouts.example[1]}): {error}"
                ) from error
