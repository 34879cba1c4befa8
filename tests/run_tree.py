"""A folder of runs made by hand, with numbers that a test can know."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from optsweep import runs
from optsweep.config.identity import cell_name, config_hash
from optsweep.config.schema import Config
from optsweep.diagnosis.records import (
    FORK_COLUMNS,
    PIXEL_COLUMNS,
    READING_COLUMNS,
    SPECTRUM_COLUMNS,
    VERDICT_COLUMNS,
)
from optsweep.diagnosis.verdicts import EDGE, NOT_SLOW

SCORES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def config_of(**groups) -> Config:
    """A configuration, given by `init="gaussian"`, `lr=0.3`, `epochs=2`, … and whole groups."""
    values = Config().to_mapping()
    if "init" in groups:
        values["init"] = {"_target_": f"optsweep.models.initializers.{groups.pop('init')}"}
    for key in ("lr", "momentum", "weight_decay"):
        if key in groups:
            values["optimizer"][key] = groups.pop(key)
    for key in ("epochs", "batch_size"):
        if key in groups:
            values["trainer"][key] = groups.pop(key)
    for key in ("val_size",):
        if key in groups:
            values["dataset"][key] = groups.pop(key)
    return Config.from_mapping(values | {"num_seeds": 3, "trainer": values["trainer"]} | groups)


def write_cell(
    root: Path,
    config: Config,
    curves: dict[int, list[dict | None]],
    gradients: Sequence[dict] = (),
    **result,
) -> str:
    """Write a finished cell; `curves` has for each seed its scores per epoch, None: diverged.

    An epoch takes 2 seconds and 235 steps; the final weights' train accuracy is that of the
    last epoch and 0.01.
    """
    history, per_seed = [], []
    for seed, epochs in curves.items():
        for epoch, scores in enumerate(epochs):
            row = dict.fromkeys(runs.HISTORY_COLUMNS) | {"seed": seed, "epoch": epoch}
            row |= {"step": 235 * epoch, "lr": 0.1 if epoch else None, "seconds": 2.0 * epoch}
            history.append(row | (scores or {}))
        last, survived = epochs[-1], sum(scores is not None for scores in epochs) - 1
        final = (
            {"loss": last["train_loss"], "accuracy": last["train_accuracy"] + 0.01} if last else {}
        )
        per_seed.append(
            {
                "seed": seed,
                "status": "completed" if last else "diverged",
                "epochs": survived,
                "steps": 235 * survived,
                **{
                    f"{split}_{metric}": (last or {}).get(f"{split}_{metric}")
                    for split in ("train", "val", "test")
                    for metric in ("loss", "accuracy")
                },
                **{f"final_train_{metric}": final.get(metric) for metric in ("loss", "accuracy")},
            }
        )
    found = {
        "status": "completed",
        "config_hash": config_hash(config),
        "num_seeds": len(curves),
        "objective": 0.5,
        "seconds": 2.0 * (max(map(len, curves.values())) - 1),
        "device": "cpu",
        "engine": "torch",
        "num_threads": 1,
        "per_seed": per_seed,
    }
    name = cell_name(config)
    runs.start(root / runs.CELLS_FOLDER / name, config)
    runs.write(root / runs.CELLS_FOLDER / name, history, found | result, gradients)
    return name


def write_made_up(root: Path, config: Config) -> None:
    """Write a cell with five seeds of scores that depend on its name alone."""
    rng = np.random.default_rng(int(config_hash(config), 16))
    seeds = range(config.seed, config.seed + min(config.num_seeds, 5))
    epochs = min(config.trainer.epochs, 4)
    curves = {}
    for seed in seeds:
        pairs = [(2.3 / (epoch + 1), 0.1) for epoch in range(epochs + 1)]
        curves[seed] = curve(*((loss, rng.uniform(0.5, 0.9)) for loss, _ in pairs))
        if config.dataset.val_size:
            for scores in curves[seed]:
                scores |= {"val_loss": 1.0, "val_accuracy": scores["test_accuracy"] - 0.01}
    rows = []
    if config.record.weights:
        rows = [row for seed in seeds for row in _recorded(config, seed, epochs, rng)]
    name = write_cell(root, config, curves, rows)
    if isinstance(config.trainer.keep_weights, tuple):  # as a diagnosis has them kept
        checkpoints = {epoch: [EDGE] * len(seeds) for epoch in (1, 2)}
        write_diagnosis(root / runs.CELLS_FOLDER / name, {0: [NOT_SLOW] * len(seeds)} | checkpoints)


def write_diagnosis(directory: Path, verdicts: dict[int, list[str]]) -> None:
    """Write the tables of a diagnosis, from the verdict of each seed at each epoch."""
    folder = directory / runs.DIAGNOSIS_FOLDER
    folder.mkdir()
    kept: dict[str, list[dict]] = {"verdicts": [], "readings": [], "spectra": [], "forks": []}
    values = {
        "loss": 0.5, "sharpness": 1.0, "stability": 1.0, "critical_multiple": 1.2,
        "noise_scale": 100.0, "batch_size": 256,
        "smallest": -0.5, "largest": 20.0, "hessian_gradient": 15.0,
        "promise": 0.03, "dead_units": 0.02,
        "fall after 50 steps, lr x 1": 0.01, "fall after 50 steps, lr x 0.1": 0.15,
        "fall after 50 steps, lr x 3": -0.4, "fall after 50 steps, sharpest out, lr x 3": 0.09,
    }  # fmt: skip
    for epoch, of_seeds in verdicts.items():
        for seed, verdict in enumerate(of_seeds):
            at = {"seed": seed, "epoch": epoch}
            kept["verdicts"].append({**at, "verdict": verdict, "decided_by": "made up"})
            for quantity, value in values.items():
                row = {**at, "quantity": quantity, "value": value * (1 + seed / 100)}
                kept["readings"].append(row)
            for value, weight in ((-0.5, 0.1), (0.0, 0.8), (20.0, 0.1)):
                row = {**at, "kind": "density", "value": value, "weight": weight}
                kept["spectra"].append(row)
            for step in (0, 1, 50):
                for fork, fall in (("lr x 1", 0.01), ("lr x 0.1", 0.15)):
                    loss = 1 - fall * step / 50
                    kept["forks"].append({**at, "fork": fork, "step": step, "train_loss": loss})
    kept["pixels"] = [
        {"epoch": epoch, "pixel": pixel, "nonzero_fraction": pixel / 4, "moved": epoch * pixel}
        for epoch in verdicts
        for pixel in range(4)
    ]
    columns = {
        "verdicts": VERDICT_COLUMNS,
        "readings": READING_COLUMNS,
        "spectra": SPECTRUM_COLUMNS,
        "forks": FORK_COLUMNS,
        "pixels": PIXEL_COLUMNS,
    }
    for table, rows in kept.items():
        runs.write_atomically(folder / f"{table}.csv", runs.to_csv(columns[table], rows))


def _recorded(config: Config, seed: int, epochs: int, rng: np.random.Generator):
    norms, singles = ["weight_norm", "update_norm"], []
    if config.record.gradients:
        norms.append("gradient_norm")
        singles = ["gradient", "pixel_nonzero_fraction"]
    for epoch in range(epochs + 1):
        for quantity in norms:
            for layer in range(1, len(config.model.hidden_sizes) + 2):
                yield _row(seed, epoch, quantity, f"linear{layer}.weight", rng.uniform(1, 2))
        for quantity in singles:
            for pixel in (725, 300, 400, 500):
                value = rng.uniform(-1, 1) if quantity == "gradient" else 1 - pixel / 1000
                yield _row(seed, epoch, quantity, f"linear1.weight[0,{pixel}]", value)


def _row(seed: int, epoch: int, quantity: str, parameter: str, value: float) -> dict:
    return dict(zip(runs.GRADIENT_COLUMNS, (seed, epoch, quantity, parameter, value), strict=True))


def curve(*pairs: tuple[float, float]) -> list[dict]:
    """Scores of each epoch from pairs of train loss and test accuracy; train is 0.02 better."""
    return [
        {
            "train_loss": loss,
            "train_accuracy": accuracy + 0.02,
            "test_loss": loss + 0.1,
            "test_accuracy": accuracy,
        }
        for loss, accuracy in pairs
    ]


def write_experiment(root: Path, name: str, cells: dict[str, str]) -> None:
    """Write an experiment's list of cells, overrides by the cell's name."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"cell": cell, "overrides": overrides} for cell, overrides in cells.items()]
    runs.write_atomically(folder / runs.SWEEP_FILE, runs.to_csv(runs.SWEEP_COLUMNS, rows))


