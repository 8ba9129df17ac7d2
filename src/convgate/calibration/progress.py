"""What a person at a terminal sees of a calibration."""

import sys
import time

from convgate.calibration.price import Price

__all__ = ["Progress"]


class Progress:
    """One line on the terminal that is written over and over: the pass, how far it is, what the last one came to."""

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown
        self.start = self.begun = self.said = time.monotonic()
        self.number, self.longest, self.came_to = 1, 0, ""

    def on_measuring(self, share: float) -> None:
        """The engine is being timed; `share` of that is done."""
        self._write(f"timing the engine's operations, {share:.0%}")

    def begin(self, price: Price, budget: float) -> None:
        """A search begins for a share of the price."""
        self.price, self.budget = price, budget

    def on_batch(self, images: int) -> None:
        """So many images of the pass are done."""
        now = time.monotonic()
        if not self.shown or now - self.said < 0.5:
            return
        self.said = now
        rate = images / max(now - self.begun, 1e-9)
        # Most searches take two passes over all images, and a third for the agreement.
        left = f", about {3 * self.longest / rate:.0f} s a calibration" if self.longest > images else ""
        self._write(f"pass {self.number}: {images} images, {rate:.1f} a second{left}{self.came_to}")
        self.longest = max(self.longest, images)

    def on_pass(self, number: int, share: float) -> None:
        """A pass is done, and came to that share of the price."""
        words = self.price.words
        self.came_to = f"; pass {number} came to {words(share)} (budget {words(self.budget)})"
        self.number, self.begun = number + 1, time.monotonic()
        self._write(f"{self.begun - self.start:.0f} s{self.came_to}")

    def end(self) -> None:
        """Leave the line empty."""
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def _write(self, text: str) -> None:
        if self.shown:
            sys.stderr.write(f"\r\033[Kcalibrating: {text}")
            sys.stderr.flush()
