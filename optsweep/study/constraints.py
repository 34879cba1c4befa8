"""The versions that a study was made with, as a file of pip's constraints beside its report.

`pip install -c constraints.txt .` installs optsweep with them.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import optsweep
from optsweep import provenance, runs


def keep_constraints(out: Path, results: Iterable[Mapping[str, Any]]) -> str:
    """Write the versions that are installed, if they are those that a study was made with.

    Args:
        out: Folder of the study's report.
        results: Of its cells.

    Returns:
        A line if they are not, and nothing was written; else nothing.
    """
    others = [provenance.other_versions(result) for result in results]
    differing = Counter(", ".join(f"{n} {v}" for n, v in other.items()) for other in others)
    if not others:
        return ""
    if not differing.pop("", 0):
        told = "; ".join(sorted(differing))
        return f"no {runs.CONSTRAINTS_FILE}: no cell was made with what is installed, but by {told}"
    lines = [
        f"# pip install -c {runs.CONSTRAINTS_FILE} . installs what this study was made with:",
        f"# Python {platform.python_version()}, optsweep {optsweep.__version__}",
        *(f"# {n} of {len(others)} cells were made with {told}" for told, n in differing.items()),
        *(f"{name}=={version}" for name, version in installed("optsweep").items()),
    ]
    out.mkdir(parents=True, exist_ok=True)
    runs.write_atomically(out / runs.CONSTRAINTS_FILE, "\n".join(lines) + "\n")
    return ""


def installed(distribution: str) -> dict[str, str]:
    """Everything that a distribution requires, and what that does: names with their versions."""
    found: dict[str, str] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(distribution)]
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in asked:
            continue
        asked.add((name, extras))
        try:
            there = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # it is for another system, or was never asked for
            continue
        # A build of its own, such as +cpu, is in no index but its maker's.
        found[name] = Version(there.version).public
        for text in there.requires or ():
            required = Requirement(text)
            of_extras = [{"extra": extra} for extra in ("", *extras)]
            if required.marker is None or any(required.marker.evaluate(e) for e in of_extras):
                waiting.append(required)
    found.pop(canonicalize_name(distribution), None)
    return dict(sorted(found.items()))
