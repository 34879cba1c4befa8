"""The settings of a search are checked before its first trial."""

import functools

import pytest
from omegaconf import OmegaConf
from optuna.pruners import HyperbandPruner, PatientPruner, SuccessiveHalvingPruner

from optsweep.cli.composition import config_dir
from optsweep.cli.search_settings import check_settings, num_jobs, pruner_of, sampler_of, seed_of
from optsweep.config.checks import InputError

BASIC = OmegaConf.create({"_target_": "BasicLauncher"})
JOBLIB = OmegaConf.create({"_target_": "JoblibLauncher", "n_jobs": 2})
SLURM = OmegaConf.create({"_target_": "ClusterLauncher", "array_parallelism": 64})


@functools.cache
def shipped() -> dict:
    folder = config_dir() / "hydra" / "sweeper"
    settings = OmegaConf.load(folder / "optuna.yaml")
    del settings["defaults"], settings["_target_"]
    settings.sampler = OmegaConf.load(folder / "sampler" / "tpe.yaml")
    return settings


def settings(**changes):
    return OmegaConf.merge(shipped(), changes)


def test_what_is_shipped_can_be_used():
    check_settings(shipped(), {})
    sampler_of(shipped(), 3)
    for path in (config_dir() / "hydra" / "sweeper" / "pruner").glob("*.yaml"):
        pruner_of(settings(pruner=OmegaConf.load(path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_trials": 2.5}, r"n_trials=2\.5: expected a whole number"),
        ({"trial": [0, 1]}, "trial=.*: the search itself sets it"),
        ({"n_jobs": 0}, "n_jobs=0: expected a whole number"),
        ({"stop_margin": -1}, "stop_margin=-1: expected a finite number >= 0"),
        ({"stop_margin": "half"}, "stop_margin=half: expected a finite number"),
        ({"standard_errors": "one"}, "standard_errors=one: expected a finite number"),
        ({"stale_seconds": 0}, "stale_seconds=0: every trial"),
        ({"final_seed": -1}, "final_seed=-1: expected a whole number"),
        ({"final_num_seeds": 0}, "final_num_seeds=0: expected a whole number"),
        ({"baselines": "optimizer=adam"}, "baselines=optimizer=adam: expected a list such as"),
        ({"baselines": [1]}, r"baselines=\[1\]: expected a list such as"),
        ({"variants": {"a": 1}}, "variants=.*: expected a list such as"),
        ({"variants": ["depth=1", "depth=1"]}, "variants: depth=1 is there twice"),
        ({"variants": [{"a=1": {}, "a=2": {}}]}, "variants=.*: expected a list such as"),
        ({"variants": [{"a=1": 3}]}, "variants=.*: expected a list such as"),
        ({"variants": [{"a=1": {"b": [1]}}]}, r"variants\.a=1\.b=\[1\]: expected a range"),
        ({"params": 3}, "params=3: expected keys and their values"),
        ({"params": {"a": [1, 2]}}, r"params\.a=\[1,2\]: expected a range or a list"),
        ({"conditions": ["a"]}, "conditions=.*: expected keys and their values"),
        ({"n_trial": 3}, "no key hydra.sweeper.n_trial; did you mean n_trials"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(InputError, match=message):
        check_settings(settings(**changes), {})


def test_one_rule_ends_cells_early():
    with_pruner = settings(pruner={"_target_": "optuna.pruners.NopPruner"})
    check_settings(with_pruner, {"hydra.sweeper.n_trials": 3})
    with pytest.raises(InputError, match=r"stop_margin, hydra\.sweeper\.pruner: either decides"):
        check_settings(with_pruner, {"hydra.sweeper.stop_margin": 0.1})


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"n_startup_trials": "ten"}, "sampler.n_startup_trials=ten: expected a whole"),
        ({"multivariate": "no"}, "sampler.multivariate=no: expected true or false"),
        ({"foo": 1}, "unexpected keyword argument 'foo'"),
        ({"_target_": "os.system"}, "expected a sampler of optuna.samplers"),
        ({"_target_": "optuna.samplers.GridSampler"}, "for a grid, use --multirun with lists"),
    ],
)
def test_a_sampler_that_cannot_be_made_is_one_line(sampler, message):
    with pytest.raises(InputError, match=message):
        sampler_of(settings(sampler=sampler), 0)


def test_every_search_has_a_seed():
    assert seed_of(settings(sampler={"seed": 3})) == 3
    assert seed_of(settings(sampler={"seed": None})) == 0
    with pytest.raises(InputError, match=r"sampler\.seed=-1: expected a whole number"):
        seed_of(settings(sampler={"seed": -1}))


def test_a_pruner_is_one_of_optunas():
    hyperband = {"_target_": "optuna.pruners.HyperbandPruner", "reduction_factor": 4}
    assert isinstance(pruner_of(settings(pruner=hyperband)), HyperbandPruner)
    halving = {"_target_": "optuna.pruners.SuccessiveHalvingPruner"}
    patient = {"_target_": "optuna.pruners.PatientPruner", "patience": 2, "wrapped_pruner": halving}
    made = pruner_of(settings(pruner=patient))
    assert isinstance(made, PatientPruner)
    assert isinstance(made._wrapped_pruner, SuccessiveHalvingPruner)


@pytest.mark.parametrize(
    ("pruner", "message"),
    [
        ("hyperband", "pruner=hyperband: expected _target_ and its settings"),
        ({"min_resource": 1}, "expected _target_ and its settings"),
        ({"_target_": "os.system"}, "expected a pruner of optuna.pruners"),
        ({"_target_": "optuna.samplers.TPESampler"}, "expected a pruner of optuna.pruners"),
        ({"_target_": "optuna.pruners.BasePruner"}, "expected a pruner of optuna.pruners"),
        (
            {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "reduction_factor": 0},
            "reduction_factor",
        ),
    ],
)
def test_a_pruner_that_cannot_be_made_is_one_line(pruner, message):
    with pytest.raises(InputError, match=message):
        pruner_of(settings(pruner=pruner))


def test_as_many_trials_at_once_as_the_launcher_runs():
    assert num_jobs(settings(), BASIC) == 1
    assert num_jobs(settings(), JOBLIB) == 2
    assert num_jobs(settings(), SLURM) == 8
    assert num_jobs(settings(n_jobs=20), SLURM) == 20
    assert num_jobs(settings(n_jobs=1), JOBLIB) == 1
    with pytest.raises(InputError, match=r"n_jobs=2: the launcher runs 1 at once; add hydra/laun"):
        num_jobs(settings(n_jobs=2), BASIC)
    with pytest.raises(InputError, match=r"runs 2 at once; add hydra\.launcher\.n_jobs=3"):
        num_jobs(settings(n_jobs=3), JOBLIB)
