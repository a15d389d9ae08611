"""CSV text -> drafts: one row a workload, one column a key, `label:KEY` a label.

The delimiter is the header's own (`,`, `;` or tab); addresses and services in a cell are separated by spaces or `;`.
An empty cell says nothing. A column that no workload has is an error, so a misspelt one cannot lose what it holds.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import accumulate

from ringfence.core.errors import Location
from ringfence.inventory.files.draft import MODE_KEYS, TEXT_KEYS, AddressDraft, Draft, Findings, Text, unknown_word

COLUMNS = (*TEXT_KEYS, *MODE_KEYS, "addresses", "services")
LABEL = "label:"
_WORD = re.compile(r"[^\s;]+")


def csv_drafts(text: str, file: str, findings: Findings) -> list[Draft]:
    """Every row of the table as a draft; faults of shape go to `findings`."""
    rows = _rows(text, file, findings)
    header = next(rows, None)
    if header is None:
        return []
    _check_header(header, file, findings)
    names = [cell.value for cell in header]
    return [_draft(row, names, file, findings) for row in rows]


def _rows(text: str, file: str, findings: Findings) -> Iterator[list[Text]]:
    """The rows that hold anything, each cell with its place."""
    lines = text.splitlines(keepends=True)
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=lambda d: (first.count(d), d == ","))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    start = 0
    try:
        for cells in reader:
            columns = _columns(lines[start], cells, delimiter)
            if any(cell.strip() for cell in cells):
                yield [_trimmed(cell, start + 1, column) for cell, column in zip(cells, columns, strict=True)]
            start = reader.line_num
    except csv.Error as error:
        findings.add("bad-csv", f"cannot read the table: {error}", Location(file, reader.line_num, 1))


def _columns(line: str, cells: list[str], delimiter: str) -> list[int]:
    """Where each cell begins on its row's first line; 0 beyond that line."""
    if '"' not in line:
        widths = (len(cell) + len(delimiter) for cell in cells[:-1])
        return list(accumulate(widths, initial=1))
    columns, position = [], 1
    for cell in cells:
        columns.append(position if position <= len(line) else 0)
        quoted = line[position - 1 : position] == '"'
        position += len(cell) + (2 + cell.count('"') if quoted else 0) + len(delimiter)
    return columns


def _trimmed(cell: str, line: int, column: int) -> Text:
    text = cell.strip()
    return Text(text, line, column if cell.startswith(text) or not column else column + cell.index(text))


def _check_header(header: list[Text], file: str, findings: Findings) -> None:
    seen: set[str] = set()
    for cell in header:
        where, name = Location(file, cell.line, cell.column), cell.value
        if name not in COLUMNS and not (name.startswith(LABEL) and len(name) > len(LABEL)):
            help_ = (
                "a label's column is `label:` and its key"
                if ":" in name
                else f"{unknown_word(name, COLUMNS)}; a label is a column `label:KEY`"
            )
            findings.add("unknown-key", f"`{name}` is no column of an inventory", where, text=name, help=help_)
        if name in seen:
            findings.add("duplicate-key", f"the column `{name}` stands twice", where, text=name)
        seen.add(name)
    if "name" not in seen:
        findings.add("missing-name", "the table has no column `name`", Location(file, header[0].line, 1))


def _draft(row: list[Text], names: list[str], file: str, findings: Findings) -> Draft:
    if len(row) > len(names) and any(cell.value for cell in row[len(names) :]):
        extra = row[len(names)]
        message = f"the row has {len(row)} cells and the header {len(names)}"
        findings.add("bad-csv", message, Location(file, extra.line, extra.column), text=extra.value)
    cells = {name: cell for name, cell in zip(names, row, strict=False) if cell.value}
    labels = tuple(
        (Text(name[len(LABEL) :], cell.line, cell.column), cell)
        for name, cell in cells.items()
        if name.startswith(LABEL)
    )
    return Draft(
        file,
        row[0],
        {key: cell for key, cell in cells.items() if key in TEXT_KEYS or key in MODE_KEYS},
        labels,
        tuple(AddressDraft(word) for word in _words(cells.get("addresses"))),
        tuple(_words(cells.get("services"))),
    )


def _words(cell: Text | None) -> Iterator[Text]:
    if cell is not None:
        for match in _WORD.finditer(cell.value):
            yield Text(match[0], cell.line, cell.column + match.start() if cell.column else 0)
