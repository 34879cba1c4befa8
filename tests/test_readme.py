"""The README's figures are those of the study and the benchmark that lie beside it."""

import csv
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from optsweep.benchmark.files import MEASURED_FILES, README_FILE, REPORT_FILE, SUMMARY_FILE
from optsweep.benchmark.write import read_and_write

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "notebooks" / "study"
BENCHMARK = ROOT / "notebooks" / "benchmark"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def claims() -> list[dict[str, str]]:
    with (STUDY / "claims.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_claim_stands_in_the_readme_with_its_verdict(claims):
    told = re.findall(
        r"^\| (\w+) \| (.+?) \| (holds|contradicted|undecided|missing) \|$",
        README,
        flags=re.MULTILINE,
    )
    assert [(name, verdict) for name, _, verdict in told] == [
        (row["id"], row["verdict"]) for row in claims
    ]


def test_the_tally_is_that_of_the_table(claims):
    counts = Counter(row["verdict"] for row in claims)
    told = dict(re.findall(r"(holds|contradicted|undecided):\s+\*\*(\d+)\*\*", README))
    assert {verdict: int(number) for verdict, number in told.items()} == counts
    assert "missing" not in counts


def test_the_speed_is_that_of_the_benchmark():
    assert (BENCHMARK / README_FILE).read_text(encoding="utf-8").strip() in README


def test_the_benchmark_is_what_its_rows_make(tmp_path):
    for name in MEASURED_FILES:
        shutil.copy(BENCHMARK / name, tmp_path)
    list(read_and_write(tmp_path))
    for name in (REPORT_FILE, README_FILE, SUMMARY_FILE):
        assert (tmp_path / name).read_text() == (BENCHMARK / name).read_text(), name


def test_pictures_and_links_are_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
