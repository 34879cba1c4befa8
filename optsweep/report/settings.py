"""What a cell was set to: the overrides of its experiment, and plain facets of its configuration.

Both answer the same question, "is this the cell with `init: gaussian`?", for an experiment may
vary a key on its command line or fix it in its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Overrides stand between spaces; quoted values and lists may hold spaces themselves.
_OVERRIDE = re.compile(r"""(?:'[^']*'|"[^"]*"|\[[^\]]*\]|\S)+""")
# Groups whose options speak for themselves: "gaussian", not "init gaussian".
_SELF_EXPLAINING = ("model", "init", "optimizer", "scheduler", "dataset", "experiment", "name")
# Classes whose options in conf/ have other names.
_CLASS_NAMES = {
    "cosineannealing": "cosine",
    "onecycle": "one_cycle",
    "adamwschedulefree": "schedulefree_adamw",
    "sgdschedulefree": "schedulefree_sgd",
    "sophiah": "sophia",
}

Settings = dict[str, Any]


def split_overrides(text: str) -> list[str]:
    """The overrides of one cell, each by itself.

    >>> split_overrides("name='a b' model.hidden_sizes=[8, 4]")
    ["name='a b'", 'model.hidden_sizes=[8, 4]']
    """
    return _OVERRIDE.findall(text)


def parse_overrides(text: str) -> Settings:
    """The overrides of one cell, by their keys as `name_of` has them.

    >>> parse_overrides("init=gaussian optimizer.betas=[0.6,0.666] trainer.batch_size=256")
    {'init': 'gaussian', 'betas': (0.6, 0.666), 'batch_size': 256}
    """
    settings: Settings = {}
    for override in split_overrides(text):
        key, _, value = override.partition("=")
        whole, is_target = key.removesuffix("._target_"), key.endswith("._target_")
        settings[name_of(whole)] = _short(value) if is_target else parse_value(value)
    return settings


def name_of(key: str) -> str:
    """What a setting is called here, and among the `facets`: its key without the group.

    >>> name_of("weight_decay"), name_of("optimizer.lr"), name_of("optimizer.rest.lr")
    ('weight_decay', 'lr', 'rest_lr')
    """
    group, *within = key.lstrip("+~").rpartition("/")[2].split(".")
    return "_".join(within) or group


def in_words(overrides: str) -> str:
    """Overrides as a user would say them.

    >>> in_words("optimizer=sgd optimizer.weight_decay=1e-3")
    'sgd, weight decay 0.001'
    """
    chosen = parse_overrides(overrides)
    return label(chosen, list(chosen))


def parse_value(text: str) -> Any:
    """A value as Hydra reads it: number, truth value, null, list (as a tuple) or text.

    >>> [parse_value(text) for text in ("1e-3", "256", "[1,2]", "true", "null", "gaussian")]
    [0.001, 256, (1, 2), True, None, 'gaussian']
    """
    text = text.strip()
    if text[:1] == "[" and text[-1:] == "]":
        return tuple(parse_value(item) for item in text[1:-1].split(",") if item.strip())
    words = {"true": True, "false": False, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("'\"")


def varying(settings: Sequence[Settings]) -> list[str]:
    """The keys, in order of appearance, that do not have one value in all of an experiment.

    >>> varying([{"init": "default", "epochs": 3}, {"init": "xavier", "epochs": 3}])
    ['init']
    """
    keys = dict.fromkeys(key for each in settings for key in each)
    missing = object()
    return [key for key in keys if len({each.get(key, missing) for each in settings}) > 1]


def label(settings: Settings, keys: Sequence[str]) -> str:
    """The settings in `keys`, as a user would say them.

    >>> label({"optimizer": "adam", "batch_size": 256, "nesterov": True, "lr": 1e-3},
    ...       ["optimizer", "batch_size", "nesterov", "lr"])
    'adam, batch size 256, nesterov, lr 0.001'
    """
    return ", ".join(_phrase(key, settings[key]) for key in keys if key in settings)


def phrase_value(value: Any) -> str:
    """A value in a label: short numbers, tuples in parentheses, words without underscores."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(phrase_value(item) for item in value) + ")" if value else "none"
    if isinstance(value, float):
        return re.sub(r"e([-+])0+", r"e\1", f"{value:.4g}")
    return str(value).replace("_", " ")


def facets(config: Mapping[str, Any]) -> Settings:
    """Plain columns of a cell's configuration (the mapping that `config.yaml` holds).

    Settings that the optimizer or the schedule does not have are left out.
    """
    optimizer, scheduler = config["optimizer"], config["scheduler"]
    dataset, trainer = config["dataset"], config["trainer"]
    model = {"_target_": "MLP", **config["model"]}  # an MLP's class is not written down
    named = _short(str(optimizer["_target_"]))
    found: Settings = {
        "dataset": dataset["name"],
        "init": _short(str(config["init"]["_target_"])),
        "optimizer": "amsgrad" if optimizer.get("amsgrad") else named,
        "scheduler": _short(str(scheduler["_target_"])),
        **{key: value for key, value in optimizer.items() if key not in ("_target_", "amsgrad")},
        **{key: value for key, value in scheduler.items() if key in ("base_lr", "interval")},
        **{key: value for key, value in model.items() if key != "_target_"},
        "model": _short(model["_target_"]),
        **{key: trainer[key] for key in ("batch_size", "epochs")},
        "val_size": dataset.get("val_size", 0),
        "num_train": dataset.get("train_size") or dataset["num_train"] - dataset.get("val_size", 0),
    }
    if "hidden_sizes" in model:
        found["depth"] = len(model["hidden_sizes"])
    if "base_lr" in found:
        found["lr"] = found["base_lr"]  # a schedule's own base takes the optimizer's place
    if not found.get("dropout"):
        found.pop("dropout", None)  # cells that knew nothing of it have none either
    return dict(_flat(found))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Single columns of what may have parts, such as a second optimizer or groups.

    >>> dict(_flat({"lr": 0.1, "rest": {"_target_": "torch.optim.AdamW", "betas": [0.9, 0.95]}}))
    {'lr': 0.1, 'rest': 'adamw', 'rest_betas': (0.9, 0.95)}
    """
    for key, value in values.items():
        if key == "_target_":
            yield prefix.rstrip("_"), _short(str(value))
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value


def family(found: Settings) -> str:
    """The optimizer that a reader would name: SGD with and without momentum are two.

    Another network than the MLP is named too, for its results are not to be compared.

    >>> family({"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "model": "lenet"})
    'sgd with nesterov momentum (lenet)'
    """
    name = str(found["optimizer"])
    if name == "sgd" and found.get("momentum"):
        name = "sgd with nesterov momentum" if found.get("nesterov") else "sgd with momentum"
    network = found.get("model", "mlp")
    return name if network == "mlp" else f"{name} ({network})"


def matches(where: Mapping[str, Any], *settings: Settings) -> bool:
    """Tell whether every wanted value is the cell's, by its overrides or by its facets."""
    return all(
        any(key in each and _equal(each[key], value) for each in settings)
        for key, value in where.items()
    )


def _equal(found: Any, wanted: Any) -> bool:
    wanted = tuple(wanted) if isinstance(wanted, list) else wanted
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)


def _phrase(key: str, value: Any) -> str:
    words = key.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return phrase_value(value) if key in _SELF_EXPLAINING else f"{words} {phrase_value(value)}"


def _short(target: str) -> str:
    """`torch.optim.lr_scheduler.CosineAnnealingLR` -> `cosine`."""
    name = re.sub(r"LR$", "", target.rpartition(".")[2]).lower()
    return _CLASS_NAMES.get(name, name)
