"""From composed values to a canonical `Config`, or to one line that says what is wrong."""

import dataclasses
import math
import re

import pytest
import yaml

from optsweep.config.checks import InputError
from optsweep.config.schema import (
    Config,
    DatasetConfig,
    MLPConfig,
    TrainerConfig,
    hidden_sizes_of,
)
from optsweep.training.plan import plan_cell


def nested(key, value):
    """`trainer.epochs`, 3 -> {trainer: {epochs: 3}}, with the defaults of free mappings."""
    *groups, name = key.split(".")
    values = {name: value}
    for group in reversed(groups):
        values = {**getattr(Config(), group), **values} if group in FREE else values
        values = {group: values}
    return values


FREE = ("init", "optimizer", "scheduler")


# --- the defaults


def test_nothing_given_is_the_default():
    assert Config.from_mapping({}) == Config()


def test_default_is_the_report_s_cell():
    config = Config()
    assert (config.dataset.num_train, config.dataset.num_test) == (60_000, 10_000)
    assert config.model == MLPConfig((128, 56), (), "after")
    assert (config.optimizer["_target_"], config.optimizer["lr"]) == ("torch.optim.SGD", 0.1)
    assert (config.trainer.batch_size, config.trainer.epochs) == (256, 10)
    assert config.trainer.precision == "float32"
    assert (config.seed, config.num_seeds) == (0, 1)
    assert config.steps_per_epoch == 235  # 234 of 256 and one of 96


def test_default_is_what_the_yaml_files_compose(compose):
    composed = compose()
    dataset = dataclasses.replace(composed.dataset, source=DatasetConfig().source)
    assert dataclasses.replace(composed, dataset=dataset) == Config()


# --- canonical forms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("batch_size=full", "batch_size=1000"),
        ("batch_size=full dataset.val_size=100", "batch_size=900 dataset.val_size=100"),
        ("depth=deeper", "model.hidden_sizes=[128,56,32]"),
        ("depth=3", "depth=deeper"),
        ("depth=5", "model.hidden_sizes=[128,56,32,32,32]"),
        ("layernorm_position=all", "layernorm_position=[1,2]"),
        ("layernorm_position=all depth=deeper", "layernorm_position=[1,2,3] depth=3"),
        ("layernorm_position=second", "layernorm_position=2"),
        ("layernorm_position=[2,1,2]", "layernorm_position=[1,2]"),
        ("momentum=report", "momentum=0.9"),
        ("momentum=nesterov", "momentum=0.9 optimizer.nesterov=true"),
        ("optimizer=adam momentum=0.6", "optimizer=adam optimizer.betas=[0.6,0.999]"),
        ("optimizer=adam momentum=0", "optimizer=adam optimizer.betas=[0.0,0.999]"),
        ("optimizer=adam momentum=report", "optimizer=adam"),
        ("optimizer=adam momentum=report_low", "optimizer=adam optimizer.betas=[0.6,0.666]"),
        ("weight_decay=report", "weight_decay=5.5e-3"),
        ("weight_decay=none", "weight_decay=0"),
        ("weight_decay=default", ""),
        ("optimizer.lr=1", "optimizer.lr=1.0"),
        ("optimizer.betas=null", ""),
        pytest.param(
            "model.layernorm_placement=before",
            "",
        ),
        pytest.param(
            "dataset.val_seed=7",
            "",
        ),
    ],
)
def test_two_ways_of_writing_the_same(slice_config, one, other):
    assert slice_config(*one.split()) == slice_config(*other.split())


@pytest.mark.parametrize(
    ("key", "value", "canonical"),
    [
        ("optimizer.lr", 1, 1.0),
        ("optimizer.weight_decay", 0, 0.0),
        ("optimizer.momentum", 0, 0.0),
        ("optimizer.betas", [0, 0.5], [0.0, 0.5]),
    ],
)
def test_numbers_become_floats(key, value, canonical):
    setting = key.split(".")[1]
    found = Config.from_mapping(nested(key, value)).optimizer[setting]
    assert found == canonical
    assert repr(found) == repr(canonical)


