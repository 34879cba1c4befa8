"""Ways to train the same networks, all behind one interface.

A peer works in a process of its own, so that libraries' threads do not meet; it imports its
library only there.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmark.tasks import (
    BETAS,
    EPS,
    MOMENTUM,
    NETWORKS,
    Images,
    Task,
    initial_weights,
    mean_loss,
    updated,
)
from benchmark.workers import Worker

if TYPE_CHECKING:
    from torch import Tensor

# At a batch size of 1 a step of many peers takes 0.2 to 0.5 ms whatever its data, and an epoch up
# to half a minute.
_SINGLE = {1: 3000}
_KERAS_STEPS = 64  # that Keras compiles into one call
_ONE, _ANY, _SEVERAL = range(1, 2), range(1, 1001), range(2, 1001)


class Outcome(NamedTuple):
    """An epoch: its wall time, all seeds together; losses on its images; what trained."""

    seconds: float
    losses: list[float]
    engine: str | None = None


class Peer:
    """Trains networks from the weights that belong to their seeds.

    Attributes:
        title: Its name in tables and figures; `note`: what differs from the others.
        form: Among others of its family, of which the fastest counts.
        packages: What has to be installed: module to what pip calls it.
        networks, num_seeds: What it trains; else ten networks cost ten times as much as one.
        parts: Examples that it is timed on, by batch size, where an epoch would take too long.
        costs: Roughly, on two cores: milliseconds of a step, of a step and seed; GFLOP/s; seconds
            to compile. They tell how long a benchmark will take, and no more.
    """

    title = note = form = ""
    packages: Mapping[str, str] = {}
    networks: Sequence[str] = ("mlp",)
    num_seeds = _ONE
    parts: Mapping[int, int] = {}
    costs = (0.4, 0.0, 80.0, 0.0)

    def __init__(self, images: Images, settings: Sequence[str], log: Path) -> None:
        """`settings` are overrides by which optsweep finds the images; `log` is for workers."""
        self.images, self.settings, self.log = images, settings, log
        self._inputs: tuple[str, Any] = ("", None)

    @classmethod
    def name(cls) -> str:
        return f"{cls.title} ({cls.form})" if cls.form else cls.title

    @classmethod
    def missing(cls) -> list[str]:
        """What pip would have to install."""
        return [pip for name, pip in cls.packages.items() if not importlib.util.find_spec(name)]

    def prepare(self, task: Task) -> float:
        """Warm up with every shape of a step; by how much the first time takes longer, at least."""
        size, most = task.batch_size, task.num_examples
        whole = -(-100 // size) * size  # some steps where they are small
        short = task._replace(num_examples=min(most, whole + most % size))
        first, second = (self.train(short, range(task.num_seeds)).seconds for _ in range(2))
        return max(0.0, first - second)

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """Train a network for each seed and wait until that is done."""
        raise NotImplementedError

    def data(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (N, 784) float32 and labels (N,) int64 of the epoch."""
        if self._inputs[0] != task.network:
            self._inputs = task.network, self.images.inputs(task.network)
        return self._inputs[1][: task.num_examples], self.images.labels[: task.num_examples]


class Ours(Peer):
    """Times the seconds that go into history.csv."""

    title, note = "optsweep", "the public path, optsweep.training.cell, engine auto"
    networks, num_seeds, costs = tuple(NETWORKS), _ANY, (0.0, 0.006, 200.0, 0.0)

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        from optsweep.cli.composition import compose
        from optsweep.training.cell import train_cell
        from optsweep.training.plan import plan_cell

        more = [f"seed={seeds[0]}", *task.overrides]
        if task.network == "standardised":
            more.append(f"dataset.path={self.images.standardised_file}")
        record = train_cell(plan_cell(compose(*self.settings, *more)))
        finals = [each["final_train_loss"] for each in record.result["per_seed"]]
        losses = [float("nan") if loss is None else loss for loss in finals]
        return Outcome(record.history[-1]["seconds"], losses, record.result["engine"])


