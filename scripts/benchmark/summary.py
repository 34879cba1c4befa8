"""Medians, ratios, arithmetic, equal work and the verdicts on targets, from rows alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark import rounds, startup
from benchmark.peers import OURS, PEERS, TITLES, family
from benchmark.rounds import read
from benchmark.tasks import BATCH_SIZES, CELL, NETWORKS, NUM_SEEDS, OPTIMIZERS, cell_name, cells

ENVIRONMENT_FILE, NOTES_FILE, STUDY_FILE = "environment.json", "notes.json", "study.json"
LIMITS_FILE, LIMITS = "limits.csv", ["of", "library", "batch_size", "rate"]
MEASURED_FILES = (ENVIRONMENT_FILE, NOTES_FILE, STUDY_FILE, LIMITS_FILE, rounds.FILE, startup.FILE)
PEAK, INK = "square product", "pixels not zero"

_JOB_EPOCHS = 10  # of the job over which compilation is spread: the default one's
# Runs with the same weights differ by their order of examples. Of some hundred comparisons of
# a few runs each, none should be beyond four standard errors by chance; and 1 % is what rounding,
# or an epsilon in another place, may change.
_STANDARD_ERRORS, _SHARE = 4.0, 0.01


class Benchmark:
    """What was measured into a folder, summed up.

    Attributes:
        forms: A row for every peer and cell: median, low and high seconds per epoch and run over
            the rounds, num_rounds, num_examples, compile_seconds, trained_by, other_cores.
        times: Of the forms of a peer, cell by cell, the one with the least median.
        equal: Of `compare_losses`. starts: Medians of startup.csv, by program.
        peak: GFLOP/s of a large square product. ink: Share of the pixels that are not zero.
    """

    def __init__(self, folder: Path) -> None:
        """Read the files; all but the environment may be missing."""

        def known(file: str, default: Any) -> Any:
            path = folder / file
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default

        text = (folder / ENVIRONMENT_FILE).read_text(encoding="utf-8")
        self.environment = {"methods": {}} | json.loads(text)
        self.study, self.notes = known(STUDY_FILE, {}), known(NOTES_FILE, [])
        rows = read(folder / rounds.FILE, rounds.COLUMNS)
        self.equal = compare_losses(rows)
        scale = self.environment["num_train"] / rows["num_examples"] / rows["num_seeds"]
        rows = rows.assign(per_run=rows["seconds"] * scale, family=rows["peer"].map(family))
        order: dict[str, Any] = {"network": NETWORKS, "optimizer": OPTIMIZERS, "peer": TITLES}
        for column, names in order.items():
            rows[column] = pd.Categorical(rows[column], [*names])
        by = ["network", "num_seeds", "optimizer", "peer", "batch_size"]
        # Of a peer and cell the rows with the most examples count; fewer are there for losses.
        most = rows.groupby(by, observed=True)["num_examples"].transform("max")
        self.rounds = rows[rows["num_examples"] == most]
        groups = self.rounds.groupby(by, observed=True)
        forms = groups.agg(
            median=("per_run", "median"),
            low=("per_run", "min"),
            high=("per_run", "max"),
            num_rounds=("per_run", "size"),
            num_examples=("num_examples", "first"),
            family=("family", "first"),
            compile_seconds=("compile_seconds", "median"),
            trained_by=("engine", "first"),  # pandas takes an `engine` for an argument of its own
            other_cores=("other_cores", "max"),
        )
        self.forms = forms = forms.reset_index().astype(dict.fromkeys(order, object))
        spread = forms["compile_seconds"].fillna(0) / forms["num_seeds"] / _JOB_EPOCHS
        forms["with_compile"] = forms["median"] + spread
        fastest = forms.sort_values("median", kind="stable").drop_duplicates([*CELL, "family"])
        self.times = fastest.sort_index()
        limits = read(folder / LIMITS_FILE, LIMITS)
        self.peak = limits.loc[limits["of"] == PEAK, "rate"].max()
        self.ink = limits.loc[(limits["of"] == INK) & (limits["batch_size"] <= 1), "rate"].max()
        starts = read(folder / startup.FILE, startup.COLUMNS)
        self.starts = starts.groupby("what", sort=False).median().drop(columns="repeat")

    def ratios(self, peer: str, column: str = "median") -> pd.DataFrame:
        """How many times as fast optsweep is as a peer, by cell.

        Columns: value, of the medians or another column; low and high, of single rounds;
        undecided, whether these lie on both sides of 1.
        """
        ours, theirs = (self.times[self.times["family"] == name] for name in (OURS, peer))
        both = theirs.drop(columns=["low", "high"] if column == "median" else [])
        both = both.merge(ours[[*CELL, column]], on=CELL, suffixes=("", "_ours"))
        both["value"] = both[column] / both[f"{column}_ours"]
        mine = self.rounds.loc[self.rounds["peer"] == OURS, [*CELL, "repeat", "per_run"]]
        pairs = both[[*CELL, "peer"]].merge(self.rounds, on=[*CELL, "peer"])
        pairs = pairs.merge(mine, on=[*CELL, "repeat"], suffixes=("", "_ours"))
        pairs["ratio"] = pairs["per_run"] / pairs["per_run_ours"]
        ends = pairs.groupby(CELL)["ratio"].agg(low="min", high="max").reset_index()
        both = both.drop(columns=["low", "high"], errors="ignore").merge(ends, on=CELL, how="left")
        return both.assign(undecided=(both["low"] < 1) & (both["high"] > 1))

    def arithmetic(self) -> pd.DataFrame:
        """Times of MLPs, with the part of the peak that their arithmetic is, in percent.

        `dense` counts every product; `executed` leaves out those of inputs that are zero, which
        the compiled loops do not carry out. What is no product takes time, and is in neither.
        """
        some = self.times[self.times["network"] != "lenet"]
        dense = some["network"].map(lambda name: NETWORKS[name].flops).astype(float)
        first = some["network"].map(lambda name: 4 * math.prod(NETWORKS[name].layers[0]))
        skips = (some["trained_by"] == "numba") & (some["network"] != "standardised")
        executed = dense - first * skips * (1 - self.ink)
        to_percent = 100 * self.environment["num_train"] / 1e9 / self.peak / some["median"]
        return some.assign(dense=dense * to_percent, executed=executed * to_percent)

    @property
    def dense_seconds(self) -> float:
        """Seconds that all products of an epoch take at the peak."""
        return self.environment["num_train"] * NETWORKS["mlp"].flops / 1e9 / self.peak

    @property
    def unmeasured(self) -> list[str]:
        """What there is and these rows have nothing of."""
        peers, networks = {*self.forms["peer"]}, {*self.forms["network"]}
        told = [peer.name() for name, peer in PEERS.items() if name not in peers]
        return told + [each.title for name, each in NETWORKS.items() if name not in networks]


def geometric_mean(values: pd.Series) -> float:
    """The mean that makes no difference between a ratio and its inverse; NaN of nothing."""
    return float(np.exp(np.log(values.astype(float)).mean()))


def compare_losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Losses of every peer against ours, paired by seed: both started from the same weights.

    The spread of a difference is pooled over the peers and numbers of seeds of a network, batch
    size, optimizer and number of examples.

    Returns:
        A row for each peer and cell: ours and theirs, mean losses; difference; allowed; equal,
        whether the difference is not larger than that; num_runs.
    """
    alike = ["network", "batch_size", "optimizer", "num_examples"]
    runs = rows[["peer", *alike, "num_seeds", "repeat"]].copy()
    runs["loss"] = rows["losses"].astype(str).str.split()
    runs["index"] = [range(len(losses)) for losses in runs["loss"]]
    runs = runs.explode(["loss", "index"]).astype({"loss": float})
    ours, others = runs[runs["peer"] == OURS].drop(columns="peer"), runs[runs["peer"] != OURS]
    on = [*alike, "num_seeds", "repeat", "index"]
    pairs = others.merge(ours, on=on, suffixes=("", "_ours"))
    pairs["difference"] = pairs["loss"] - pairs["loss_ours"]
    groups = pairs.groupby(["peer", *alike, "num_seeds"], sort=False)
    pairs["rest"] = (pairs["difference"] - groups["difference"].transform("mean")) ** 2
    found = groups.agg(
        ours=("loss_ours", "mean"),
        theirs=("loss", "mean"),
        difference=("difference", "mean"),
        num_runs=("difference", "size"),
        rest=("rest", "sum"),
    ).reset_index()
    pooled = found.groupby(alike)
    freedom = pooled["num_runs"].transform("sum") - pooled["num_runs"].transform("size")
    errors = np.sqrt(pooled["rest"].transform("sum") / freedom.clip(lower=1) / found["num_runs"])
    found["allowed"] = _STANDARD_ERRORS * errors + _SHARE * found["ours"].abs()
    return found.assign(equal=found["difference"].abs() <= found["allowed"])


