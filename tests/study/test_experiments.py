"""Every file under conf/experiment: composed, its grid expanded, every cell planned."""

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from optsweep import runs
from optsweep.cli import grids
from optsweep.cli.composition import compose_whole, config_dir, to_config
from optsweep.cli.overrides import options, rewrite
from optsweep.cli.search_settings import variants_of
from optsweep.config import identity
from optsweep.config.schema import MLPConfig
from optsweep.study.content import outline
from optsweep.study.experiments import (
    QUICK_ROOT,
    plan_comparison,
    plan_experiment,
    quick_ones,
)
from optsweep.training.plan import plan_cell

EXPERIMENTS = options("experiment", config_dir())
planned = functools.cache(plan_experiment)  # composing takes Hydra long


@pytest.fixture(scope="module", params=EXPERIMENTS)
def experiment(request):
    return planned(request.param)


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
    forty = {tuple(range(first, first + 10)) for first in (0, 10, 20, 30)}
    expected = {
        "b1_timing": {(seed,) for seed in range(10)},
        "calibration": {tuple(range(200))},
        "r1_batch_size_eager": {(seed,) for seed in range(10)},
        "r1_scheduler_lenet": {tuple(range(5))},
        "b5_why_slow": {(0, 1)},
        "b3_amsgrad_more_seeds": forty,
        "b6_layernorm_adam": forty,
    }
    assert seeds == expected.get(experiment.name, {tuple(range(10))})


def test_what_chooses_a_value_holds_examples_out(experiment):
    """A grid of learning rates is there to choose from, and the test split is not for that."""
    chooses = experiment.name.startswith("lr_grid") or re.search(
        "layerwise_tuned|_map_|_lr(_|$)|momentum_tuned|decay_tuned|r1_scheduler_tuned",
        experiment.name,
    )
    val_sizes = {cell.config.dataset.val_size for cell in experiment.cells.values()}
    assert val_sizes == ({10_000} if chooses else {0})


def test_the_reports_other_settings():
    def configs(name):
        return [cell.config for cell in planned(name).cells.values()]

    (gradients,) = configs("b5_gradients")
    assert (gradients.trainer.epochs, gradients.trainer.batch_size) == (30, 256)
    assert gradients.record.gradients
    assert all(config.record.weights for config in configs("b4_adamw"))
    for name in ("b3_betas", "b3_amsgrad", "b4_adamw"):
        assert {config.trainer.batch_size for config in configs(name)} == {500}
    layernorm = configs("b6_layernorm")
    assert {config.model.hidden_sizes for config in layernorm} == {(128, 56, 32)}
    assert {config.optimizer["lr"] for config in layernorm} == {0.1}
    others = ("b5_", "r1_init_", "calibration")
    for question in outline().questions:
        if question.id in EXPERIMENTS and not question.id.startswith(others):
            assert {config.trainer.epochs for config in configs(question.id)} == {10}


@pytest.mark.parametrize("name", ["r1_scheduler", "r2_scheduler", "r3_scheduler"])
def test_a_long_run_has_room_for_the_reports_milestones(name):
    long = [cell.config for cell in planned(f"{name}_long").cells.values()]
    (milestones,) = [
        config.scheduler["milestones"] for config in long if "milestones" in config.scheduler
    ]
    assert {config.trainer.epochs > max(milestones) for config in long} == {True}
    short = [cell.config for cell in planned(name).cells.values()]
    as_short = [
        dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, epochs=10))
        for config in long
    ]
    assert all(config in short for config in as_short)


def test_lenet_is_compared_with_the_mlp_alone():
    configs = [cell.config for cell in planned("r1_scheduler_lenet").cells.values()]
    mlp, lenet = configs[:10], configs[10:]
    assert {type(config.model) for config in mlp} == {MLPConfig}
    assert [dataclasses.replace(config, model=MLPConfig()) for config in lenet] == mlp
    schedules = [cell.config.scheduler for cell in planned("r1_scheduler").cells.values()]
    assert [config.scheduler for config in mlp] == schedules[:10]  # without readings of its loop


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
    assert full.grid.cells_folder.as_posix() == f"{runs.RUNS_FOLDER}/{runs.CELLS_FOLDER}"
    assert quick.grid.cells_folder == QUICK_ROOT / runs.CELLS_FOLDER
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


def test_the_comparison_is_a_search_for_each_task():
    searches = plan_comparison(7, ["trainer.device=cpu"])
    assert len(searches) >= 5
    tasks = set()
    for name, arguments in searches.items():
        with hydra.initialize_config_dir(str(config_dir())):
            config = compose_whole(arguments)
        assert (config.name, config.hydra.sweeper.n_trials) == (name, 7)
        assert config.trainer.device == "cpu"
        assert len(variants_of(config.hydra.sweeper)) == 16
        tasks.add(json.dumps([config.trainer.batch_size, OmegaConf.to_container(config.model)]))
    assert len(tasks) == len(searches)


def test_a_quick_run_leaves_out_what_takes_long():
    quick = [
        plan_experiment(name, quick=True) for name in ("b5_why_slow", "r1_init", "b2_nesterov")
    ]
    many_diagnoses, *others = quick
    assert [each.name for each in quick_ones(quick)] == [each.name for each in others]
    assert quick_ones(others[:1] * 2) == others[:1] * 2  # cells of both count once
    assert quick_ones([many_diagnoses]) == []
