"""Every file under conf/experiment: composed, its grid expanded, every cell planned."""

import functools
import os
import re
import subprocess
import sys

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from optsweep.cli import grids
from optsweep.cli.composition import config_dir, to_config
from optsweep.cli.overrides import options, rewrite
from optsweep.config import identity
from optsweep.study.experiments import plan_experiment
from optsweep.training.plan import plan_cell

EXPERIMENTS = options("experiment", config_dir())
planned = functools.cache(plan_experiment)  # composing takes Hydra long
SCHEDULERS = (
    "constant factor_fast factor_slow multistep piecewise polynomial linear cosine warmup "
    "cosine_warmup"
)

# The questions of the study, and the values that the report used for them.
REPORTED = {
    "r1_init": {"init": "default gaussian xavier"},
    "r1_batch_size": {"init": "gaussian", "trainer.batch_size": "1 256 full"},
    "r1_scheduler": {"init": "gaussian", "scheduler": SCHEDULERS},
    "r2_init": {"momentum": "report", "init": "default gaussian xavier"},
    "r2_scheduler": {"momentum": "report", "init": "gaussian", "scheduler": SCHEDULERS},
    "r3_batch_size": {
        "optimizer": "adam",
        "optimizer.lr": "0.1",
        "trainer.batch_size": "256 500",
    },
    "r3_init": {
        "optimizer": "adam",
        "optimizer.lr": "0.1",
        "trainer.batch_size": "500",
        "init": "default gaussian xavier",
    },
    "r3_scheduler": {
        "optimizer": "adam",
        "optimizer.lr": "0.1",
        "trainer.batch_size": "500",
        "scheduler": SCHEDULERS,
    },
    "b1_timing": {"trainer.batch_size": "256 500 1000"},
    "b2_weight_decay": {"momentum": "report", "optimizer.weight_decay": "0 0.001 0.0055 0.01"},
    "b2_momentum": {"optimizer.momentum": "0.3 0.9 1.5"},
    "b2_nesterov": {"momentum": "report nesterov", "optimizer.weight_decay": "0.0055"},
    "b3_betas": {
        "optimizer": "adam",
        "optimizer.lr": "0.1",
        "optimizer.betas": "[0.9,0.999] [0.6,0.666]",
    },
    "b3_amsgrad": {"optimizer": "adam amsgrad", "optimizer.lr": "0.1"},
    "b4_adamw": {
        "optimizer": "adam adamw",
        "optimizer.lr": "0.1",
        "optimizer.weight_decay": "0.001 0.01",
    },
    "b5_gradients": {"optimizer.lr": "0.1"},
    "b6_layernorm": {
        "model.depth": "3",
        "optimizer": "sgd adam",
        "optimizer.momentum": "0.9",
        "layernorm_position": "none all first second third",
    },
    "b6_layerwise": {"optimizer": "lars lamb", "trainer.batch_size": "256 4096"},
}


@pytest.fixture(scope="module", params=EXPERIMENTS)
def experiment(request):
    return planned(request.param)


def settings_of(cell: grids.Cell) -> dict[str, str]:
    return dict(override.split("=", 1) for override in cell.overrides.split())


def test_every_question_has_its_experiment():
    assert set(REPORTED) <= set(EXPERIMENTS)


def test_file_says_what_it_is_and_how_it_is_run(experiment):
    text = (config_dir() / "experiment" / f"{experiment.name}.yaml").read_text()
    # Hydra takes a package only from the first line.
    package, question, command, name, *_ = text.splitlines()
    assert package == "# @package _global_"
    assert re.fullmatch(r"# ((R\d|B\d)(\.\d)?: )?[A-Z].*[?.]", question)
    assert command == f"# python -m optsweep experiment={experiment.name}"
    assert name == f"name: {experiment.name}"
    assert yaml.safe_load(text)["hydra"]["mode"] == "MULTIRUN"


def test_every_cell_can_be_trained(experiment):
    assert experiment.cells
    for cell in experiment.cells.values():
        plan_cell(cell.config)


def test_seeds_are_the_same_everywhere(experiment):
    seeds = {tuple(cell.config.seeds) for cell in experiment.cells.values()}
    timing = experiment.name == "b1_timing"
    assert seeds == ({(0,), (1,), (2,)} if timing else {tuple(range(10))})


