"""Overrides of the command line: numbers go to keys, names stay choices of a group."""

import pytest

from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import rewrite, shown
from optsweep.config.checks import InputError


@pytest.mark.parametrize(
    ("given", "rewritten"),
    [
        ("batch_size=512", "trainer.batch_size=512"),
        ("batch_size=-5", "trainer.batch_size=-5"),
        ("batch_size=2.5", "trainer.batch_size=2.5"),
        ("batch_size=full", "batch_size=full"),
        ("batch_size=1,256,60000", "trainer.batch_size=1,256,60000"),
        ("batch_size=single,report", "batch_size=single,report"),
        ("batch_size=single,512,full", "trainer.batch_size=1,512,full"),
        ("batch_size=choice(32,64)", "trainer.batch_size=choice(32,64)"),
        ("depth=range(1,4)", "model.depth=range(1,4)"),
        ("depth=deeper,1", "model.depth=3,1"),
        ("momentum=0.9", "optimizer.momentum=0.9"),
        ("momentum=nan", "optimizer.momentum=nan"),
        ("momentum=none", "momentum=none"),
        ("momentum=nesterov,report", "momentum=nesterov,report"),
        ("weight_decay=5.5e-3", "optimizer.weight_decay=5.5e-3"),
        ("weight_decay=none,1e-3", "optimizer.weight_decay=0.0,1e-3"),
        (
            "weight_decay=tag(log,interval(1e-6,1e-1))",
            "optimizer.weight_decay=tag(log,interval(1e-6,1e-1))",
        ),
        ("layernorm_position=[1,3]", "model.layernorm_position=[1,3]"),
        ("layernorm_position=2", "model.layernorm_position=2"),
        ("layernorm_position=first,second", "layernorm_position=first,second"),
        ("optimizer.lr=0.1", "optimizer.lr=0.1"),
        ("init=gaussian", "init=gaussian"),
        ("--multirun", "--multirun"),
        ("batch_size=[1", "batch_size=[1"),
    ],
)
def test_override(given, rewritten):
    assert rewrite([given], config_dir()) == [rewritten]


@pytest.mark.parametrize(
    ("given", "rewritten"),
    [
        (
            "optimizer=torch.optim.Adamax",
            ["optimizer=custom", "optimizer._target_=torch.optim.Adamax"],
        ),
        (
            "model=torchvision.models.resnet18",
            ["model=custom", "model._target_=torchvision.models.resnet18"],
        ),
        ("dataset=mypackage.load", ["dataset=custom", "dataset._target_=mypackage.load"]),
        ("dataset=my.npz", ["dataset=npz", "dataset.path=my.npz"]),
        ("dataset=some/my.npz", ["dataset=npz", "dataset.path=some/my.npz"]),
    ],
)
def test_a_path_takes_the_place_of_an_option_file(given, rewritten):
    assert rewrite([given], config_dir()) == rewritten


def test_a_name_that_is_more_than_a_number_cannot_stand_among_numbers():
    with pytest.raises(InputError, match=r"momentum=nesterov: .* not a single number"):
        rewrite(["momentum=nesterov,0.5"], config_dir())


def test_a_misspelt_name_among_numbers_is_named():
    with pytest.raises(InputError, match=r"batch_size=ful: .* did you mean full"):
        rewrite(["batch_size=ful,512"], config_dir())


@pytest.mark.parametrize(
    "given",
    [
        ["experiment=r1_init,r2_init"],
        ["experiment=r1_init", "experiment=r2_init"],
        ["experiment=r1_init", "search=lr"],
        ["experiment=glob(r*)"],
        ["search=choice(lr,momentum)"],
    ],
)
def test_a_command_runs_one_sweep(given):
    with pytest.raises(InputError, match=r"^(experiment|search)=.*: a command runs one exper"):
        rewrite(given, config_dir())


