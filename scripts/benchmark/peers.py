"""Ways to train the same networks, all behind one interface.

A peer works in a process of its own, so that libraries' threads do not meet; it imports its
library only there.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import struct
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmark.tasks import (
    BETAS,
    EPS,
    HIDDEN_SIZES,
    MOMENTUM,
    NUM_CLASSES,
    NUM_INPUTS,
    Images,
    Task,
    Weights,
    initial_weights,
    mean_loss,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

# At a batch size of 1 a step of many peers takes 0.2 to 0.5 ms whatever its data, and an epoch up
# to half a minute.
_SINGLE = {1: 3000}


class Outcome(NamedTuple):
    """An epoch that was trained.

    Attributes:
        seconds: Wall time of the epoch, all seeds together.
        losses: Of every seed's trained weights on the epoch's images.
        job_seconds: Wall time with all that a job does besides, where a peer has jobs.
        engine: What trained, where a peer has a choice.
    """

    seconds: float
    losses: list[float]
    job_seconds: float | None = None
    engine: str | None = None


class Peer:
    """Trains networks from the weights that belong to their seeds.

    Attributes:
        title: Its name in tables and figures.
        note: What differs from the others.
        packages: What has to be installed: module to what pip calls it.
        parts: Examples that it is timed on, by batch size, where an epoch would take too long.
        stacks: Whether it can train several MLPs at once; else ten cost ten times as much.
    """

    title = note = ""
    packages: Mapping[str, str] = {}
    parts: Mapping[int, int] = {}
    stacks = False

    def __init__(self, images: Images, settings: Sequence[str]) -> None:
        """Make the images resident; `settings` are overrides by which optsweep finds the same."""
        self.pixels = images.pixels / np.float32(255)
        self.labels = images.labels
        self.settings = settings

    @classmethod
    def missing(cls) -> list[str]:
        """What pip would have to install."""
        return [pip for name, pip in cls.packages.items() if not importlib.util.find_spec(name)]

    def prepare(self, task: Task) -> float:
        """Compile what the task needs, and warm up; seconds of compilation alone."""
        few = min(task.num_examples, max(task.batch_size, 100))
        self.train(task._replace(num_examples=few), range(task.num_seeds))
        return 0.0

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """Train a network for each seed and wait until that is done."""
        raise NotImplementedError

    def data(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 784) float32 in [0, 1] and labels (N,) int64 of the epoch."""
        return self.pixels[: task.num_examples], self.labels[: task.num_examples]

    def loss(self, weights: Weights, task: Task) -> float:
        """Of an MLP, on the epoch's images."""
        return mean_loss(weights, *self.data(task))


class Ours(Peer):
    """Times jobs; other peers are compared with the seconds that go into history.csv."""

    title, note = "optsweep", "the public path, optsweep.training.cell, engine auto"
    stacks = True
    compile_seconds = 0.0

    def prepare(self, task: Task) -> float:
        """See `Peer`: by how much a first small job takes longer than a second one.

        What is compiled serves every cell of a process, and the first job pays for it.
        """
        small = task._replace(num_examples=min(task.num_examples, 2000))
        self._job(small._replace(num_seeds=1), 0, "trainer.engine=torch")  # loads the images
        first, second = (self._job(small, 0).job_seconds or 0.0 for _ in range(2))
        self.compile_seconds = max(self.compile_seconds, first - second)
        self._job(task._replace(num_seeds=1), 0)
        return self.compile_seconds

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        return self._job(task, seeds[0])

    def _job(self, task: Task, seed: int, *more: str) -> Outcome:
        from optsweep.cli.composition import compose
        from optsweep.training.cell import train_cell
        from optsweep.training.plan import plan_cell

        config = compose(*self.settings, f"seed={seed}", *task.overrides, *more)
        started = time.perf_counter()
        record = train_cell(plan_cell(config))
        job_seconds = time.perf_counter() - started
        finals = [each["final_train_loss"] for each in record.result["per_seed"]]
        losses = [float("nan") if loss is None else loss for loss in finals]
        seconds = record.history[-1]["seconds"]
        return Outcome(seconds, losses, job_seconds, record.result["engine"])