def targets(benchmark: Benchmark) -> pd.DataFrame:
    """Every target, judged: what is wanted, what was found, the verdict."""
    both = {name: benchmark.ratios(name) for name in ("jax", "torch")}
    jax, torch = (each[each["network"] == "mlp"] for each in both.values())
    lenet = both["torch"].query("network == 'lenet'")
    forms = benchmark.forms.query("network == 'mlp' and family == 'jax'")["peer"]
    every = cells(["mlp"], BATCH_SIZES, [*OPTIMIZERS], NUM_SEEDS)
    wanted = [p for each in every for p, peer in PEERS.items() if each.num_seeds in peer.num_seeds]
    wanted = sorted(name for name in wanted if family(name) == "jax")
    best = jax if wanted == sorted(forms) else jax.head(0)
    single = jax.query("batch_size == 1 and optimizer == 'sgd'")
    alone = torch[torch["num_seeds"] == 1]
    rates = benchmark.arithmetic().query(f"peer == '{OURS}' and network == 'mlp'")
    rates = rates.drop(columns=["low", "high"])
    large = rates[rates["batch_size"] >= 256]
    ten, one = (rates[rates["num_seeds"] == n] for n in (10, 1))
    stacks = ten.merge(one, on=["batch_size", "optimizer"], suffixes=("", "_alone"))
    stacks["value"] = stacks["median"] / stacks["median_alone"]
    eager, peak = "× plain eager PyTorch of one network at batch size", "of the machine's peak"
    names = [startup.BARE_HYDRA, startup.HELP, startup.IMPORT_TORCH, startup.JOB]
    hydra, help_, imports, job = (row for _, row in benchmark.starts.reindex(names).iterrows())
    helping = f"{help_.seconds:.2f} s and {hydra.seconds:.2f} s"
    training = f"{job.trains:.2f} s and {imports.seconds:.2f} s"
    memory = f"{job.megabytes:,.0f} MB and {imports.megabytes:,.0f} MB"
    judged = [
        judge(
            f"as fast as JAX in every cell: {len(jax)} cells of {NETWORKS['mlp'].title}, "
            f"{forms.nunique()} of JAX's {len(set(wanted))} forms, this machine",
            _cells(jax),
            least=1,
        ),
        judge("1.5 × JAX in the geometric mean", _mean(jax), least=1.5),
        judge("2 × JAX's best form in the geometric mean over 30 cells", _mean(best), least=2),
        judge("1.2 × JAX's best form in every cell", _cells(best), least=1.2),
        judge("plain SGD at batch size 1 at least 2.5 × JAX", _cells(single), least=2.5),
        judge(f"20 {eager} 1", _cells(alone[alone["batch_size"] == 1]), least=20),
        judge(f"2 {eager} 256", _cells(alone[alone["batch_size"] == 256]), least=2),
        judge("LeNet at least as fast as plain eager PyTorch", _cells(lenet), least=1),
        *(
            judge(
                f"60 % {peak} from batch size 256 on, {kind} arithmetic",
                _cells(large.assign(value=large[kind])),
                least=60,
                form="{:.0f} %",
            )
            for kind in ("executed", "dense")
        ),
        judge("a run of ten seeds costs no more than one alone", _cells(stacks), most=1),
        judge(
            "`--help` within 1.5 × a bare Hydra app",
            {helping: help_.seconds / hydra.seconds},
            most=1.5,
        ),
        judge(
            "a default job trains within 1.3 × `import torch`",
            {training: job.trains / imports.seconds},
            most=1.3,
        ),
        judge(
            "peak memory within 400 MB of `import torch`",
            {memory: job.megabytes - imports.megabytes},
            most=400,
            form="{:,.0f} MB more",
        ),
        *_study_targets(benchmark.study, benchmark.peak),
    ]
    return pd.DataFrame(judged, columns=["target", "found", "verdict"])


