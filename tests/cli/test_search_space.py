"""What may be searched, and how a file and a command line say it."""

import hydra
import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optsweep.cli.composition import compose_whole, config_dir
from optsweep.cli.overrides import rewrite
from optsweep.cli.search import as_overrides
from optsweep.cli.search_space import read_space
from optsweep.config.checks import InputError
from optsweep.search.space import Space

LR = "optimizer.lr=tag(log,interval(1e-4,1.0))"


@pytest.fixture
def space():
    """`space(*command_line, variant=…, params=…, conditions=…) -> Space`."""

    def read(*arguments: str, variant=(), **settings) -> Space:
        told = rewrite(["--multirun", "hydra/sweeper=optuna", *arguments], config_dir())
        config = compose_whole(told)
        for key, value in settings.items():
            OmegaConf.update(config, f"hydra.sweeper.{key}", value, force_add=True)
        return read_space(config, list(variant))

    with hydra.initialize_config_dir(str(config_dir())):
        yield read


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        (LR, "optimizer.lr", FloatDistribution(1e-4, 1.0, log=True)),
        ("momentum=interval(0.0,0.9)", "optimizer.momentum", FloatDistribution(0.0, 0.9)),
        (
            "batch_size=tag(log,int(interval(1,64)))",
            "trainer.batch_size",
            IntDistribution(1, 64, log=True),
        ),
        ("depth=range(1,5)", "model.depth", IntDistribution(1, 4)),
        (
            "optimizer.lr=range(0.1,0.5,0.1)",
            "optimizer.lr",
            FloatDistribution(0.1, 0.4, step=0.1),
        ),
        ("depth=range(5,1,-2)", "model.depth", IntDistribution(3, 5, step=2)),
        ("init=default,gaussian", "init", CategoricalDistribution(["default", "gaussian"])),
        (
            "optimizer=glob(adam*)",
            "optimizer",
            CategoricalDistribution(["adam", "adamw"]),
        ),
        (
            "optimizer.nesterov=choice(true,false)",
            "optimizer.nesterov",
            CategoricalDistribution([True, False]),
        ),
    ],
)
def test_everything_that_optuna_can_search(override, key, expected, space):
    assert space(override).dimensions == {key: expected}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=tag(log,interval(0,1))", "on a logarithmic scale, expected numbers above 0"),
        ("optimizer.lr=tag(log,interval(-1,1))", "expected numbers above 0"),
        ("optimizer.lr=interval(1,0.1)", "expected two finite numbers, the lower one first"),
        ("optimizer.lr=interval(nan,1)", "expected two finite numbers"),
        ("optimizer.lr=interval(0,inf)", "expected two finite numbers"),
        ("depth=range(1,5,0)", "expected a step that is not 0"),
        ("optimizer.lr=range(0.1,0.5,0.0)", "expected a step that is not 0"),
        ("depth=range(5,1)", "at least one value"),
        ("optimizer.lr=tag(lgo,interval(0.1,1))", "there is no tag lgo; did you mean log?"),
        ("optimizer.lr=tag(log,choice(0.1,1))", "the tag log is for an interval"),
        ("depth=tag(log,range(1,5))", "the tag log is for an interval"),
        ("optimizer=glob(z*)", "optimizer=glob"),
    ],
)
def test_ranges_that_make_no_sense_are_one_line(override, message, space):
    with pytest.raises(InputError) as error:
        space(override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key",
    [
        "seed",
        "num_seeds",
        "dataset",
        "dataset.val_seed",
        "dataset.val_size",
        "rerun",
        "name",
        "stack_cells",
        "trainer.num_threads",
        "trainer.device",
        "stopping.patience",
        "+stopping.patience",
        "record.weights",
        "allow_targets",
    ],
)
def test_what_all_trials_share_cannot_be_searched(key, space):
    for given in ({"params": {key: "choice(1,2)"}}, {}):
        arguments = [] if given else [f"{key}=choice(1,2)"]
        with pytest.raises(InputError, match=r"=choice\(1,2\): a search cannot choose this"):
            space(LR, *arguments, **given)
    value = "mnist" if key == "dataset" else "1"
    assert space(LR, f"{key}={value}").fixed == {key: value}


def test_hydra_is_not_searched(space):
    with pytest.raises(InputError, match="a sweep cannot vary Hydra's own settings"):
        space("hydra.sweeper.n_trials=1,2")


