"""The loop of a search over its trials, and the cells on fresh seeds at its end.

`hydra-optuna-sweeper` brings the samplers' configurations and reads the ranges on the command
line. The loop is ours, since that plugin's counts `n_trials` anew when a search continues,
proposes the same points again, and leaves a killed process's trials running for ever.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from joblib.externals.loky import process_executor
from omegaconf import DictConfig
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import Trial, TrialState

from optsweep import runs, seals
from optsweep.cli import composition
from optsweep.cli.effects import check_effects
from optsweep.cli.grids import Cell, split_override
from optsweep.cli.mistakes import is_mistake, one_line
from optsweep.cli.overrides import rewrite
from optsweep.cli.search_settings import (
    check_settings,
    num_jobs,
    pruner_of,
    sampler_of,
    seed_of,
    study_name,
    variants_of,
)
from optsweep.cli.search_space import read_space
from optsweep.cli.sweepers import end_workers
from optsweep.cli.validation import num_at_once
from optsweep.config import identity
from optsweep.config.checks import InputError, as_text
from optsweep.config.schema import Config
from optsweep.provenance import told_of_other_code
from optsweep.report.search_report import report_search
from optsweep.seals import Damage
from optsweep.search import pruning
from optsweep.search.integrity import damage_of_trials, makers_of, mend, tell
from optsweep.search.sampling import Proposer, rehearse
from optsweep.search.scores import median_floor, objective, validation_accuracies
from optsweep.search.space import Point, Space, text_of
from optsweep.search.storage import (
    alone,
    answering,
    copy_to_file,
    is_own_file,
    open_study,
    storage_url,
)
from optsweep.search.trials import (
    CELL,
    DIVERGED,
    REFUSED,
    SEED_ACCURACIES,
    Worker,
    best_trial,
)

_SECONDS_TO_LEAVE = 1.5  # of an interrupted search's threads
# What a final cell has of its own: fresh seeds, all training examples, no early end.
_OF_FINALS = ("seed", "num_seeds", "dataset.val_size", "stopping.floor", "stopping.patience")


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
        self.url = ""
        self.num_launched = 0
        self._composing = threading.Lock()  # of cells, which Hydra does for one thread at a time

    def run(self) -> None:
        """Search up to the total number of trials, then train what was found.

        Raises:
            InputError: If something about the search cannot be used; not after its first trial.
        """
        settings = self.settings
        given = OverridesParser.create().parse_overrides(list(self.config.hydra.overrides.hydra))
        check_settings(settings, {each.key_or_group: each.value() for each in given})
        self.num_jobs = num_jobs(settings, self.config.hydra.launcher)
        self.url = storage_url(settings.storage, self.folder)
        spaces = spaces_of(self.config)
        checked = [cell for space in spaces.values() for cell in self._check(space)]
        check_effects(self.config, checked)
        with answering(self.url):
            self._run_all(spaces)

    def _run_all(self, spaces: Mapping[str, Space]) -> None:
        settings = self.settings
        self._mend()
        studies = []
        for index, (variant, space) in enumerate(spaces.items()):
            name = study_name(str(self.config.name), variant)
            print(f"\nsearch {name}: {settings.n_trials} trials", flush=True)
            studies.append(self._search(name, index, space))
        rows = []
        for (variant, space), study in zip(spaces.items(), studies, strict=True):
            rows += self._finals(variant, space, study)
        with alone(self.url):
            for study in studies:
                copy_to_file(study, self.url, self.folder)
            seals.write(self.folder, {runs.FINALS_FILE: runs.to_csv(runs.FINAL_COLUMNS, rows)})
            report_search(self.folder)

    def _mend(self) -> None:
        """Set aside what an earlier run has left and cannot be used; it is made again."""
        is_stale = self.config.rerun == runs.STALE
        with alone(self.url):
            told = mend(self.folder)
            makers = makers_of(self.folder)
            by = told_of_other_code(makers, "trials")
            if by and is_stale:
                if not is_own_file(self.url, self.folder):
                    raise InputError(
                        f"rerun=stale: {by}; what is not kept in a file of the search's folder is "
                        "not made anew; give the search another name: name=NAME"
                    )
                path = self.folder / runs.STUDY_FILE
                whose = "; ".join(dict.fromkeys(filter(None, makers)))
                told += seals.set_aside(self.folder, [Damage(path, f"has trials by {whose}")])
        for line in [*told, *([by] if by and not is_stale else [])]:
            say(line)

    def _check(self, space: Space) -> list[Cell]:
        """Find out beforehand whether all that can be chosen can be trained; some such cells.

        Every value of a list and both ends of every range have to be part of a cell that can be
        built. That other cells with it cannot, no check beforehand finds out.
        """
        settings = self.settings
        config = self._composed(as_overrides(space.fixed))
        if not config.dataset.val_size:
            raise InputError(
                "dataset.val_size=0: a search needs validation examples to choose by, for a "
                "choice by the test set would spoil it; give dataset.val_size=10000"
            )
        examples = space.examples()
        good = [point for point in examples if self._refusal(space, point) is None]
        proven = {(key, text_of(value)) for point in good for key, value in point.items()}
        for key, value in space.example_values():
            if (key, text_of(value)) not in proven:
                self._check_value(space, key, value, [*good, *examples])
        if settings.pruner is not None:
            pruning.rehearse(pruner_of(settings), config.trainer.epochs, config.num_seeds)
        for baseline in settings.baselines or []:
            composition.plan(self._composed(self._final(space, rewritten(baseline.split()))))
        rehearse(self._proposer(space), space, settings.n_trials)
        fixed_and = (as_overrides({**space.fixed, **point}) for point in good)
        cells = [Cell("", " ".join(each), self._composed(each)) for each in fixed_and]
        at_once = num_at_once(self.config.hydra.launcher, self.num_jobs)
        composition.check_memory([composition.plan(cell.config) for cell in cells], at_once)
        return cells

    def _check_value(self, space: Space, key: str, value: Any, others: Sequence[Point]) -> None:
        """Raise what was wrong first if a value goes with none of several values of the others."""
        refusals = []
        for point in itertools.chain(*(space.with_value(key, value, each) for each in others)):
            refusal = self._refusal(space, point)
            if refusal is None:
                return
            refusals.append(refusal)
        whole = isinstance(value, float) and "expected a whole number" in refusals[0]
        hint = "; whole numbers are int(interval(LOW,HIGH)) or range(LOW,HIGH)" if whole else ""
        raise InputError(refusals[0] + hint)

    def _refusal(self, space: Space, point: Point) -> str | None:
        """Why a point cannot be trained; None if it can."""
        try:
            with self._composing:
                composition.plan(self._composed(as_overrides({**space.fixed, **point})))
        except Exception as error:
            if not is_mistake(error):
                raise
            return one_line(error)
        return None

    def _composed(self, overrides: Sequence[str]) -> Config:
        return composition.to_config(self.loader.load_sweep_config(self.config, list(overrides)))

    def _proposer(self, space: Space) -> Proposer:
        make = functools.partial(sampler_of, self.settings)
        return Proposer(make, seed_of(self.settings), space)

    def _search(self, name: str, variant: int, space: Space) -> Study:
        """Run trials of one Optuna study until it has its total, together with other processes."""
        settings = self.settings
        study = open_study(self.url, name, self._proposer(space), self._identity(space))
        if reason := damage_of_trials([study]):
            raise InputError(
                f"the storage of search {name} {reason}; give the search another name: name=NAME"
            )
        worker = Worker(
            study,
            space,
            settings.n_trials,
            stale_seconds=settings.stale_seconds,
            alone=functools.partial(alone, self.url),
            say=say,
        )

        def work() -> None:
            while taken := worker.take():
                trial, chosen = taken
                try:
                    self._run(study, variant, space, trial, chosen)
                finally:
                    worker.leave(trial)

        with worker:
            side_by_side(work, self.num_jobs, worker.stop)
        if worker.total < settings.n_trials:
            say(f"\nall {worker.total} points that there are have been tried")
        return study

    def _run(self, study: Study, variant: int, space: Space, trial: Trial, chosen: Point) -> None:
        """Train the cell of a trial and tell Optuna, unless the cell cannot be built."""
        told = " ".join(as_overrides(chosen))
        say(f"\ntrial {trial.number}, {self.settings.n_trials} in all: {told}")
        refusal = self._refusal(space, chosen)
        if refusal is not None:
            say(f"trial {trial.number} cannot be trained: {refusal}")
            trial.set_user_attr(REFUSED, refusal)
            tell(study, trial, TrialState.FAIL)
            return
        job = as_overrides({**space.fixed, **chosen})
        if self.settings.pruner is not None:
            job.append(f"hydra.sweeper.trial=[{variant},{trial.number}]")
        elif self.settings.stop_margin is not None:
            floor = median_floor(study, self.settings.stop_margin)
            job += [f"stopping.floor={as_text(floor)}"] if floor else []
        (returned,) = self._launch([job])
        try:
            self._tell(study, trial, returned)
        except UpdateFinishedTrialError:  # this process stood still for too long
            say(f"trial {trial.number} had been made up for by then")

    def _tell(self, study: Study, trial: Trial, returned: JobReturn) -> None:
        """Give Optuna the accuracies of a cell that has been trained, and its objective."""
        config, directory = self._cell(returned)
        result = runs.read_result(directory)
        trial.set_user_attr("planned_epochs", config.trainer.epochs)
        if result is None:
            attributes = study.get_trials(deepcopy=False)[trial.number].user_attrs
            epoch = attributes.get(pruning.PRUNED_AFTER)
            if epoch is None:
                raise InputError(f"{directory}: the cell was trained, but its result is not here")
            trial.set_user_attr("epochs", epoch)
            tell(study, trial, TrialState.PRUNED)
            say(f"trial {trial.number} was pruned after epoch {epoch}")
            return
        trial.set_user_attr(CELL, directory.name)
        accuracies = validation_accuracies(directory / runs.HISTORY_FILE)
        reported = study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for epoch, mean, _ in accuracies:
            if epoch not in reported:  # by a process that was killed before it told the end
                trial.report(mean, epoch)
        if self.settings.pruner is not None:
            trial.set_user_attr(SEED_ACCURACIES, [of_seeds for _, _, of_seeds in accuracies])
        # What was saved by stopping early is told from these.
        trial.set_user_attr("epochs", max(seed["epochs"] for seed in result["per_seed"]))
        value = objective(result, self.settings.standard_errors)
        stopped = result["stopped"]
        if stopped and stopped["rule"] == "floor":
            tell(study, trial, TrialState.PRUNED)
            say(f"trial {trial.number} stopped after epoch {stopped['epoch']}: {value:.4f}")
            return
        trial.set_user_attr(DIVERGED, result["status"] == "diverged")
        tell(study, trial, TrialState.COMPLETE, value)
        best = best_trial(study)
        so_far = f"best so far {best.value:.4f}, trial {best.number}" if best else "all diverged"
        say(f"trial {trial.number}: objective {value:.4f}; {so_far}")

    def _finals(self, variant: str, space: Space, study: Study) -> list[dict[str, str]]:
        """Train the best cell, and what it is compared with, on fresh seeds and all examples."""
        best = best_trial(study)
        if best is None:
            return []
        rows = [{"kind": "best", "overrides": " ".join(as_overrides(best.params))}]
        rows += [{"kind": "baseline", "overrides": one} for one in self.settings.baselines or []]
        jobs = []
        for row in rows:
            say(f"\n{row['kind']} on fresh seeds: {variant} {row['overrides']}")
            jobs.append(self._final(space, rewritten(row["overrides"].split())))
        for row, returned in zip(rows, self._launch(jobs), strict=True):
            _, directory = self._cell(returned)
            row |= {"variant": variant, "cell": directory.name}
        return rows

    def _final(self, space: Space, chosen: Sequence[str]) -> list[str]:
        """The overrides of a cell with chosen settings, on fresh seeds and all examples."""
        fixed = {key: value for key, value in space.fixed.items() if key not in _OF_FINALS}
        return [
            *as_overrides({**fixed, **dict(map(split_override, chosen))}),
            f"seed={self.settings.final_seed}",
            f"num_seeds={self.settings.final_num_seeds}",
            "dataset.val_size=0",
        ]

    def _launch(self, jobs: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        """Have Hydra's launcher train cells; what one raises is raised here."""
        first, self.num_launched = self.num_launched, self.num_launched + len(jobs)
        return self.launcher.launch(jobs, initial_job_idx=first)

    def _cell(self, returned: JobReturn) -> tuple[Config, Path]:
        """A cell and its directory; raises what the job raised."""
        with contextlib.redirect_stderr(io.StringIO()):  # Hydra's own word on it
            _ = returned.return_value
        assert isinstance(returned.cfg, DictConfig)
        config = composition.to_config(returned.cfg)
        return config, self.sweep_dir / runs.CELLS_FOLDER / identity.cell_name(config)

    def _identity(self, space: Space) -> dict[str, Any]:
        """Everything that makes this search this one, flat and as plain data."""
        config = self._composed(as_overrides(space.fixed))
        told = dict(flat(identity.deciding_values(config)))
        told |= {f"range of {key}": value for key, value in space.to_mapping().items()}
        return told | {"hydra.sweeper.standard_errors": float(self.settings.standard_errors)}