def write_raw(directory: Path, **files: object) -> None:
    """Write files as they are: text, or data as JSON or YAML by the name's end."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        stem, _, suffix = name.rpartition("_")
        dump = {"json": json.dumps, "yaml": yaml.safe_dump}.get(suffix, str)
        text = content if isinstance(content, str) else dump(content)
        (directory / f"{stem}.{suffix}").write_text(text)


def write_every_status(root: Path) -> Path:
    """An r1_init with cells that are completed, diverged in part, missing, partial and corrupt.

    Default: test accuracies 0.80, 0.81, 0.82 after two epochs. Gaussian: two seeds at 0.70 and
    0.71, the third diverged in its second epoch.
    """
    default, gaussian, xavier, kaiming, orthogonal = (
        config_of(init=init, epochs=2)
        for init in ("default", "gaussian", "xavier", "kaiming", "orthogonal")
    )
    cells = {}
    start = (2.3, 0.1)
    cells["default"] = write_cell(
        root,
        default,
        {
            0: curve(start, (1.0, 0.70), (0.5, 0.80)),
            1: curve(start, (1.1, 0.72), (0.6, 0.81)),
            2: curve(start, (1.2, 0.71), (0.7, 0.82)),
        },
    )
    cells["gaussian"] = write_cell(
        root,
        gaussian,
        {
            0: curve(start, (1.5, 0.60), (1.0, 0.70)),
            1: curve(start, (1.6, 0.62), (1.1, 0.71)),
            2: [*curve(start, (1.7, 0.61)), None],
        },
    )
    cells["xavier"] = cell_name(xavier)  # missing
    cells["kaiming"] = cell_name(kaiming)
    write_raw(root / runs.CELLS_FOLDER / cells["kaiming"], config_yaml=kaiming.to_mapping())
    cells["orthogonal"] = cell_name(orthogonal)
    begun = root / runs.CELLS_FOLDER / cells["orthogonal"]
    write_raw(begun, config_yaml=orthogonal.to_mapping(), result_json="{")
    overrides = {cell: f"init={init} trainer.epochs=2 num_seeds=3" for init, cell in cells.items()}
    write_experiment(root, "r1_init", overrides)
    return root
