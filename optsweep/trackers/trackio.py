"""Trackio: a run for each cell, in the group of its sweep, in the local database of a project."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import trackio

from optsweep.config.checks import InputError
from optsweep.runs import write_atomically
from optsweep.trackers.records import Record, plain


class Trackio:
    """Runs of a project in TRACKIO_DIR, which is trackio's own setting."""

    def __init__(self, project: str, out: str | None) -> None:
        """Take the project's database.

        Raises:
            InputError: If another place is asked for.
        """
        if out is not None:
            raise InputError(f"--out {out}: trackio's place is the variable TRACKIO_DIR")
        self._project = project
        folder = Path(trackio.TRACKIO_DIR)
        self.place = f"{folder} {project}"
        self.hint = f"trackio show --project {project}"
        # Which runs are whole: trackio itself does not tell.
        name = re.sub(r"[^\w.-]", "_", project)
        self._ledger = folder / f"{name}.optsweep.json"

    def told(self) -> Mapping[str, str]:
        """See `export.Tracker.told`."""
        if not self._ledger.is_file():
            return {}
        told = json.loads(self._ledger.read_text(encoding="utf-8"))
        there = {run.name for run in self._runs()}
        return {name: each for name, each in told.items() if name in there}

    def tell(self, record: Record) -> None:
        """See `export.Tracker.tell`."""
        told = dict(self.told())
        told.pop(record.name, None)
        self._keep(told)
        for old in self._runs():
            if old.name == record.name:
                old.delete()
        with contextlib.redirect_stdout(io.StringIO()):  # five lines of its own for each run
            trackio.init(
                self._project,
                name=record.name,
                group=record.sweep,
                config={
                    **{key: plain(value) for key, value in record.parameters.items()},
                    **{f"about.{key}": value for key, value in record.tags.items()},
                },
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
            of_seeds = {seed: {row[0]: row for row in epochs} for seed, epochs in record.seeds()}
            for epoch, seconds, values in record.means():
                row = {"epoch": epoch, "seconds": seconds, **values}
                for seed, epochs in of_seeds.items():
                    if epoch in epochs:
                        row |= {f"seed_{seed}/{k}": each for k, each in epochs[epoch][2].items()}
                trackio.log(row, step=epoch)
            last: dict[str, object] = {f"final/{key}": each for key, each in record.scores.items()}
            for name, path in record.figures.items():
                last[f"figures/{name}"] = trackio.Image(str(path))
            step = int(record.history["epoch"].max()) if len(record.history) else 0
            trackio.log(last or {"num_cells": record.parameters["num_cells"]}, step=step)
            trackio.finish()
        self._keep({**told, record.name: record.fingerprint})

    def _runs(self) -> list[trackio.api.Run]:
        try:
            return list(trackio.Api().runs(self._project))
        except ValueError:  # there is no such project yet
            return []

    def _keep(self, told: Mapping[str, str]) -> None:
        self._ledger.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._ledger, json.dumps(told, indent=1))
