"""Signs of life, and the leases of cells' directories."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from optsweep.liveness import RELEASED, Occupied, Watch, alone_in, sign_of_life

ROOT = Path(__file__).resolve().parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from optsweep.liveness import alone_in

with alone_in(Path(sys.argv[1]), print, float(sys.argv[2])):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
print("left", flush=True)
"""


@pytest.fixture
def hold(tmp_path):
    """`hold(stale_seconds, seconds)`: another process that has the lease of a directory."""
    started = []

    def holding(stale_seconds: float, seconds: float) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, tmp_path, str(stale_seconds), str(seconds)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield holding
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def leases(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".lease*"))


def test_a_sign_is_watched_by_ones_own_clock():
    watch = Watch(stale_seconds=0.3)
    elsewhere = sign_of_life() | {"machine": "another"}
    assert watch.is_alive(0, elsewhere) is None  # too early to tell
    assert watch.is_alive(0, elsewhere | {"count": 1}) is True
    time.sleep(0.4)
    assert watch.is_alive(0, elsewhere | {"count": 1}) is False
    assert watch.is_alive(0, elsewhere | {"count": 2}) is True
    assert watch.is_alive(1, sign_of_life()) is True  # a process of this machine
    assert watch.is_alive(2, RELEASED) is False
    assert watch.is_alive(3, None) is None


def test_one_process_at_a_time_and_the_other_says_that_it_waits(hold, tmp_path):
    hold(30, 1.0)
    said: list[str] = []
    with alone_in(tmp_path, said.append):
        assert said == [f"waiting for {tmp_path.name}, which another process is training"]
        assert leases(tmp_path) == [".lease.0"]
    assert leases(tmp_path) == []


def test_who_must_not_wait_is_told_that_a_directory_is_occupied(hold, tmp_path):
    process = hold(600, 600)
    with pytest.raises(Occupied), alone_in(tmp_path, print, 600, waits=False):
        pass
    assert leases(tmp_path) == [".lease.0"]
    process.kill()
    process.wait()
    with alone_in(tmp_path, print, 600, waits=False):
        assert leases(tmp_path) == [".lease.0", ".lease.1"]
    assert leases(tmp_path) == []


def test_a_killed_process_is_not_waited_for(hold, tmp_path):
    process = hold(600, 600)
    process.kill()
    process.wait()
    said: list[str] = []
    with alone_in(tmp_path, said.append, 600):
        assert said == []
    assert leases(tmp_path) == []


def test_a_process_of_another_machine_is_waited_for_until_its_sign_is_stale(tmp_path):
    sign = sign_of_life() | {"machine": "another"}
    (tmp_path / ".lease.0").write_text(json.dumps(sign))
    said: list[str] = []
    started = time.monotonic()
    with alone_in(tmp_path, said.append, 1.0):
        assert time.monotonic() - started >= 1.0
        assert leases(tmp_path) == [".lease.0", ".lease.1"]
    assert len(said) == 1
    assert leases(tmp_path) == []


def test_a_process_that_stood_still_does_not_take_the_lease_from_who_came_after(hold, tmp_path):
    process = hold(0.6, 1.0)
    process.send_signal(signal.SIGSTOP)
    with alone_in(tmp_path, print, 0.6):
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "left\n"
        assert ".lease.1" in leases(tmp_path)
    assert leases(tmp_path) == []


def test_many_that_find_a_dead_process_lease_take_turns(tmp_path):
    sign = sign_of_life() | {"machine": "another"}
    (tmp_path / ".lease.0").write_text(json.dumps(sign))
    inside, most = [], []

    def work() -> None:
        with alone_in(tmp_path, lambda line: None, 0.6):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert leases(tmp_path) == []


def test_an_error_gives_the_lease_back(tmp_path):
    def fail() -> None:
        with alone_in(tmp_path, print):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert leases(tmp_path) == []
