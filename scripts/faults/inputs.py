"""Settings as people mistype them, and files as editors leave them: a trained cell, or one line."""

from __future__ import annotations

import random
import shlex
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from faults import ways
from faults.ground import CHECKOUT, CONF, ERROR, SECONDS, TRACEBACK, Ground, Trial, Verdict
from optsweep import runs

# Cells that train in a moment, if nothing that is given says otherwise.
SMALL = ("trainer.epochs=1", "batch_size=50", "dataset.train_size=200", "stopping.patience=null")
_BATCH = 20  # cases of one trial
_SHIPPED = CHECKOUT / "conf"
# Keys that decide where files go, or how long a cell takes, are given values of their own.
_PLAIN_VALUES = ("1", "2", "3", "0.1", "0.5", "true", "false", "null", "1e-3", "sgd", "all", "[1]")
_ODD_VALUES = (
    *("", "' '", "null", "nan", "inf", "-inf", "-1", "0", "-0.0", "1e400", "1e-400", "0x10", "1_0"),
    *("true", "no", "[]", "[[1]]", "[1,two]", "{}", "{a:1}", "{1:{2:3}}", "ü", "好", "\\n", "a b"),
    *("a=b", "'a=b'", '"', "'", "1,2", "1,", ",", "[1,2", "(", "$", "${trainer.epochs}", "${no}"),
    *("${oc.env:NOTHING}", "${oc.env:HOME}", "${", "interval(0,1)", "interval(1,0)", "range(1,3)"),
    *("range(3,1)", "range(0)", "choice(1,2)", "choice()", "glob(*)", "tag(log,interval(1,2))"),
    *("sort(3,1)", "shuffle(1,2)", "int(3.5)", "int(x)", "float(1)", "str(1)", "cast(1)", "f()"),
    *("..", "../x", "/nowhere", "~", "~x", "@", "x@y", "-", "--x", "%", "#", "\\", "\\\\", "a:b"),
    *("nil", "None", "True", "1.", ".5", "1e", "e1", "1e5e", "٣", "½", "\u200b", "x" * 5000),
    *("99999999999999999999", "-99999999999999999999", "2147483648", "4294967296", "1e18"),
)
_PATHS = (
    *("torch.optim.LBFGS", "torch.optim.SparseAdam", "torch.optim.Rprop", "torch.optim.ASGD"),
    *("torch.optim.Adamax", "torch.optim.Optimizer", "torch.optim.nothing", "torch.optim"),
    *("torch.optim.lr_scheduler.StepLR", "torch.optim.lr_scheduler.ReduceLROnPlateau"),
    *("torch.optim.lr_scheduler.LambdaLR", "torch.optim.lr_scheduler.CosineAnnealingLR"),
    *("torch.nn.Linear", "torch.nn.Module", "torch.nn.Identity", "torch.nn.Conv2d", "torch.nn"),
    *("torch.nn.init.zeros_", "torch.nn.init.xavier_uniform_", "os.system", "builtins.eval"),
    *("optsweep.runs.write", "optsweep.models.mlp.StackedMLP", "numpy.zeros", "torch.load"),
    *("torchvision.models.resnet18.x", "nothing.at.all", ".", "torch..optim", "my.npz", "/x.npz"),
)
_KEPT_SMALL = {  # keys of which an odd value that is a valid one may train for long
    "trainer.epochs",
    "num_seeds",
    "trainer.batch_size",
    "batch_size",
    "model.hidden_sizes",
    "depth",
    "model.depth",
    "trainer.num_threads",
}
_HYDRAS = (
    *("hydra.verbose=true", "hydra.job.chdir=true", "hydra.mode=MULTIRUN", "hydra.mode=x"),
    *("hydra/sweeper=optuna", "hydra/launcher=x", "hydra.sweeper.n_trials=0", "hydra.job.name=x"),
    *("hydra.run.dir=mine", "hydra.sweep.subdir=x", "hydra.callbacks.x=1", "hydra.output_subdir=x"),
    *("hydra.nothing=1", "hydra=1", "hydra/job_logging=default", "hydra.searchpath=[file://x]"),
)
_FLAGS = ("--multirun", "-m", "--cfg=job", "--cfg", "--resolve", "--info", "--nothing", "-x", "--")


