"""Further seeds of a cell, where several experiments have it."""

from dataclasses import replace

from run_tree import write_experiment, write_made_up

from optsweep import runs
from optsweep.cli.grids import Cell
from optsweep.config import identity
from optsweep.report.collection import collect_runs
from optsweep.study.experiments import plan_experiment
from optsweep.study.looks import Extension, keep


def test_they_join_the_setting_that_each_experiment_has(tmp_path, monkeypatch, slice_settings):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / runs.RUNS_FOLDER
    names = ("r1_init", "r1_init_width")
    experiments = [plan_experiment(name, 2, settings=slice_settings) for name in names]
    for each in experiments:
        write_experiment(root, each.name, {one.name: one.overrides for one in each.grid.cells})
        for cell in each.cells.values():
            write_made_up(root, cell.config)
    (shared,) = experiments[0].cells.keys() & experiments[1].cells.keys()
    mine, others = (each.cells[shared].overrides for each in experiments)
    assert mine != others  # it is chosen in two ways
    config = replace(experiments[0].cells[shared].config, seed=2)
    more = Extension(Cell(identity.cell_name(config), f"{others} seed=2", config), shared)
    write_made_up(root, config)

    before = collect_runs(root)
    keep(more, experiments)
    after = collect_runs(root)
    for name in names:
        settings = after.settings_of(name)
        assert [one.label for one in settings] == [one.label for one in before.settings_of(name)]
        (joined,) = (one for one in settings if shared in one.cells)
        assert set(joined.cells) == {shared, more.cell.name}
