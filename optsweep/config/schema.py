"""The validated configuration of one cell: plain frozen dataclasses, no Hydra and no torch.

`Config.from_mapping` turns the composed YAML into its canonical form: names such as
`full`, `all` or a depth become the numbers they stand for, so that two ways of writing
the same experiment are the same `Config` and share one directory.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optsweep.config.checks import InputError, as_text, choice, integer, known_keys, name, number
from optsweep.config.dataset import DatasetConfig, dataset_config
from optsweep.config.roles import NOT_HIDDEN, check_roles, with_groups
from optsweep.config.targets import present

# Widths of the report's networks: 784-128-56-10, "deeper" 784-128-56-32-10.
# Depths beyond three go on with 32 units.
_WIDTHS = (128, 56, 32)
MAX_DEPTH = 10

ENGINES = ("torch", "numba", "torch_graph")

MLP = "optsweep.models.mlp.MLP"
_MLP_SETTINGS = ("depth", "hidden_sizes", "layernorm_position", "layernorm_placement")
_DEFAULT_INIT = "optsweep.models.initializers.default"
_DEFAULT_OPTIMIZER: dict[str, Any] = {
    "_target_": "torch.optim.SGD",
    "lr": 0.1,
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
    "decay_biases_and_norms": True,
}
_DEFAULT_SCHEDULER: dict[str, Any] = {
    "_target_": "torch.optim.lr_scheduler.ConstantLR",
    "factor": 1.0,
    "interval": "epoch",
}


@dataclass(frozen=True)
class MLPConfig:
    """A multilayer perceptron; `layernorm_position` counts hidden layers from 1."""

    hidden_sizes: tuple[int, ...] = _WIDTHS[:2]
    layernorm_position: tuple[int, ...] = ()
    layernorm_placement: str = "after"
    dropout: float = 0.0


@dataclass(frozen=True)
class ModuleConfig:
    """Any other network: the dotted path of a `torch.nn.Module` and its constructor's arguments."""

    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainerConfig:
    """How long, with how many examples a step, and on what; what of it is kept in files.

    Attributes:
        checkpoint: After which epochs a file is written that a killed cell goes on from: none,
            every N-th, or (True) as often as costs little.
        keep_weights: After which epochs the weights are kept: none, the last (True), some and
            the last, or all.
    """

    epochs: int = 10
    batch_size: int = 256
    device: str = "auto"
    engine: str = "auto"
    precision: str = "float32"
    num_threads: int | None = None
    checkpoint: bool | int = False
    keep_weights: bool | str | tuple[int, ...] = False

    def keeps(self, epoch: int, is_last: bool) -> bool:
        """Whether the weights after an epoch are kept."""
        if isinstance(self.keep_weights, tuple):
            return is_last or epoch in self.keep_weights
        return self.keep_weights == "all" or (self.keep_weights is True and is_last)


@dataclass(frozen=True)
class Origin:
    """Kept weights that a cell begins with.

    Attributes:
        path: Directory of the cell that kept them.
        cell: Its hash.
        epoch: After which of its epochs.
    """

    path: str
    cell: str
    epoch: int


@dataclass(frozen=True)
class RecordConfig:
    """What is kept of the weights and of the gradient after every epoch; see `recording`."""

    weights: bool = False
    gradients: bool = False


