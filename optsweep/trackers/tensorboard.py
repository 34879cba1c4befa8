"""TensorBoard: event files by PyTorch's writer; a folder of events for each cell and seed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from optsweep.trackers.records import Record, plain

_MARK = "optsweep.txt"  # written last: the fingerprint of what the folder holds
_PARTIAL = ".partial"


class TensorBoard:
    """`OUT/SWEEP/CELL` with the means, below it `seed_N`; `OUT/SWEEP` with the sweep's pictures."""

    def __init__(self, project: str, out: str | None) -> None:
        """Write below `out`, by default a folder `tensorboard`."""
        del project
        self.folder = Path(out or "tensorboard")
        self.place = str(self.folder.resolve())
        self.hint = f"tensorboard --logdir {self.folder}"

    def told(self) -> Mapping[str, str]:
        """See `export.Tracker.told`."""
        marks = [*self.folder.glob(f"*/{_MARK}"), *self.folder.glob(f"*/*/{_MARK}")]
        names = {mark: mark.parent.relative_to(self.folder) for mark in marks}
        return {str(name).removesuffix("/sweep"): mark.read_text() for mark, name in names.items()}

    def tell(self, record: Record) -> None:
        """See `export.Tracker.tell`."""
        folder = self.folder / record.sweep / (record.cell or "sweep")
        partial = folder.with_name(f"{folder.name}{_PARTIAL}")
        shutil.rmtree(partial, ignore_errors=True)
        with SummaryWriter(str(partial)) as writer:
            _write(writer, record)
        for seed, epochs in record.seeds():
            with SummaryWriter(str(partial / f"seed_{seed}")) as writer:
                for epoch, seconds, values in epochs:
                    for key, value in values.items():
                        writer.add_scalar(_tag(key), value, epoch, _time(record, seconds))
        (partial / _MARK).write_text(record.fingerprint)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _write(writer: SummaryWriter, record: Record) -> None:
    for epoch, seconds, values in record.means():
        for key, value in values.items():
            writer.add_scalar(_tag(key), value, epoch, _time(record, seconds))
    last = int(record.history["epoch"].max()) if len(record.history) else 0
    for key, value in record.scores.items():
        writer.add_scalar(f"final/{key}", value, last, record.seconds)
    if record.cell:
        parameters = {key: plain(value) for key, value in record.parameters.items()}
        metrics = {f"final/{key}": value for key, value in record.scores.items()}
        for summary in hparams(parameters, metrics):
            writer._get_file_writer().add_summary(summary, 0, record.seconds)
    told = "\n".join(f"| {key} | `{value}` |" for key, value in record.tags.items())
    writer.add_text("about", f"| | |\n| --- | --- |\n{told}", walltime=record.seconds)
    for name, path in record.figures.items():
        pixels: Any = np.asarray(Image.open(path).convert("RGB"))
        writer.add_image(name, pixels, last, record.seconds, dataformats="HWC")


def _tag(key: str) -> str:
    """`val_accuracy` -> `accuracy/val`, so that splits stand together."""
    split, _, metric = key.partition("_")
    return f"{metric}/{split}" if metric else key


def _time(record: Record, seconds: float) -> float:
    """When an epoch ended, for TensorBoard's axis of time."""
    return record.seconds - record.scores.get("seconds", seconds) + seconds
