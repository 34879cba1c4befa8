"""Whether all peers did the same work: their losses after an epoch, beside ours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optsweep.benchmark.peers import OURS
from optsweep.benchmark.rows import losses_of
from optsweep.benchmark.summary import CELL

# Runs with the same weights differ by their order of examples. Of some hundred comparisons of
# a few runs each, none should be beyond four standard errors by chance; and 1 % is what rounding,
# or an epsilon in another place, may change.
_STANDARD_ERRORS, _SHARE = 4.0, 0.01
_GROUP = [*CELL, "num_examples"]


def compare_losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Losses of every peer against ours, paired by seed: both started from the same weights.

    The spread of a difference is pooled over the peers and numbers of seeds of a batch size,
    optimizer and number of examples.

    Returns:
        A row for each peer and cell: ours and theirs, mean losses; difference; allowed; equal,
        whether the difference is not larger than that; num_runs.
    """
    runs = _runs(rows)
    ours = runs[runs["peer"] == OURS].drop(columns="peer")
    on = [*_GROUP, "repeat", "index"]
    pairs = runs[runs["peer"] != OURS].merge(ours, on=on, suffixes=("", "_ours"))
    if pairs.empty:
        columns = ["peer", *_GROUP, "ours", "theirs", "difference", "allowed", "equal", "num_runs"]
        return pd.DataFrame(columns=columns)
    pairs["difference"] = pairs["loss"] - pairs["loss_ours"]
    groups = pairs.groupby(["peer", *_GROUP], sort=False)
    pairs["rest"] = (pairs["difference"] - groups["difference"].transform("mean")) ** 2
    found = groups.agg(
        ours=("loss_ours", "mean"),
        theirs=("loss", "mean"),
        difference=("difference", "mean"),
        num_runs=("difference", "size"),
    ).reset_index()
    alike = ["batch_size", "optimizer", "num_examples"]
    pooled = pairs.groupby(alike).agg(rest=("rest", "sum"), num=("rest", "size")).reset_index()
    lost = found.groupby(alike).size().rename("lost").reset_index()
    pooled = pooled.merge(lost, on=alike)
    pooled["variance"] = pooled["rest"] / (pooled["num"] - pooled["lost"]).clip(lower=1)
    found = found.merge(pooled[[*alike, "variance"]], on=alike)
    errors = np.sqrt(found["variance"] / found["num_runs"])
    found["allowed"] = _STANDARD_ERRORS * errors + _SHARE * found["ours"].abs()
    found["equal"] = found["difference"].abs() <= found["allowed"]
    return found.drop(columns="variance")


def _runs(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for every network, with its loss; `index` is its place in the stack."""
    runs = rows[["peer", *_GROUP, "repeat"]].assign(loss=rows["losses"].map(losses_of))
    runs["index"] = runs["loss"].map(lambda losses: list(range(len(losses))))
    return runs.explode(["loss", "index"]).astype({"loss": float, "index": int})