def test_settings_that_are_not_given_are_left_out():
    config = Config.from_mapping(nested("optimizer.momentum", None))
    assert "momentum" not in config.optimizer


def test_settings_of_an_option_are_kept(compose):
    assert compose("optimizer=adam").optimizer["eps"] == 1e-8
    assert compose("init=gaussian").init["std"] == 0.01
    assert compose("scheduler=multistep").scheduler["milestones"] == [15, 30]


@pytest.mark.parametrize(
    ("depth", "sizes"),
    [(1, (128,)), (2, (128, 56)), (3, (128, 56, 32)), (10, (128, 56) + 8 * (32,))],
)
def test_widths_of_a_depth(depth, sizes):
    assert hidden_sizes_of(depth) == sizes
    assert Config.from_mapping(nested("model.depth", depth)).model.hidden_sizes == sizes


def test_widths_take_the_place_of_the_depth():
    model = {"depth": 2, "hidden_sizes": [7, 5, 3]}
    assert Config.from_mapping({"model": model}).model.hidden_sizes == (7, 5, 3)


def test_seeds_follow_one_another():
    config = Config.from_mapping({"seed": 3, "num_seeds": 4})
    assert list(config.seeds) == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("val_size", "batch_size", "steps"),
    [
        (0, 1, 60_000),
        (0, 256, 235),
        (0, 60_000, 1),
        (0, 30_000, 2),
        (0, 59_999, 2),
        (10_000, 256, 196),
    ],
)
def test_steps_of_an_epoch_count_the_partial_one(val_size, batch_size, steps):
    config = Config(
        dataset=DatasetConfig(val_size=val_size), trainer=TrainerConfig(batch_size=batch_size)
    )
    assert config.steps_per_epoch == steps


# --- plain data and back


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("optimizer=adam", "scheduler=cosine_warmup", "init=gaussian", "momentum=0.6"),
        ("optimizer=lamb", "scheduler=multistep", "depth=deeper", "layernorm_position=third"),
        ("optimizer=adagrad", "optimizer.eps=1e-10", "trainer.num_threads=2", "num_seeds=5"),
        ("scheduler=piecewise", "batch_size=full", "dataset.val_size=100", "seed=9"),
    ],
)
def test_round_trip_through_yaml(slice_config, overrides):
    config = slice_config(*overrides)
    text = yaml.safe_dump(config.to_mapping())
    assert Config.from_mapping(yaml.safe_load(text)) == config


def test_mapping_has_every_key():
    mapping = Config().to_mapping()
    assert set(mapping) == {field.name for field in dataclasses.fields(Config)}
    assert set(mapping["trainer"]) == {field.name for field in dataclasses.fields(TrainerConfig)}
    assert mapping["model"]["hidden_sizes"] == [128, 56]


# --- bad input: one line with the key, the value and what would be right

