"""Tables on a terminal."""

from __future__ import annotations

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text


def shown_table(title: str, table: pd.DataFrame) -> Table:
    """A table of text, of which nothing is taken for markup."""
    shown = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(table):
        shown.add_column(str(column), justify="right" if index else "left", overflow="fold")
    for row in table.to_numpy():
        shown.add_row(*(Text(str(value)) for value in row))
    return shown
