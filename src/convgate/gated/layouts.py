"""What a gated network executes for each size of images, remembered for the sizes that were used last."""

from threading import Lock

from convgate.gated.layout import Layout

__all__ = ["Layouts", "Size"]

Size = tuple[int, int]
"""Height and width of images, in pixels."""

_REMEMBERED = 16
# For so many sizes besides the example's.
_LOCK = Lock()
# Held, for a moment, by who looks into any network's: several threads may call one at once, and a lock of the network's
# own could be neither copied nor pickled.


class Layouts:
    """Layouts by size, the one that was used last at the end; that of the example's size stays.

    `by_size` is for torch.compile, which reads dictionaries, and no locks. All else goes through the methods.
    """

    def __init__(self, example: Size, by_size: dict[Size, Layout] | None = None) -> None:
        self.example = example
        self.by_size = dict(by_size or {})

    def find(self, size: Size) -> Layout | None:
        """What is executed for a size that was used before, which becomes the one that was used last."""
        with _LOCK:
            layout = self.by_size.pop(size, None)
            if layout is not None:
                self.by_size[size] = layout
        return layout

    def keep(self, size: Size, layout: Layout) -> Layout:
        """Keep what is executed for a new size, in the place of the one that was not used for the longest time."""
        with _LOCK:
            used = [known for known in self.by_size if known != self.example]
            for oldest in used[: max(len(used) - _REMEMBERED + 1, 0)]:
                del self.by_size[oldest]
            self.by_size[size] = layout
        return layout

    def start_again(self, layout: Layout) -> None:
        """Forget all sizes: the model has changed, and `layout` is what is now executed for the example's."""
        with _LOCK:
            self.by_size.clear()
            self.by_size[self.example] = layout

    def copied(self) -> "Layouts":
        """The same layouts, which never change, remembered by somebody else."""
        with _LOCK:
            return Layouts(self.example, self.by_size)