@dataclass(frozen=True)
class StoppingConfig:
    """When to stop; nothing is stopped as it stands.

    Attributes:
        patience: Epochs without a new best accuracy after which a cell ends; None: never.
        floor: Accuracies that the best epoch so far has to reach, the first after epoch 1;
            beyond its end nothing is asked for.
    """

    patience: int | None = None
    floor: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything can be stopped."""
        return self.patience is not None or bool(self.floor)


@dataclass(frozen=True)
class Config:
    """Everything that decides the result of a cell.

    `init`, `optimizer` and `scheduler` are mappings with a dotted `_target_` and its
    settings; only settings that are given are in them.
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    init: Mapping[str, Any] = field(default_factory=lambda: {"_target_": _DEFAULT_INIT})
    optimizer: Mapping[str, Any] = field(default_factory=lambda: dict(_DEFAULT_OPTIMIZER))
    scheduler: Mapping[str, Any] = field(default_factory=lambda: dict(_DEFAULT_SCHEDULER))
    model: MLPConfig | ModuleConfig = MLPConfig()
    trainer: TrainerConfig = TrainerConfig()
    record: RecordConfig = RecordConfig()
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    seed: int = 0
    num_seeds: int = 1
    start_from: Origin | None = None

    @property
    def seeds(self) -> range:
        """The seeds of the stack: `seed`, `seed + 1` and so on."""
        return range(self.seed, self.seed + self.num_seeds)

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches of an epoch; the last, partial one counts."""
        return math.ceil(self.dataset.num_train_examples / self.trainer.batch_size)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Config:
        """Validate a composed configuration and bring it into canonical form.

        Args:
            values: Nested plain data with the keys of `conf/config.yaml`.

        Raises:
            InputError: If a key is unknown or a value cannot be used.
        """
        known_keys("", values, [f.name for f in dataclasses.fields(cls)])
        for key in ("dataset", "init", "optimizer", "scheduler", "model"):
            if not isinstance(values.get(key, {}), Mapping):
                raise InputError(f"{key}={values[key]}: expected _target_ and its settings")
        dataset = dataset_config(values.get("dataset", {}))
        return cls(
            dataset=dataset,
            init=_target("init", values.get("init", {"_target_": _DEFAULT_INIT})),
            optimizer=_optimizer(values.get("optimizer", _DEFAULT_OPTIMIZER)),
            scheduler=_scheduler(values.get("scheduler", _DEFAULT_SCHEDULER)),
            model=_model(values.get("model", {})),
            trainer=_trainer(values.get("trainer", {}), dataset.num_train_examples),
            record=_record(values.get("record", {})),
            stopping=_stopping(values.get("stopping", {}), dataset.val_size),
            seed=integer("seed", values.get("seed", 0), 0, 2**31 - 1),
            num_seeds=integer("num_seeds", values.get("num_seeds", 1), 1, 1000),
            start_from=_origin(values.get("start_from")),
        )

    def to_mapping(self) -> dict[str, Any]:
        """The configuration as plain data, fit for YAML and JSON."""
        return _plain(self)


def hidden_sizes_of(depth: int) -> tuple[int, ...]:
    """Widths of `depth` hidden layers: 128, 56, 32, and 32 for every further one.

    >>> hidden_sizes_of(2), hidden_sizes_of(5)
    ((128, 56), (128, 56, 32, 32, 32))
    """
    return (_WIDTHS + (_WIDTHS[-1],) * depth)[:depth]


def _model(values: Mapping[str, Any]) -> MLPConfig | ModuleConfig:
    given = _target("model", {"_target_": MLP, **values})
    target = given.pop("_target_")
    if target == MLP:
        known_keys("model.", given, [*_MLP_SETTINGS, "dropout"])
        return _mlp(given)
    for key in _MLP_SETTINGS:
        if given.pop(key, None):
            name = target.rpartition(".")[2]
            raise InputError(f"{key}: model {name} has no such setting; it is one of model=mlp")
    return ModuleConfig(target, given)


def _mlp(values: Mapping[str, Any]) -> MLPConfig:
    sizes = values.get("hidden_sizes")
    if sizes is None:
        sizes = hidden_sizes_of(integer("depth", values.get("depth", 2), 1, MAX_DEPTH))
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise InputError(f"model.hidden_sizes={sizes}: expected a list such as [128,56]")
    if not 1 <= len(sizes) <= MAX_DEPTH:
        raise InputError(
            f"model.hidden_sizes={as_text(sizes)}: expected 1 to {MAX_DEPTH} hidden layers"
        )
    sizes = tuple(integer("model.hidden_sizes", size, 1, 2**16) for size in sizes)
    position = values.get("layernorm_position", [])
    if position == "all":
        position = range(1, len(sizes) + 1)
    elif isinstance(position, int) and not isinstance(position, bool):
        position = [position]
    if not isinstance(position, Sequence) or isinstance(position, str):
        raise InputError(
            f"layernorm_position={position}: expected hidden layers such as [1,3], or all"
        )
    for layer in position:
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= len(sizes):
            raise InputError(
                f"layernorm_position={as_text(position)}: there is no hidden layer {layer}; "
                f"depth {len(sizes)} has hidden layers 1 to {len(sizes)}"
            )
    placement = values.get("layernorm_placement", "after")
    choice("model.layernorm_placement", placement, ["before", "after"])
    return MLPConfig(
        hidden_sizes=sizes,
        layernorm_position=tuple(sorted(set(position))),
        layernorm_placement=placement if position else "after",
        dropout=number("model.dropout", values.get("dropout", 0.0), below=1),
    )


def _trainer(values: Mapping[str, Any], num_examples: int) -> TrainerConfig:
    known_keys("trainer.", values, list(TrainerConfig.__dataclass_fields__))
    config = dataclasses.replace(TrainerConfig(), **values)
    batch_size = num_examples if config.batch_size == "full" else config.batch_size
    threads = config.num_threads
    return TrainerConfig(
        epochs=integer("trainer.epochs", config.epochs, 1, 10**6),
        batch_size=integer("batch_size", batch_size, 1, num_examples, "training examples"),
        device=name("trainer.device", config.device),
        engine=choice("trainer.engine", config.engine, ["auto", *ENGINES]),
        precision=choice("trainer.precision", config.precision, ["float32", "float64"]),
        num_threads=None if threads is None else integer("trainer.num_threads", threads, 1, 1024),
        checkpoint=_checkpoint(config.checkpoint),
        keep_weights=_keep_weights(config.keep_weights, config.epochs),
    )


def _checkpoint(value: Any) -> bool | int:
    if isinstance(value, bool):
        return value
    if not isinstance(value, int) or value < 1:
        raise InputError(f"trainer.checkpoint={value}: expected true, false or a number of epochs")
    return value


def _keep_weights(value: Any, epochs: int) -> bool | str | tuple[int, ...]:
    if isinstance(value, bool) or value == "all":
        return value
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(
            f"trainer.keep_weights={value}: expected true, false, all or epochs such as [1,2,4]"
        )
    for epoch in value:
        if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch <= epochs:
            raise InputError(
                f"trainer.keep_weights={as_text(value)}: expected epochs from 0 to {epochs}"
            )
    return tuple(sorted(set(value))) or False


def _origin(values: Any) -> Origin | None:
    """What `runs.find_origin` has made of `start_from`."""
    if values is None:
        return None
    known_keys("start_from.", values, list(Origin.__dataclass_fields__))
    missing = Origin.__dataclass_fields__.keys() - values.keys()
    if missing:
        raise InputError(f"start_from has no {missing.pop()}")
    return Origin(
        path=name("start_from.path", values["path"]),
        cell=name("start_from.cell", values["cell"]),
        epoch=integer("start_from.epoch", values["epoch"], 0, 10**6),
    )


def _record(values: Mapping[str, Any]) -> RecordConfig:
    known_keys("record.", values, list(RecordConfig.__dataclass_fields__))
    for key, value in values.items():
        if not isinstance(value, bool):
            raise InputError(f"record.{key}={value}: expected true or false")
    gradients = values.get("gradients", False)
    return RecordConfig(weights=values.get("weights", False) or gradients, gradients=gradients)


def _stopping(values: Mapping[str, Any], val_size: int) -> StoppingConfig:
    known_keys("stopping.", values, list(StoppingConfig.__dataclass_fields__))
    patience, floor = values.get("patience"), values.get("floor", ())
    if not isinstance(floor, Sequence) or isinstance(floor, str):
        raise InputError(f"stopping.floor={floor}: expected a list of accuracies such as [0,0.5]")
    for accuracy in floor:
        if number("stopping.floor", accuracy) > 1:
            raise InputError(f"stopping.floor={as_text(floor)}: an accuracy is at most 1")
    config = StoppingConfig(
        patience=None if patience is None else integer("stopping.patience", patience, 1, 10**6),
        floor=tuple(map(float, floor)),
    )
    if config and not val_size:
        raise InputError("stopping needs validation examples to judge by; give dataset.val_size")
    return config


def _optimizer(values: Mapping[str, Any]) -> dict[str, Any]:
    groups, rest = values.get("groups"), values.get("rest")
    own = {key: value for key, value in values.items() if key not in ("groups", "rest")}
    settings = _optimizer_settings("optimizer", own)
    settings.setdefault("decay_biases_and_norms", True)
    settings = with_groups(settings, groups)
    if settings.get("adapt_biases_and_norms"):
        del settings["adapt_biases_and_norms"]  # as cells were hashed that knew nothing of it
    return settings | _rest(rest)


def _optimizer_settings(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one class, which a named optimizer or the rest of one is."""
    settings = _target(section, values)
    for setting in ("lr", "weight_decay", "momentum"):
        if setting in settings:
            short = section == "optimizer" and setting != "lr"
            key = setting if short else f"{section}.{setting}"
            settings[setting] = number(key, settings[setting])
    if "betas" in settings:
        betas = settings["betas"]
        if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) not in (2, 3):
            raise InputError(f"{section}.betas={as_text(betas)}: expected two numbers in [0, 1)")
        settings["betas"] = [number(f"{section}.betas", beta, below=1) for beta in betas]
        settings = with_first_beta(settings, settings["betas"])
    return settings