def test_the_command_line_beats_a_file_in_whatever_form(space):
    params = {"optimizer.weight_decay": "interval(0.0,0.1)", "layernorm_position": "none,first"}
    for given in ("weight_decay=light", "weight_decay=1e-3", "optimizer.weight_decay=1e-3"):
        found = space(given, params=params)
        assert list(found.dimensions) == ["layernorm_position"]
        assert list(found.fixed) == [given.split("=")[0].replace("weight_decay=1", "")] or [
            *found.fixed
        ] == ["optimizer.weight_decay"]
    found = space("model.layernorm_position=[1]", params=params)
    assert list(found.dimensions) == ["optimizer.weight_decay"]
    found = space("weight_decay=choice(0.1,0.2)", params=params)
    assert found.dimensions["optimizer.weight_decay"] == CategoricalDistribution([0.1, 0.2])


def test_a_command_line_that_leaves_nothing_to_search_is_refused(space):
    params = {"optimizer.weight_decay": "interval(0.0,0.1)"}
    with pytest.raises(InputError, match="weight_decay=light: nothing is left to search of opt"):
        space("weight_decay=light", params=params)


def test_a_variant_stands_between_the_file_and_the_command_line(space):
    params = {"momentum": "interval(0.0,0.9)", "init": "default,xavier"}
    found = space(LR, "init=gaussian", variant=["momentum=report"], params=params)
    assert found.fixed == {"momentum": "report", "init": "gaussian"}
    assert list(found.dimensions) == ["optimizer.lr"]


def test_pairs_vary_together(space):
    found = space("optimizer,optimizer.lr=[sgd,'0.1,0.3'],[adam,0.001]", "init=default,xavier")
    assert found.dimensions == {
        "optimizer,optimizer.lr": CategoricalDistribution(
            [
                "optimizer=sgd optimizer.lr=0.1",
                "optimizer=sgd optimizer.lr=0.3",
                "optimizer=adam optimizer.lr=0.001",
            ]
        ),
        "init": CategoricalDistribution(["default", "xavier"]),
    }
    point = {"optimizer,optimizer.lr": "optimizer=sgd optimizer.lr=0.3", "init": "xavier"}
    assert as_overrides(point) == ["optimizer=sgd", "optimizer.lr=0.3", "init=xavier"]
    with pytest.raises(InputError, match="seed: a search cannot choose this"):
        space("init,seed=[default,1],[xavier,2]")


def test_short_names_work_in_files_too(space):
    found = space(
        params={
            "batch_size": "choice(32,64)",
            "optimizer": "sgd,adam",
            "momentum": "interval(0.0,0.9)",
        },
        conditions={"momentum": {"optimizer": "sgd", "batch_size": [32]}},
    )
    assert list(found.dimensions) == ["trainer.batch_size", "optimizer", "optimizer.momentum"]
    wanted = {"optimizer": ("sgd",), "trainer.batch_size": (32,)}
    assert found.conditions == {"optimizer.momentum": wanted}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conditions": {"momentun": {"optimizer": "sgd"}}}, "momentun: it is not searched"),
        ({"conditions": {"momentum": {"optimizer": "sdg"}}}, "optimizer=sdg: it cannot occur"),
        ({"conditions": {"momentum": {"init": "gaussian"}}}, "init is not chosen before it"),
        ({"conditions": {"momentum": "sgd"}}, "momentum=sgd: expected other keys"),
        ({"conditions": {"momentum": {"optimizer": []}}}, "expected a value or a list of values"),
        ({"conditions": {"momentum": {"optimizer": {"a": 1}}}}, "optimizer: it is not searched"),
    ],
)
def test_mistakes_in_a_file_are_one_line(settings, message, space):
    params = {"optimizer": "sgd,adam", "momentum": "interval(0.0,0.9)"}
    with pytest.raises(InputError) as error:
        space(**{"params": params} | settings)
    assert message in str(error.value)
    assert str(error.value).startswith("hydra.sweeper.")


def test_a_condition_on_what_the_command_line_fixes_is_harmless(space):
    params = {"optimizer": "sgd,adam", "momentum": "interval(0.0,0.9)", "init": "default,xavier"}
    conditions = {"momentum": {"optimizer": "sgd"}}
    found = space("optimizer=adam", params=params, conditions=conditions)
    assert all("optimizer.momentum" not in point for point in found.points())
    assert list(space("momentum=0.9", params=params, conditions=conditions).dimensions) == [
        "optimizer",
        "init",
    ]


def test_the_dots_of_a_key_may_be_mappings(space):
    found = space(
        "optimizer=sgd,adam",
        "momentum=interval(0,0.9)",
        "+hydra.sweeper.conditions.optimizer.momentum={optimizer: sgd}",
    )
    assert found.conditions == {"optimizer.momentum": {"optimizer": ("sgd",)}}
