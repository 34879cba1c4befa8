"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from optsweep.benchmark.wording import optimizer_name, peer_name, seeds_name


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table; all columns but the first are `numbers`, or none is."""
    rule = ["---"] + ["---:" if numbers else "---"] * (len(heads) - 1)
    lines = [heads, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def matrix(table: pd.DataFrame, text: Callable[[pd.Series], str], named: bool = True) -> str:
    """A row for each optimizer, number of seeds and peer, a column for each batch size."""
    sizes = sorted(table["batch_size"].unique())
    rows: dict[tuple[str, int, str], dict[int, str]] = {}
    for _, row in table.sort_values("num_seeds", kind="stable").iterrows():
        key = (row["optimizer"], row["num_seeds"], row["peer"])
        rows.setdefault(key, {})[row["batch_size"]] = text(row)
    groups = dict.fromkeys((optimizer, seeds) for optimizer, seeds, _ in rows)
    lines = []
    for group in groups:
        for (optimizer, seeds, peer), cells in rows.items():
            if (optimizer, seeds) == group:
                name = f"{optimizer_name(optimizer)}, {seeds_name(seeds)}"
                name += f": {peer_name(peer)}" if named else ""
                lines.append([name, *(cells.get(size, "–") for size in sizes)])
    return markdown(["", *(f"b = {size:,}" for size in sizes)], lines)