def _study_targets(study: dict[str, Any], peak: float) -> list[tuple[str, str, str]]:
    whole = {}
    if done := study.get("cells"):
        seconds, arithmetic = done["cell_seconds"] + done["report_seconds"], done["flops"] / peak
        told = (
            f"{seconds / 60:.1f} min for {done['num_cells']} cells and the report; "
            f"{arithmetic / 6e10:.1f} min of products at {peak:.0f} GFLOP/s"
        )
        whole[told] = seconds / arithmetic * 1e9
    quick = {"": study["quick"]["wall_seconds"]} if "quick" in study else {}
    return [
        judge("the study within 2.5 × its own arithmetic", whole, most=2.5),
        judge("`reproduce.py --quick` within 3 minutes", quick, most=180, form="{:.0f} s"),
    ]


def _cells(table: pd.DataFrame) -> dict[str, Any]:
    """Values of `judge` by cell, with their rounds if they have any."""
    names = [cell_name(row) for row in table.itertuples()]
    columns = [each for each in ("value", "low", "high") if each in table]
    return dict(zip(names, table[columns].to_numpy().tolist(), strict=True))


def _mean(table: pd.DataFrame) -> dict[str, float]:
    return {f"over {len(table)} cells": geometric_mean(table["value"])} if len(table) else {}


