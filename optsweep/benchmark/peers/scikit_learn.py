"""scikit-learn: MLPClassifier, one call of `fit` for one epoch."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from optsweep.benchmark.images import Images
from optsweep.benchmark.network import initial_weights, mean_loss
from optsweep.benchmark.peers import Outcome
from optsweep.benchmark.tasks import BETAS, EPS, HIDDEN_SIZES, MOMENTUM, Task
from optsweep.config.schema import DatasetConfig


class TimedPeer:
    """Times `fit`, which checks its input as well."""

    def __init__(self, images: Images, dataset: DatasetConfig) -> None:
        """See `Peer`."""
        del dataset
        self.images = images
        warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is meant to be all

    def prepare(self, task: Task) -> float:
        """See `Peer`; nothing is compiled."""
        few = min(task.num_examples, max(task.batch_size, 100))
        self.train(dataclasses.replace(task, num_examples=few), [0])
        return 0.0

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        images = self.images.first(task.num_examples)
        momentum = MOMENTUM if task.optimizer == "momentum" else 0.0
        model = MLPClassifier(
            HIDDEN_SIZES,
            solver="adam" if task.optimizer == "adam" else "sgd",
            alpha=0.0,
            learning_rate_init=task.lr,
            momentum=momentum,
            nesterovs_momentum=False,
            beta_1=BETAS[0],
            beta_2=BETAS[1],
            epsilon=EPS,
            max_iter=1,
            warm_start=True,
            random_state=seeds[0],
        )
        # A first fit makes its arrays, over which the others' initial weights are written.
        _, one_of_each = np.unique(images.labels, return_index=True)
        model.set_params(batch_size=len(one_of_each))
        model.fit(images.pixels[one_of_each], images.labels[one_of_each])
        initial = initial_weights(seeds[0], images.pixels.shape[1], images.num_classes)
        for layer, (weight, bias) in enumerate(initial):
            model.coefs_[layer][...] = weight
            model.intercepts_[layer][...] = bias
        model.set_params(batch_size=min(task.batch_size, task.num_examples))
        started = time.perf_counter()
        model.fit(images.pixels, images.labels)
        seconds = time.perf_counter() - started
        weights = list(zip(model.coefs_, model.intercepts_, strict=True))
        return Outcome(seconds, [mean_loss(weights, images.pixels, images.labels)])
