"""Tables as wide as they need to be: columns where they fit, one block a row where they do not.

INVARIANT: nothing is cut off and nothing is markup: a cell is printed whole, as the characters it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Cell = str | Text
_GAP = 2
_NATURAL = 100_000
"""Wider than any table: what a table would take if it could."""
_INDENT = 2


@dataclass
class Rows:
    """Rows under column names; a name that ends in `>` is right aligned. `heads` columns lead a row's block."""

    columns: tuple[str, ...]
    heads: int = 1
    rows: list[tuple[Text, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """One row, a cell a column."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.rows:
            return
        table = self._table()
        needed = Measurement.get(console, options.update(width=_NATURAL), table).maximum
        if needed <= options.max_width:
            yield table
        else:
            yield from self._blocks()

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        for name in self.columns:
            table.add_column(Text(name.rstrip(">")), justify="right" if name.endswith(">") else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table

    def _blocks(self) -> Iterable[Text | Padding]:
        for row in self.rows:
            yield Text("  ").join(cell for cell in row[: self.heads] if cell.plain)
            rest = [self._named(i, row[i]) for i in range(self.heads, len(row)) if row[i].plain]
            if rest:
                yield Padding(Text(" · ", "dim").join(rest), (0, 0, 0, _INDENT))

    def _named(self, index: int, cell: Text) -> Text:
        name = self.columns[index].rstrip(">")
        return Text(f"{name} ", "dim").append_text(Text("", "none").append_text(cell)) if name else cell


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 policy`, `2 policies`, `1,024 rules`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
