"""What a folder of runs holds, as tables and as the settings of its experiments.

Status of a cell: `completed` (every seed), `diverged` (at least one seed did), `missing` (an
experiment lists it, nothing is there), `partial` (begun, not finished) or `corrupt` (its files
cannot be used).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from optsweep.report import settings

STATUSES = ("completed", "diverged", "missing", "partial", "corrupt")  # from good to bad
TRAINED = STATUSES[:2]


@dataclass(frozen=True)
class Setting:
    """One line of an experiment: a cell, or cells that differ in nothing but their seeds.

    Attributes:
        label: What distinguishes it within the experiment.
        cells: Names of its cells.
        chosen: Its overrides.
        facets: Plain columns of its configuration; empty if no cell has been begun.
        status: The worst of its cells'.
        reason: Why it is not simply completed.
    """

    label: str
    cells: tuple[str, ...]
    chosen: settings.Settings
    facets: settings.Settings
    status: str
    reason: str

    @property
    def trained(self) -> bool:
        """Whether all its cells have results."""
        return self.status in TRAINED

    def value(self, key: str) -> Any:
        """A facet, or else an override."""
        return self.facets.get(key, self.chosen.get(key))


@dataclass(frozen=True)
class Study:
    """All that a folder of runs holds.

    Attributes:
        folder: Where it was read from.
        quick: What `quick.json` says; None for a full study.
        cells: A row per cell, index `cell`: status, reason, num_seeds, num_diverged, seconds,
            device, num_threads, objective and `facets`, a mapping of its configuration.
        seeds: A row per trained cell and seed: `SEED_COLUMNS` and generalisation_gap, the
            accuracy of the final weights on the training split less that on the test split.
        history: `runs.HISTORY_COLUMNS` of all trained cells, with a column `cell`.
        members: A row per experiment and cell: experiment, cell, label and `settings`,
            a mapping of the overrides.
        gradients: What cells recorded of their gradients, with a column `cell`; may be empty.
    """

    folder: Path
    quick: dict[str, Any] | None
    cells: pd.DataFrame
    seeds: pd.DataFrame
    history: pd.DataFrame
    members: pd.DataFrame
    gradients: pd.DataFrame

    @property
    def experiments(self) -> list[str]:
        """Names of the experiments, sorted."""
        return sorted(self.members["experiment"].unique())

    def settings_of(self, experiment: str) -> list[Setting]:
        """The settings of an experiment, in its own order."""
        members = self.members[self.members["experiment"] == experiment]
        return [
            self._setting(label, group) for label, group in members.groupby("label", sort=False)
        ]

    def find(self, experiment: str, where: Mapping[str, Any]) -> list[Setting]:
        """The experiment's settings that have all these values."""
        found = self.settings_of(experiment)
        return [one for one in found if settings.matches(where, one.chosen, one.facets)]

    def seeds_of(self, cells: Sequence[str]) -> pd.DataFrame:
        """The results of all seeds of some cells, index `seed`."""
        return self.seeds[self.seeds["cell"].isin(list(cells))].set_index("seed")

    def history_of(self, cells: Sequence[str]) -> pd.DataFrame:
        """The history of some cells."""
        return self.history[self.history["cell"].isin(list(cells))]

    def _setting(self, label: Any, group: pd.DataFrame) -> Setting:
        cells = self.cells.loc[list(group["cell"])]
        first = cells.iloc[0]
        worst = max(cells["status"], key=STATUSES.index)
        reason = "; ".join(dict.fromkeys(reason for reason in cells["reason"] if reason))
        chosen = group["settings"].iloc[0]
        return Setting(str(label), tuple(cells.index), chosen, first["facets"], worst, reason)
