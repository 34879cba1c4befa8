"""Signals to real processes: one line, the right exit code, within three seconds, nothing lost."""

import os
import signal
import subprocess
import sys
import time

import pytest

import optsweep
from optsweep import runs

SECONDS = 3  # the promise
LINES = {
    signal.SIGINT: "optsweep: interrupted; the same command continues\n",
    signal.SIGTERM: "optsweep: terminated; the same command continues\n",
    signal.SIGHUP: "optsweep: hung up; the same command continues\n",
}
LONG = ("trainer.epochs=100000", "batch_size=1")

STUCK = """
import torch
from torch import nn


BIG = torch.eye(4000)


class Stuck(nn.Linear):
    \"\"\"Does a single thing that takes a minute, unless it is only tried.\"\"\"

    def forward(self, images):
        if len(images) > 2:
            print("stuck", flush=True)
            torch.linalg.matrix_power(BIG, 2**20)
        return super().forward(images.flatten(1))


def network(num_inputs, num_classes):
    return Stuck(num_inputs, num_classes)
"""


@pytest.fixture
def end_by(start, tmp_path):
    """`end_by(number, *arguments, scope, when)`: what the logs say after a signal.

    It is sent to the process or its group, when every log has the words `when`.
    """

    def ended(number, *arguments, scope=os.kill, when="epoch 1/", num_logs=1, **environment):
        # What starts the tests, such as nohup, may have it ignore the signal.
        before = signal.signal(number, signal.SIG_DFL)
        try:
            process = start(*arguments, new_session=True, **environment)
        finally:
            signal.signal(number, before)
        give_up = time.monotonic() + 120
        while sum(when in text for text in logs(tmp_path)) < num_logs:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.05)
        time.sleep(0.2)
        sent = time.monotonic()
        scope(process.pid, number)
        _, errors = process.communicate(timeout=60)  # the pipe is everybody's, so they are gone
        assert time.monotonic() - sent < SECONDS
        assert (process.returncode, errors) == (128 + number, LINES[number])
        assert not list(tmp_path.rglob(".lease*"))
        assert not list(tmp_path.rglob(runs.RESULT_FILE))
        return logs(tmp_path)

    return ended


def logs(root) -> list[str]:
    return [path.read_text() for path in sorted(root.rglob(runs.LOG_FILE))]


def test_a_cell_ends_in_the_middle_of_an_epoch(end_by):
    (log,) = end_by(signal.SIGHUP, *LONG, "num_seeds=10", "optimizer=adam", scope=os.killpg)
    assert log.endswith("Interrupted: SIGHUP\n")


def test_what_python_cannot_interrupt_is_ended_from_outside(end_by, tmp_path):
    (tmp_path / "mine.py").write_text(STUCK)
    (log,) = end_by(
        signal.SIGINT,
        *("allow_targets=[mine]", "model=mine.network"),
        when="stuck",
        PYTHONPATH=f"{optsweep.__path__[0]}/..:{tmp_path}",
    )
    assert "ended by SIGINT in the middle of a step\n" in log


@pytest.mark.parametrize(
    ("launcher", "number", "scope"),
    [
        ("joblib", "SIGINT", os.killpg),
        ("joblib", "SIGTERM", os.kill),
        ("submitit_local", "SIGINT", os.kill),
    ],
)
def test_a_launchers_processes_end_too(end_by, launcher, number, scope):
    if launcher.startswith("submitit"):
        pytest.importorskip("submitit")
    given = (f"hydra/launcher={launcher}", "seed=0,1", "num_seeds=2", *LONG)
    told = end_by(signal.Signals[number], "--multirun", *given, scope=scope, num_logs=2)
    assert len(told) == 2
    assert all("Interrupted: SIG" in log or "ended by SIG" in log for log in told)


def test_imports_end_without_a_traceback(tmp_path):
    program = (
        "import os, signal, sys, threading; from optsweep.__main__ import main;"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start(); main()"
    )
    arguments = ["trainer.epochs=100000", f"dataset.root={tmp_path}", "dataset=kmnist"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", LINES[signal.SIGINT])


def test_signals_that_are_ignored_stay_so(start, tmp_path):
    """As `nohup` and shells that start something in the background have it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("trainer.epochs=100000", "batch_size=10")
    finally:
        signal.signal(signal.SIGHUP, before)
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            process.send_signal(signal.SIGHUP)
        if line.startswith("epoch 3/"):
            process.send_signal(signal.SIGTERM)
    assert process.communicate()[1] == LINES[signal.SIGTERM]
    assert process.returncode == 143
