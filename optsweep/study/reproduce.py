"""The whole study: every experiment, one after the other in one process, then the report."""

from __future__ import annotations

import argparse
import functools
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from optsweep import interrupts, runs
from optsweep.cli import app
from optsweep.cli.composition import config_dir
from optsweep.cli.grids import Cell
from optsweep.cli.mistakes import OneLineParser, count, in_one_line
from optsweep.cli.overrides import options
from optsweep.cli.time_left import Clock, in_words
from optsweep.config.checks import InputError
from optsweep.processes import side_by_side
from optsweep.study.aggregate import DEFAULT, LANGUAGE_KEY, language_of, tell
from optsweep.study.apart import train_apart
from optsweep.study.constraints import keep_constraints
from optsweep.study.experiments import (
    QUICK_NUM_SEEDS,
    QUICK_ROOT,
    QUICK_TRAIN_SIZE,
    Experiment,
    cost,
    mark_quick,
    plan_comparison,
    plan_experiment,
    quick_ones,
)
from optsweep.surroundings import num_cores

if TYPE_CHECKING:
    from optsweep.report.report import Report

_LEAST_EXPERIMENTS = 8  # that are worth a process: composing one takes 0.8 s, to begin one 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; see `--help`.

    Returns:
        The exit code: 1 if an experiment failed, else that of the report.
    """
    with in_one_line():
        return _reproduce(parser().parse_args(arguments))


def _reproduce(given: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    chosen = _language(given.set)
    comparison = _comparison(given)
    names = given.only or options("experiment", config_dir())
    console.print("optsweep: composing every cell of the study")
    calls = [(name, given.num_seeds, given.quick, given.set) for name in dict.fromkeys(names)]
    experiments = [*side_by_side(plan_experiment, calls, num_cores(), _LEAST_EXPERIMENTS)]
    # Cheap ones first, so that most of the report is there early.
    experiments.sort(key=cost)
    if given.quick and not given.only:
        quick = quick_ones(experiments)
        if others := [each.name for each in experiments if each not in quick]:
            console.print(f"left out, for they take longer: {', '.join(others)} (--only has them)")
        experiments = quick
    root = experiments[0].grid.cells_folder.parent
    if given.quick:
        mark_quick(root, given.num_seeds or QUICK_NUM_SEEDS)
    clock = Clock()
    for each in experiments:
        for cell in each.cells.values():
            if result := each.result(cell):
                clock.learn(cell, result)
    console.print(_overview(experiments, clock))
    failures = _train_all(experiments, clock, console)
    for each in experiments:
        if each.name == "b1_timing" and each.is_done():
            _measure_loops(root, each, console)
    if not given.quick:
        most = given.max_seeds or given.num_seeds
        failures += _look_again(experiments, root, most, clock, console)
    failures += _compare(comparison, console)
    out = given.out or root / runs.REPORT_FOLDER
    if line := keep_constraints(out, _results(experiments)):
        console.print(line)
    code = tell(_report(root, out, chosen, console))
    if failures:
        print(f"optsweep: error: failed: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else code


def _language(settings: list[str]) -> str:
    """The language of the report's pages, taken out of the settings of all cells."""
    chosen = [each for each in settings if each.startswith(f"{LANGUAGE_KEY}=")]
    for each in chosen:
        settings.remove(each)
    return language_of(chosen[-1].partition("=")[2]) if chosen else DEFAULT


def _train_all(experiments: Sequence[Experiment], clock: Clock, console: Console) -> list[str]:
    """Train what is missing of all experiments.

    Returns:
        What failed, and why.
    """
    failures = []
    for number, each in enumerate(experiments):
        if each.is_done():
            continue
        left = in_words(clock.estimate(_missing(experiments[number:]).values()))
        console.print(
            f"\n[bold]{each.name}[/bold], experiment {number + 1} of {len(experiments)}: "
            f"{len(each.missing())} of {len(each.cells)} cells to train; {left} left in all"
        )
        if failure := _run(each, clock):
            failures.append(f"{each.name} ({failure})")
    return failures


