"""Which checkpoints of a cell were examined before, in the way that is asked for now."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optsweep import runs
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config
from optsweep.diagnosis.settings import Settings, chosen_epochs


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a diagnosis is to be of.

    Attributes:
        directory: Of the cell.
        cell: Its hash.
        settings: How much is measured.
        seeds: The seeds.
        epochs: The checkpoints; none if the cell has kept no weights.
    """

    directory: Path
    cell: str
    settings: Settings
    seeds: Sequence[int]
    epochs: Sequence[int]

    @classmethod
    def of(cls, directory: Path, config: Config, settings: Settings) -> Asked:
        """Choose the seeds and the checkpoints of a cell."""
        kept = runs.kept_epochs(directory)
        epochs = chosen_epochs(kept, settings.checkpoints) if kept else []
        seeds = list(config.seeds)[: settings.seeds or config.num_seeds]
        return cls(directory, config_hash(config), settings, seeds, epochs)

    @property
    def measured(self) -> dict[str, Any]:
        """What a summary is of, beside the cell and its weights."""
        return {**dataclasses.asdict(self.settings), "seeds": list(self.seeds)}

    def key(self, epoch: int) -> dict[str, Any]:
        """What decides on the readings of a checkpoint, beside the cell; not how many there are."""
        weights = runs.weights_file(self.directory, epoch).read_bytes()
        own = {name: value for name, value in self.measured.items() if name != "checkpoints"}
        return {**own, "weights": hashlib.sha256(weights).hexdigest()}

    def found(self, epoch: int) -> list[dict[str, Any]] | None:
        """What was found at a checkpoint in this way; None if nothing was."""
        content = _read(self.directory, runs.EXAMINED_FILE.format(epoch))
        same = content.get("cell") == self.cell and content.get("settings") == self.key(epoch)
        return content.get("seeds") if same else None

    @property
    def missing(self) -> list[int]:
        """The checkpoints that were not examined in this way."""
        return [epoch for epoch in self.epochs if self.found(epoch) is None]

    @property
    def is_done(self) -> bool:
        """Whether there are checkpoints, and all are in a summary."""
        summary = _read(self.directory, runs.DIAGNOSIS_FILE)
        same = summary.get("config_hash") == self.cell
        same &= summary.get("settings") == self.measured
        return bool(self.epochs) and same and not self.missing


def _read(directory: Path, name: str) -> Mapping[str, Any]:
    """A file of a diagnosis; empty if there is none, or it cannot be read."""
    try:
        text = (directory / runs.DIAGNOSIS_FOLDER / name).read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