def trials(quick: bool) -> list[Trial]:
    """1,000 command lines and 200 files; in the quick form a few of them."""
    lines, texts = (40, 20) if quick else (1000, 200)
    made = [
        Trial(f"command lines from {first}", partial(_command_lines, _BATCH))
        for first in range(0, lines, _BATCH)
    ]
    return made + [
        Trial(f"YAML files from {first}", partial(_yaml_files, _BATCH))
        for first in range(0, texts, _BATCH)
    ]


def _command_lines(number: int, ground: Ground, rng: random.Random) -> Verdict:
    verdict = Verdict(number)
    for _ in range(number):
        given = [*rng.sample(SMALL, 4), *(override(rng) for _ in range(rng.choice([1, 1, 2, 3])))]
        if rng.random() < 0.15:
            given.append(rng.choice(_FLAGS))
        if rng.random() < 0.1:
            rng.shuffle(given)
        with Ground(ground.workshop) as here:
            _try(here, given, verdict, rng)
    return verdict


def override(rng: random.Random) -> str:
    """One override, of a valid key or another, with a valid value or another."""
    if rng.random() < 0.08:
        return rng.choice(_HYDRAS)
    keys, groups = _keys(), _groups()
    key = rng.choice([*keys, *groups, *groups])
    if key in groups and rng.random() < 0.6:
        value = rng.choice([*groups[key], *_PATHS])
    else:
        odd = 0.3 if key in _KEPT_SMALL else 0.7
        value = rng.choice(_ODD_VALUES if rng.random() < odd else _PLAIN_VALUES)
    if rng.random() < 0.1:
        key = _mistyped(key, rng)
    if rng.random() < 0.05:
        value = _mistyped(value, rng)
    before = rng.choices(["", "+", "++", "~"], [20, 2, 2, 1])[0]
    return rng.choices([f"{before}{key}={value}", f"{before}{key}", value], [40, 1, 1])[0]


def _keys() -> list[str]:
    values = yaml.safe_load((_SHIPPED / "config.yaml").read_text(encoding="utf-8"))
    found = _flat({key: value for key, value in values.items() if key not in ("hydra", "defaults")})
    # Where files go is for no chance to decide.
    return [key for key in found if key not in ("name", "dataset.root", "start_from")]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return found


def _groups() -> dict[str, list[str]]:
    """The options of each group, but of data, which may have to be fetched, and of studies."""
    left_out = ("hydra", "dataset", "experiment", "search")
    folders = [folder for folder in sorted(_SHIPPED.iterdir()) if folder.is_dir()]
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in folders
        if folder.name not in left_out
    }


def _mistyped(text: str, rng: random.Random) -> str:
    """A letter less, more, or another, or two exchanged."""
    at = rng.randrange(len(text) + 1)
    letter = rng.choice("abcxyz._=0-/ ")
    return rng.choice(
        [
            text[:at] + text[at + 1 :],
            text[:at] + letter + text[at:],
            text[:at] + letter + text[at + 1 :],
            text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :],
        ]
    )


