"""The whole report: its files, the page's text, and the script."""

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import joblib
import pandas as pd
import pytest
from run_tree import config_of, curve, write_cell, write_experiment, write_raw

from optsweep.config.checks import InputError
from optsweep.report.answers import answer
from optsweep.report.claims import judge
from optsweep.report.collection import collect_runs
from optsweep.report.optimizers import best_per_optimizer, ranking, warnings
from optsweep.report.report import write_report
from optsweep.report.tables import setting_table
from optsweep.report.timing import (
    arithmetic_told,
    flops_per_example,
    matmul_peak,
    measure_machine,
)
from optsweep.runs import MACHINE_FILE
from optsweep.study.content import outline

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "aggregate.py"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def report(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return write_report(tree, out, outline()).page


def test_the_files(report):
    assert report.name == "index.html"
    found = {path.relative_to(report.parent).as_posix() for path in report.parent.rglob("*.*")}
    tables = {f"tables/r1_init.{suffix}" for suffix in ("csv", "md", "tex")}
    assert found == {
        *("index.html", "claims.csv", "figures/r1_init.svg"),
        *tables,
    }


def test_several_processes_write_the_same(report, tree, tmp_path):
    told = []
    page = write_report(tree, tmp_path, outline(), told.append, num_processes=2).page
    files = [path for path in report.parent.rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        assert (tmp_path / path.relative_to(report.parent)).read_bytes() == path.read_bytes()
    assert page == tmp_path / "index.html"
    assert write_report(tree, tmp_path, outline(), png=True).page == page
    png = tmp_path / "figures" / "r1_init.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    ids = [line.partition(":")[0] for line in told if line.endswith(" figures")]
    assert ids == [question.id for question in outline().questions]


def test_every_claim_has_a_verdict(report):
    claims = pd.read_csv(report.parent / "claims.csv")
    assert claims["id"].tolist() == [claim.id for claim in outline().claims]
    assert set(claims["verdict"]) == {"undecided", "not tested here"}  # three seeds decide nothing


def test_the_page_needs_nothing_else(report):
    text = report.read_text()
    assert not re.search(r'(?:src|href)="(?!#)', re.sub(r"<svg.*?</svg>", "", text, flags=re.S))
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text


class Checker(HTMLParser):
    """Collects the ids, and finds elements that are closed in the wrong order."""

    VOID = ("meta", "input", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.ids, self.links = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"][1:]] if attributes.get("href", "")[:1] == "#" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag("meta", attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_its_links_lead_somewhere(report):
    page = Checker(report.read_text())
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.links) <= set(page.ids)
    for question in outline().questions:
        assert question.id in page.ids
    for claim in outline().claims:
        assert f"claim-{claim.id}" in page.ids


def test_nothing_that_is_missing_is_left_out(report):
    text = report.read_text()
    for status in ("missing", "partial", "corrupt", "partly diverged"):
        assert f'<span class="status {status}">{status}</span>' in text
    assert "1 of 3 seeds diverged" in text
    assert "result.json cannot be read" in text
    assert "quick" not in text.partition("<body>")[2].lower()


def test_quick_runs_are_marked_everywhere(tmp_path):
    cell = write_cell(tmp_path, config_of(), {0: curve((2, 0.1), (1, 0.5))})
    write_experiment(tmp_path, "r1_init", {cell: "init=default"})
    write_raw(tmp_path, quick_json={"quick": True})
    page = write_report(tmp_path, tmp_path / "report", outline()).page
    assert "Quick settings." in page.read_text()
    assert "(quick)" in page.read_text()
    tables = page.parent / "tables"
    assert "Quick settings" in (tables / "r1_init.md").read_text()
    assert "Quick settings" in (tables / "r1_init.tex").read_text()
    assert pd.read_csv(tables / "r1_init.csv")["quick"].all()
    assert pd.read_csv(page.parent / "claims.csv")["quick"].all()
    assert "Quick settings" in (page.parent / "figures" / "r1_init.svg").read_text()


def test_values_of_a_configuration_are_escaped(tmp_path):
    config = config_of(init=HOSTILE.replace("/", ".").replace(".", "_"))
    first = write_cell(tmp_path, config, {0: curve((2, 0.1), (1, 0.5))}, device=HOSTILE)
    second = write_cell(tmp_path, config_of(), {0: curve((2, 0.1), (1, 0.5))})
    missing = f"{HOSTILE.replace('/', '')}_abc"
    cells = {first: f"init='{HOSTILE}'", second: "init=default", missing: f'init="{HOSTILE}2"'}
    write_experiment(tmp_path, "mine", cells)
    text = write_report(tmp_path, tmp_path / "report", outline()).page.read_text()
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert text.count("<script>") == 1  # the page's own


def test_any_sweep_of_a_user_has_a_section(tmp_path):
    cells = {
        write_cell(tmp_path, config_of(lr=lr), {0: curve((2, 0.1), (1, lr))}): f"optimizer.lr={lr}"
        for lr in (0.1, 0.2)
    }
    write_experiment(tmp_path, "my_sweep", cells)
    text = write_report(tmp_path, tmp_path / "report", outline()).page.read_text()
    assert '<section id="my_sweep" class="question">' in text
    assert "Of 2 settings, lr 0.2 ends with the highest test accuracy, 0.2000" in text


def test_cells_without_any_experiment_make_a_report(tmp_path):
    write_cell(tmp_path, config_of(), {0: curve((2, 0.1), (1, 0.5))})
    text = write_report(tmp_path, tmp_path / "report", outline()).page.read_text()
    assert "Nothing of this question has been trained yet." in text


def test_an_answer_is_told_by_the_numbers(tree):
    collection, question = collect_runs(tree), outline().questions[0]
    claims = [claim for claim in outline().claims if claim.question == question.id]
    own = judge(claims, collection)
    table = setting_table(collection, question, "r1_init")
    told = answer(collection, question, {"r1_init": table}, own).replace("\u00a0", " ")
    assert told == (
        "Of 2 settings, default ends with the highest test accuracy, 0.8100 ± 0.0100, and "
        "Gaussian with the lowest, 0.7050 ± 0.0071. Against default, no difference can be told "
        "from 0. Default reaches 0.8 test accuracy first, after 2 epochs; "
        "one setting never does. The generalisation gap is 0.0300 for all. "
        "Diverged: Gaussian (1 of 3 seeds). Without a result: Xavier (missing), "
        "Kaiming (partial) and orthogonal (corrupt). Of 4 claims, 1 stays undecided and 3 are not "
        "tested here."
    )


@pytest.fixture
def grid(tmp_path):
    """`grid({momentum: {rate: (validation, test accuracy)}})`: a search over both."""

    def made(tried):
        cells = {}
        for momentum, rates in tried.items():
            for lr, (validation, test) in rates.items():
                scores = curve((2, 0.1), (1, test))
                for each in scores:
                    each |= {"val_loss": 1.0, "val_accuracy": validation}
                config = config_of(momentum=momentum, lr=lr, val_size=100)
                cell = write_cell(tmp_path, config, dict.fromkeys(range(5), scores))
                cells[cell] = f"optimizer.momentum={momentum} optimizer.lr={lr}"
        write_experiment(tmp_path, "grid", cells)
        return collect_runs(tmp_path)

    return made


def test_the_best_of_an_optimizer_is_not_chosen_on_the_test_split(grid):
    rates = {0.1: (0.7, 0.9), 0.2: (0.8, 0.6), 0.4: (0.6, 0.5)}
    lower = {lr: (v - 0.1, t - 0.1) for lr, (v, t) in rates.items()}
    collection = grid({0.0: rates, 0.9: lower})
    best, other = best_per_optimizer(collection, ["grid"])
    assert (best.optimizer, best.setting) == ("sgd", "lr 0.2")
    assert (best.chosen, best.test.estimate, best.num_settings) == pytest.approx((0.8, 0.6, 3))
    assert (best.edges, other.optimizer) == ((), "sgd with momentum")
    assert warnings(collection, [best, other]) == []
    first, sure = ranking(collection, [best, other])
    assert first.startswith("Of 2 optimizers at the best of 3 settings each")
    assert "ahead of each of the others" in sure


def test_an_optimizer_of_which_more_was_tried_is_not_compared(grid):
    few = {0.1: (0.7, 0.7), 0.2: (0.8, 0.8), 0.4: (0.9, 0.9)}
    collection = grid({0.0: few, 0.9: few})
    best = best_per_optimizer(collection, ["grid"])
    assert {one.optimizer for one in best} == {"sgd", "sgd with momentum"}
    assert warnings(collection, best)[0] == (
        "The best learning rate of SGD is the last one tried: a better one may lie beyond."
    )
    assert ranking(collection, best)[1].startswith("It is not surely ahead by more than 0.005 of")
    many = {**few, 0.8: (0.95, 0.95), 1.6: (0.99, 0.99)}
    assert best_per_optimizer(grid({0.0: few, 0.9: many}), ["grid"]) == []


def test_the_machine_is_measured_once(tmp_path):
    assert matmul_peak(tmp_path) is None
    peak = measure_machine(tmp_path)
    assert peak.gflops > 0
    assert peak.num_cores == joblib.cpu_count()
    assert "NumPy" in peak.measured_with
    content = json.loads((tmp_path / MACHINE_FILE).read_text())
    (tmp_path / MACHINE_FILE).write_text(json.dumps(content | {"gflops": 1.5}))
    assert measure_machine(tmp_path).gflops == 1.5


def test_training_is_held_against_what_its_arithmetic_takes(tree, tmp_path):
    collection = replace(collect_runs(tree), folder=tmp_path)
    compiled = replace(collection, cells=collection.cells.assign(engine="numba"))
    assert arithmetic_told(compiled) == ""  # no peak is known
    peak = {"gflops": 100.0, "measured_with": "NumPy", "machine": "this", "num_cores": 2}
    (tmp_path / MACHINE_FILE).write_text(json.dumps(peak))
    assert arithmetic_told(collection) == ""  # PyTorch trained all
    cells = compiled.cells.dropna(subset=["seconds"])
    epochs = compiled.seeds[compiled.seeds["cell"].isin(cells.index)]["epochs"].sum()
    ideal = flops_per_example([128, 56]) * 60_000 * epochs / (100e9 / 2)
    told = f"{cells['seconds'].sum() / ideal:.1f} times what the products of their matrices"
    assert told in arithmetic_told(compiled)


def run_script(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_tells_what_it_does(tree, tmp_path):
    done = run_script(tree, "--out", tmp_path / "out")
    assert done.returncode == 3  # one of the cells is corrupt
    damaged, counted = done.stderr.splitlines()
    assert damaged.startswith(f"optsweep: damaged: {tree / 'cells'}/orthogonal-")
    assert " is left out: result.json cannot be read (" in damaged
    assert counted == (
        "optsweep: error: 1 damaged and left out of the report; "
        "the sweep or search that wrote it sets it aside and makes it again"
    )
    lines = done.stdout.splitlines()
    assert lines[0] == f"read 5 cells of 1 experiment in {tree}"
    assert lines[-1] == f"report: {tmp_path / 'out' / 'index.html'}"


def test_the_script_ends_in_one_line_when_it_is_interrupted(tree, tmp_path):
    command = [sys.executable, str(SCRIPT), str(tree), "--out", str(tmp_path / "out")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline().startswith("read 5 cells")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (
        130,
        "optsweep: interrupted; the same command continues\n",
    )
    assert not (tmp_path / "out" / "index.html").exists()


def test_mixed_versions_are_told_once_with_their_cells(tmp_path):
    made = {"sources": {"optsweep": "1f2e"}, "versions": {"torch": "2.9.0", "numpy": "2.3"}}
    versions = [
        *({}, {}, {}),  # as the first version wrote results, which do not say
        *(made, made | {"versions": made["versions"] | {"torch": "2.8.0"}}),
    ]
    cells = {}
    for seed, result in enumerate(versions):
        cell = write_cell(
            tmp_path, config_of(seed=seed), {seed: curve((2, 0.1), (1, 0.5))}, **result
        )
        cells[cell] = f"seed={seed}"
    write_experiment(tmp_path, "r1_init", dict(list(cells.items())[:3]))
    shutil.copytree(tmp_path, tmp_path / "old")
    for name in list(cells)[3:]:
        shutil.rmtree(tmp_path / "old" / "cells" / name)
    assert write_report(tmp_path / "old", tmp_path / "old_report", outline()).mixed_code == {}
    mixed = write_report(tmp_path, tmp_path / "report", outline()).mixed_code
    *_, three, four = cells
    assert mixed == {
        "other sources of optsweep (1f2e)": [three],
        "other sources of optsweep (1f2e), torch 2.8.0": [four],
    }
    done = run_script(tmp_path)
    assert done.returncode == 0
    warnings = done.stderr.splitlines()
    assert [each.count(cell) for each, cell in zip(warnings, (three, four), strict=True)] == [1, 1]
    assert all(each.startswith("optsweep: warning: versions are mixed; ") for each in warnings)
    assert (tmp_path / "report" / "index.html").read_text().count("by other sources") == 2


@pytest.mark.parametrize("case", ["nowhere", "empty", "foreign", "file"])
def test_a_folder_without_runs_gives_one_line(tmp_path, case):
    runs = tmp_path / case
    if case == "file":
        runs.write_text("x")
    elif case != "nowhere":
        runs.mkdir()
    if case == "foreign":
        write_raw(runs / "photos", list_csv="a\n1\n")
    done = run_script(runs)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"optsweep: error: [^\n]+\n", done.stderr)
    assert not (tmp_path / case / "report").exists()


def test_an_output_folder_that_cannot_be_gives_one_line(tree, tmp_path):
    (tmp_path / "file").write_text("x")
    done = run_script(tree, "--out", tmp_path / "file")
    assert done.returncode == 2
    assert re.fullmatch(r"optsweep: error: [^\n]+\n", done.stderr)


def test_write_report_raises_for_nothing(tmp_path):
    with pytest.raises(InputError, match="no runs in it"):
        write_report(tmp_path, tmp_path / "out", outline())
