"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str]) -> None:
    """Print a table to stdout with the notes below it; the first column is text, the others are numbers."""
    # Imported here: rich takes longer to load than `folio --help` may take.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    # A fixed width: a pipe has none, and rich would fold the table into 80 columns there.
    console = Console(width=170, highlight=False, markup=False)
    console.print(table)
    console.print(*notes, sep="\n", soft_wrap=True)