class Jax(Peer):
    """Times one call of the compiled epoch, from orders drawn to weights ready."""

    title, form = "JAX, jit + scan", "vmap on all cores"
    note = "one compiled lax.scan over the epoch; orders drawn by NumPy"
    packages, networks, num_seeds = {"jax": "jax"}, tuple(NETWORKS), _ANY
    costs = (0.0, 0.016, 125.0, 0.5)

    def prepare(self, task: Task) -> float:
        """See `Peer`. Where an epoch has many steps, compilation is all of the warm-up."""
        import jax

        inputs, labels = self.data(task)
        data = jax.numpy.asarray(inputs), jax.numpy.asarray(labels.astype(np.int32))
        epoch, seeds = _jax_epoch(task), range(task.num_seeds)
        if task.num_seeds > 1:
            epoch = jax.vmap(epoch, in_axes=(0, None if task.is_full_batch else 0, None, None))
        started = time.perf_counter()
        given = _jax_weights(task.network, seeds), _jax_orders(task, seeds)
        run = jax.jit(epoch).lower(*given, *data).compile()
        seconds = time.perf_counter() - started
        self.at_once, self.run = task.num_seeds, lambda *given: run(*given, *data)
        self.loss = lambda weights: float(jax.jit(_jax_loss)(weights, *data))
        if task.num_steps * task.num_seeds < 20_000:
            self.train(task, seeds)
        return seconds

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`; as many seeds at a time as it was prepared for."""
        import jax

        groups = [seeds[i : i + self.at_once] for i in range(0, len(seeds), self.at_once)]
        weights = jax.block_until_ready([_jax_weights(task.network, group) for group in groups])
        started = time.perf_counter()
        trained = [
            jax.block_until_ready(self.run(each, _jax_orders(task, group)))
            for each, group in zip(weights, groups, strict=True)
        ]
        seconds = time.perf_counter() - started
        if self.at_once > 1:
            trained = [jax.tree.map(lambda x, i=i: x[i], trained[0]) for i in range(len(seeds))]
        return Outcome(seconds, [self.loss(each) for each in trained])


class JaxPinned(Jax):
    """A process for each core, which stays there; seeds are split between them."""

    form, singly = "a pinned process for each core, vmap in each", False
    workers_seconds = 0.0

    def prepare(self, task: Task) -> float:
        cores = getattr(os, "sched_getaffinity", lambda _: [None])(0)
        if not hasattr(self, "workers"):
            settings = self.images, self.settings, self.log
            self.workers = [Worker(self.log, Jax, *settings, core=core) for core in sorted(cores)]
        sizes = [len(part) for part in self._split(range(task.num_seeds))]
        each = [task._replace(num_seeds=1 if self.singly else size) for size in sizes]
        return max(self._all("prepare", [(task,) for task in each]))

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`: the time of the slowest, without that of starting all at once."""
        outcomes = self._all("train", [(task, part) for part in self._split(seeds)])
        losses = [loss for each in outcomes for loss in each.losses]
        return Outcome(max(each.seconds for each in outcomes), losses)

    def _split(self, seeds: Sequence[int]) -> list[list[int]]:
        parts = np.array_split(seeds, min(len(self.workers), len(seeds)))
        return [part.tolist() for part in parts]

    def _all(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        pairs = zip(self.workers, arguments, strict=False)
        begun = [worker.begin(method, *given) for worker, given in pairs]
        answers = [future.result() for future in begun]
        self.workers_seconds += sum(seconds for _, seconds in answers)
        return [answer for answer, _ in answers]


class JaxSingly(JaxPinned):
    form, singly = "a pinned process for each core, seed by seed", True
    num_seeds = _SEVERAL


def _jax_weights(network: str, seeds: Sequence[int]) -> Any:
    """Weights (in, out) and biases of every layer; several seeds have a leading axis."""
    import jax

    drawn = [
        [(w.T if w.ndim == 2 else w, b) for w, b in initial_weights(network, s)] for s in seeds
    ]
    stacked = jax.tree.map(lambda *parts: jax.numpy.asarray(np.stack(parts)), *drawn)
    return stacked if len(drawn) > 1 else jax.tree.map(lambda part: part[0], stacked)


def _jax_orders(task: Task, seeds: Sequence[int]) -> np.ndarray | None:
    """(N,) or (S, N) int32, or None for a full batch."""
    if task.is_full_batch:
        return None
    drawn = [np.random.default_rng([seed, 1]).permutation(task.num_examples) for seed in seeds]
    return (drawn[0] if len(drawn) == 1 else np.stack(drawn)).astype(np.int32)


def _jax_loss(weights: Any, x: Any, y: Any) -> Any:
    import jax
    from jax import lax

    for layer, (weight, bias) in enumerate(weights):
        if weight.ndim == 4:
            x = x if layer else x.reshape(-1, 1, 28, 28)
            x = lax.conv_general_dilated(x, weight, (1, 1), "VALID" if layer else "SAME")
            x, window = jax.nn.relu(x + bias[:, None, None]), (1, 1, 2, 2)
            x = lax.reduce_window(x, -np.inf, lax.max, window, window, "VALID")
        else:
            x = x.reshape(len(x), -1) @ weight + bias
            x = jax.nn.relu(x) if layer + 1 < len(weights) else x
    right = jax.numpy.take_along_axis(x, y[:, None], axis=1)[:, 0]
    return jax.numpy.mean(jax.nn.logsumexp(x, axis=1) - right)


def _jax_epoch(task: Task) -> Callable[..., Any]:
    """(weights, order or None, images, labels) -> weights."""
    import jax

    def epoch(weights, order, images, labels):
        flat, tree = jax.tree.flatten(weights)
        zeros = [jax.numpy.zeros_like(part) for part in flat]

        # Gathering a step's images inside it was as fast as, or faster than, gathering the epoch's
        # before; unrolling the loop gained nothing.
        def step(state, chosen):
            *state, count = state
            x, y = (images, labels) if chosen is None else (images[chosen], labels[chosen])
            gradient = jax.grad(_jax_loss)(jax.tree.unflatten(tree, state[0]), x, y)
            given = zip(state[0], jax.tree.leaves(gradient), *state[1:], strict=True)
            new = [updated(task, w, g, m, v, count + 1) for w, g, m, v in given]
            return (*map(list, zip(*new, strict=True)), count + 1), None

        state = flat, zeros, zeros, jax.numpy.float32(0)
        whole = 0 if order is None else len(order) // task.batch_size * task.batch_size
        if whole:
            state, _ = jax.lax.scan(step, state, order[:whole].reshape(-1, task.batch_size))
        if order is None or whole < len(order):
            state, _ = step(state, None if order is None else order[whole:])
        return jax.tree.unflatten(tree, state[0])

    return epoch


class Eager(Peer):
    """Times the usual loop; several MLPs are a stack whose parameters have a leading axis."""

    title = "PyTorch, eager"
    note = "images resident, autograd, fused torch.optim; ten MLPs as a stack with baddbmm"
    parts, networks, num_seeds = _SINGLE, tuple(NETWORKS), _ANY
    costs = (0.4, 0.02, 110.0, 0.0)

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        import torch

        if task.network == "lenet" and len(seeds) > 1:
            outcomes = [self.train(task._replace(num_seeds=1), [seed]) for seed in seeds]
            return Outcome(sum(each[0] for each in outcomes), [each[1][0] for each in outcomes])
        torch.manual_seed(seeds[0])
        of_seeds = [
            [tuple(map(torch.from_numpy, layer)) for layer in initial_weights(task.network, seed)]
            for seed in seeds
        ]
        layers: list[Any] = of_seeds[0]
        if len(seeds) > 1:
            layers = [
                (torch.stack([w.T for w, _ in layer]), torch.stack([b[None] for _, b in layer]))
                for layer in zip(*of_seeds, strict=True)
            ]
        images, labels = map(torch.from_numpy, self.data(task))
        step = self.step(task, layers)
        started = time.perf_counter()
        orders = torch.stack([torch.randperm(len(labels)) for _ in seeds]).squeeze(0)
        for start in range(0, len(labels), task.batch_size):
            chosen = None if task.is_full_batch else orders[..., start : start + task.batch_size]
            step(images, labels, chosen)
        seconds = time.perf_counter() - started
        if len(seeds) > 1:
            of_seeds = [[(w[i].T, b[i, 0]) for w, b in layers] for i in range(len(seeds))]
        with torch.no_grad():
            return Outcome(seconds, [_torch_loss(one, images, labels).item() for one in of_seeds])

    def step(self, task: Task, layers: Sequence[tuple[Tensor, Tensor]]) -> Callable[..., None]:
        """(images, labels, chosen ones or None): a step of all seeds, in place."""
        parameters = [part.requires_grad_() for layer in layers for part in layer]
        optimizer = _optimizer(task, parameters, fused=True)

        def step(x: Tensor, y: Tensor, chosen: Tensor | None) -> None:
            optimizer.zero_grad()
            _torch_loss(layers, *((x, y) if chosen is None else (x[chosen], y[chosen]))).backward()
            optimizer.step()

        return step


def _torch_loss(layers: Sequence[Any], x: Tensor, y: Tensor) -> Tensor:
    """Mean cross entropy of x (B, 784); of a stack, x (S, B, 784) or (B, 784), the seeds' sum.

    Seeds share no parameter: each has the gradient of its own mean.
    """
    from torch.nn import functional

    for index, (weight, bias) in enumerate(layers):
        if weight.dim() == 4:
            x = x if index else x.view(-1, 1, 28, 28)
            x = functional.conv2d(x, weight, bias, padding=0 if index else 2)
            x = functional.max_pool2d(x.relu(), 2)
            continue
        if weight.dim() == 3:
            x = bias.baddbmm(x.expand(len(weight), *x.shape[-2:]), weight)
        else:
            x = functional.linear(x.flatten(1), weight, bias)
        x = x.relu() if index + 1 < len(layers) else x
    y = y.expand(x.shape[:-1])
    return functional.cross_entropy(x.flatten(0, -2), y.flatten(), reduction="sum") / y.shape[-1]


class Compiled(Eager):
    """Times the same loop around a compiled step."""

    title = "PyTorch, torch.compile"
    note = "gathering, gradient and update of the epoch's step as one graph of static shapes"
    parts, networks, costs = {1: 12_000}, ("mlp",), (0.04, 0.02, 110.0, 15.0)

    def prepare(self, task: Task) -> float:
        import torch

        torch.compiler.reset()
        self.compiled = torch.compile(_torch_step(task), fullgraph=True, dynamic=False)
        # All examples are an argument of the step, so that a shorter epoch would compile another.
        first, second = (self.train(task, range(task.num_seeds)).seconds for _ in range(2))
        return max(0.0, first - second)

    def step(self, task: Task, layers: Sequence[tuple[Tensor, Tensor]]) -> Callable[..., None]:
        import torch

        weights = [part for layer in layers for part in layer]
        states = [(part, torch.zeros_like(part), torch.zeros_like(part)) for part in weights]
        count = torch.zeros(())
        return lambda x, y, chosen: self.compiled(states, count, x, y, chosen)


def _torch_step(task: Task) -> Callable[..., None]:
    """(weights and moments, number of the step, images, labels, chosen ones or None), in place."""
    import torch

    def step(states, count, images, labels, chosen):
        x, y = (images, labels) if chosen is None else (images[chosen], labels[chosen])

        def loss(flat):
            return _torch_loss(list(zip(flat[::2], flat[1::2], strict=True)), x, y)

        count += 1
        gradients = torch.func.grad(loss)([state[0] for state in states])
        for (w, m, v), gradient in zip(states, gradients, strict=True):
            for old, new in zip((w, m, v), updated(task, w, gradient, m, v, count), strict=True):
                if new is not old:
                    old.copy_(new)

    return step


class Keras(Peer):
    """Times Keras's own epoch, from the callback before it to the callback after it."""

    title, note = "Keras on JAX", f"Model.fit, jit_compile, {_KERAS_STEPS} steps_per_execution"
    packages, parts = {"keras": "keras", "jax": "jax"}, _SINGLE
    costs = (0.2, 0.0, 85.0, 4.0)

    def prepare(self, task: Task) -> float:
        """See `Peer`. What is compiled belongs to a model, which is trained from fresh weights."""
        os.environ["KERAS_BACKEND"] = "jax"
        import keras

        sizes = [shape[0] for shape in NETWORKS[task.network].layers]
        hidden = [keras.layers.Dense(size, activation="relu") for size in sizes[:-1]]
        layers = [keras.Input((784,)), *hidden, keras.layers.Dense(sizes[-1])]
        self.model = keras.Sequential(layers)
        sgd = keras.optimizers.SGD(task.lr, MOMENTUM if task.optimizer == "momentum" else 0.0)
        self.model.compile(
            keras.optimizers.Adam(task.lr, *BETAS, EPS) if task.optimizer == "adam" else sgd,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
            steps_per_execution=min(_KERAS_STEPS, task.num_steps),
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.fresh = [variable.numpy() for variable in self.model.optimizer.variables]
        return super().prepare(task)

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        import keras

        keras.utils.set_random_seed(seeds[0])
        given = [(w.T, b) for w, b in initial_weights(task.network, seeds[0])]
        self.model.set_weights([part for layer in given for part in layer])
        for variable, value in zip(self.model.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        clock: list[float] = []

        def tick(_epoch: int, _logs: Any) -> None:
            clock.append(time.perf_counter())

        callback = keras.callbacks.LambdaCallback(on_epoch_begin=tick, on_epoch_end=tick)
        settings = {"batch_size": task.batch_size, "epochs": 1, "shuffle": True, "verbose": 0}
        self.model.fit(*self.data(task), callbacks=[callback], **settings)
        flat = self.model.get_weights()
        weights = [(w.T, b) for w, b in zip(flat[::2], flat[1::2], strict=True)]
        return Outcome(clock[1] - clock[0], [mean_loss(weights, *self.data(task))])


class ReportsWay(Peer):
    """Times the loop that the report's notebook has, with `ToTensor` on every image."""

    title = "the report's way"
    note = "torchvision's dataset, DataLoader, loss and accuracy read at every batch"
    # What it takes is for each image, and 4 s for all of them.
    parts, costs = _SINGLE | dict.fromkeys((32, 256, 1000), 15_000), (0.5, 0.0, 9.0, 0.0)

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        import torch
        from torch import nn
        from torch.utils.data import DataLoader
        from torchvision.datasets import FashionMNIST
        from torchvision.transforms import ToTensor

        data = FashionMNIST.__new__(FashionMNIST)  # what it reads from files is here
        data.data = torch.from_numpy(self.images.pixels[: task.num_examples]).view(-1, 28, 28)
        data.targets = torch.from_numpy(self.images.labels)
        data.transform, data.target_transform = ToTensor(), None
        torch.manual_seed(seeds[0])  # PyTorch draws the weights that all others start from
        hidden = nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 56), nn.ReLU()
        model = nn.Sequential(*hidden, nn.Linear(56, 10))
        optimizer = _optimizer(task, list(model.parameters()))
        started = time.perf_counter()
        for x, y in DataLoader(data, batch_size=task.batch_size, shuffle=True):
            logits = model(x.flatten(1))
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item(), (logits.argmax(1) == y).float().mean().item()
        seconds = time.perf_counter() - started
        inputs, labels = map(torch.from_numpy, self.data(task))
        with torch.no_grad():
            return Outcome(seconds, [nn.functional.cross_entropy(model(inputs), labels).item()])


def _optimizer(task: Task, parameters: Sequence[Tensor], **settings: Any) -> Any:
    import torch

    if task.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=task.lr, betas=BETAS, eps=EPS, **settings)
    momentum = MOMENTUM if task.optimizer == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=task.lr, momentum=momentum, **settings)


OURS = "optsweep"
PEERS: dict[str, type[Peer]] = {
    OURS: Ours,
    "jax": Jax,
    "jax-pinned": JaxPinned,
    "jax-singly": JaxSingly,
    "torch": Eager,
    "torch.compile": Compiled,
    "keras": Keras,
    "report": ReportsWay,
}
# In the order of tables. Kept measurements have two more, whose loops are PyTorch's and NumPy's.
_ORDER = ("optsweep", "jax", "jax-pinned", "jax-singly", "torch", "torch.compile", "lightning")
_KEPT = {"lightning": "Lightning", "sklearn": "scikit-learn"}
TITLES = {
    name: _KEPT.get(name) or PEERS[name].title for name in (*_ORDER, "keras", "sklearn", "report")
}


def family(peer: str) -> str:
    """What the forms of a peer are together.

    >>> family("jax-pinned"), family("torch.compile")
    ('jax', 'torch.compile')
    """
    return peer.partition("-")[0]