def test_what_chooses_a_value_holds_examples_out(experiment):
    """A grid of learning rates is there to choose from, and the test split is not for that."""
    chooses = experiment.name.startswith("lr_grid") or re.search(
        "_tuned_|_map_|_lr(_|$)|momentum_tuned|decay_tuned|r1_scheduler_tuned", experiment.name
    )
    val_sizes = {cell.config.dataset.val_size for cell in experiment.cells.values()}
    assert val_sizes == ({10_000} if chooses else {0})


@pytest.mark.parametrize("name", REPORTED)
def test_the_reports_values_are_in_the_grid(name):
    cells = [settings_of(cell) for cell in planned(name).cells.values()]
    for key, values in REPORTED[name].items():
        fixed = {k: v for k, v in REPORTED[name].items() if k != key and " " not in v}
        found = {cell[key] for cell in cells if all(cell.get(k) == v for k, v in fixed.items())}
        assert set(values.split()) <= found, key


def test_the_reports_other_settings():
    def configs(name):
        return [cell.config for cell in planned(name).cells.values()]

    (gradients,) = configs("b5_gradients")
    assert (gradients.trainer.epochs, gradients.trainer.batch_size) == (30, 256)
    assert gradients.record.gradients
    assert all(config.record.weights for config in configs("b4_adamw"))
    layernorm = configs("b6_layernorm")
    assert {config.model.hidden_sizes for config in layernorm} == {(128, 56, 32)}
    assert {config.optimizer["lr"] for config in layernorm} == {0.1}
    for name in set(REPORTED) - {"b5_gradients"}:
        assert {config.trainer.epochs for config in configs(name)} == {10}, name


def test_questions_share_cells():
    names = {name: set(planned(name).cells) for name in ("r1_init", "r1_scheduler")}
    assert len(names["r1_init"] & names["r1_scheduler"]) == 1  # Gaussian, constant


@pytest.mark.parametrize("name", ["b3_betas", "b6_layernorm", "r1_scheduler_tuned", "b5_gradients"])
def test_composing_a_grid_at_once_gives_what_hydra_gives_cell_by_cell(name):
    setting = "trainer.precision=float64"
    planned_cells = plan_experiment(name, settings=[setting]).grid.cells
    arguments = rewrite([f"experiment={name}", setting], config_dir())
    with hydra.initialize_config_dir(str(config_dir())):
        grid = hydra.compose("config", arguments, return_hydra_config=True)
        hydras_own = GlobalHydra.instance().config_loader()
        cells = list(grids.compose_cells(grid))
        for index in sorted({0, len(cells) // 2, len(cells) - 1}):
            overrides, composed = cells[index]
            expected = hydras_own.load_sweep_config(grid, overrides)
            assert OmegaConf.to_yaml(composed) == OmegaConf.to_yaml(expected)
            assert OmegaConf.is_struct(composed)
            assert OmegaConf.is_struct(expected)
            assert to_config(expected) == planned_cells[index].config
            assert identity.cell_name(to_config(expected)) == planned_cells[index].name


def test_quick_is_small_and_apart():
    full, quick = planned("r1_batch_size"), plan_experiment("r1_batch_size", quick=True)
    assert full.grid.cells_folder.as_posix() == "multirun/cells"
    assert quick.grid.cells_folder.as_posix() == "multirun/quick/cells"
    assert len(quick.cells) == len(full.cells)
    assert not set(quick.cells) & set(full.cells)
    for cell in quick.cells.values():
        assert (cell.config.num_seeds, cell.config.trainer.epochs) == (2, 5)
        assert cell.config.dataset.num_train_examples == 5000


def test_timing_stays_with_one_seed():
    for arguments in ({"num_seeds": 4}, {"quick": True}):
        cells = plan_experiment("b1_timing", **arguments).cells.values()
        assert {cell.config.num_seeds for cell in cells} == {1}
    assert {cell.config.num_seeds for cell in plan_experiment("r1_init", 4).cells.values()} == {4}


def test_a_misspelt_experiment_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "optsweep", "experiment=r1_inti"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(config_dir().parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    message = "experiment=r1_inti: there is no such option; did you mean r1_init?"
    assert done.stderr == f"optsweep: error: {message}\n"
    assert list(tmp_path.iterdir()) == []
