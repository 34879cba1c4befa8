"""The option files: each composes and plans, and stands for what the study asks for."""

import math

import pytest
import torch

from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import options
from optsweep.config.checks import InputError
from optsweep.data.files import FILES
from optsweep.training.plan import plan_cell

GROUPS = (
    "dataset",
    "init",
    "optimizer",
    "scheduler",
    "batch_size",
    "model",
    "depth",
    "layernorm_position",
    "weight_decay",
    "momentum",
)
# Of the user's own data, which tests/data makes.
OWN_DATA = [("dataset", option) for option in ("cifar10", "cifar100", "custom", "npz")]
OPTIONS = [(group, option) for group in GROUPS for option in options(group, config_dir())]
# torch has it from 2.9 on.
LACKING = [] if hasattr(torch.optim, "Muon") else [("optimizer", "muon")]
# What an option needs beside it.
COMPANIONS = {
    ("layernorm_position", "third"): ["depth=deeper"],
    ("momentum", "report_low"): ["optimizer=adam"],
    ("model", "custom"): ["model._target_=optsweep.models.lenet.LeNet"],
    ("optimizer", "custom"): ["optimizer._target_=torch.optim.Adamax"],
    ("scheduler", "custom"): ["scheduler._target_=torch.optim.lr_scheduler.ConstantLR"],
}


def test_there_are_no_other_groups():
    folders = {path.name for path in config_dir().iterdir() if path.is_dir()}
    assert folders - {"experiment", "search", "hydra", "diagnose"} == set(GROUPS)


@pytest.mark.parametrize(
    ("group", "option"), [it for it in OPTIONS if it not in OWN_DATA + LACKING]
)
def test_option_composes_and_plans(group, option, compose, slice_config):
    overrides = [f"{group}={option}", *COMPANIONS.get((group, option), [])]
    build = compose if group == "dataset" else slice_config
    plan = plan_cell(build(*overrides, "trainer.epochs=40"))
    assert plan.warnings == ()
    assert plan.learning_rates.shape[0] == 40


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_says_what_it_is(group, option):
    lines = (config_dir() / group / f"{option}.yaml").read_text().splitlines()
    comments = [line for line in lines if line.startswith("# ") and "@package" not in line]
    assert comments
    assert comments[0].endswith(".")


# --- issue and study, option by option

INITS = {
    "default": {},
    "gaussian": {"std": 0.01},
    "xavier": {},
    "kaiming": {},
    "orthogonal": {},
}
ADAM = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
OPTIMIZERS = {
    "sgd": ("torch.optim.SGD", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}),
    "adam": ("torch.optim.Adam", ADAM),
    "amsgrad": ("torch.optim.Adam", {**ADAM, "amsgrad": True}),
    "adamw": ("torch.optim.AdamW", {**ADAM, "weight_decay": 1e-2}),
    "rmsprop": ("torch.optim.RMSprop", {"momentum": 0.0, "weight_decay": 0.0}),
    "adagrad": ("torch.optim.Adagrad", {"weight_decay": 0.0}),
    "nadam": ("torch.optim.NAdam", {**ADAM, "lr": 2e-3}),
    "radam": ("torch.optim.RAdam", ADAM),
    "lars": ("optsweep.optim.layerwise.LARS", {"momentum": 0.9, "weight_decay": 0.0}),
    "lamb": ("optsweep.optim.layerwise.LAMB", {"betas": [0.9, 0.999], "weight_decay": 0.0}),
}


@pytest.mark.parametrize("option", INITS)
def test_init(compose, option):
    expected = {"_target_": f"optsweep.models.initializers.{option}", **INITS[option]}
    assert compose(f"init={option}").init == expected


@pytest.mark.parametrize("option", OPTIMIZERS)
def test_optimizer(compose, option):
    target, settings = OPTIMIZERS[option]
    optimizer = compose(f"optimizer={option}").optimizer
    assert optimizer["_target_"] == target
    assert {name: optimizer[name] for name in settings} == settings
    assert optimizer["decay_biases_and_norms"] is True


@pytest.mark.parametrize("option", ["sgd", "adam", "adamw", "rmsprop", "lars", "lamb"])
def test_optimizer_by_dotted_path_has_its_own_defaults(compose, option):
    target, _ = OPTIMIZERS[option]
    given = {"lr": 0.5}
    optimizer = compose(f"optimizer={target}", "optimizer.lr=0.5").optimizer
    assert optimizer == {"_target_": target, **given, "decay_biases_and_norms": True}


