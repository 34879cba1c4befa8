"""The schedule of seeds and teams on more cores than are at hand: the page's table, simulated."""

from collections import Counter
from itertools import pairwise
from math import ceil
from pathlib import Path

import pandas as pd

from optsweep.engine.compiled.engine import team_sizes

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "optsweep" / "engine" / "compiled" / "README.md"
MEASURED = ROOT / "notebooks" / "benchmark" / "measurements.csv"
CORES = (2, 8, 16, 64)


def gain_of_two() -> float:
    """How much faster one seed is trained on two threads than on one, SGD at b = 256."""
    rows = pd.read_csv(MEASURED).query(
        "network == 'mlp' and batch_size == 256 and optimizer == 'sgd' and num_seeds == 1"
    )
    seconds = rows.groupby("peer")["seconds"].median()
    return seconds["optsweep-alone"] / seconds["optsweep"]


def throughput(num_seeds: int, num_cores: int, gain: float) -> float:
    """Epochs of a seed for each that one thread takes.

    Waves of teams follow each other. A team of s takes alone + (1 - alone) / s of an epoch's time,
    with what two threads show of `alone`; teams do not slow each other down.
    """
    alone = 2 / gain - 1
    waves = Counter(team_sizes(num_seeds, num_cores)).items()
    times = (ceil(n * size / num_cores) * (alone + (1 - alone) / size) for size, n in waves)
    return num_seeds / sum(times)


def test_the_pages_table_is_what_the_schedule_gives():
    gain = gain_of_two()
    lines = [
        "| seeds | " + " | ".join(f"{cores} cores" for cores in CORES) + " |",
        "| ---: |" + " ---: |" * len(CORES),
    ]
    for seeds in (1, 3, 10, 100):
        given = (f"{throughput(seeds, cores, gain):.1f}" for cores in CORES)
        lines.append(f"| {seeds} | " + " | ".join(given) + " |")
    table = "\n".join(lines)
    text = PAGE.read_text(encoding="utf-8")
    assert table in text, table
    assert f"{gain:.2f} times as fast on two threads" in text


def test_more_cores_never_train_less():
    for seeds in range(1, 40):
        found = [throughput(seeds, cores, 1.8) for cores in range(1, 65)]
        assert found[0] == 1
        assert all(more >= 0.999 * less for less, more in pairwise(found))
