"""The loop of a search over its trials, and the cells on fresh seeds at its end.

`hydra-optuna-sweeper` brings the samplers' configurations and reads the ranges on the command
line. The loop is ours, since that plugin's counts `n_trials` anew when a search continues,
proposes the same points again, and leaves a killed process's trials running for ever.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from joblib import cpu_count
from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState

from optsweep import runs
from optsweep.cli import composition
from optsweep.cli.composition import refuse_hydra
from optsweep.cli.grids import split_override
from optsweep.cli.overrides import rewrite
from optsweep.config import identity
from optsweep.config.checks import InputError, as_text, integer, number
from optsweep.config.schema import Config
from optsweep.config.targets import locate
from optsweep.report.search_report import report_search
from optsweep.search.sampling import SeededByTrial
from optsweep.search.scores import median_floor, objective, validation_accuracies
from optsweep.search.space import Space
from optsweep.search.storage import alone, copy_to_file, open_study, storage_url
from optsweep.search.trials import Worker

# What a final cell has of its own: fresh seeds, all training examples, no early end.
_OF_FINALS = ("seed", "num_seeds", "dataset.val_size", "stopping.floor", "stopping.patience")
_MAX_JOBS = 8  # trials at once if nobody says otherwise, for each learns from those before it


class SearchLoop:
    """One Optuna study, or one for each of several variants, then its best cell on fresh seeds."""

    def __init__(
        self, settings: DictConfig, config: DictConfig, loader: ConfigLoader, launcher: Launcher
    ) -> None:
        """Prepare a search.

        Args:
            settings: The node `hydra.sweeper`; conf/hydra/sweeper/optuna.yaml explains its keys.
            config: The composed configuration, with its node `hydra`.
            loader: Composes cells.
            launcher: Trains them.
        """
        self.settings = settings
        self.config = config
        self.loader = loader
        self.launcher = launcher
        self.sweep_dir = Path(str(config.hydra.sweep.dir))
        self.folder = self.sweep_dir / str(config.name)
        self.num_launched = 0

    def run(self, arguments: list[str]) -> None:
        """Search up to the total number of trials, then train what was found.

        Raises:
            InputError: If something about the search cannot be used.
        """
        settings = self.settings
        integer("hydra.sweeper.n_trials", settings.n_trials, 1, 10**6)
        if settings.n_jobs is not None:
            integer("hydra.sweeper.n_jobs", settings.n_jobs, 1, 10**4)
        for key in ("standard_errors", "stale_seconds"):
            number(f"hydra.sweeper.{key}", settings[key])
        url = storage_url(settings.storage, self.folder)
        variants = list(settings.variants or [""])
        spaces = [read_space(settings, [*rewritten(variant), *arguments]) for variant in variants]
        for space in spaces:
            self._check(space)
        studies = []
        for variant, space in zip(variants, spaces, strict=True):
            print(f"\nsearch {self._study_name(variant)}: {settings.n_trials} trials", flush=True)
            studies.append(self._search(url, self._study_name(variant), space))
        with alone(url):  # of several processes, the first trains the finals, the others find them
            rows = []
            for variant, space, study in zip(variants, spaces, studies, strict=True):
                rows += self._finals(variant, space, study)
                copy_to_file(study, url, self.folder)
            text = runs.to_csv(runs.FINAL_COLUMNS, rows)
            runs.write_atomically(self.folder / runs.FINALS_FILE, text)
            report_search(self.folder)

    def _study_name(self, variant: str) -> str:
        return f"{self.config.name}: {variant}" if variant else str(self.config.name)

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        return self.loader.load_sweep_config(self.config, list(overrides))

    def _check(self, space: Space) -> None:
        """Find out beforehand whether the cells at both ends of all ranges can be trained."""
        for corner in space.corners():
            config = composition.to_config(self._compose(as_overrides({**space.fixed, **corner})))
            if not config.dataset.val_size:
                raise InputError(
                    "dataset.val_size=0: a search needs validation examples to choose by, for a "
                    "choice by the test set would spoil it; give dataset.val_size=10000"
                )
            composition.plan(config)

    def _search(self, url: str, name: str, space: Space) -> Study:
        """Run trials of one Optuna study until it has its total, together with other processes."""
        settings = self.settings
        sampler = self._sampler(None)
        if settings.sampler.seed is not None:
            sampler = SeededByTrial(self._sampler, settings.sampler.seed)
        study = open_study(url, name, sampler, self._identity(space))
        worker = Worker(
            study, settings.n_trials, settings.stale_seconds, lambda line: print(line, flush=True)
        )
        while trials := worker.take(self._num_jobs()):
            with worker.running(trials):
                self._run(study, space, trials, worker)
        return study

    def _run(self, study: Study, space: Space, trials: Sequence[Trial], worker: Worker) -> None:
        margin = self.settings.stop_margin
        floor = median_floor(study, margin) if margin is not None else []
        jobs = []
        for trial in trials:
            chosen = space.suggest(trial)
            told = " ".join(as_overrides(chosen))
            print(f"\ntrial {trial.number}, {worker.total} in all: {told}", flush=True)
            stop = [f"stopping.floor={as_text(floor)}"] if floor else []
            jobs.append([*as_overrides({**space.fixed, **chosen}), *stop])
        for trial, returned in zip(trials, self._launch(jobs), strict=True):
            self._tell(study, trial, returned)

    def _tell(self, study: Study, trial: Trial, returned: JobReturn) -> None:
        """Give Optuna the accuracies of a cell that has been trained, and its objective."""
        config, directory, result = self._result(returned)
        trial.set_user_attr("cell", directory.name)
        for epoch, accuracy in validation_accuracies(directory / runs.HISTORY_FILE):
            trial.report(accuracy, epoch)
        # What was saved by stopping early is told from these.
        trial.set_user_attr("epochs", max(seed["epochs"] for seed in result["per_seed"]))
        trial.set_user_attr("planned_epochs", config.trainer.epochs)
        value = objective(result, self.settings.standard_errors)
        if result["stopped"]:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            print(f"stopped after epoch {result['stopped']['epoch']}: {value:.4f}", flush=True)
        else:
            study.tell(trial, value, skip_if_finished=True)
            print(
                f"objective {value:.4f}; best so far {study.best_value:.4f}, "
                f"trial {study.best_trial.number}",
                flush=True,
            )

    def _finals(self, variant: str, space: Space, study: Study) -> list[dict[str, str]]:
        """Train the best cell, and what it is compared with, on fresh seeds and all examples."""
        settings = self.settings
        rows = [{"kind": "best", "overrides": " ".join(as_overrides(study.best_params))}]
        rows += [{"kind": "baseline", "overrides": one} for one in settings.baselines or []]
        own = [  # fresh seeds, and all training examples
            f"seed={settings.final_seed}",
            f"num_seeds={settings.final_num_seeds}",
            "dataset.val_size=0",
        ]
        fixed = {key: value for key, value in space.fixed.items() if key not in _OF_FINALS}
        jobs = []
        for row in rows:
            chosen = dict(split_override(each) for each in rewritten(row["overrides"]))
            print(f"\n{row['kind']} on fresh seeds: {variant} {row['overrides']}", flush=True)
            jobs.append([*as_overrides({**fixed, **chosen}), *own])
        for row, returned in zip(rows, self._launch(jobs), strict=True):
            _, directory, _ = self._result(returned)
            row |= {"variant": variant, "cell": directory.name}
        return rows

    def _launch(self, jobs: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        """Have Hydra's launcher train cells; what one raises is raised here."""
        returned = self.launcher.launch(jobs, initial_job_idx=self.num_launched)
        self.num_launched += len(jobs)
        return returned

    def _result(self, returned: JobReturn) -> tuple[Config, Path, dict[str, Any]]:
        """A cell, its directory and its result; raises what the job raised."""
        _ = returned.return_value
        assert isinstance(returned.cfg, DictConfig)
        config = composition.to_config(returned.cfg)
        directory = self.sweep_dir / runs.CELLS_FOLDER / identity.cell_name(config)
        result = runs.read_result(directory)
        if result is None:
            raise InputError(f"{directory}: the cell was trained, but its result is not here")
        return config, directory, result

    def _identity(self, space: Space) -> dict[str, Any]:
        """Everything that makes this search this one, flat and as plain data."""
        config = composition.to_config(self._compose(as_overrides(space.fixed)))
        told = dict(flat(identity.deciding_values(config)))
        told |= {f"range of {key}": value for key, value in space.to_mapping().items()}
        return told | {"hydra.sweeper.standard_errors": float(self.settings.standard_errors)}

    def _sampler(self, seed: int | None) -> BaseSampler:
        settings: Any = OmegaConf.to_container(self.settings.sampler, resolve=True)
        target = str(settings.pop("_target_"))
        if target.endswith("GridSampler"):
            raise InputError("hydra/sweeper/sampler=grid: for a grid, use --multirun with lists")
        sampler = locate("hydra.sweeper.sampler", target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's word that an option is experimental
            return sampler(**settings | {"seed": seed})

    def _num_jobs(self) -> int:
        """Trials at once: as many as the launcher runs side by side, up to a limit."""
        if self.settings.n_jobs is not None:
            return self.settings.n_jobs
        launcher = self.config.hydra.launcher
        wanted = launcher.get("n_jobs") or launcher.get("array_parallelism") or 1
        side_by_side = wanted if wanted > 0 else cpu_count()
        return min(side_by_side, _MAX_JOBS)


def read_space(settings: DictConfig, overrides: Sequence[str]) -> Space:
    """What is searched and what is fixed.

    Args:
        settings: The node `hydra.sweeper`, whose `params` come first.
        overrides: A variant's and the command line's, which win.

    Raises:
        InputError: If there is nothing to search, or a condition cannot be used.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hydra_plugins.hydra_optuna_sweeper._impl import (  # noqa: PLC0415
            create_params_from_overrides,
        )

    parameters = [f"{key}={value}" for key, value in (settings.params or {}).items()]
    dimensions, fixed, deleted = create_params_from_overrides([*parameters, *overrides])
    for key in (*dimensions, *fixed):
        refuse_hydra(key)
    if deleted:
        raise InputError(f"{deleted[0]}: a search cannot delete a key")
    conditions = {
        str(key): {
            str(other): tuple(values) if isinstance(values, ListConfig) else (values,)
            for other, values in wanted.items()
        }
        for key, wanted in (settings.conditions or {}).items()
    }
    searched = {key: each for key, each in dimensions.items() if key not in fixed}
    return Space(searched, conditions, {key: str(value) for key, value in fixed.items()})


def as_overrides(chosen: Mapping[str, Any]) -> list[str]:
    """Chosen values as a command line has them."""
    return [f"{key}={_text(value)}" for key, value in chosen.items()]


def rewritten(overrides: str) -> list[str]:
    """Overrides of a file, with numbers where their keys are."""
    return rewrite(overrides.split(), composition.config_dir())


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
