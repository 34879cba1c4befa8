"""How it was measured: on what machine, with what versions, and who how."""

from __future__ import annotations

from typing import Any

import pandas as pd

from optsweep.benchmark.peers import PEERS
from optsweep.benchmark.wording import peer_name
from optsweep.report.wording import listing

_BUSY = 0.2  # cores of other programs from which on times are not to be trusted


def measured_with(environment: dict[str, Any], times: pd.DataFrame) -> str:
    """The machine and the versions, and a warning if other programs ran."""
    versions = environment["versions"]
    told = [f"{name} {versions[name]}" for name in versions]
    set_ = [f"{name}={value}" for name, value in environment["variables"].items()]
    text = (
        f"Measured on {environment['processor']}, {environment['num_cores']} cores, with Python "
        f"{environment['python']}, {', '.join(told)}"
    )
    text += f"; {', '.join(set_)} set. " if set_ else "; OPENBLAS_CORETYPE not set. "
    if len(times):
        low, high = times["num_repeats"].min(), times["num_repeats"].max()
        repeats = str(low) if low == high else f"{low} to {high}"
        text += "Each measured once. " if high == 1 else f"Medians of {repeats} repeats. "
        if (busy := times["other_cores"].max()) > _BUSY:
            text += (
                f"**Other programs kept up to {busy:.1f} cores busy meanwhile: these are not the "
                "times of an idle machine.** "
            )
    return text.strip() + "\n"


def method_section(times: pd.DataFrame, libraries: dict[str, list[str]]) -> str:
    """Who was measured how."""
    lines = []
    for peer in dict.fromkeys(times["peer"]):
        rows = times[times["peer"] == peer]
        parts = rows[rows["num_examples"] < times["num_examples"].max()]
        text = f"- {peer_name(peer)}: {PEERS[peer].note}"
        for number, part in parts.groupby("num_examples"):
            sizes = listing([f"{size:,}" for size in sorted(part["batch_size"].unique())])
            text += f"; at batch size {sizes} timed on {number:,} examples and scaled to an epoch"
        if not PEERS[peer].stacks:
            text += "; trains one network at a time, so that ten cost ten times as much each"
        if engines := sorted(set(rows["trained_by"].dropna())):
            text += f"; engine: {', '.join(engines)}"
        if peer in libraries:
            text += f" ({'; '.join(libraries[peer])})"
        lines.append(f"{text}.\n")
    return "## Who was measured how\n\n" + "".join(lines) if lines else ""
