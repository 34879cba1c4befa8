"""What a search tries next: by chance that a trial's number alone decides, and nothing twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from optsweep.config.checks import InputError, first_line
from optsweep.search.space import Space, identity, only_value
from optsweep.search.trials import counts

_MAX_DRAWS = 100  # before the first point that is left is taken


class Proposer(BaseSampler):
    """Proposes whole points, with an Optuna sampler that is made anew for each trial.

    A sampler that lived as long as its process would propose its first points again in a search
    that is continued, and the same ones in processes side by side; and where a point was tried
    before, it would propose it again.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int, space: Space) -> None:
        """Propose points of `space`.

        Args:
            make: Makes the sampler from a seed.
            seed: Together with a trial's number, it decides all chance.
            space: What may be chosen.
        """
        self.make = make
        self._seed = seed
        self._space = space
        self._proposed: tuple[int, dict[str, Any]] = (-1, {})  # a trial's number and its point

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing: keys are chosen together, but not by Optuna's way of doing so."""
        del study, trial
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing, see above."""
        del study, trial, search_space
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value of one key in the trial's point."""
        del param_distribution
        if self._proposed[0] != trial.number:
            self._proposed = (trial.number, self._propose(study, trial))
        return self._proposed[1][param_name]

    def _propose(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        others = study.get_trials(deepcopy=False)
        tried = {
            identity(each.params) for each in others if counts(each) and each.number != trial.number
        }
        words = np.random.SeedSequence([self._seed, trial.number]).generate_state(2)
        own, other = map(int, words)
        point = self._draw(self.make(own), study, trial)
        anywhere = RandomSampler(other)
        for _ in range(_MAX_DRAWS):
            if identity(point) not in tried:
                return point
            point = self._draw(anywhere, study, trial)
        left = (dict(each) for each in self._space.points() if each and identity(each) not in tried)
        return next(left, point)

    def _draw(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        """What a sampler would have the trial choose; the storage does not learn of it."""
        draft = copy.deepcopy(trial)
        draft.params, draft.distributions = {}, {}
        sampler.before_trial(study, draft)
        space = sampler.infer_relative_search_space(study, draft)
        together = sampler.sample_relative(study, draft, space)

        def value_of(key: str, distribution: BaseDistribution) -> Any:
            if distribution.single():
                value = only_value(distribution)
            elif key in together:
                value = together[key]
            else:
                value = sampler.sample_independent(study, draft, key, distribution)
            draft.params[key], draft.distributions[key] = value, distribution
            return value

        return self._space.choose(value_of)


def rehearse(proposer: Proposer, space: Space, num_trials: int) -> None:
    """Have one more point proposed than a sampler draws at random, in a study of its own.

    Raises:
        InputError: If the sampler cannot do that.
    """
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(0))
    num_random = getattr(proposer.make(0), "_n_startup_trials", 1)
    for number in range(min(num_random + 1, num_trials)):
        trial = study.ask()
        space.suggest(trial)
        study.tell(trial, number / num_trials)
    study.sampler = proposer
    try:
        space.suggest(study.ask())
    except (ImportError, ValueError, TypeError, NotImplementedError) as error:
        raise InputError(f"hydra.sweeper.sampler: {first_line(error)}") from error
