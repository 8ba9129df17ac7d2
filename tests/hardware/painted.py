"""What a figure paints, as matplotlib has it."""

from matplotlib.figure import Figure


def painted(monkeypatch, figure, *given):
    """The axes that a function which returns a `Drawing` paints on."""
    found, save = [], Figure.savefig

    def kept(self, *args, **kwargs):
        found.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", kept)
    figure(*given)
    return found[-1].axes[0]