def _try(ground: Ground, given: list[str], verdict: Verdict, rng: random.Random) -> None:
    """Run a command line: it trains, or says in one line why not."""
    is_dry = any(_may_take_long(text) for text in given)
    if is_dry:
        given = [*given, "--dry-run"]
    # One in fifty in a process that has imported nothing before.
    done = (ground.run if rng.random() < 0.02 else ground.fork)(*given)
    told = f"{shlex.join(given)[:300]}: {done.told}"
    lines = done.errors.splitlines()
    if f"still running after {SECONDS:.0f} s" in done.errors or done.code == -9:
        verdict.wrong.append(f"{told} (does not end)")
    elif done.code == 2:
        several = "-m" in given or "--multirun" in given
        reasons = [line for line in lines if line.startswith(ERROR)]
        verdict.expect(len(reasons) == len(lines) and (several or len(lines) == 1), told)
        verdict.expect(bool(lines), told)
    else:
        shows = is_dry or any(text.startswith("-") for text in given)
        trained = shows or list(ground.folder.rglob(runs.RESULT_FILE))
        verdict.expect(done.code == 0 and TRACEBACK not in done.errors, told)
        verdict.expect(bool(trained), f"{told} (nothing is trained)")


def _may_take_long(override: str) -> bool:
    """Whether a cell with this may be a large one."""
    key, _, value = override.lstrip("+").partition("=")
    return key in _KEPT_SMALL and len(value) > 3 and override not in SMALL


_MUTATED = ("experiment", "optimizer", "scheduler", "model", "depth")
_TAGS = (
    *("!!python/object/apply:os.system ['touch owned']", "!!binary aGk=", "!!set {a, b}", "*a"),
    *("&a [*a]", "!new x", "2020-01-01", "0o17", "1:30", "~", "{{}}", "[", "{", "'", '"', "|", ">"),
    *(
        "? x",
        "- x",
        "<<: x",
        "%YAML 9.9",
        "---",
        "...",
        "\t",
        "\0",
        "\x85",
        "${no}",
        "${cell_name:}",
    ),
)


def _yaml_files(number: int, ground: Ground, rng: random.Random) -> Verdict:
    verdict = Verdict(number)
    for _ in range(number):
        with Ground(ground.workshop) as here:
            shutil.copytree(CONF, here.folder / "conf")
            group = rng.choice(
                ["experiment", "experiment", "optimizer", "scheduler", "model", "depth"]
            )
            source = rng.choice(sorted((_SHIPPED / group).glob("*.yaml")))
            path = here.folder / "conf" / group / "mutated.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(source.read_bytes())
            for _ in range(rng.choice([1, 1, 2, 3])):
                mutate(path, rng)
            text = path.read_bytes()[:400]
            before = len(verdict.wrong)
            sizes = ["num_seeds=1", "dataset.val_size=20"]
            given = ["--config-dir=conf", f"{group}=mutated", *SMALL, *sizes, "--dry-run"]
            _try(here, given, verdict, rng)
            if not (here.folder / runs.RUNS_FOLDER).exists() and group != "experiment":
                _try(here, given[:-1], verdict, rng)
            verdict.expect(not (here.folder / "owned").exists(), "a file has run a program")
            if len(verdict.wrong) > before:
                verdict.wrong[-1] += f" {source.name} as {text!r}"
    return verdict


def mutate(path: Path, rng: random.Random) -> None:
    """Make one change to a text, of a kind that people and programs make."""
    content = path.read_bytes()
    lines = content.splitlines(keepends=True) or [b"\n"]
    at = rng.randrange(len(lines))
    line = lines[at]
    tag = rng.choice(_TAGS).encode()
    kind = rng.randrange(12) if len(content) > 1 else 9  # less than that cannot be cut
    if kind == 0:
        rng.choice([ways.truncated, ways.one_byte, ways.not_utf8, ways.emptied])(path, rng)
        return
    changed = {
        1: b"",
        2: line + line,
        3: b"  " + line,
        4: line.lstrip(),
        5: b"\t" + line,
        6: line.replace(b":", b"", 1),
        7: line.replace(b": ", b":", 1),
        8: line.partition(b":")[0] + b": " + tag + b"\n",
        9: line + b"  unknown_key: 3\n",
        10: _mistyped(line.decode(errors="replace"), rng).encode(),
        11: line.rstrip(b"\n") + b" " + tag + b"\n",
    }[kind]
    path.write_bytes(b"".join([*lines[:at], changed, *lines[at + 1 :]]) or b"\n")
