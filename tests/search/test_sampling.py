"""Proposals that depend on a trial's number and on history, and that do not repeat themselves."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from optsweep.config.checks import InputError
from optsweep.search.sampling import Proposer, rehearse
from optsweep.search.space import Space, identity

MIXED = Space(
    {
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "momentum": FloatDistribution(0.0, 0.99),
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "epochs": IntDistribution(1, 9),
    },
    {"momentum": {"optimizer": ("sgd",)}},
)
FINITE = Space(
    {
        "init": CategoricalDistribution(["a", "b", "c"]),
        "epochs": IntDistribution(1, 4),
        "decay": FloatDistribution(0.0, 0.3, step=0.1),
    },
    {"decay": {"init": ("c",)}},
)
SAMPLERS = {
    "random": RandomSampler,
    "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=4, constant_liar=True),
    "together": lambda seed: TPESampler(
        seed=seed, n_startup_trials=4, multivariate=True, group=True
    ),
    "genetic": lambda seed: NSGAIISampler(seed=seed, population_size=4),
    "sequence": lambda seed: QMCSampler(seed=0, independent_sampler=RandomSampler(seed)),
}


def new(make, space: Space = MIXED, seed: int = 0) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=Proposer(make, seed, space))


def value(point) -> float:
    return -abs(point["lr"] - 0.01) - (point["optimizer"] == "sgd")


def in_sequence(study: optuna.Study, space: Space, num: int) -> list[dict]:
    points = []
    for _ in range(num):
        trial = study.ask()
        points.append(space.suggest(trial))
        study.tell(trial, value(points[-1]))
    return points


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", SAMPLERS)
def test_points_depend_on_number_and_history_alone(name):
    make = SAMPLERS[name]
    points = in_sequence(new(make), MIXED, 12)
    assert len(set(map(identity, points))) == 12
    assert in_sequence(new(make), MIXED, 12) == points
    # Continued by another process, which has another sampler.
    study = new(make)
    in_sequence(study, MIXED, 7)
    study.sampler = Proposer(make, 0, MIXED)
    in_sequence(study, MIXED, 5)
    assert [trial.params for trial in study.trials] == points
    # Another seed, another search.
    if name != "sequence":
        assert in_sequence(new(make, seed=1), MIXED, 3) != points[:3]


def test_the_random_start_is_the_same_in_batches_of_any_size():
    make = SAMPLERS["tpe"]
    points = in_sequence(new(make), MIXED, 4)
    study = new(make)
    trials = [study.ask() for _ in range(4)]
    assert [MIXED.suggest(trial) for trial in trials] == points


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", SAMPLERS)
def test_no_point_of_a_finite_space_comes_twice_before_all_have_come(name):
    study = new(SAMPLERS[name], FINITE)
    tried: set[str] = set()
    while not FINITE.is_exhausted(tried):
        trial = study.ask()
        point = FINITE.suggest(trial)
        assert identity(point) not in tried
        tried.add(identity(point))
        study.tell(trial, len(tried))
    assert len(tried) == 4 + 4 + 4 * 4


def test_a_rehearsal_finds_what_a_sampler_lacks():
    def make(seed: int) -> BaseSampler:
        class Lacking(TPESampler):
            def sample_independent(self, study, trial, name, distribution):
                if len(study.trials) > 2:
                    raise ImportError("it takes cmaes")
                return super().sample_independent(study, trial, name, distribution)

        return Lacking(seed=seed, n_startup_trials=2)

    with pytest.raises(InputError, match=r"hydra\.sweeper\.sampler: it takes cmaes"):
        rehearse(Proposer(make, 0, MIXED), MIXED, 10)
    rehearse(Proposer(SAMPLERS["tpe"], 0, MIXED), MIXED, 10)