@pytest.mark.parametrize(
    ("given", "named", "setting"),
    [
        (["batch_size=small", "trainer.batch_size=64"], None, "trainer.batch_size"),
        (["depth=1,2", "model.hidden_sizes=[256]"], None, "model.depth"),
        (["optimizer.betas=[0.5,0.9]", "momentum=0.3"], None, "optimizer.momentum"),
        (["momentum=report_low", "optimizer.betas=[0.5,0.9]"], None, "optimizer.momentum"),
        (["momentum=nesterov", "optimizer.nesterov=false"], None, "optimizer.nesterov"),
        (["scheduler=factor_fast", "optimizer.lr=0.01,0.1"], None, "optimizer.lr"),
        (
            ["scheduler=constant,factor_slow", "optimizer.lr=0.1"],
            ["scheduler=factor_slow", "optimizer.lr=0.1"],
            "optimizer.lr",
        ),
        (["scheduler.base_lr=0.2", "optimizer.lr=0.1"], None, "optimizer.lr"),
        (["optimizer=adam", "optimizer._target_=torch.optim.SGD"], None, "optimizer._target_"),
        (
            ["optimizer=torch.optim.SGD", "optimizer._target_=torch.optim.Adam"],
            None,
            "optimizer._target_",
        ),
        (["optimizer,optimizer.lr=[adam,0.1]", "optimizer=sgd"], None, "optimizer"),
    ],
)
def test_two_overrides_for_one_setting_are_both_named(given, named, setting):
    one, other = named or given
    message = f"{one} and {other} both decide {setting}; give one of them"
    with pytest.raises(InputError) as caught:
        rewrite(["--multirun", *given], config_dir())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "rewritten"),
    [
        (["batch_size=small", "batch_size=64"], ["trainer.batch_size=64"]),
        (["batch_size=64", "batch_size=small"], ["batch_size=small"]),
        (["seed=1", "seed=2"], ["seed=2"]),
        (["momentum=interval(0,1)", "momentum=0.5"], ["optimizer.momentum=0.5"]),
        (["momentum=0.5", "momentum=interval(0,1)"], ["optimizer.momentum=interval(0,1)"]),
        (["optimizer=adam", "optimizer.lr=0.1"], ["optimizer=adam", "optimizer.lr=0.1"]),
    ],
)
def test_of_several_values_for_one_key_the_last_counts(given, rewritten):
    assert rewrite(given, config_dir()) == rewritten


@pytest.mark.parametrize(
    ("given", "hidden"),
    [
        ("scheduler.warmup_epochs=2", "scheduler.warmup_epochs=choice(2)"),
        ("optimizer.betas=[0.5,0.9]", "optimizer.betas=choice([0.5,0.9])"),
        ("optimizer.lr=0.1,0.2", "optimizer.lr=0.1,0.2"),
        ("optimizer.lr=interval(0.1,1)", "optimizer.lr=interval(0.1,1)"),
        ("optimizer.lr=null", "optimizer.lr=null"),
        ("seed=3", "seed=3"),
    ],
)
def test_a_sweep_hides_the_keys_of_groups_until_its_cells_are_composed(given, hidden):
    assert rewrite(["-m", given], config_dir()) == ["-m", hidden]
    assert shown(hidden) == given


def test_pairs_go_to_the_sweeper():
    pair = "optimizer,optimizer.lr=[adam,0.001],[sgd,0.1]"
    node = "{keys:[optimizer,optimizer.lr],values:[[adam,0.001],[sgd,0.1]]}"
    assert rewrite(["-m", pair], config_dir()) == ["-m", f"hydra.sweeper.pairs=[{node}]"]
    with pytest.raises(InputError, match=r"several values are a sweep; add --multirun"):
        rewrite([pair], config_dir())


def test_an_experiment_is_a_sweep():
    with pytest.raises(InputError, match=r"^hydra.mode=RUN: experiment=r1_init is a sweep"):
        rewrite(["experiment=r1_init", "hydra.mode=RUN"], config_dir())


def test_options_of_ones_own_mix_with_numbers(tmp_path):
    (tmp_path / "batch_size").mkdir()
    (tmp_path / "batch_size" / "mine.yaml").write_text("batch_size: 77\n")
    given = ["--config-dir", str(tmp_path), "batch_size=mine,512"]
    assert rewrite(given, config_dir())[-1] == "trainer.batch_size=77,512"


@pytest.mark.parametrize("values", ["[adam,interval(0.1,1)]", "[adam,", "[adam,range(1,3)]", ""])
def test_a_pair_is_lists_of_plain_values(values):
    with pytest.raises(InputError, match=r"^optimizer,optimizer.lr=.*: expected lists of values"):
        rewrite(["-m", f"optimizer,optimizer.lr={values}"], config_dir())


@pytest.mark.parametrize("text", [b"lr: 1\n  a: 2\n", b"lr: \xff\xfe\n", b"lr: [1\n"])
def test_an_option_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_bytes(text)
    with pytest.raises(InputError, match=r"optimizer/mine.yaml cannot be read \(") as raised:
        rewrite(["--config-dir", str(tmp_path), "optimizer=mine", "optimizer.lr=1"], config_dir())
    assert "\n" not in str(raised.value)
