"""A mistake is one line and exit code 2; a bug is a traceback and exit code 1."""

import shlex
from pathlib import Path

import pytest

from optsweep import runs
from optsweep.cli import mistakes
from optsweep.cli.cell_log import logged
from optsweep.config.checks import Blaming, ForeignError, InputError

REPORTED = "optsweep: error: "
OWN = """
import torch
import optsweep.runs

class Refusal(Exception):
    pass

class Picky(torch.optim.SGD):
    def __init__(self, params, lr=0.1, mood="good", when="made"):
        super().__init__(params, lr=lr)
        self.mood, self.when = mood, when
        self.check("made")

    def step(self, closure=None):
        self.check("stepped")
        super().step()

    def check(self, when):
        if when == self.when and self.mood == "bad":
            raise Refusal(f"mood={self.mood} is not good")
        if when == self.when and self.mood == "lost":
            {}["way"]
        if when == self.when and self.mood == "away":
            open("/nowhere/at/all")
        if when == self.when and self.mood == "buggy":
            optsweep.runs.mean_accuracy(None)

class Net(torch.nn.Module):
    def __init__(self, num_inputs, num_classes, when=""):
        if when == "made":
            raise Refusal("no network today")
        super().__init__()
        self.linear = torch.nn.Linear(num_inputs, num_classes)
        self.when = when

    def forward(self, images):
        if self.when == "large" and len(images) > 2:
            raise Refusal("too many images")
        return self.linear(images.flatten(1))

class Rates(torch.optim.lr_scheduler.LambdaLR):
    def __init__(self, optimizer):
        raise Refusal("no rates today")

def multiplier(num_steps):
    return lambda tick: None

def init(weight, bias, generator):
    raise Refusal("no weights today")

def data():
    raise Refusal("no images today")
"""
PICKY = ["optimizer=own.Picky", "allow_targets=[own]"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*PICKY, "+optimizer.mood=bad"], "optimizer Picky: mood=bad is not good"),
        ([*PICKY, "+optimizer.mood=lost"], "optimizer Picky: KeyError: 'way'"),
        ([*PICKY, "+optimizer.mood=away"], "optimizer Picky: [Errno 2] No such file"),
        (
            [*PICKY, "+optimizer.mood=bad", "+optimizer.when=stepped"],
            "optimizer: mood=bad is not good",
        ),
        (["model=own.Net", "allow_targets=[own]", "+model.when=made"], "model Net: no network"),
        (
            ["model=own.Net", "allow_targets=[own]", "+model.when=large"],
            "model Net: too many images",
        ),
        (
            ["scheduler._target_=own.Rates", "allow_targets=[own]", "scheduler.factor=null"],
            "scheduler Rates: no rates",
        ),
        (
            ["scheduler._target_=own.multiplier", "allow_targets=[own]", "scheduler.factor=null"],
            "scheduler multiplier: float() argument must be",
        ),
        (["init._target_=own.init", "allow_targets=[own]"], "init: no weights today"),
        (["dataset=own.data", "allow_targets=[own]"], "dataset custom: own.data: no images today"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_code_of_others_says_of_a_value_is_one_line(run, tmp_path, arguments, message):
    (tmp_path / "own.py").write_text(OWN)
    code, _, errors = run(*arguments, "trainer.epochs=1")
    assert code == 2
    assert errors.startswith(REPORTED + message)
    assert errors.endswith(" (--debug shows where)\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("when", ["made", "stepped"])
def test_what_optsweep_itself_raises_is_a_bug(run, tmp_path, when):
    (tmp_path / "own.py").write_text(OWN)
    code, _, errors = run(*PICKY, "+optimizer.mood=buggy", f"+optimizer.when={when}")
    assert code == 1
    assert errors.startswith("Traceback (most recent call last):\n")
    assert errors.endswith("\nTypeError: 'NoneType' object is not iterable\n")


@pytest.mark.parametrize("error", ["OSError", "TypeError", "RuntimeError", "AssertionError"])
@pytest.mark.parametrize("place", ["composition.plan", "runs.start"])
def test_no_kind_of_error_makes_a_bug_a_mistake(run, error, place):
    program = f"""
from optsweep import runs
from optsweep.cli import composition, main, validation
def broken(*arguments):
    raise {error}("a bug")
{place} = broken
main()
"""
    code, _, errors = run("trainer.epochs=1", module=("-c", program))
    assert code == 1
    assert errors.startswith("Traceback (most recent call last):\n")
    assert errors.endswith(f"\n{error}: a bug\n")


@pytest.mark.parametrize("switch", ["--debug", "HYDRA_FULL_ERROR"])
def test_the_traceback_of_a_mistake_can_be_had(run, switch):
    asked = {"HYDRA_FULL_ERROR": "1"} if switch == "HYDRA_FULL_ERROR" else {}
    arguments = ["--debug"] if switch == "--debug" else []
    code, output, errors = run("batch_size=0", *arguments, **asked)
    assert (code, output) == (2, "")
    assert errors.startswith("Traceback (most recent call last):\n")
    assert errors.endswith(
        f"\n{REPORTED}batch_size=0: expected a whole number from 1 to 1000 (the "
        "number of training examples)\n"
    )


def test_debugging_changes_nothing_else(run):
    code, output, errors = run("trainer.epochs=1", "--debug")
    assert (code, errors) == (0, "")
    assert "results: " in output


FILES = {
    "experiment/section.yaml": "# @package _global_\ntrainer: 3\n",
    "experiment/chosen.yaml": "# @package _global_\noptimizer: adam\n",
    "experiment/unreadable.yaml": "x: [\n",
    "experiment/key.yaml": "# @package _global_\ntrainer:\n  epoch: 3\n",
    "experiment/launcher.yaml": "# @package _global_\nhydra:\n  launcher: 3\n",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment=section"], "trainer=3: expected settings such as trainer.device=…"),
        (["trainer=3"], "trainer=3: expected epochs, batch_size, device"),
        (["experiment=chosen"], "optimizer=adam: expected _target_ and its settings"),
        (["experiment=unreadable"], "while parsing a flow node did not find expected node conte"),
        (["experiment=key"], "there is no key trainer.epoch; did you mean epochs?"),
        (
            ["experiment=launcher"],
            "In 'experiment/launcher': ValidationError raised while composing config: Merge error",
        ),
        (["dataset.name=3"], "dataset.name=3: expected a name"),
        (
            ["scheduler=warmup", "scheduler.warmup_epoch=2"],
            "there is no key scheduler.warmup_epoch with scheduler=warmup; did you mean "
            "scheduler.warmup_epochs?",
        ),
        (
            ["--multirun", "scheduler=constant,warmup", "scheduler.warmup_epoch=2"],
            "there is no key scheduler.warmup_epoch",
        ),
        (["optimizer=torch.optim.Muon"], "optimizer Muon takes 2D parameters alone, and this"),
        (["optimizer.lr=1e-400"], "optimizer.lr=1e-400: 1e-400 is too small a number"),
        (["weight_decay=1e-400"], "weight_decay=1e-400: 1e-400 is too small a number"),
        (["optimizer.lr=0." + "0" * 400 + "1"], "optimizer.lr=0.000"),
        (["words"], "words: expected key=value; a value with spaces is quoted, for the shell and "),
        (["--frob"], "unrecognized arguments: --frob; "),
        (["--cfg"], "argument --cfg/-c: expected one argument; "),
        (["hydra/launcher=jblib"], "hydra/launcher=jblib: there is no such option; did you mean j"),
        (["hydra.sweep=3"], "Error merging override hydra.sweep=3 (--debug shows where)"),
        (["~name"], "name: it cannot be deleted"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_mistake_names_the_value_and_what_would_be_right(run, tmp_path, arguments, message):
    for name, text in FILES.items():
        path = tmp_path / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    search_path = f"hydra.searchpath=[file://{tmp_path / 'theirs'}]"
    code, output, errors = run(search_path, *arguments)
    assert (code, output) == (2, "")
    assert errors.startswith(REPORTED + message)
    assert errors.count("\n") == 1
    assert not (tmp_path / "multirun").exists()


@pytest.mark.parametrize(
    "value", ["/a=b", "/a#b", "~/b", "/a(b", "/a[1]", '/a"b', "/a'b", "a&b", "x;y", "back\\#slash"]
)
def test_how_to_quote_is_said_and_works(run, tmp_path, value):
    """Of a folder that is looked into first, and need not be there."""
    code, _, errors = run(f"dataset.root={value}")
    assert code == 2
    assert errors.startswith(f"{REPORTED}dataset.root={value}: this cannot be read as key=value; ")
    (argument,) = shlex.split(errors.partition("for Hydra: ")[2])
    code, output, errors = run(argument, "--cfg", "job", "--package", "dataset.root")
    assert (code, output, errors) == (0, f"{value}\n", "")


def test_a_zero_is_the_same_with_a_sign(compose):
    assert repr(compose("optimizer.lr=-0.0")) == repr(compose("optimizer.lr=0.0"))


def test_only_the_call_and_code_of_others_are_blamed():
    def refuse():
        raise KeyError("way")

    with pytest.raises(ForeignError, match=r"^model Net: KeyError: 'way'$"), Blaming("model Net"):
        refuse()
    with pytest.raises(ForeignError, match="takes 0 positional"), Blaming("model Net"):
        refuse(1)
    with pytest.raises(InputError, match=r"^1: expected"), Blaming("model Net"):
        raise InputError("1: expected 2")
    with pytest.raises(KeyboardInterrupt), Blaming("model Net"):
        raise KeyboardInterrupt


def test_memory_that_runs_out_is_a_mistake():
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")
    for each in (error, MemoryError("Unable to allocate 8 TiB")):
        assert mistakes.is_mistake(each)
        assert mistakes.one_line(each).startswith(f"memory ran out ({each}); fewer seeds at once")


def test_a_log_has_what_the_screen_shows_in_the_end(tmp_path, capsys):
    with logged(tmp_path / "log.txt"):
        print("\x1b[1mbold\x1b[0m")
        for number in range(3):
            print(f"\r\x1b[2Kepoch {number}", end="", flush=True)
        print()
    with pytest.raises(ValueError, match="why"), logged(tmp_path / "log.txt"):
        raise ValueError("why")
    first, shown, bar, second, *traceback = (tmp_path / "log.txt").read_text().splitlines()
    assert (first[:4], shown, bar, second[:4]) == ("--- ", "bold", "epoch 2", "--- ")
    assert traceback[-1] == "ValueError: why"
    assert capsys.readouterr().out == (
        "\x1b[1mbold\x1b[0m\n\r\x1b[2Kepoch 0\r\x1b[2Kepoch 1\r\x1b[2Kepoch 2\n"
    )


def test_a_log_that_cannot_be_written_does_not_end_a_training(run, tmp_path):
    cell = tmp_path / "cell"
    cell.mkdir()
    (cell / "log.txt").symlink_to("/dev/full")
    code, _, errors = run(f"hydra.run.dir={cell}", "trainer.epochs=1")
    assert (code, errors) == (0, "")
    assert (cell / "result.json").exists()


def test_an_interrupt_that_became_another_error_ends_the_sweep(run, tmp_path):
    (tmp_path / "own.py").write_text(
        "import os, signal, threading, time, torch\n"
        "class Interrupted(torch.optim.SGD):\n"
        "    left = 20\n"
        "    def step(self, closure=None):\n"
        "        self.left -= 1\n"
        "        if self.left < 0:\n"
        "            try:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "                time.sleep(1)\n"
        "            finally:\n"
        "                threading.RLock().release()\n"
        "        super().step()\n"
    )
    own = ("optimizer=own.Interrupted", "allow_targets=[own]", "batch_size=10")
    paths = f"{Path(runs.__file__).parents[1]}:{tmp_path}"
    code, output, errors = run("--multirun", *own, "seed=0,1", PYTHONPATH=paths)
    assert (code, errors) == (130, "optsweep: interrupted; the same command continues\n")
    assert "cell 2 of 2" not in output


@pytest.mark.parametrize("given", ["--config-dir=/nowhere", "hydra.searchpath=[file:///nowhere]"])
def test_a_folder_of_options_that_is_not_there_is_named(run, given):
    code, _, errors = run(given, "--dry-run")
    assert (code, errors) == (2, "optsweep: error: there is no folder /nowhere of options\n")
