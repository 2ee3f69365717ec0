"""Tables of plain text."""

from collections.abc import Sequence


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A header, a rule below it, and the rows, in columns; all of equal length."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row):
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    return [line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:])]