def _rest(values: Any) -> dict[str, Any]:
    """The second optimizer of a section, if there is one."""
    if values is not None and not isinstance(values, Mapping):
        raise InputError(f"optimizer.rest={values}: expected _target_ and its settings")
    given = {key: value for key, value in (values or {}).items() if value is not None}
    if not given:
        return {}
    roles = check_roles("optimizer.rest.roles", given.pop("roles", NOT_HIDDEN))
    if "_target_" not in given:
        raise InputError(
            f"optimizer.rest.{next(iter(given), 'roles')}: this optimizer has no second one; "
            "optimizer=muon has, or give optimizer.rest._target_=torch.optim.AdamW"
        )
    rest = _optimizer_settings("optimizer.rest", given)
    return {"rest": rest | ({"roles": roles} if roles != [*NOT_HIDDEN] else {})}


def with_first_beta(settings: Mapping[str, Any], betas: Sequence[float]) -> dict[str, Any]:
    """Settings of an optimizer of the Adam family, whose momentum is the first of its betas.

    Raises:
        InputError: If momentum is not in [0, 1).

    >>> with_first_beta({"lr": 0.1, "momentum": 0.5}, (0.9, 0.999))
    {'lr': 0.1, 'betas': [0.5, 0.999]}
    """
    settings = dict(settings)
    if "momentum" in settings:
        first = number("momentum", settings.pop("momentum"), below=1)
        settings["betas"] = [first, *betas[1:]]
    return settings


