"""The trials of a search, shared out among processes: none is lost, none is done twice.

A trial is taken by asking for it. Whoever runs it counts its attribute `alive` up; one that
stands still is a dead process's, is marked failed, and another trial is made up for it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

# Each trial is told by the program itself; Optuna's own lines would say it twice.
optuna.logging.set_verbosity(optuna.logging.WARNING)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_ALIVE = "alive"
_POLL_SECONDS = 1.0


class Worker:
    """One of the processes that work on an Optuna study: what it takes of the trials."""

    def __init__(
        self, study: Study, total: int, stale_seconds: float, say: Callable[[str], None]
    ) -> None:
        """Take trials of `study` until it has `total` finished ones.

        Args:
            study: The Optuna study, which other processes may share.
            total: Finished trials that it shall have.
            stale_seconds: A running trial that shows no life for so long is lost.
            say: Told when there is something to wait for.
        """
        self.study = study
        self.total = total
        self.stale_seconds = stale_seconds
        self.say = say
        self._seen: dict[int, tuple[int, float]] = {}  # trial -> its count, and since when

    def take(self, at_most: int) -> list[Trial]:
        """Take up to so many trials; none if the total is there.

        While the rest is under way in other processes, it waits for them to end or to die.
        """
        waited = False
        while True:
            self.fail_stale()
            trials = self.study.get_trials(deepcopy=False)
            finished = _count(trials, FINISHED)
            if finished >= self.total:
                return []
            running = _count(trials, (TrialState.RUNNING,))
            free = self.total - finished - running
            taken = self._ask(min(free, at_most)) if free > 0 else []
            if taken:
                return taken
            if not waited:
                self.say(f"waiting for {running} trials that other processes are running")
                waited = True
            time.sleep(_POLL_SECONDS)

    def fail_stale(self) -> None:
        """Mark trials as failed whose process has died."""
        now = time.monotonic()
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        seen = {}
        for trial in running:
            count = trial.user_attrs.get(_ALIVE, 0)
            before, since = self._seen.get(trial.number, (count, now))
            seen[trial.number] = (count, since if count == before else now)
            if count == before and now - since >= self.stale_seconds:
                self.say(f"trial {trial.number} was left running by a dead process: failed")
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        self._seen = seen

    @contextlib.contextmanager
    def running(self, trials: Sequence[Trial]) -> Iterator[None]:
        """Show that trials are alive while they run; those not told in the end have failed."""
        ended = threading.Event()

        def beat() -> None:
            count = 0
            while True:
                count += 1
                for trial in trials:
                    # Not running any more: told, or taken for dead.
                    with contextlib.suppress(Exception):
                        trial.set_user_attr(_ALIVE, count)
                if ended.wait(self.stale_seconds / 6):
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for trial in trials:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _ask(self, num: int) -> list[Trial]:
        """Ask for trials, and keep those that are among the total.

        Numbers are given by the storage one after the other, so that of two processes that
        ask at the same time just one finds fewer than the total before its trial.
        """
        asked = [self.study.ask() for _ in range(num)]
        trials = self.study.get_trials(deepcopy=False)
        states = (*FINISHED, TrialState.RUNNING)
        kept = []
        for trial in asked:
            before = [each for each in trials if each.number < trial.number]
            if _count(before, states) < self.total:
                kept.append(trial)
            else:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return kept


def _count(trials: Sequence[FrozenTrial], states: Sequence[TrialState]) -> int:
    return sum(trial.state in states for trial in trials)