class Jax(Peer):
    """Times one call of the compiled epoch, from orders drawn to weights ready."""

    title = "JAX, jit + scan"
    note = "one compiled lax.scan over the epoch, vmap over seeds; orders drawn by NumPy"
    packages, stacks = {"jax": "jax"}, True

    def prepare(self, task: Task) -> float:
        """See `Peer`. Where an epoch has many steps, compilation is all of the warm-up."""
        import jax

        pixels, labels = self.data(task)
        data = jax.numpy.asarray(pixels), jax.numpy.asarray(labels.astype(np.int32))
        epoch, seeds = _jax_epoch(task), range(task.num_seeds)
        if task.num_seeds > 1:
            epoch = jax.vmap(epoch, in_axes=(0, None if task.is_full_batch else 0, None, None))
        started = time.perf_counter()
        run = jax.jit(epoch).lower(_jax_weights(seeds), _jax_orders(task, seeds), *data).compile()
        seconds = time.perf_counter() - started
        self.compiled = task, lambda *given: run(*given, *data)
        if task.num_steps * task.num_seeds < 20_000:
            self.train(task, seeds)
        return seconds

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        import jax

        prepared, run = self.compiled
        assert prepared == task, "prepare comes first"
        weights = jax.block_until_ready(_jax_weights(seeds))
        started = time.perf_counter()
        trained = jax.block_until_ready(run(weights, _jax_orders(task, seeds)))
        seconds = time.perf_counter() - started
        stack = [[np.asarray(part) for part in layer] for layer in trained]
        if task.num_seeds == 1:
            stack = [[part[None] for part in layer] for layer in stack]
        losses = [self.loss([(w[i], b[i]) for w, b in stack], task) for i in range(len(seeds))]
        return Outcome(seconds, losses)


def _jax_weights(seeds: Sequence[int]) -> Any:
    """Weights and biases of every layer; several seeds have a leading axis."""
    import jax

    drawn = [initial_weights(seed) for seed in seeds]
    if len(drawn) == 1:
        return jax.tree.map(jax.numpy.asarray, drawn[0])
    return jax.tree.map(lambda *parts: jax.numpy.asarray(np.stack(parts)), *drawn)


def _jax_orders(task: Task, seeds: Sequence[int]) -> np.ndarray | None:
    """(N,) or (S, N) int32, or None for a full batch."""
    if task.is_full_batch:
        return None
    drawn = [np.random.default_rng([seed, 1]).permutation(task.num_examples) for seed in seeds]
    return (drawn[0] if len(drawn) == 1 else np.stack(drawn)).astype(np.int32)


