"""A cell, trained again from its folder: `optsweep repeat DIR`.

Its `config.yaml` has all that decides the result, whatever became of the files and the command
line that it was composed from. Hydra's own way, `--experimental-rerun`, wants a pickle of the
job, and puts what comes out elsewhere.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from optsweep import runs
from optsweep.cli.jobs import Job, find_or_train, show_result
from optsweep.cli.mistakes import OneLineParser, in_one_line
from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config
from optsweep.config.targets import allow_targets

_TIMES = ("seconds",)  # columns of a history that are never the same twice


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, train the cell, compare; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        given = parser().parse_args(arguments)
        allow_targets(given.allow_targets)
        config = _with_settings(_config_of(given.cell), given.set)
        console = Console(highlight=False, soft_wrap=True)
        before = _history(given.cell)
        result = find_or_train(Job(config, given.cell, rerun=True, composed={}), console)
        show_result(result, given.cell, console)
        if before is not None:
            console.print(_compared(before, _history(given.cell) or []))
    return 0


def _config_of(directory: Path) -> Config:
    """The configuration that a folder's cell was trained with, on as many threads.

    Raises:
        InputError: If there is none, or it is not that of the cell.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such folder")
    config = runs.read_config(directory)
    named = re.search(r"_([0-9a-f]{10})$", directory.resolve().name)
    try:
        result = runs.read_result(directory)
    except runs.DamagedRecord:
        result = None  # which is set aside before the cell is trained
    hashes = [*([named[1]] if named else []), *([result["config_hash"]] if result else [])]
    if any(known != config_hash(config) for known in hashes):
        raise InputError(f"{directory / runs.CONFIG_FILE} is that of another cell")
    threads = config.trainer.num_threads or (result or {}).get("num_threads")
    return replace(config, trainer=replace(config.trainer, num_threads=threads))


def _with_settings(config: Config, settings: Sequence[str]) -> Config:
    """The configuration with settings that do not decide the result.

    Raises:
        InputError: If one does, or there is none such.
    """
    values = config.to_mapping()
    for setting in settings:
        key, equals, text = setting.partition("=")
        *groups, name = key.split(".")
        node: Any = values
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if not equals or not isinstance(node, dict) or name not in node:
            raise InputError(f"--set {setting}: expected a key of the cell's config.yaml=VALUE")
        node[name] = yaml.safe_load(text)
        changed = Config.from_mapping(values)
        if config_hash(changed) != config_hash(config):
            raise InputError(f"--set {setting}: this decides the result, and is another cell's")
    return Config.from_mapping(values)


def _history(directory: Path) -> list[dict[str, str]] | None:
    """The rows of a finished cell's history, but for its times; None if there is none to trust."""
    try:
        if runs.read_result(directory) is None:
            return None
        text = (directory / runs.HISTORY_FILE).read_text(encoding="utf-8")
    except (InputError, OSError, ValueError):
        return None
    rows = csv.DictReader(text.splitlines())
    return [{key: row[key] for key in row if key not in _TIMES} for row in rows]


def _compared(before: list[dict[str, str]], after: list[dict[str, str]]) -> str:
    """Where a history first differs from an earlier one, in a line."""
    for old, new in zip(before, after, strict=False):
        for column, value in new.items():
            if old.get(column) != value:
                where = f"seed {new['seed']}, epoch {new['epoch']}: {column}"
                return f"not as before from {where} {value}, not {old.get(column)}"
    if len(before) != len(after):
        return f"not as before: {len(after)} rows of history, not {len(before)}"
    return "the same as before, to the last digit"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser(
        "optsweep repeat",
        description="Train a cell again from its folder, whose record is replaced at the end, and "
        "say whether its history is the same.",
    )
    made.add_argument("cell", type=Path, metavar="DIR", help="such as multirun/cells/NAME")
    made.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings that do not decide the result, such as dataset.root=DIR",
    )
    made.add_argument(
        "--allow-targets",
        nargs="+",
        default=[],
        metavar="PACKAGE",
        help="packages of yours whose classes the cell may name",
    )
    return made
