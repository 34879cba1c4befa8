"""What a shell may complete beside overrides: the programs' names, their options, sweeps' names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from optsweep.runs import RESERVED_NAMES, RUNS_FOLDER

_OF_OVERRIDES = ("lr-range",)  # commands that take them too
_OF_RUNS = ("compare", "best", "export")  # and those that take the name of a sweep
_LINE = "COMP_LINE"  # where shells put what was typed, as Hydra reads it


def complete(commands: Mapping[str, str]) -> bool:
    """Print what may come next on the line that a shell has, a word to a line.

    Args:
        commands: The programs' modules, by their names; each has a function `parser`.

    Returns:
        Whether Hydra is to be asked too.
    """
    line = os.environ.get(_LINE, "")
    _, *words = line.split()
    last = "" if line.endswith(" ") or not words else words.pop()
    if not words:
        _print(commands, last)
        return True
    if words[0] not in commands:
        return True
    name = words[0]
    os.environ["COLUMNS"] = "1000"  # that nothing of the help is broken into lines
    text = import_module(commands[name]).parser().format_help()
    choices = re.search(rf"{re.escape(words[-1])} \{{([^}}]+)\}}", text)
    if words[-1].startswith("--") and choices:
        _print(choices[1].split(","), last)
        return False
    if last.startswith("-"):
        _print(sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))), last)
        return False
    if name in _OF_RUNS and not words[-1].startswith("--"):
        _print(_sweeps(), last)
    os.environ[_LINE] = line.replace(f" {name}", "", 1)
    return name in _OF_OVERRIDES


def _print(words: Sequence[str] | Mapping[str, str], beginning: str) -> None:
    for word in words:
        if word.startswith(beginning):
            print(word)


def _sweeps() -> list[str]:
    root = Path(RUNS_FOLDER)
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [path.name for path in folders if path.is_dir() and path.name not in RESERVED_NAMES]