def judge(
    wanted: str,
    values: dict[str, Any],
    least: float = -math.inf,
    most: float = math.inf,
    form: str = "{:.2f} ×",
) -> tuple[str, str, str]:
    """Every value has to be in the range; the one nearest to its end, or past it, is told.

    Values may come with the least and the greatest of single rounds. Where these lie on both
    sides of the end and no other value misses it, it is undecided.
    """
    table = pd.DataFrame.from_dict(
        {
            name: np.resize(value, 3) if np.ndim(value) else [value] * 3
            for name, value in values.items()
        },
        orient="index",
        columns=["value", "low", "high"],
        dtype=float,
    )
    value = table["value"]
    if table.empty or value.isna().any():
        return wanted, "–", "not measured"
    worst = value.idxmax() if math.isfinite(most) else value.idxmin()
    found = form.format(value[worst])
    if len(table) > 1:
        found += " at most" if math.isfinite(most) else " at least"
    found += f" ({worst})" if worst else ""
    missed, torn = ~value.between(least, most), (table["low"] < least) & (table["high"] > least)
    if missed.any() and len(table) > 1:
        found += f"; {missed.sum()} of {len(table)} missed it"
    if torn.any():
        found += f"; rounds of {torn.sum()} on both sides"
    in_doubt = "undecided" if torn.any() else "met"
    return wanted, found, "**not met**" if (missed & ~torn).any() else in_doubt
