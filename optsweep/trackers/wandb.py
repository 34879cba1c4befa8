"""Weights & Biases: a run for each cell, in the group of its sweep; offline unless told else."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import wandb

from optsweep.trackers.records import Record, plain

_MARK = "optsweep.txt"  # beside a run's files, written last: its name and its fingerprint


class WeightsAndBiases:
    """Runs below `OUT/wandb`; WANDB_MODE=online sends them, `wandb sync` does so later."""

    def __init__(self, project: str, out: str | None) -> None:
        """Write below `out`, by default the current folder."""
        self._project = project
        self.folder = Path(out or ".")
        self._mode = os.environ.get("WANDB_MODE", "offline")
        self.place = f"{self.folder.resolve()} {project}"
        self.hint = f"wandb sync {self.folder / 'wandb'}/offline-run-*"

    def told(self) -> Mapping[str, str]:
        """See `export.Tracker.told`."""
        found = {}
        for mark in self._runs(_MARK):
            project, name, fingerprint = mark.read_text(encoding="utf-8").splitlines()
            if project == self._project:
                found[name] = fingerprint
        return found

    def tell(self, record: Record) -> None:
        """See `export.Tracker.tell`."""
        stable = hashlib.sha256(record.name.encode()).hexdigest()[:10]
        for path in self._runs(""):  # what is there of it is another training's, or in part
            if path.name.rpartition("-")[2].startswith(stable):
                shutil.rmtree(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self._project,
            dir=str(self.folder),
            id=f"{stable}{record.fingerprint}",
            name=record.title[:128],
            group=record.sweep,
            job_type="cell" if record.cell else "sweep",
            config={key: plain(value) for key, value in record.parameters.items()},
            notes="\n".join(f"{key}: {value}" for key, value in record.tags.items()),
            mode=self._mode,  # type: ignore[arg-type]
            resume="allow" if self._mode == "online" else None,
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True, save_code=False
            ),
        )
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        of_seeds = {seed: {row[0]: row for row in epochs} for seed, epochs in record.seeds()}
        for epoch, seconds, values in record.means():
            row = {"epoch": float(epoch), "seconds": seconds, **values}
            for seed, epochs in of_seeds.items():
                if epoch in epochs:
                    row |= {f"seed_{seed}/{key}": each for key, each in epochs[epoch][2].items()}
            run.log(row, step=epoch)
        if record.figures:
            pictures = {name: wandb.Image(str(path)) for name, path in record.figures.items()}
            run.log({f"figures/{name}": picture for name, picture in pictures.items()})
        run.summary.update({f"final/{key}": value for key, value in record.scores.items()})
        for seed, scores in record.per_seed.items():
            run.summary.update({f"final/seed_{seed}/{key}": each for key, each in scores.items()})
        place = Path(run.dir).parent
        run.finish()
        (place / _MARK).write_text(
            f"{self._project}\n{record.name}\n{record.fingerprint}", encoding="utf-8"
        )

    def _runs(self, file: str) -> list[Path]:
        pattern = f"wandb/*run-*-*/{file}" if file else "wandb/*run-*-*"
        return [path for path in self.folder.glob(pattern) if file or path.is_dir()]