# Learning rates of epochs k = 0 ... 59 (T = 60) with the default base rate of 0.1. The rates
# of factor_* are the report's, 2.0 · 0.9^k with floor 1e-2 and 0.2 · 0.8^k with floor 1e-3.
T = 60
SCHEDULERS = {
    "constant": lambda k: 0.1,
    "factor_fast": lambda k: max(2.0 * 0.9**k, 1e-2),
    "factor_slow": lambda k: max(0.2 * 0.8**k, 1e-3),
    "multistep": lambda k: 0.1 * 0.5 ** ((k >= 15) + (k >= 30)),
    "piecewise": lambda k: 0.1 * 0.5 ** ((k >= 30) + (k >= 45)),
    "polynomial": lambda k: 0.1 * (1 - k / T) ** 2,
    "linear": lambda k: 0.1 * (1 - k / T),
    "cosine": lambda k: 0.1 * (1 + math.cos(math.pi * k / T)) / 2,
    "warmup": lambda k: 0.1 * min(1, (k + 1) / 4),
    "sequential": lambda k: (
        0.1 * (0.1 + 0.45 * k) if k < 2 else 0.1 * (1 + math.cos(math.pi * (k - 2) / (T - 2))) / 2
    ),
    "chained": lambda k: 0.1 * min(1, 0.25 + 0.25 * k) * 0.9**k,
    "cosine_warmup": lambda k: (
        0.1 * (k + 1) / 4 if k < 4 else 0.1 * (1 + math.cos(math.pi * (k - 4) / (T - 4))) / 2
    ),
}


@pytest.mark.parametrize("option", SCHEDULERS)
def test_scheduler(slice_config, option):
    plan = plan_cell(slice_config(f"scheduler={option}", f"trainer.epochs={T}"))
    expected = [SCHEDULERS[option](k) for k in range(T)]
    assert plan.learning_rates.ravel().tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("StepLR", ["+scheduler.step_size=2", "+scheduler.gamma=0.5"], [0.1, 0.1, 0.05, 0.05]),
        ("LinearLR", ["+scheduler.end_factor=0", "+scheduler.start_factor=1"], None),
        ("PolynomialLR", [], [0.1, 0.075, 0.05, 0.025]),
    ],
)
def test_scheduler_by_dotted_path_needs_no_key_deleted(slice_config, path, given, expected):
    chosen = f"scheduler=torch.optim.lr_scheduler.{path}"
    plan = plan_cell(slice_config(chosen, *given, "trainer.epochs=4"))
    expected = expected or [0.1, 0.075, 0.05, 0.025]
    assert plan.learning_rates.ravel().tolist() == pytest.approx(expected)


def test_a_setting_of_another_option_is_named_with_the_way_round_it(slice_config):
    override = "scheduler._target_=torch.optim.lr_scheduler.StepLR"
    with pytest.raises(InputError, match="StepLR has no setting 'factor'; it has: step_size"):
        plan_cell(slice_config(override))


def test_several_schedulers_from_the_command_line(slice_config):
    inner = (
        "[{_target_:torch.optim.lr_scheduler.ConstantLR,factor:0.5},"
        "{_target_:optsweep.optim.schedules.factor,factor:0.5}]"
    )
    config = slice_config(
        "scheduler=sequential",
        f"scheduler.schedulers={inner}",
        "scheduler.milestone_epochs=[2]",
        "trainer.epochs=4",
    )
    rates = plan_cell(config).learning_rates.ravel().tolist()
    assert rates == pytest.approx([0.05, 0.05, 0.1, 0.05])


def test_cycled_momentum_is_for_torch(slice_config):
    given = ["scheduler=one_cycle", "scheduler.cycle_momentum=true", "momentum=0.9"]
    plan = plan_cell(slice_config(*given))
    reason = "numba changes the learning rate alone, and this schedule momentum too"
    assert (plan.engine.name, plan.engine.reason) == ("torch", reason)
    with pytest.raises(InputError, match=f"trainer.engine=numba: {reason}; auto takes another"):
        plan_cell(slice_config(*given, "trainer.engine=numba"))


@pytest.mark.parametrize("option", ["factor_fast", "factor_slow"])
def test_factor_reaches_the_report_s_floor(slice_config, option):
    plan = plan_cell(slice_config(f"scheduler={option}", f"trainer.epochs={T}"))
    floor = {"factor_fast": 1e-2, "factor_slow": 1e-3}[option]
    assert plan.learning_rates.min() == pytest.approx(floor, rel=1e-12)


def test_one_cycle_goes_up_to_the_base_rate_and_down_step_by_step(slice_config):
    config = slice_config("scheduler=one_cycle", "batch_size=100")
    rates = plan_cell(config).learning_rates
    assert rates.shape == (10, 10)
    peak = rates.argmax()
    assert rates.max() == pytest.approx(0.1)
    assert 0 < peak < 99
    assert (rates.ravel()[1 : peak + 1] > rates.ravel()[:peak]).all()
    assert (rates.ravel()[peak + 1 :] < rates.ravel()[peak:-1]).all()


@pytest.mark.parametrize("option", [*SCHEDULERS, "one_cycle"])
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_scheduler_by_epoch_or_step(slice_config, option, interval):
    config = slice_config(f"scheduler={option}", f"scheduler.interval={interval}", "batch_size=300")
    assert plan_cell(config).learning_rates.shape == (10, 1 if interval == "epoch" else 4)


