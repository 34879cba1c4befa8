"""Data that are not grey images of mostly zeros: dense, of odd sizes, in colour."""

import numpy as np
import pytest

from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

NETWORK = ("model.hidden_sizes=[130,7]", "num_seeds=2", "trainer.epochs=2")
# A batch size for each of the compiled loops: deferred steps or singles, few, many, all.
SIZES = (1, 8, 32, "full")


def scores(config):
    record = train_cell(plan_cell(config))
    rows = [[row["train_loss"], row["test_loss"], row["test_accuracy"]] for row in record.history]
    return record.result["engine"], np.array(rows, dtype=float)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("kind", ["standardised", "vectors", "colour"])
def test_both_engines_give_the_same(npz_config, kind, batch_size, optimizer):
    """In float64 alike to rounding, with inputs of which none is zero, and 37 of them."""
    settings = (f"batch_size={batch_size}", f"optimizer={optimizer}", "trainer.precision=float64")
    found = {}
    for engine in ("torch", "numba"):
        config = npz_config(kind, f"trainer.engine={engine}", *NETWORK, *settings)
        name, found[engine] = scores(config)
        assert name == engine
    np.testing.assert_allclose(found["numba"], found["torch"], rtol=1e-9)


def test_colour_images_train_a_lenet(npz_config):
    name, rows = scores(npz_config("colour", "model=lenet", "num_seeds=2", "trainer.epochs=2"))
    assert name == "torch"
    assert np.isfinite(rows).all()
    assert (rows[2::3, 0] < rows[0::3, 0]).all()  # either seed's loss, from epoch 0 to 2
