"""Overrides of the command line: numbers go to keys, names stay choices of a group."""

import pytest

from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import rewrite
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
