"""The README's figures are those of the study and the benchmark that lie beside it."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from benchmark.report import fastest, readme_table, sum_up
from benchmark.rounds import read

from optsweep.report.findings import VERDICTS

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "notebooks" / "study"
BENCHMARK_PAGE = "notebooks/benchmark/benchmark.md"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def claims() -> list[dict[str, str]]:
    with (STUDY / "claims.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_claims_that_it_tells_have_these_verdicts(claims):
    told = re.findall(r"^\| (.+) \(`(\w+)`\) \| (\w+) \|$", README, flags=re.MULTILINE)
    known = [(row["claim"], row["id"], row["verdict"]) for row in claims]
    assert len(told) >= 5
    assert [row for row in told if row not in known] == []


def test_every_claim_that_it_names_is_one(claims):
    known = {row["id"] for row in claims}
    assert set(re.findall(r"`((?:r|b)\d_\w+)`", README)) <= known


def test_the_tally_is_that_of_the_table(claims):
    counts = Counter(row["verdict"] for row in claims)
    words = "|".join(VERDICTS)
    told = dict(re.findall(rf"({words}):\s+\*\*(\d+)\*\*", README))
    assert {verdict: int(number) for verdict, number in told.items()} == counts
    (total,) = re.findall(r"Of\s+(\d+)\s+claims", README)
    assert int(total) == len(claims)


def test_the_best_tuned_optimizers_are_those_of_the_table():
    with (STUDY / "tables" / "tuned_comparison_over_tasks.csv").open(encoding="utf-8") as file:
        optimizer, *tasks, _, _, _ = next(rows := csv.reader(file))
        names = [row[0].replace(" ", "_") for row in rows]
    assert optimizer == "optimizer"
    told = f"Of {len(names)} optimizers, tuned alike on {len(tasks)} tasks, "
    assert f"{told}`{names[0]}` and `{names[1]}` come out first" in README


def test_its_benchmark_is_a_part_of_the_generated_page():
    page = (ROOT / BENCHMARK_PAGE).read_text(encoding="utf-8")
    marked = re.findall(r"<!-- benchmark -->\n(.*?)<!-- /benchmark -->", README, re.DOTALL)
    assert len(marked) == README.count("<!-- benchmark -->") <= 1
    forms = sum_up(read(ROOT / Path(BENCHMARK_PAGE).parent), num_train=60_000)
    table = readme_table(fastest(forms, "title"))
    assert [part.strip() for part in marked] == [table.strip()] * len(marked)
    assert table in page
    assert f"]({BENCHMARK_PAGE})" in README


def test_pictures_and_links_are_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
