"""Files that are not as they were written: said in a line, made up for, and in no table."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from faults import records, ways
from faults.commands import CHECKPOINT, NAME, SEARCH, SWEEP
from faults.ground import SLICE, TRACEBACK, Done, Ground, Trial, Verdict
from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.data.files import FILES
from optsweep.report.collection import TRAINED
from optsweep.seals import SUMS_FILE

DATA_CELL = ("batch_size=50", "num_seeds=2", "trainer.epochs=1")
# What a table says of a setting beside the others, some of which may be left out.
_COMPARISONS = (
    *("setting", "baseline", "difference", "difference_low", "difference_high", "p", "p_holm"),
    *("smallest_p", "epochs_to_target", "steps_to_target", "seconds_to_target", "num_reached"),
    *("best less this", "its interval"),
)
_DAMAGED_ENDS = 3  # exit code of a report that left something out


def trials(quick: bool) -> list[Trial]:
    """Every way of damage to every file; in the quick form a few of them."""
    of_cells = [runs.RESULT_FILE, runs.HISTORY_FILE, runs.CONFIG_FILE, runs.GRADIENTS_FILE]
    sample = random.Random("damage")
    made = []
    for kind, names, known, run in (
        ("a cell's", of_cells, [*ways.OF_TEXTS, ways.swapped], _of_cell),
        ("a sweep's", [runs.SWEEP_FILE, runs.SWEEP_FILES], ways.OF_TEXTS, _of_sweep),
        ("a search's", [runs.FINALS_FILE, runs.SUMMARY_FILE], ways.OF_TEXTS, _of_search),
        ("a sweep's", [SUMS_FILE], ways.OF_BYTES[:-1], _of_sweep),
        ("a search's", [SUMS_FILE], ways.OF_BYTES[:-1], _of_search),
        ("a search's", [runs.STUDY_FILE], ways.OF_BYTES, _of_search),
        ("a killed cell's", [runs.CHECKPOINT_FILE], ways.OF_BYTES[:-1], _of_checkpoint),
        ("data in", [f"{file}.gz" for file in FILES], ways.OF_BYTES, _of_data),
        ("decoded data in", FILES, ways.OF_BYTES[:-2], _of_decoded_data),
    ):
        for name in names:
            for way in sample.sample(list(known), 1) if quick else known:
                told = f"{kind} {name}, {way.__name__}"
                made.append(Trial(told, partial(run, name, way)))
    return sample.sample(made, 12) if quick else made


def _of_cell(name: str, way: ways.Way, ground: Ground, rng: random.Random) -> Verdict:
    ground.begin_with(*SWEEP)
    verdict, cell = Verdict(), ground.cells[0]
    before = _meaning_of(cell, name)
    while True:  # a digit of a path, or one that no float has, does no damage
        way(cell / name, rng)
        if (now := _meaning_of(cell, name)) is None or now != before:
            break
    harmed = [each for each in ground.cells if way is ways.swapped or each == cell]
    unfinished = name == runs.RESULT_FILE and way is ways.removed
    _check_report(ground, verdict, [] if unfinished else harmed, SWEEP)

    done = ground.fork(*SWEEP)
    if way is ways.a_directory and done.code == 2:  # which nobody can take for a record
        verdict.expect(done.is_one_line and str(cell) in done.errors, f"sweep: {done.told}")
        (cell / name).rmdir()
        done = ground.fork(*SWEEP)
    verdict.expect(done.code == 0 and not done.errors, f"sweep: {done.told}")
    for each in [] if unfinished else harmed:
        lines = [line for line in done.output.splitlines() if str(each) in line]
        verdict.expect(any("set aside" in line for line in lines), f"{each} is not set aside")
    verdict.compare(ground.runs, ground.workshop.tables(*SWEEP))
    return verdict


def _meaning_of(cell: Path, name: str) -> Any:
    """What a file of a cell says, in whatever letters; None for what cannot be read."""
    try:
        if name == runs.CONFIG_FILE:
            return config_hash(runs.read_config(cell))
        content = (cell / name).read_bytes()
        return json.loads(content) if name == runs.RESULT_FILE else content
    except (InputError, OSError, ValueError):
        return None


def _of_sweep(name: str, way: ways.Way, ground: Ground, rng: random.Random) -> Verdict:
    return _of_list(SWEEP, name, way, ground, rng)


def _of_search(name: str, way: ways.Way, ground: Ground, rng: random.Random) -> Verdict:
    return _of_list(SEARCH, name, way, ground, rng)


def _of_list(
    command: Sequence[str], name: str, way: ways.Way, ground: Ground, rng: random.Random
) -> Verdict:
    """Damage to a file in the folder of a sweep or a search."""
    ground.begin_with(*command)
    verdict, folder = Verdict(), ground.runs / NAME
    (path,) = folder.glob(name)
    way(path, rng)
    _check_report(ground, verdict, None, command, path.name)
    done = ground.fork(*command)
    if done.code == 2:
        told = done.is_one_line and str(path) in done.errors.replace("sqlite:///", "")
        verdict.expect(told, f"the same command: {done.told}")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        done = ground.fork(*command)
    verdict.expect(done.code == 0 and not done.errors, f"the same command: {done.told}")
    verdict.compare(ground.runs, ground.workshop.tables(*command))
    return verdict


def _check_report(
    ground: Ground,
    verdict: Verdict,
    harmed: Sequence[Path] | None,
    command: Sequence[str],
    file: str = "",
) -> None:
    """Have a report made of damaged runs; it names the harmed cells and has no number of theirs.

    Args:
        ground: Where they are.
        verdict: What is wrong goes there.
        harmed: The cells; None: a file of the sweep or search, which it may well do without.
        command: What made them.
        file: That of the sweep or search.
    """
    done = ground.fork("report", runs.RUNS_FOLDER)
    codes = {0, _DAMAGED_ENDS} if harmed is None else {_DAMAGED_ENDS if harmed else 0}
    fine = done.code in codes and TRACEBACK not in done.errors
    verdict.expect(fine, f"report: {done.told}")
    said = done.output + done.errors
    verdict.expect(done.code != _DAMAGED_ENDS or file in said, f"the report does not name {file}")
    for cell in harmed or ():
        verdict.expect(cell.name in said, f"the report does not name {cell.name}")
    whole = records.rows(_undisturbed_report(ground, command))
    found = records.rows(ground.runs / runs.REPORT_FOLDER)
    complete = done.code != 0 or harmed is not None or found.keys() == whole.keys()
    verdict.expect(complete, "settings are missing in the report, and it says nothing")
    for key, row in found.items():
        if row.get("status") in (*TRAINED, None):
            right = whole.get(key, {})
            wrong = [k for k in row if k not in _COMPARISONS and row[k] != right.get(k)]
            verdict.expect(not wrong, f"a wrong row in the report: {key}: {', '.join(wrong)}")
    shutil.rmtree(ground.runs / runs.REPORT_FOLDER, ignore_errors=True)


def _undisturbed_report(ground: Ground, command: Sequence[str]) -> Path:
    def make() -> Path:
        folder = ground.workshop.undisturbed(*command) / runs.RUNS_FOLDER
        out = ground.workshop.new_folder()
        done = ground.fork("report", str(folder), "--out", str(out))
        if done.code:
            raise RuntimeError(f"undisturbed report: {done.told}")
        return out

    return ground.workshop.once((*command, "report"), make)


def _of_checkpoint(name: str, way: ways.Way, ground: Ground, rng: random.Random) -> Verdict:
    """Damage to what a killed cell would go on from."""
    command = (*SWEEP, CHECKPOINT)
    ground.begin_with(*command)
    verdict, cell = Verdict(), ground.cells[0]
    (cell / runs.RESULT_FILE).unlink()
    (cell / name).write_bytes(rng.randbytes(1000))
    way(cell / name, rng)
    done = ground.fork(*command)
    if way is ways.a_directory and done.code == 2:
        verdict.expect(done.is_one_line and name in done.errors, f"sweep: {done.told}")
        (cell / name).rmdir()
        done = ground.fork(*command)
    else:
        verdict.expect("begins anew" in done.output, "it is not said that the cell begins anew")
    verdict.expect(done.code == 0 and not done.errors, f"sweep: {done.told}")
    verdict.compare(ground.runs, ground.workshop.tables(*command))
    return verdict


def _of_data(name: str, way: ways.Way, ground: Ground, rng: random.Random) -> Verdict:
    """Damage to a file of the data: one line, and nothing is trained."""
    data = ground.folder / "data"
    shutil.copytree(SLICE, data / "slice")
    way(data / "slice" / name, rng)
    return _refused(ground, data, name.removesuffix(".gz"))


def _of_decoded_data(name: str, way: ways.Way, ground: Ground, rng: random.Random) -> Verdict:
    """The same to a file that an earlier start has decoded and kept."""
    data = ground.folder / "data"
    shutil.copytree(ground.workshop.data, data)
    for _ in range(1 - (data / "slice" / name).exists()):
        ground.fork(*DATA_CELL, "name=before", "--dry-run", data=data)
    way(data / "slice" / name, rng)
    return _refused(ground, data, name)


def _refused(ground: Ground, data: Path, name: str) -> Verdict:
    verdict = Verdict()
    for command in (DATA_CELL, ("--multirun", *DATA_CELL, "seed=0,1")):
        done: Done = ground.fork(*command, data=data)
        verdict.expect(done.is_one_line and name in done.errors, done.told)
    results = list(ground.folder.rglob(runs.RESULT_FILE))
    verdict.expect(not results, f"trained all the same: {results}")
    return verdict
