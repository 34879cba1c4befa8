"""Grids: what wins over what, keys that vary together, and cells that train the same."""

import pytest

from optsweep.cli.effects import repetitions
from optsweep.cli.grids import plan_grid
from optsweep.config.checks import InputError


def configs(*arguments: str):
    return [cell.config for cell in plan_grid(arguments).cells]


def overrides(*arguments: str) -> list[str]:
    return [cell.overrides for cell in plan_grid(["--multirun", *arguments]).cells]


@pytest.mark.parametrize(
    ("experiment", "given", "expected"),
    [
        ("r1_batch_size", "batch_size=small", [32]),
        ("r1_batch_size", "batch_size=small,512", [32, 512]),
        ("r1_batch_size", "batch_size=single,full", [1, 60000]),
        ("r1_batch_size", "trainer.batch_size=7", [7]),
        ("r1_init", "batch_size=small", [32]),
    ],
)
def test_a_users_batch_size_wins_over_a_files_whatever_the_form(experiment, given, expected):
    found = [config.trainer.batch_size for config in configs(f"experiment={experiment}", given)]
    assert list(dict.fromkeys(found)) == expected


@pytest.fixture
def own_file(tmp_path):
    """An experiment of the user's that sets values in its body, where Hydra has them win."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\n"
        "trainer: {batch_size: 8}\n"
        "model: {hidden_sizes: [9, 9]}\n"
        "optimizer: {momentum: 0.1}\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {scheduler: 'constant,factor_fast'}}}\n"
    )
    return ["--config-dir", str(tmp_path), "experiment=own"]


@pytest.mark.parametrize(
    ("given", "key", "expected"),
    [
        ("batch_size=small", lambda c: c.trainer.batch_size, {32}),
        ("momentum=nesterov", lambda c: (c.optimizer["momentum"], c.optimizer["nesterov"]), None),
        ("depth=3", lambda c: c.model.hidden_sizes, {(128, 56, 32)}),
        ("depth=deeper", lambda c: c.model.hidden_sizes, {(128, 56, 32)}),
        ("optimizer.lr=0.3", lambda c: c.optimizer["lr"], {0.3}),
        ("optimizer.lr=0.3", lambda c: c.scheduler.get("base_lr"), {None}),
    ],
)
def test_a_users_choice_wins_over_the_body_of_a_file(own_file, given, key, expected):
    assert {key(config) for config in configs(*own_file, given)} == (expected or {(0.9, True)})


def test_without_a_users_word_a_files_own_values_stand(own_file):
    found = configs(*own_file)
    assert {config.trainer.batch_size for config in found} == {8}
    assert [config.scheduler.get("base_lr") for config in found] == [None, 2.0]


@pytest.mark.parametrize("given", ["scheduler=factor_fast", "scheduler=constant,factor_fast"])
def test_a_rate_that_a_chosen_schedule_brings_along_stands_in_a_sweep(given):
    found = configs("--multirun", given, "init=default,gaussian")
    expected = [None, 2.0] if "," in given else [2.0]
    assert sorted({c.scheduler.get("base_lr") for c in found}, key=str) == sorted(expected, key=str)


def test_betas_that_a_chosen_momentum_brings_along_stand_in_a_sweep():
    found = configs("--multirun", "momentum=report_low", "optimizer=adam,amsgrad")
    assert [config.optimizer["betas"] for config in found] == [[0.6, 0.666]] * 2


def test_a_files_values_may_be_a_list_of_its_own(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {seed: [0, 1], optimizer.nesterov: [null]}}}\n"
    )
    found = configs("--config-dir", str(tmp_path), "experiment=own")
    assert [config.seed for config in found] == [0, 1]


def test_an_option_beside_a_swept_one_wins_over_a_file(own_file):
    found = configs(*own_file, "batch_size=single,small")
    assert {config.trainer.batch_size for config in found} == {1, 32}


def test_keys_vary_together():
    pair = "optimizer,optimizer.lr=[sgd,'0.1,0.3'],[adam,0.001]"
    assert overrides(pair, "seed=0,1") == [
        "optimizer=sgd optimizer.lr=0.1 seed=0",
        "optimizer=sgd optimizer.lr=0.1 seed=1",
        "optimizer=sgd optimizer.lr=0.3 seed=0",
        "optimizer=sgd optimizer.lr=0.3 seed=1",
        "optimizer=adam optimizer.lr=0.001 seed=0",
        "optimizer=adam optimizer.lr=0.001 seed=1",
    ]


def test_pairs_take_the_short_names_and_multiply():
    found = overrides("batch_size,momentum=[small,0.5],[512,none]", "depth,init=[1,default]")
    assert found == [
        "batch_size=small optimizer.momentum=0.5 model.depth=1 init=default",
        "trainer.batch_size=512 momentum=none model.depth=1 init=default",
    ]


def test_null_leaves_a_key_of_a_pair_as_it_is():
    found = overrides("optimizer,momentum=[sgd,0.9],[adam,null]")
    assert found == ["optimizer=sgd optimizer.momentum=0.9", "optimizer=adam"]


def test_a_users_value_takes_the_place_of_one_key_of_a_files_pairs():
    found = configs("experiment=lr_grid", "optimizer.lr=0.5")
    assert len(found) == 12  # optimizers, of which SGD has three forms
    assert {config.optimizer["lr"] for config in found} == {0.5}


@pytest.mark.parametrize("values", ["[adam]", "[adam,0.1,2]", "adam,sgd", "[adam,0.1],sgd"])
def test_pairs_without_a_value_for_each_key_are_refused(values):
    with pytest.raises(InputError, match=r"^optimizer,optimizer.lr=.*: expected lists of 2 values"):
        overrides(f"optimizer,optimizer.lr={values}")


def test_pairs_do_not_vary_what_hydra_does():
    with pytest.raises(InputError, match=r"^hydra.job.chdir: a sweep cannot vary Hydra's own"):
        overrides("hydra.job.chdir,seed=[true,1]")


def test_a_key_that_only_the_swept_options_have():
    found = configs("-m", "scheduler=warmup,cosine_warmup", "scheduler.warmup_epochs=2")
    assert [config.scheduler["warmup_epochs"] for config in found] == [2, 2]


def test_cells_that_train_the_same_are_named():
    grid = plan_grid(["-m", "scheduler=constant,factor_fast", "seed=0,1"])
    assert repetitions(grid.cells) == ""
    grid = plan_grid(["-m", "optimizer.lr=0.1,1e-1,0.2"])
    assert repetitions(grid.cells) == (
        "1 of 3 cells train the same as others: optimizer.lr=0.1, given twice"
    )
    grid = plan_grid(["-m", "depth=2,3", "model.layernorm_placement=before,after"])
    assert repetitions(grid.cells).startswith("2 of 4 cells train the same as others: ")
    grid = plan_grid(["-m", "optimizer.decay_biases_and_norms=true,false", "weight_decay=0,1e-3"])
    assert repetitions(grid.cells) == (
        "1 of 4 cells train the same as others: optimizer.decay_biases_and_norms=True like "
        "optimizer.decay_biases_and_norms=False"
    )


def test_patterns_of_options_stand_in_lists_and_in_pairs():
    assert overrides("optimizer=glob(ada*)")[::2] == ["optimizer=adagrad", "optimizer=adamw"]
    found = overrides("optimizer,seed=['glob(ada*)',3],[sgd,4]")
    assert found[2:] == ["optimizer=adamw seed=3", "optimizer=sgd seed=4"]