def side_by_side(work: Callable[[], None], num_threads: int, stop: Callable[[], None]) -> None:
    """Do work in several threads, or in this one; raise what the first to fail raises.

    An error in one of joblib's processes ends them all, so that the trials of other threads
    fail of it, at times before the thread that it belongs to.

    Args:
        work: Done by each thread.
        num_threads: How many.
        stop: Called when one has failed; the others come to an end by themselves.
    """
    if num_threads == 1:
        work()
        return
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def to_its_end() -> None:
        try:
            work()
        except BaseException as error:
            ends.put(error)
        else:
            ends.put(None)

    # They do not keep an interrupted program from ending.
    threads = [threading.Thread(target=to_its_end, daemon=True) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    errors = []
    try:
        for _ in range(num_threads):
            error = ends.get()
            if error is not None:
                stop()
                errors.append(error)
    except KeyboardInterrupt:
        stop()
        end_workers()
        for thread in threads:  # whose trials are for other processes from then on
            thread.join(_SECONDS_TO_LEAVE / num_threads)
        raise
    if errors:
        raise next(itertools.filterfalse(_is_of_ended_processes, errors), errors[0])


def _is_of_ended_processes(error: BaseException) -> bool:
    return isinstance(error, BrokenExecutor) or isinstance(
        error.__context__, process_executor.ShutdownExecutorError
    )


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def as_overrides(chosen: Mapping[str, Any]) -> list[str]:
    """Chosen values as a command line has them.

    >>> as_overrides({"optimizer.nesterov": True, "init,seed": "init=xavier seed=1"})
    ['optimizer.nesterov=true', 'init=xavier', 'seed=1']
    """
    return [
        text
        for key, value in chosen.items()
        for text in (value.split() if "," in key else [f"{key}={text_of(value)}"])
    ]


def spaces_of(config: DictConfig) -> dict[str, Space]:
    """The space of each variant of the search that is configured.

    Raises:
        InputError: If there is nothing to search, or something cannot be searched.
    """
    return {
        name: read_space(config, rewritten(overrides))
        for name, overrides in variants_of(config.hydra.sweeper).items()
    }


def rewritten(overrides: Sequence[str]) -> list[str]:
    """Overrides of a file, with numbers where their keys are."""
    return rewrite(overrides, composition.config_dir())


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
