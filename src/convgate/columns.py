"""Tables of plain text: columns as wide as their widest cell, a line under the heads."""

from collections.abc import Collection, Sequence

__all__ = ["in_columns"]


def in_columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """The lines of a table.

    Args:
        rows: cells; the first row holds the heads.
        right: the columns that are aligned to the right, which numbers are.

    >>> for line in in_columns([("layer", "MACs"), ("fc", "1,280")], right=[1]):
    ...     print(line)
    layer   MACs
    -----  -----
    fc     1,280

    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
