"""What is shown while a cell trains, where there is no terminal."""

import io

import numpy as np
from rich.console import Console

from optsweep.cli.progress import EpochDisplay
from optsweep.engine import Scores
from optsweep.training.loop import Epoch


def test_a_log_gets_a_line_an_epoch_even_if_it_may_have_colour(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    log = io.StringIO()
    scores = Scores(np.array([0.5]), np.array([0.9]))
    with EpochDisplay(Console(file=log), 1) as display:
        for epoch in (0, 1):
            display(Epoch(epoch, epoch, 0.1, scores, None, scores, 0.0, np.array([True])))
    first, second = log.getvalue().splitlines()
    assert first.startswith("epoch 0/1  lr 0.1  train loss 0.5000 accuracy 0.9000")
    assert second.startswith("epoch 1/1  lr 0.1")
