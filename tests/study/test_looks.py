"""Further seeds of a cell: which claims want them, and where several experiments have it."""

import shutil
from dataclasses import replace

import pytest
from run_tree import curve, write_cell, write_experiment, write_made_up

from optsweep import runs
from optsweep.cli.grids import Cell
from optsweep.config import identity
from optsweep.report.claims import judge
from optsweep.report.collection import collect_runs
from optsweep.report.findings import HOLDS
from optsweep.study.content import outline
from optsweep.study.experiments import plan_experiment
from optsweep.study.looks import Extension, by_seed, keep, wanted


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
    assert wanted([], after, experiments, 2) == {}
    shutil.rmtree(root / runs.CELLS_FOLDER / more.cell.name)
    lost = wanted([], collect_runs(root), experiments, 2)
    assert {one.cell.name for each in lost.values() for one in each} == {more.cell.name}
    assert len(lost) == len(names)


@pytest.mark.parametrize(("collapsed", "most", "seeds"), [(5, 50, 40), (5, 20, 20), (0, 50, 10)])
def test_a_decided_claim_whose_seeds_scatter_gets_forty(
    tmp_path, monkeypatch, slice_settings, collapsed, most, seeds
):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / runs.RUNS_FOLDER
    experiment = plan_experiment("r1_init", 10, settings=slice_settings)
    write_experiment(root, "r1_init", {one.name: one.overrides for one in experiment.grid.cells})
    for number, cell in enumerate(experiment.cells.values()):
        fails = range(collapsed if number == 0 else 0)  # some of one setting's seeds do not learn
        ends = [0.1 if seed in fails else 0.8 + seed / 1000 for seed in range(10)]
        write_cell(
            root,
            cell.config,
            {seed: curve((2.3, 0.1), (1.0, 0.5), (0.5, end)) for seed, end in enumerate(ends)},
        )
    collection = collect_runs(root)
    claims = [claim for claim in outline().claims if claim.question == "r1_init"]
    decided = [replace(each, verdict=HOLDS) for each in judge(claims, collection)]
    (scattered,) = (one for one in collection.settings_of("r1_init") if "default" in one.label)
    asked = wanted(decided, collection, [experiment], most)
    compare_it = {each.claim.id for each in decided if scattered in each.settings}
    assert compare_it
    assert set(asked) == (compare_it if collapsed else set())
    of_setting = wanted([], collection, [experiment], most)  # as if no claim compared it
    assert set(of_setting) == ({f"r1_init: {scattered.label}"} if collapsed else set())
    extended = [
        {one.cell.name for one in needed if one.extends in scattered.cells}
        for needed in asked.values()
    ]
    assert all(
        {one.cell.name for one in of_setting[f"r1_init: {scattered.label}"]} == names
        for names in extended
    )
    order = [one.cell.config.seed for one in by_seed(asked)]
    assert order == sorted(order)
    assert len(order) == sum(map(len, asked.values()))
    for needed in asked.values():
        assert {one.cell.config.seed for one in needed} == set(range(10, seeds, 10))
