"""Networks for other programs: as an ONNX file, checked against the module on real images."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from optsweep.config.checks import Blaming, InputError

# float32 sums in another order differ by this much of the largest logit, and no more.
TOLERANCE = 1e-4


def write_onnx(network: nn.Module, images: Tensor, path: Path) -> float:
    """Export a network, and compare what the file gives with what the network does.

    Args:
        network: In evaluation mode.
        images: (N, *input_shape), N > 1; the file takes any number of images.
        path: Of the file.

    Returns:
        The largest difference of two logits.

    Raises:
        InputError: If the extra is not installed, or the network cannot be exported.
        RuntimeError: If the file gives something else than the network.
    """
    try:
        import onnxruntime  # noqa: PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise InputError(f"--onnx {path}: it is an extra; pip install 'optsweep[onnx]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), Blaming(f"--onnx {path}"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (images[:2],),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("num_images")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        wanted = network(images).numpy()
    difference = float(np.abs(found - wanted).max())
    if difference > TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise RuntimeError(f"{path} differs from the network by {difference:.3g} in a logit")
    return difference