NUMBER = "expected a finite number >= 0"
WHOLE = "expected a whole number from "
BATCH_SIZE = f"batch_size={{}}: {WHOLE}1 to 60000 (the number of training examples)"
BETAS = "optimizer.betas={}: expected two numbers in [0, 1)"
BAD_VALUES = [
    ("trainer.batch_size", 0, BATCH_SIZE),
    ("trainer.batch_size", -5, BATCH_SIZE),
    ("trainer.batch_size", 70_000, BATCH_SIZE),
    ("trainer.batch_size", 2.5, BATCH_SIZE),
    ("trainer.batch_size", "abc", BATCH_SIZE),
    ("trainer.batch_size", True, BATCH_SIZE),
    ("trainer.batch_size", math.nan, BATCH_SIZE),
    ("trainer.batch_size", None, BATCH_SIZE),
    ("trainer.epochs", 0, f"trainer.epochs={{}}: {WHOLE}1 to"),
    ("trainer.epochs", -1, f"trainer.epochs={{}}: {WHOLE}1 to"),
    ("trainer.epochs", 1.5, f"trainer.epochs={{}}: {WHOLE}1 to"),
    ("trainer.precision", "float16", "trainer.precision={}: expected float32 or float64"),
    ("trainer.engine", "fast", "trainer.engine={}: expected auto or torch"),
    ("trainer.device", None, "trainer.device={}: expected a name"),
    ("trainer.num_threads", 0, f"trainer.num_threads={{}}: {WHOLE}1 to"),
    ("trainer.epoch", 3, "there is no key trainer.epoch; did you mean epochs?"),
    ("trainer", 3, "trainer={}: expected epochs, batch_size"),
    ("optimizer.lr", -0.1, f"optimizer.lr={{}}: {NUMBER}"),
    ("optimizer.lr", math.nan, f"optimizer.lr={{}}: {NUMBER}"),
    ("optimizer.lr", math.inf, f"optimizer.lr={{}}: {NUMBER}"),
    ("optimizer.lr", "fast", f"optimizer.lr={{}}: {NUMBER}"),
    ("optimizer.lr", True, f"optimizer.lr={{}}: {NUMBER}"),
    ("optimizer.lr", [0.1, 0.2], f"optimizer.lr=[0.1,0.2]: {NUMBER}"),
    ("optimizer.weight_decay", -1e-3, f"weight_decay={{}}: {NUMBER}"),
    ("optimizer.weight_decay", math.nan, f"weight_decay={{}}: {NUMBER}"),
    ("optimizer.weight_decay", math.inf, f"weight_decay={{}}: {NUMBER}"),
    ("optimizer.momentum", -0.9, f"momentum={{}}: {NUMBER}"),
    ("optimizer.momentum", math.nan, f"momentum={{}}: {NUMBER}"),
    ("optimizer.momentum", math.inf, f"momentum={{}}: {NUMBER}"),
    ("optimizer.betas", [0.9, 1.0], "optimizer.betas=1.0: expected a number in [0, 1)"),
    ("optimizer.betas", [-0.1, 0.9], "optimizer.betas=-0.1: expected a number in [0, 1)"),
    ("optimizer.betas", [math.nan, 0.9], "optimizer.betas=nan: expected a number in [0, 1)"),
    ("optimizer.betas", [0.9], BETAS.format("[0.9]")),
    ("optimizer.betas", [0.9, 0.9, 0.9, 0.9], BETAS.format("[0.9,0.9,0.9,0.9]")),
    ("optimizer.betas", 0.9, BETAS),
    ("optimizer.betas", "ab", BETAS),
    ("optimizer.decay_biases_and_norms", 1, "decay_biases_and_norms={}: expected true or false"),
    ("optimizer._target_", None, "optimizer._target_={}: expected a dotted path to a class"),
    ("optimizer._target_", "SGD", "optimizer._target_={}: expected a dotted path to a class"),
    ("init._target_", 3, "init._target_={}: expected a dotted path"),
    ("scheduler._target_", "cosine", "scheduler._target_={}: expected a dotted path"),
    ("scheduler.interval", "batch", "scheduler.interval={}: expected epoch or step"),
    ("scheduler.base_lr", -1, f"scheduler.base_lr={{}}: {NUMBER}"),
    ("num_seeds", 0, f"num_seeds={{}}: {WHOLE}1 to 1000"),
    ("num_seeds", 1.5, f"num_seeds={{}}: {WHOLE}1 to 1000"),
    ("num_seeds", 1001, f"num_seeds={{}}: {WHOLE}1 to 1000"),
    ("seed", -1, f"seed={{}}: {WHOLE}0 to"),
    ("seed", "abc", f"seed={{}}: {WHOLE}0 to"),
    ("sed", 1, "there is no key sed; did you mean seed?"),
    ("model.depth", 0, f"depth={{}}: {WHOLE}1 to 10"),
    ("model.depth", 11, f"depth={{}}: {WHOLE}1 to 10"),
    ("model.depth", 2.5, f"depth={{}}: {WHOLE}1 to 10"),
    ("model.hidden_sizes", 128, "model.hidden_sizes={}: expected a list such as [128,56]"),
    ("model.hidden_sizes", "wide", "model.hidden_sizes={}: expected a list such as [128,56]"),
    ("model.hidden_sizes", [], "model.hidden_sizes=[]: expected 1 to 10 hidden layers"),
    ("model.hidden_sizes", 11 * [8], "8]: expected 1 to 10 hidden layers"),
    ("model.hidden_sizes", [128, 0], f"model.hidden_sizes=0: {WHOLE}1 to"),
    ("model.hidden_sizes", [128, 5.5], f"model.hidden_sizes=5.5: {WHOLE}1 to"),
    ("model.layernorm_position", [3], "layernorm_position=[3]: there is no hidden layer 3"),
    ("model.layernorm_position", [1, 3], "=[1,3]: there is no hidden layer 3; depth 2 has"),
    ("model.layernorm_position", 3, "there is no hidden layer 3; depth 2 has hidden layers 1 to 2"),
    ("model.layernorm_position", [0], "layernorm_position=[0]: there is no hidden layer 0"),
    ("model.layernorm_position", [-1], "layernorm_position=[-1]: there is no hidden layer -1"),
    ("model.layernorm_position", [1.5], "layernorm_position=[1.5]: there is no hidden layer 1.5"),
    ("optimizer", "adam", "optimizer={}: expected _target_ and its settings"),
    ("dataset", 3, "dataset={}: expected _target_ and its settings"),
    ("model.layernorm_position", "first", "={}: expected hidden layers such as [1,3], or all"),
    ("model.layernorm_placement", "middle", "layernorm_placement={}: expected before or after"),
    ("model.layers", 3, "there is no key model.layers; "),
    ("dataset.val_size", -1, f"dataset.val_size={{}}: {WHOLE}0 to 59990"),
    ("dataset.val_size", 60_000, f"dataset.val_size={{}}: {WHOLE}0 to 59990"),
    ("dataset.val_size", 0.1, f"dataset.val_size={{}}: {WHOLE}0 to 59990"),
    ("dataset.val_seed", -1, f"dataset.val_seed={{}}: {WHOLE}0 to"),
    ("dataset.root", 3, "dataset.root={}: expected a folder's path, or null"),
    ("dataset.root", "", "dataset.root={}: expected a folder's path, or null"),
    ("dataset.roots", "/tmp", "there is no key dataset.roots; did you mean root?"),
    *(
        pytest.param(
            key,
            math.nan,
            f"{key}={{}}: expected a finite number",
        )
        for key in ("init.std", "optimizer.eps", "scheduler.factor", "scheduler.warmup_epochs")
    ),
    pytest.param("dataset.num_train", 0, "dataset.num_train={}: expected"),
    pytest.param("dataset.num_train", "abc", "dataset.num_train={}: expected"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD_VALUES)
def test_bad_value_is_named_with_what_would_be_right(key, value, message):
    with pytest.raises(InputError, match=re.escape(message.format(value))) as error:
        Config.from_mapping(nested(key, value))
    assert "\n" not in str(error.value)


def test_momentum_of_the_adam_family_is_below_one():
    values = {"_target_": "torch.optim.Adam", "betas": [0.9, 0.999], "momentum": 1.5}
    with pytest.raises(InputError, match=re.escape("momentum=1.5: expected a number in [0, 1)")):
        Config.from_mapping({"optimizer": values})


def test_batch_size_is_bounded_by_what_is_left_to_train_on():
    values = {"dataset": {"val_size": 59_000}, "trainer": {"batch_size": 1001}}
    with pytest.raises(InputError, match=r"batch_size=1001: .* from 1 to 1000"):
        Config.from_mapping(values)


UNPLANNABLE = [
    ("optimizer=sgd optimizer.betas=[0.9,0.99]", "optimizer SGD has no setting 'betas'"),
    ("optimizer=adagrad momentum=0.9", "optimizer Adagrad has no setting 'momentum'"),
    ("optimizer=lamb momentum=nesterov", "optimizer LAMB has no setting 'nesterov'"),
    ("optimizer=adam momentum=nesterov", "optimizer Adam has no setting 'nesterov'"),
    ("optimizer=rmsprop momentum=report_low", "optimizer RMSprop has no setting 'betas'"),
    ("optimizer=torch.optim.Rprop weight_decay=0.1", "Rprop has no setting 'weight_decay'"),
    ("optimizer=adam +optimizer.epsilon=1e-8", "optimizer Adam has no setting 'epsilon'"),
    ("momentum=none optimizer.nesterov=true", "Nesterov momentum requires a momentum"),
    ("optimizer=adam optimizer.eps=-1", "Invalid epsilon value: -1"),
    ("optimizer=torch.optim.LBFGS", "optimizer LBFGS needs a closure"),
    ("optimizer=torch.optim.Adamm", "optimizer._target_=torch.optim.Adamm: there is no such"),
    ("optimizer=os.system", "optimizer._target_=os.system: expected a torch.optim.Opt"),
    ("init._target_=builtins.print", "init._target_=builtins.print: expected a function of opt"),
    ("init=gaussian init.std=wide", "init.std=wide: expected a number"),
    ("optimizer=adam optimizer.eps=small", "optimizer.eps=small: expected a number"),
    ("optimizer=adam ++optimizer.amsgrad=no", "optimizer.amsgrad=no: expected true or false"),
    ("++optimizer.maximize=no", "optimizer.maximize=no: expected true or false"),
    ("momentum=0.9 optimizer.nesterov=no", "optimizer.nesterov=no: expected true or false"),
    ("+optimizer.foreach={a:1}", "optimizer.foreach={'a': 1}: expected true or false"),
    ("optimizer=lars optimizer.trust_coefficient=x", "trust_coefficient=x: expected a number"),
    ("scheduler=warmup scheduler.warmup_epochs=x", "warmup_epochs=x: expected a finite number"),
    ("scheduler=cosine +scheduler.T_max=2.5", "scheduler.T_max=2.5: expected a whole number"),
    ("scheduler=one_cycle +scheduler.three_phase=1", "three_phase=1: expected true or false"),
    ("scheduler=one_cycle +scheduler.anneal_strategy=1", "anneal_strategy=1: expected a word"),
    ("init=gaussian init.std=-1", "init.std=-1: expected a number >= 0"),
    ("init=xavier +init.std=1", "init xavier has no setting 'std'"),
    ("scheduler=warmup trainer.epochs=4", "a warm-up of 4 does not fit into a run of 4"),
    ("scheduler=cosine_warmup trainer.epochs=3", "a warm-up of 4 does not fit into a run of 3"),
    (
        "scheduler=cosine +scheduler.Tmax=3",
        "CosineAnnealingLR has no setting 'Tmax'; it has",
    ),
    ("scheduler._target_=torch.nope", "scheduler._target_=torch.nope: expected a torch.optim.lr_"),
    ("trainer.device=tpu", "trainer.device=tpu: there is no such device; found are .*cpu"),
    ("trainer.device=cpu:1", "trainer.device=cpu:1: there is no such device"),
    ("trainer.device=cuda:99", "trainer.device=cuda:99: there is no such device"),
    *(
        pytest.param(overrides, ".")
        for overrides in [
            "init=gaussian +init.generator=1",
            "scheduler=multistep scheduler.milestones=[a]",
            "scheduler=cosine +scheduler.T_max=0",
        ]
    ),
    pytest.param("optimizer=torch.optim.SparseAdam", "SparseAdam does not support dense gradients"),
    pytest.param("optimizer=adam +optimizer.capturable=true", "capturable"),
]


@pytest.mark.parametrize(("overrides", "message"), UNPLANNABLE)
def test_cell_that_cannot_be_built_is_refused_before_data_are_loaded(
    slice_config, overrides, message
):
    with pytest.raises(InputError, match=message) as error:
        plan_cell(slice_config(*overrides.split()))
    assert "\n" not in str(error.value)


def test_auto_finds_a_device(compose):
    assert plan_cell(compose()).work.device.type in ("cpu", "cuda")


def test_plan_keeps_the_warnings(slice_config):
    plan = plan_cell(slice_config("scheduler=multistep"))
    assert plan.warnings == ("scheduler.milestones: 15, 30 is never reached in 10 epochs",)
