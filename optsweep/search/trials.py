"""The trials of a search, shared out among processes: none is lost, none is done twice.

A trial is taken by asking for it, or by taking up one whose process has died: with the number and
the point that it has, so that a search that was killed and continued is the undisturbed one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from optsweep.liveness import RELEASED, Watch, seconds_between_beats, sign_of_life
from optsweep.search.space import Space, identity

# Each trial is told by the program itself; Optuna's own lines would say it twice.
optuna.logging.set_verbosity(optuna.logging.WARNING)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
CELL = "cell"  # user attributes of a trial: its cell's directory,
DIVERGED = "diverged"  # whether all of its seeds diverged,
REFUSED = "refused"  # why it could not be built,
SEED_ACCURACIES = "validation accuracies"  # of every epoch and seed, if there is a pruner,
ALIVE = "alive"  # and its worker's sign of life
_POLL_SECONDS = 0.5


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of the total.

    Versions before this one marked as failed what a dead process had left, and asked anew.
    """
    return trial.state is not TrialState.FAIL or REFUSED in trial.user_attrs


def best_trial(study: Study) -> FrozenTrial | None:
    """The complete trial with the best value that is not that of a cell which diverged."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    candidates = [trial for trial in complete if not trial.user_attrs.get(DIVERGED)]
    return max(candidates, key=lambda trial: trial.value or 0.0, default=None)


class Worker:
    """One of the processes that work on an Optuna study, with several threads or one.

    In a `with` statement: while this lasts, it shows that the trials it has taken are alive.

    Attributes:
        total: Trials that the Optuna study shall have; fewer if the space has no more points.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        total: int,
        *,
        stale_seconds: float,
        alone: Callable[[], AbstractContextManager[None]],
        say: Callable[[str], None],
    ) -> None:
        """Take trials of `study` until it has `total` that have come to an end.

        Args:
            study: The Optuna study, which other processes may share.
            space: What its trials choose from.
            total: Trials that it shall have.
            stale_seconds: A running trial that shows no life for so long is lost.
            alone: Keeps all others that share the study out for as long as it lasts.
            say: Told when there is something to wait for.
        """
        self.study = study
        self.total = total
        self._space = space
        self._alone = alone
        self._say = say
        self._watch = Watch(stale_seconds)
        self._sign = sign_of_life()
        self._mine: dict[int, Trial] = {}  # trials that are being run here, by number
        self._has_looked = False  # whether those that run elsewhere were all found alive or dead
        self._is_closed = False
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Worker:
        self._beating.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._ended.set()
        self._beating.join()
        for trial in list(self._mine.values()):
            self.leave(trial)

    def stop(self) -> None:
        """Take no more trials."""
        self._is_closed = True

    def take(self) -> tuple[Trial, dict[str, Any]] | None:
        """The next trial and its point; None if there are no more.

        While the last ones are under way in other processes, it waits for them to end or to die.
        """
        told = ""
        while not self._is_closed:
            with self._alone():
                taken, waiting_for = self._take()
            if taken is not None or not waiting_for:
                return taken
            if waiting_for != told:
                self._say(waiting_for)
                told = waiting_for
            time.sleep(_POLL_SECONDS)
        return None

    def leave(self, trial: Trial) -> None:
        """Lay down a trial: one that has not been told of by now is for anybody to take up."""
        self._mine.pop(trial.number, None)
        with contextlib.suppress(Exception):  # told, or out of reach: then it looks dead in a while
            trial.set_user_attr(ALIVE, RELEASED)

    def _take(self) -> tuple[tuple[Trial, dict[str, Any]] | None, str]:
        """A trial, or else what there is to wait for."""
        trials = [each for each in self.study.get_trials(deepcopy=False) if counts(each)]
        running = [each for each in trials if each.state is TrialState.RUNNING]
        if len(trials) - len(running) >= self.total:
            return None, ""
        elsewhere = [each for each in running if each.number not in self._mine]
        alive = [self._watch.is_alive(each.number, _sign(each)) for each in elsewhere]
        if False in alive:
            lost = elsewhere[alive.index(False)]
            self._say(f"trial {lost.number} was left by a process that stopped: taken up")
            return self._begin(Trial(self.study, lost._trial_id)), ""
        if None in alive and not self._has_looked:  # a lost one comes before any new one
            number = elsewhere[alive.index(None)].number
            return None, f"waiting for a sign of life from trial {number}"
        self._has_looked = True
        if self._space.is_exhausted({identity(each.params) for each in trials}):
            self.total = min(self.total, len(trials))
        if len(trials) < self.total:
            return self._begin(self.study.ask()), ""
        numbers = ", ".join(str(each.number) for each in elsewhere)
        return None, f"waiting for other processes: trial {numbers}" if elsewhere else ""

    def _begin(self, trial: Trial) -> tuple[Trial, dict[str, Any]]:
        self._mine[trial.number] = trial
        trial.set_user_attr(ALIVE, self._sign)
        return trial, self._space.suggest(trial)

    def _beat(self) -> None:
        while not self._ended.wait(seconds_between_beats(self._watch.stale_seconds)):
            self._sign["count"] += 1
            for trial in list(self._mine.values()):
                # Told by now, or the storage is away for a moment: it is asked again.
                with contextlib.suppress(Exception):
                    trial.set_user_attr(ALIVE, self._sign)


def _sign(trial: FrozenTrial) -> dict[str, Any] | None:
    return trial.user_attrs.get(ALIVE)