def _jax_epoch(task: Task) -> Callable[..., Any]:
    """(weights, order or None, images, labels) -> weights."""
    import jax
    import jax.numpy as jnp

    tree, lr = jax.tree.map, task.lr

    def loss(weights, x, y):
        for layer, (weight, bias) in enumerate(weights):
            x = (jax.nn.relu(x) if layer else x) @ weight + bias
        right = jnp.take_along_axis(x, y[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(x, axis=1) - right)

    def update(weights, gradient, moments):
        if task.optimizer == "sgd":
            return tree(lambda w, g: w - lr * g, weights, gradient), moments
        if task.optimizer == "momentum":
            moments = tree(lambda m, g: MOMENTUM * m + g, moments, gradient)
            return tree(lambda w, m: w - lr * m, weights, moments), moments
        (first, second, count), (b1, b2) = moments, BETAS
        count = count + 1
        first = tree(lambda m, g: b1 * m + (1 - b1) * g, first, gradient)
        second = tree(lambda v, g: b2 * v + (1 - b2) * g * g, second, gradient)
        rate, scale = lr / (1 - b1**count), 1 / jnp.sqrt(1 - b2**count)
        step = tree(lambda m, v: rate * m / (scale * jnp.sqrt(v) + EPS), first, second)
        return tree(jnp.subtract, weights, step), (first, second, count)

    def epoch(weights, order, images, labels):
        zeros = tree(jnp.zeros_like, weights)
        moments = {"sgd": (), "momentum": zeros, "adam": (zeros, zeros, jnp.float32(0))}

        # Gathering a step's images inside it was as fast as, or faster than, gathering the epoch's
        # before; unrolling the loop gained nothing.
        def step(state, chosen):
            x, y = (images, labels) if chosen is None else (images[chosen], labels[chosen])
            return update(state[0], jax.grad(loss)(state[0], x, y), state[1]), None

        state = weights, moments[task.optimizer]
        if order is None:
            return step(state, None)[0][0]
        whole = len(order) // task.batch_size * task.batch_size
        state, _ = jax.lax.scan(step, state, order[:whole].reshape(-1, task.batch_size))
        return (step(state, order[whole:])[0] if whole < len(order) else state)[0]

    return epoch


class Eager(Peer):
    """Times the usual loop; several MLPs are a stack whose parameters have a leading axis."""

    title = "PyTorch, eager"
    note = (
        "images resident, autograd, torch.optim with its defaults; ten seeds as a stack with "
        "baddbmm and fused updates, of lenet one after the other"
    )
    parts, stacks = _SINGLE, True

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        import torch

        torch.manual_seed(seeds[0])
        if task.model == "lenet":
            outcomes = [self._lenet(task._replace(num_seeds=1), seed) for seed in seeds]
            return Outcome(sum(each[0] for each in outcomes), [each[1] for each in outcomes])
        if task.num_seeds == 1:
            model = mlp(seeds[0])
            seconds = self._epoch(task, model.parameters(), _loss_of(model))
            return Outcome(seconds, [self.loss(weights_of(model), task)])
        of_seeds = [initial_weights(seed) for seed in seeds]
        stack = [
            [
                torch.nn.Parameter(torch.from_numpy(np.stack(parts)))
                for parts in zip(*layer, strict=True)
            ]
            for layer in zip(*of_seeds, strict=True)
        ]

        def loss(x: Tensor, y: Tensor) -> Tensor:
            """Summed over seeds, which share no parameter: each has the gradient of its own mean.

            x is (S, B, 784), or (B, 784) for a batch that all seeds share; y is (S, B) or (B,).
            """
            x, y = x.expand(task.num_seeds, *x.shape[-2:]), y.expand(task.num_seeds, y.shape[-1])
            for layer, (weight, bias) in enumerate(stack):
                x = torch.baddbmm(bias.unsqueeze(1), torch.relu(x) if layer else x, weight)
            return torch.nn.functional.cross_entropy(x.flatten(0, 1), y.flatten()) * task.num_seeds

        parameters = [parameter for layer in stack for parameter in layer]
        seconds = self._epoch(task, parameters, loss, fused=True)
        arrays = [[part.detach().numpy() for part in layer] for layer in stack]
        losses = [self.loss([(w[i], b[i]) for w, b in arrays], task) for i in range(len(seeds))]
        return Outcome(seconds, losses)

    def _epoch(
        self,
        task: Task,
        parameters: Iterable[Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        **settings: Any,
    ) -> float:
        """Seconds of an epoch."""
        import torch

        images, labels = map(torch.from_numpy, self.data(task))
        optimizer = optimizer_of(task, parameters, **settings)
        started = time.perf_counter()
        orders = torch.stack([torch.randperm(len(labels)) for _ in range(task.num_seeds)])
        orders = orders.squeeze(0)  # (N,) or (S, N)
        for start in range(0, len(labels), task.batch_size):
            x, y = images, labels
            if not task.is_full_batch:
                chosen = orders[..., start : start + task.batch_size]
                x, y = images[chosen], labels[chosen]
            optimizer.zero_grad()
            loss(x, y).backward()
            optimizer.step()
        return time.perf_counter() - started

    def _lenet(self, task: Task, seed: int) -> tuple[float, float]:
        """Seconds and loss of one network."""
        import torch

        torch.manual_seed(seed)
        model = plain_lenet()
        seconds = self._epoch(task, model.parameters(), _loss_of(model))
        images, labels = map(torch.from_numpy, self.data(task))
        with torch.no_grad():
            logits = torch.cat([model(some) for some in images.split(1000)])
        return seconds, torch.nn.functional.cross_entropy(logits, labels).item()


class Lightning(Peer):
    """Times the Trainer's own epoch, from the hook before it to the hook after it."""

    title = "Lightning"
    note = "TensorDataset and DataLoader, the Trainer without logs, checkpoints and bars"
    packages, parts = {"lightning": "lightning"}, _SINGLE

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        import lightning
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model, self.seconds = mlp(seeds[0]), 0.0

            def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
                return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

            def configure_optimizers(self) -> Any:
                return optimizer_of(task, self.parameters())

            def on_train_epoch_start(self) -> None:
                self.seconds -= time.perf_counter()

            def on_train_epoch_end(self) -> None:
                self.seconds += time.perf_counter()

        torch.manual_seed(seeds[0])
        module, off = Module(), ("logger", "enable_checkpointing", "enable_progress_bar")
        settings = dict.fromkeys([*off, "enable_model_summary"], False)
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", **settings)
        data = TensorDataset(*map(torch.from_numpy, self.data(task)))
        trainer.fit(module, DataLoader(data, batch_size=task.batch_size, shuffle=True))
        return Outcome(module.seconds, [self.loss(weights_of(module.model), task)])


class Keras(Peer):
    """Times Keras's own epoch, from the callback before it to the callback after it."""

    title, note = "Keras on JAX", "Model.fit with jit_compile"
    packages, parts = {"keras": "keras", "jax": "jax"}, _SINGLE

    def prepare(self, task: Task) -> float:
        """See `Peer`: by how much a first short epoch takes longer than a second one.

        Compiling belongs to a model, so the same one is trained again from fresh weights.
        """
        os.environ["KERAS_BACKEND"] = "jax"
        import keras

        hidden = [keras.layers.Dense(size, activation="relu") for size in HIDDEN_SIZES]
        layers = [keras.Input((NUM_INPUTS,)), *hidden, keras.layers.Dense(NUM_CLASSES)]
        self.model = keras.Sequential(layers)
        sgd = keras.optimizers.SGD(task.lr, MOMENTUM if task.optimizer == "momentum" else 0.0)
        adam = keras.optimizers.Adam(task.lr, *BETAS, epsilon=EPS)
        self.model.compile(
            adam if task.optimizer == "adam" else sgd,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.fresh = [variable.numpy() for variable in self.model.optimizer.variables]
        # A whole batch and the partial one that ends an epoch: each shape is compiled.
        few = min(task.num_examples, task.batch_size + task.num_examples % task.batch_size)
        short = task._replace(num_examples=few)
        first, second = (self.train(short, [0]).seconds for _ in range(2))
        return max(0.0, first - second)

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        import keras

        keras.utils.set_random_seed(seeds[0])
        self.model.set_weights([part for layer in initial_weights(seeds[0]) for part in layer])
        for variable, value in zip(self.model.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        clock: list[float] = []

        def tick(_epoch: int, _logs: Any) -> None:
            clock.append(time.perf_counter())

        callback = keras.callbacks.LambdaCallback(on_epoch_begin=tick, on_epoch_end=tick)
        settings = {"batch_size": task.batch_size, "epochs": 1, "shuffle": True, "verbose": 0}
        self.model.fit(*self.data(task), callbacks=[callback], **settings)
        flat = self.model.get_weights()
        weights = list(zip(flat[::2], flat[1::2], strict=True))
        return Outcome(clock[1] - clock[0], [self.loss(weights, task)])


class ScikitLearn(Peer):
    """Times `fit`, which checks its input as well."""

    title = "scikit-learn"
    note = (
        "MLPClassifier.fit with warm_start, by which it takes the others' initial weights in place "
        "of its own"
    )
    packages, parts = {"sklearn": "scikit-learn"}, _SINGLE

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is meant to be all
        pixels, labels = self.data(task)
        model = MLPClassifier(
            HIDDEN_SIZES,
            solver="adam" if task.optimizer == "adam" else "sgd",
            alpha=0.0,
            learning_rate_init=task.lr,
            momentum=MOMENTUM if task.optimizer == "momentum" else 0.0,
            nesterovs_momentum=False,
            beta_1=BETAS[0],
            beta_2=BETAS[1],
            epsilon=EPS,
            max_iter=1,
            warm_start=True,
            random_state=seeds[0],
        )
        # A first fit makes its arrays, over which the others' initial weights are written.
        _, one_of_each = np.unique(labels, return_index=True)
        model.set_params(batch_size=len(one_of_each))
        model.fit(pixels[one_of_each], labels[one_of_each])
        for layer, (weight, bias) in enumerate(initial_weights(seeds[0])):
            model.coefs_[layer][...] = weight
            model.intercepts_[layer][...] = bias
        model.set_params(batch_size=min(task.batch_size, task.num_examples))
        started = time.perf_counter()
        model.fit(pixels, labels)
        seconds = time.perf_counter() - started
        weights = list(zip(model.coefs_, model.intercepts_, strict=True))
        return Outcome(seconds, [self.loss(weights, task)])


class ReportsWay(Peer):
    """Times the loop that the report's notebook has, with `ToTensor` on every image."""

    title = "the report's way"
    note = "torchvision's dataset, DataLoader, loss and accuracy read at every batch"
    # What it takes is for each image, and 4 s for all of them.
    parts = _SINGLE | dict.fromkeys((32, 256, 1000), 15_000)

    def __init__(self, images: Images, settings: Sequence[str]) -> None:
        """See `Peer`; the files are put where torchvision looks for them."""
        from torchvision.datasets import FashionMNIST
        from torchvision.transforms import ToTensor

        super().__init__(images, settings)
        count = len(images.labels)
        files = {  # IDX: what it holds and its sizes, then bytes
            "images-idx3": struct.pack(">4I", 0x803, count, 28, 28) + images.pixels.tobytes(),
            "labels-idx1": struct.pack(">2I", 0x801, count) + bytes(images.labels.tolist()),
        }
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root, "FashionMNIST", "raw")
            folder.mkdir(parents=True)
            for name, content in files.items():
                (folder / f"train-{name}-ubyte").write_bytes(content)
                (folder / f"t10k-{name}-ubyte").touch()  # has to be there, and is not read
            self.loaded = FashionMNIST(root, train=True, transform=ToTensor())

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        import torch
        from torch.utils.data import DataLoader, Subset

        torch.manual_seed(seeds[0])
        model = mlp(seeds[0])
        optimizer = optimizer_of(task, model.parameters())
        data = Subset(self.loaded, range(task.num_examples))
        started = time.perf_counter()
        for x, y in DataLoader(data, batch_size=task.batch_size, shuffle=True):
            logits = model(x.flatten(1))
            loss = torch.nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item(), (logits.argmax(1) == y).float().mean().item()
        seconds = time.perf_counter() - started
        return Outcome(seconds, [self.loss(weights_of(model), task)])


OURS = "optsweep"
PEERS: dict[str, type[Peer]] = {
    OURS: Ours,
    "jax": Jax,
    "torch": Eager,
    "lightning": Lightning,
    "keras": Keras,
    "sklearn": ScikitLearn,
    "report": ReportsWay,
}


def mlp(seed: int) -> nn.Sequential:
    """The MLP as PyTorch's own modules."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for weight, bias in initial_weights(seed):
        linear = nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight).T)
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def weights_of(model: nn.Module) -> Weights:
    """An MLP's weights as arrays."""
    parts = [parameter.detach().numpy() for parameter in model.parameters()]
    return [(weight.T, bias) for weight, bias in zip(parts[::2], parts[1::2], strict=True)]


def _loss_of(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    from torch.nn.functional import cross_entropy

    return lambda x, y: cross_entropy(model(x), y)


def plain_lenet() -> nn.Sequential:
    """LeNet as a script writes it, its weights drawn by PyTorch itself."""
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, NUM_CLASSES),
    )


def optimizer_of(task: Task, parameters: Iterable[Tensor], **settings: Any) -> Any:
    """The task's optimizer of `torch.optim`."""
    import torch

    if task.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=task.lr, betas=BETAS, eps=EPS, **settings)
    momentum = MOMENTUM if task.optimizer == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=task.lr, momentum=momentum, **settings)