def _scheduler(values: Mapping[str, Any]) -> dict[str, Any]:
    settings = _target("scheduler", values)
    if "schedulers" in settings:
        settings["schedulers"] = _schedulers(settings["schedulers"])
    interval = settings.setdefault("interval", "epoch")
    choice("scheduler.interval", interval, ["epoch", "step"])
    if "base_lr" in settings:
        settings["base_lr"] = number("scheduler.base_lr", settings["base_lr"])
    return settings


def _schedulers(nodes: Any) -> list[dict[str, Any]]:
    """Those that a schedule consists of, in the same form."""
    if not isinstance(nodes, Sequence) or isinstance(nodes, str) or not nodes:
        raise InputError(f"scheduler.schedulers={nodes}: expected a list of _target_ and settings")
    for node in nodes:
        if not isinstance(node, Mapping):
            raise InputError(f"scheduler.schedulers: {node}: expected _target_ and its settings")
    found = [_target("scheduler.schedulers", node) for node in nodes]
    return [
        node | ({"schedulers": _schedulers(node["schedulers"])} if "schedulers" in node else {})
        for node in found
    ]


def _target(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given (not null), with a dotted `_target_`."""
    settings = {key: value for key, value in values.items() if value is not None}
    for key, value in settings.items():
        known = key in ("lr", "weight_decay", "momentum")  # which have checks of their own
        if isinstance(value, float) and not math.isfinite(value) and not known:
            raise InputError(f"{group}.{key}={value}: expected a finite number")
    target = settings.get("_target_")
    if not isinstance(target, str) or "." not in target:
        raise InputError(f"{group}._target_={target}: expected a dotted path to a class")
    return settings | {"_target_": present(target)}


def _plain(value: Any) -> Any:
    if isinstance(value, DatasetConfig):
        return value.to_mapping()
    if isinstance(value, ModuleConfig):
        return {"_target_": value.target, **_plain(value.settings)}
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