@pytest.mark.parametrize(
    ("option", "size"),
    [("single", 1), ("small", 32), ("report", 256), ("large", 1000), ("full", 60_000)],
)
def test_batch_size(compose, option, size):
    assert compose(f"batch_size={option}").trainer.batch_size == size


@pytest.mark.parametrize(
    ("option", "sizes"),
    [
        ("report", (128, 56)),
        ("deeper", (128, 56, 32)),
        ("shallow", (128,)),
        ("very_deep", (128, 56, 32, 32, 32, 32)),
    ],
)
def test_depth(compose, option, sizes):
    assert compose(f"depth={option}").model.hidden_sizes == sizes


@pytest.mark.parametrize(
    ("option", "positions"),
    [("none", ()), ("first", (1,)), ("second", (2,)), ("third", (3,)), ("all", (1, 2, 3))],
)
def test_layernorm_position(compose, option, positions):
    model = compose("depth=deeper", f"layernorm_position={option}").model
    assert model.layernorm_position == positions
    assert model.layernorm_placement == "after"


@pytest.mark.parametrize(
    ("option", "value"),
    [("default", 0.0), ("none", 0.0), ("light", 1e-3), ("report", 5.5e-3), ("strong", 1e-2)],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lars", "lamb"])
def test_weight_decay(compose, optimizer, option, value):
    if (optimizer, option) == ("adamw", "default"):
        value = 1e-2  # PyTorch's own, which the report had on without asking for it
    config = compose(f"optimizer={optimizer}", f"weight_decay={option}")
    assert config.optimizer["weight_decay"] == value


@pytest.mark.parametrize(
    ("option", "momentum", "nesterov"),
    [
        ("default", 0.0, False),
        ("none", 0.0, False),
        ("report", 0.9, False),
        ("low", 0.3, False),
        ("high", 1.5, False),
        ("nesterov", 0.9, True),
    ],
)
def test_momentum_of_sgd(compose, option, momentum, nesterov):
    optimizer = compose(f"momentum={option}").optimizer
    assert (optimizer["momentum"], optimizer["nesterov"]) == (momentum, nesterov)


@pytest.mark.parametrize("optimizer", ["adam", "amsgrad", "adamw", "nadam", "radam", "lamb"])
@pytest.mark.parametrize(
    ("momentum", "betas"),
    [
        ("default", [0.9, 0.999]),
        ("report", [0.9, 0.999]),
        ("low", [0.3, 0.999]),
        ("none", [0.0, 0.999]),
        ("0.5", [0.5, 0.999]),
        ("report_low", [0.6, 0.666]),
    ],
)
def test_momentum_of_the_adam_family(compose, optimizer, momentum, betas):
    settings = compose(f"optimizer={optimizer}", f"momentum={momentum}").optimizer
    assert settings["betas"] == betas
    assert "momentum" not in settings


@pytest.mark.parametrize("option", ["fashion_mnist", "mnist", "kmnist"])
def test_dataset(compose, option):
    dataset = compose(f"dataset={option}").dataset
    assert dataset.name == option
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (60_000, 10_000, 10)
    checksums = dataset.source["sha256"] or dataset.source["gz_sha256"]
    assert list(checksums) == list(FILES)
    for checksum in checksums.values():
        assert len(bytes.fromhex(checksum)) == 32


def test_experiments_of_the_report_can_be_written(slice_config):
    """The cells of the study's tables that need more than one group."""
    for overrides in (
        "init=gaussian momentum=report scheduler=cosine_warmup",
        "optimizer=adam optimizer.lr=0.1 batch_size=500",
        "optimizer=adam optimizer.lr=0.1 momentum=report_low",
        "optimizer=amsgrad optimizer.lr=0.1",
        "optimizer=adamw weight_decay=light",
        "momentum=nesterov weight_decay=report",
        "optimizer=adam depth=deeper layernorm_position=first",
        "optimizer=lars depth=deeper layernorm_position=all batch_size=full",
        "batch_size=single trainer.epochs=1",
    ):
        plan_cell(slice_config(*overrides.split()))


@pytest.mark.parametrize("name", ["grid", "my_sweep-2.b", "'7'", "7", "'größe'"])
def test_a_sweep_has_a_folder_of_its_own(compose, name):
    assert compose(f"name={name}")


@pytest.mark.parametrize(
    "name",
    [
        *("..", "../up", "/tmp/x", "a/b", "''", "null", "[a,b]", "true", ".hidden"),
        *("cells", "report", "quick", "'a b'", "'a?b'", "'a#b'", "'a%20b'"),
    ],
)
def test_a_name_that_is_no_folder_of_its_own_is_refused(compose, name):
    with pytest.raises(InputError, match=r"^name=.*: expected a plain folder name"):
        compose(f"name={name}")
