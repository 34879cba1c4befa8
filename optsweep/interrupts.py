"""Signals that end the program: Ctrl-C, SIGTERM, SIGHUP. One line, and within three seconds.

A signal is raised as `Interrupted` in the main thread, so that everything is laid down in
order: logs, leases, trials. The processes that it has started are told at once. What Python
cannot interrupt, such as a single long operation of PyTorch's, is ended from outside when its
time is up, with what there is to say and to release.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
_SIGNALS = tuple(getattr(signal, name) for name in _WORDS if hasattr(signal, name))
_INHERITED = (signal.SIG_DFL, signal.default_int_handler)  # what nobody has chosen

# Seconds from the signal to the end. Workers have to be gone before the program that waits.
_FOR_WORKERS, _UNTIL_KILLED, _FOR_PROGRAM = 0.7, 1.7, 2.2

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """A signal has come.

    Of its own class: of the plain one Python remembers, if it passes through a text that is
    executed, that it was never caught, and ends the process by another SIGINT.
    """


class _State:
    """Of this process."""

    received: signal.Signals | None = None
    since = 0.0  # by time.monotonic(), when it came
    told = False
    watched_by: int | None = None  # number of the process that has the thread that watches
    last_words: list[Callable[[str], object]]

    def __init__(self) -> None:
        self.last_words = []


_state = _State()


def received() -> bool:
    """Whether the program has been told to end: what it raises from then on is no fault."""
    return _state.received is not None


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """End the program that runs here with one line and the signal's exit code.

    Signals that whoever started the program has it ignore, such as `nohup`, stay ignored.
    """
    _install(_watch_program)
    try:
        yield
    except BaseException:
        if not received():
            raise
        sys.exit(farewell())


@contextlib.contextmanager
def as_interrupt() -> Iterator[None]:
    """Let what a signal has caused be an interrupt, whatever it has become on its way.

    Raised between two steps of Python's own locks, it ends as a RuntimeError of theirs, and in
    an import or a compiler as some error of theirs.
    """
    try:
        yield
    except Exception as error:
        if not received():
            raise
        raise Interrupted from error


@contextlib.contextmanager
def handled_in_worker() -> Iterator[None]:
    """End a worker's process without a word, for the program that started it has the word.

    In the program itself nothing is done, and nothing on a cluster, whose own signals mean more.
    """
    parent = os.getppid()
    is_worker = multiprocessing.parent_process() is not None
    if not (is_worker or os.environ.get("SUBMITIT_EXECUTOR") == "local"):
        yield
        return
    _install(lambda wake: _watch_worker(wake, parent), instead_of_others=True)
    try:
        yield
    except BaseException:
        if not received():
            raise
        _leave()
    finally:
        _forget()


def farewell() -> int:
    """Wait for the processes that were told to end, and say the line.

    Returns:
        The exit code.
    """
    number = _state.received or signal.SIGINT
    if received():  # else this is part of a program that has other processes too
        while time.monotonic() < _state.since + _UNTIL_KILLED and _children():
            time.sleep(0.02)
        for child in _children():
            _tell(child, getattr(signal, "SIGKILL", signal.SIGTERM))
    if not _state.told:
        _state.told = True
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone
            print(f"optsweep: {_WORDS[number.name]}; the same command continues", file=sys.stderr)
    return 128 + number


@contextlib.contextmanager
def if_ended(last_word: Callable[[str], object]) -> Iterator[None]:
    """Have something called if the process is ended from outside meanwhile, with the reason."""
    _state.last_words.append(last_word)
    try:
        yield
    finally:
        _state.last_words.remove(last_word)


def apart(work: Callable[[], T]) -> T:
    """Do something in a thread whose processes do not feel Ctrl-C.

    A terminal sends it to all processes. Those that are still starting would answer with a page
    each; the program tells them in its own time.
    """
    ends: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def do() -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            ends.put((work(), None))
        except BaseException as error:
            ends.put((None, error))

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    try:
        result, error = ends.get()
    except Interrupted:
        # Its processes end now. What it tidies up after them must not be done twice, which
        # joblib's resource tracker answers with a traceback of its own.
        thread.join(max(0.0, _state.since + _UNTIL_KILLED - time.monotonic()))
        raise
    if error is not None:
        raise error
    return result


def _install(watch: Callable[[socket.socket], None], instead_of_others: bool = False) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        before = signal.getsignal(number)
        if before in _INHERITED or (instead_of_others and before is not signal.SIG_IGN):
            signal.signal(number, _raise)
    if _state.watched_by == os.getpid():
        return
    _state.watched_by = os.getpid()
    _silence()
    wake, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.detach(), warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_all)
    threading.Thread(target=watch, args=(wake,), daemon=True).start()


def _raise(number: int, frame: FrameType | None) -> None:
    """Interrupt the main thread, once: a second signal must not disturb what lays things down."""
    if not received():
        _receive(number)
        raise Interrupted(signal.Signals(number).name)


def _receive(number: int) -> None:
    _state.since = time.monotonic()
    _state.received = signal.Signals(number)


def _silence() -> None:
    """Let nobody print what has come of the interruption in a place that cannot raise it."""
    unraisable, excepthook = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = lambda told: None if received() else unraisable(told)
    threading.excepthook = lambda told: None if received() else excepthook(told)


def _forget_all() -> None:
    """In a forked process: what is watched are the parent's signals."""
    signal.set_wakeup_fd(-1)
    _forget()


def _forget() -> None:
    """Leave signals to the system, whose end of a process is without a word."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _raise:
            signal.signal(number, signal.SIG_DFL)


def _watch_program(wake: socket.socket) -> None:
    number = _wait(wake)
    for child in _children():
        _tell(child, signal.SIGTERM)
    time.sleep(_FOR_PROGRAM)
    _say_last_words(number)
    farewell()
    _leave()


def _watch_worker(wake: socket.socket, parent: int) -> None:
    while not select.select([wake], [], [], 1.0)[0]:
        if os.getppid() != parent:  # it was killed, and nobody waits for what is done here
            os._exit(1)
    number = _wait(wake)
    time.sleep(_FOR_WORKERS)
    _say_last_words(number)
    _leave()


def _wait(wake: socket.socket) -> int:
    """Wait for one of our signals, which the main thread may not be able to take notice of."""
    while (number := wake.recv(1)[0]) not in _SIGNALS or signal.getsignal(number) is not _raise:
        pass
    return number


def _say_last_words(number: int) -> None:
    if not received():
        _receive(number)
    for last_word in tuple(_state.last_words):
        with contextlib.suppress(Exception):
            last_word(signal.Signals(number).name)


def _leave() -> None:
    assert _state.received is not None
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(128 + _state.received)


def _children() -> list[int]:
    """Processes that this one has started and that still run, but those that only tidy up."""
    found = {child.pid for child in multiprocessing.active_children() if child.pid is not None}
    for path in Path("/proc/self/task").glob("*/children"):  # Linux, which knows of others too
        with contextlib.suppress(OSError):
            found |= set(map(int, path.read_text().split()))
    return [child for child in found if _would_end(child)]


def _would_end(child: int) -> bool:
    """Whether a process is neither dead already nor deaf to SIGTERM, as a resource tracker is."""
    try:
        status = Path(f"/proc/{child}/status").read_text()
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    except OSError:
        return True
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    is_deaf = int(fields["SigIgn"], 16) >> (signal.SIGTERM - 1) & 1
    return not is_deaf and fields["State"].split()[0] not in "ZX"


def _tell(child: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(child, number)