def _comparison(given: argparse.Namespace) -> dict[str, list[str]]:
    if given.budget is None:
        return {}
    if given.quick:
        raise InputError("--budget, --quick: a search is whole or left out; give one")
    return plan_comparison(given.budget, given.set)


def _compare(comparison: Mapping[str, list[str]], console: Console) -> list[str]:
    """Search the best of every optimizer on every task.

    Returns:
        What failed, and why.
    """
    failures = []
    for number, (name, arguments) in enumerate(comparison.items(), 1):
        console.print(f"\n[bold]{name}[/bold], search {number} of {len(comparison)}")
        if why := _failure(functools.partial(app.main, arguments)):
            failures.append(f"{name} ({why})")
    return failures


def _results(experiments: Iterable[Experiment]) -> list[dict[str, Any]]:
    """The results of all cells, those that experiments share once."""
    cells = {name: (each, cell) for each in experiments for name, cell in each.cells.items()}
    found = (each.result(cell) for each, cell in cells.values())
    return [result for result in found if result is not None]


def _run(experiment: Experiment, clock: Clock) -> str:
    """Train what is missing of an experiment.

    Returns:
        Why it failed; empty if it did not.
    """
    missing = experiment.missing()
    started = time.perf_counter()
    failure = _failure(lambda: _train(experiment, missing.values()))
    seconds = time.perf_counter() - started
    num_cells = 0
    for cell in missing.values():
        if result := experiment.result(cell):
            clock.learn(cell, result)
            seconds -= result["seconds"]
            num_cells += 1
    if experiment.grid.diagnosis is None:  # which takes minutes
        clock.learn_overhead(seconds, num_cells)
    return failure


def _train(experiment: Experiment, missing: Iterable[Cell]) -> None:
    if experiment.is_timed:
        for cell in missing:
            train_apart(cell.config, experiment.grid.cells_folder / cell.name)
    app.main(experiment.arguments)  # which lists what it finds done


def _failure(train: Callable[[], object]) -> str:
    """Why training failed; empty if it did not."""
    try:
        train()
    except SystemExit as stopped:
        if interrupts.received():
            raise
        return f"exit code {stopped.code}" if stopped.code else ""
    except InputError as error:
        return str(error)
    except Exception as error:  # whatever it is, the others can still be trained
        traceback.print_exc()
        return type(error).__name__
    return ""


def _look_again(
    experiments: Sequence[Experiment],
    root: Path,
    most: int | None,
    clock: Clock,
    console: Console,
) -> list[str]:
    """Train further seeds where claims or settings want them, until none does.

    Returns:
        What failed, and why.
    """
    from optsweep.report.claims import judge  # noqa: PLC0415
    from optsweep.report.collection import collect_runs  # noqa: PLC0415
    from optsweep.report.findings import UNDECIDED  # noqa: PLC0415
    from optsweep.report.multiplicity import FORESEEN, LOOKS  # noqa: PLC0415
    from optsweep.study import looks  # noqa: PLC0415
    from optsweep.study.content import outline  # noqa: PLC0415

    failures: dict[str, str] = {}
    while True:
        collection = collect_runs(root)
        judgements = judge(outline().claims, collection)
        waiting = looks.wanted(judgements, collection, experiments, most or LOOKS[-1])
        wanted = {one.cell.name: one for one in looks.by_seed(waiting)}
        cells = {name: one for name, one in wanted.items() if name not in failures}
        if not cells:
            return [f"{name} ({why})" for name, why in failures.items()]
        left = in_words(clock.estimate(one.cell for one in cells.values()))
        undecided = [each for each in judgements if each.verdict == UNDECIDED]
        num_undecided = sum(each.claim.id in waiting for each in undecided)
        hopeless = sum(each.is_hopeless for each in undecided)
        parts = [f"{num_undecided} claims are undecided"]
        if scattered := len(waiting) - num_undecided:
            parts.append(f"{scattered} others have seeds that scatter or are gone")
        parts.append(
            f"{len(cells)} cells with further seeds to train; {left} until they are looked at again"
        )
        if hopeless:
            parts.append(f"{hopeless} get none, for {FORESEEN} like theirs would not do")
        console.print(f"\n[bold]more seeds[/bold]: {'; '.join(parts)}")
        for name, one in cells.items():
            own = [each for each in experiments if one.extends in each.cells]
            if why := _failure(functools.partial(looks.train, one, own[0], console)):
                failures[name] = why
            else:
                looks.keep(one, own)
                clock.learn(one.cell, own[0].result(one.cell) or {"status": "missing"})


