"""`optsweep best [SWEEP]`: the best cell by validation, and all that it takes to have it again."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optsweep import runs
from optsweep.cli.mistakes import OneLineParser, in_one_line
from optsweep.config.checks import InputError

if TYPE_CHECKING:
    from torch import nn

    from optsweep.commands.named import Named

_OUT = Path("best")
_NUM_CHECKED = 256  # images on which an ONNX file is compared with the network


@dataclass(frozen=True)
class Best:
    """What is best by validation.

    Attributes:
        named: The best setting alone.
        accuracy: Its mean validation accuracy.
        told: How it was chosen, and what of, in a sentence.
        cell: The cell to take home: of a search the one that was trained again in the end.
    """

    named: Named
    accuracy: float
    told: str
    cell: str

    @property
    def directory(self) -> Path:
        """Of the cell to take home."""
        return self.named.directory(self.cell)


def main(arguments: Sequence[str] | None = None) -> int:
    """Find the best; see `--help`.

    Returns:
        The exit code.
    """
    with in_one_line():
        _best(parser().parse_args(arguments))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = OneLineParser(
        "optsweep best",
        description="The best cell by accuracy on validation images, never by the test images: "
        "its command line, a file that composes it (experiment=… with --config-dir OUT), and its "
        "weights if they were kept (trainer.keep_weights).",
    )
    made.add_argument(
        "sweep", nargs="?", metavar="SWEEP", help="folder or name of a sweep; default: all cells"
    )
    made.add_argument(
        "--out", type=Path, default=_OUT, metavar="OUT", help="folder to write to; default: best"
    )
    made.add_argument("--onnx", type=Path, metavar="FILE", help="write the network of one seed")
    made.add_argument("--seed", type=int, metavar="N", help="which one; default: the first")
    made.add_argument(
        "--runs",
        type=Path,
        default=Path(runs.RUNS_FOLDER),
        metavar="RUNS",
        help="default: multirun",
    )
    return made


def _best(given: argparse.Namespace) -> None:
    from optsweep.cli import spelling  # noqa: PLC0415
    from optsweep.commands.named import Named, find  # noqa: PLC0415

    if given.sweep is not None:
        found = best_of(find(given.sweep, given.runs))
    else:
        if not given.runs.is_dir():
            raise InputError(f"{given.runs}: there is no such folder")
        pattern = f"{runs.CELLS_FOLDER}/*/{runs.RESULT_FILE}"
        cells = {path.parent.name: "" for path in sorted(given.runs.glob(pattern))}
        found = best_of(Named(given.runs.name, given.runs, cells))
    directory = found.directory
    config = runs.read_config(directory)
    print(found.told)
    print(f"cell: {directory}")
    overrides = spelling.spell(config)
    command = spelling.command_line(overrides)
    print(f"command: {command}")
    name = "best_" + re.sub(r"[^\w.-]", "_", found.named.name)
    flags = [each for each in overrides if each.startswith("allow_targets=")]
    comment = f"{found.told}\npython -m optsweep --config-dir {given.out} experiment={name}"
    comment += "".join(f" {flag}" for flag in flags)
    path = spelling.write_experiment(given.out, name, overrides, comment)
    spelling.check_experiment(given.out, name, config, flags)
    print(f"file: {path} (python -m optsweep --config-dir {given.out} experiment={name})")
    if runs.kept_epochs(directory):
        _write_weights(directory, given)
        if given.onnx is not None:
            _write_onnx(directory, given)
        return
    missing = f"its weights were not kept; to have them: {command} trainer.keep_weights=true"
    if given.onnx is not None:
        raise InputError(f"--onnx {given.onnx}: {missing}")
    print(missing)


def best_of(named: Named) -> Best:
    """The best of some cells by validation.

    Raises:
        InputError: If none holds out validation images, or their data are not the same.
    """
    return _best_of_search(named) if named.is_search else _best_of_cells(named)


def _best_of_search(named: Named) -> Best:
    from optsweep.commands.named import Named  # noqa: PLC0415
    from optsweep.report.searches import whole_search  # noqa: PLC0415
    from optsweep.report.wording import count, number  # noqa: PLC0415
    from optsweep.search.trials import CELL  # noqa: PLC0415

    assert named.sweep is not None
    search = whole_search(named.sweep)
    pairs = [(one, one.best) for one in search.variants if one.best is not None]
    if not pairs:
        raise InputError(f"{named.name}: no trial of this search is complete and has not diverged")
    variant, trial = max(pairs, key=lambda pair: pair[1].value or 0.0)
    cell = str(trial.user_attrs[CELL])
    value = float(trial.value or 0.0)
    told = (
        f"{named.name}: trial {trial.number} is the best of "
        f"{count(sum(len(one.trials) for one in search.variants), 'trial')} by validation, "
        f"with an objective of {number(value, 4)}"
    )
    final = next(
        (each for each in search.finals if each.kind == "best" and each.variant == variant.name),
        None,
    )
    if final is not None:
        told += f"; here as trained again on {count(final.test.n, 'fresh seed')} and all images"
    alone = Named(named.name, named.root, {cell: named.cells.get(cell, "")})
    return Best(alone, value, f"{told}.", cell if final is None else final.cell)


def _best_of_cells(named: Named) -> Best:
    from optsweep.commands.named import Named  # noqa: PLC0415
    from optsweep.report.measures import measure  # noqa: PLC0415
    from optsweep.report.wording import count, listing, number  # noqa: PLC0415

    if not named.cells:
        raise InputError(f"{named.root}: no trained cell in it")
    collection = named.collect()
    trained = named.trained(collection)
    judged = [one for one in trained if one.facets.get("val_size")]
    if not judged:
        raise InputError(
            f"{named.name}: none of its cells holds out validation images, and the test images "
            "are not to choose by; train them with dataset.val_size=10000"
        )
    datasets = sorted({str(one.facets["dataset"]) for one in judged})
    if len(datasets) > 1:
        raise InputError(
            f"{named.name}: cells of {listing(datasets)} cannot be compared; name a sweep"
        )
    scores = {
        one.label: measure(collection, one.cells, {"name": "val_accuracy"}).mean() for one in judged
    }
    best = max(judged, key=lambda one: scores[one.label])
    seeds = len(collection.seeds_of(best.cells))
    told = (
        f"{named.name}: {best.label} is the best of {count(len(judged), 'setting')} by "
        f"validation, with an accuracy of {number(scores[best.label], 4)} over "
        f"{count(seeds, 'seed')}"
    )
    if left_out := len(trained) - len(judged):
        told += f"; {count(left_out, 'setting')} without validation images left out"
    if math.isnan(scores[best.label]):
        raise InputError(f"{named.name}: no validation accuracy is known of its cells")
    cells = {cell: named.cells[cell] for cell in best.cells}
    return Best(Named(named.name, named.root, cells), scores[best.label], f"{told}.", best.cells[0])


def _write_weights(directory: Path, given: argparse.Namespace) -> None:
    import torch  # noqa: PLC0415

    config = runs.read_config(directory)
    states = {seed: _load(directory, seed).state_dict() for seed in config.seeds}
    path = given.out / "weights.pt"
    torch.save(states, path)
    print(
        f"weights: {path} (torch.load: a state_dict for each of the seeds {config.seeds[0]} to "
        f"{config.seeds[-1]}; optsweep.load({str(directory)!r}) has the networks)"
    )


def _write_onnx(directory: Path, given: argparse.Namespace) -> None:
    import torch  # noqa: PLC0415

    from optsweep.data.tensors import load_dataset  # noqa: PLC0415
    from optsweep.training.exchange import write_onnx  # noqa: PLC0415

    config = runs.read_config(directory)
    seed = config.seed if given.seed is None else given.seed
    network = _load(directory, seed)
    dtype = next(network.parameters()).dtype
    images = load_dataset(config.dataset, torch.device("cpu"), dtype).test.images[:_NUM_CHECKED]
    difference = write_onnx(network, images, given.onnx)
    print(
        f"ONNX: {given.onnx}, seed {seed} (on {len(images)} test images its logits differ from "
        f"the module's by at most {difference:.2g})"
    )


def _load(directory: Path, seed: int) -> nn.Module:
    import optsweep  # noqa: PLC0415

    return optsweep.load(directory, seed)
