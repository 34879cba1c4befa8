"""Optuna's pruners at work on a cell: whether its training shall end after this epoch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.pruners import BasePruner, WilcoxonPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from optsweep.config.checks import InputError, first_line
from optsweep.runs import counted_accuracies, mean_accuracy
from optsweep.search.trials import SEED_ACCURACIES, best_trial

PRUNED_AFTER = "pruned after"  # user attribute of a trial: the last epoch that was trained


class Reporter:
    """Tells an Optuna study of one trial's epochs while its cell is being trained."""

    def __init__(self, storage: BaseStorage, name: str, number: int, pruner: BasePruner) -> None:
        """Report on trial `number` of the Optuna study `name`."""
        self._study = optuna.load_study(
            study_name=name, storage=storage, sampler=RandomSampler(), pruner=pruner
        )
        trial = self._study.get_trials(deepcopy=False)[number]
        self._trial = Trial(self._study, trial._trial_id)
        self._pruner = pruner

    def is_hopeless(self, epoch: int, accuracies: Sequence[float]) -> bool:
        """Report validation accuracies, and ask the pruner whether to end here.

        Args:
            epoch: The one that has just ended, from 1.
            accuracies: Of each seed, NaN if it has diverged.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a lost trial's epochs, which are reported again
            self._trial.report(mean_accuracy(accuracies), epoch)
            if isinstance(self._pruner, WilcoxonPruner):
                hopeless = is_worse(self._pruner, self._study, epoch, accuracies)
            else:
                hopeless = self._trial.should_prune()
        if hopeless:
            self._trial.set_user_attr(PRUNED_AFTER, epoch)
        return hopeless


def is_worse(pruner: WilcoxonPruner, study: Study, epoch: int, accuracies: Sequence[float]) -> bool:
    """Whether a cell is worse than the best one, by a test of pairs of seeds after one epoch.

    Optuna's pruner pairs steps of two trials, which are trained one after the other where it is
    described; here they are the seeds, which are all trained at once.
    """
    best = best_trial(study)
    known = best.user_attrs.get(SEED_ACCURACIES, []) if best is not None else []
    if len(known) < epoch:
        return False
    pairs = optuna.create_study(direction="maximize", sampler=RandomSampler())
    pairs.add_trial(_of_seeds(known[epoch - 1], TrialState.COMPLETE))
    return pruner.prune(pairs, _of_seeds(accuracies, TrialState.RUNNING))


def _of_seeds(accuracies: Sequence[float], state: TrialState) -> FrozenTrial:
    values = counted_accuracies(accuracies)
    return create_trial(
        state=state,
        value=mean_accuracy(values) if state is TrialState.COMPLETE else None,
        intermediate_values=dict(enumerate(values)),
    )


def rehearse(pruner: BasePruner, num_epochs: int, num_seeds: int) -> None:
    """Have a pruner judge a trial, in a study of its own.

    Raises:
        InputError: If it cannot, or no trial could be so bad that it ended it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(pruner, WilcoxonPruner):
                good, bad = (
                    _of_seeds([accuracy] * num_seeds, state)
                    for accuracy, state in ((1.0, TrialState.COMPLETE), (0.0, TrialState.RUNNING))
                )
                study = optuna.create_study(direction="maximize", sampler=RandomSampler())
                study.add_trial(good)
                useless = not pruner.prune(study, bad)
            else:
                study = optuna.create_study(direction="maximize", pruner=pruner)
                useless = False
                for value in (1.0, 0.5):
                    trial = study.ask()
                    for epoch in range(1, num_epochs + 1):
                        trial.report(value, epoch)
                        trial.should_prune()
                    study.tell(trial, value)
    except (ArithmeticError, ImportError, TypeError, ValueError) as error:
        raise InputError(f"hydra.sweeper.pruner: {first_line(error)}") from error
    if useless:
        raise InputError(
            f"hydra.sweeper.pruner: with num_seeds={num_seeds} no test of pairs is sure enough to "
            "end a cell; give more seeds, or a greater p_threshold"
        )