def _report(root: Path, out: Path, chosen: str, console: Console) -> Report:
    from optsweep.report.report import write_report  # noqa: PLC0415
    from optsweep.study.content import outline, outlines  # noqa: PLC0415

    console.print(f"\nreport: {out}")
    return write_report(root, out, outline(), num_processes=num_cores(), pages=outlines(chosen))


def _measure_loops(root: Path, timed: Experiment, console: Console) -> None:
    """Time the report's own loop on the images of the experiment that times ours."""
    from optsweep.study.report_loop import measure_loops  # noqa: PLC0415

    dataset = next(iter(timed.cells.values())).config.dataset
    measure_loops(root, dataset, console.print)


def _missing(experiments: Iterable[Experiment]) -> dict[str, Cell]:
    """All cells that have still to be trained, those that experiments share once."""
    return {name: cell for each in experiments for name, cell in each.missing().items()}


def _overview(experiments: Sequence[Experiment], clock: Clock) -> Table:
    table = Table(title="The study", title_justify="left")
    for heading, justify in (("experiment", "left"), ("cells", "right"), ("done", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("still takes", justify="right")
    before: dict[str, Cell] = {}
    for each in experiments:
        missing = {name: cell for name, cell in each.missing().items() if name not in before}
        before |= missing
        done = len(each.cells) - len(each.missing())
        time_left = in_words(clock.estimate(missing.values())) if missing else "nothing"
        time_left += " and diagnoses" if missing and each.grid.diagnosis is not None else ""
        table.add_row(each.name, str(len(each.cells)), str(done), time_left)
    num_cells = len({name for each in experiments for name in each.cells})
    left = in_words(clock.estimate(before.values())) if before else "nothing"
    table.add_section()
    table.add_row("all, shared cells once", str(num_cells), str(num_cells - len(before)), left)
    return table


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser(
        prog="optsweep reproduce",
        description="Train every experiment of the study that is not done yet, then report. "
        "It can be stopped at any time; the same command continues.",
    )
    made.add_argument("--only", nargs="+", metavar="NAME", help="experiments, of conf/experiment")
    made.add_argument("--num-seeds", type=count, metavar="N", help="seeds of every cell")
    made.add_argument(
        "--max-seeds",
        type=count,
        metavar="N",
        help="of the cells of claims that stay undecided, which get more at a time until then; "
        "50 if not given, or as many as --num-seeds; none where twice 50 would decide nothing, "
        "and 40 where some seeds learn and others do not",
    )
    made.add_argument(
        "--quick",
        action="store_true",
        help=f"some three minutes in all: {QUICK_NUM_SEEDS} seeds, {QUICK_TRAIN_SIZE} training "
        f"images, half of the epochs, the cheapest experiments; kept in {QUICK_ROOT}",
    )
    made.add_argument(
        "--budget",
        type=count,
        metavar="N",
        help="compare tuned optimizers too, with N trials each on every task (32 take hours)",
    )
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the report")
    made.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further settings of every cell, such as trainer.device=cpu, and report.language",
    )
    return made
