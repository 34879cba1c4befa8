"""A process that trains with one peer: a line of JSON in, a line of JSON out.

Whatever libraries print goes to its log, which is where its standard error points.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import threadpoolctl

from optsweep.benchmark import limits
from optsweep.benchmark.images import load_images
from optsweep.benchmark.libraries import LIBRARIES
from optsweep.benchmark.peers import PEERS, Peer
from optsweep.benchmark.tasks import Task
from optsweep.config.checks import InputError
from optsweep.config.dataset import dataset_config


def main() -> None:
    """Serve until standard input ends; the only argument is the peer's name, or a library's."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer = _Limits(sys.argv[1]) if sys.argv[1] in LIBRARIES else _Timed(sys.argv[1])
    for line in sys.stdin:
        try:
            given = answer(**json.loads(line))
        except Exception as error:
            mistake = isinstance(error, InputError)
            given = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
            given |= {"mistake": str(error)} if mistake else {}
        answers.write(json.dumps(given) + "\n")
        answers.flush()


class _Timed:
    """Answers with what a peer takes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peer: Peer | None = None

    def __call__(self, do: str, task: Any = None, seeds: Any = (), dataset: Any = None) -> Any:
        if do == "load":
            config = dataset_config(dataset)
            images = load_images(config)
            self.peer = PEERS[self.name].load()(images, config)
            return {}
        if self.peer is None:
            raise RuntimeError("load comes first")
        if do == "prepare":
            # Thread pools are listed once all libraries are there.
            seconds = self.peer.prepare(Task(**task))
            return {"compile_seconds": seconds, "blas": blas_libraries()}
        return self.peer.train(Task(**task), seeds)._asdict()


class _Limits:
    """Answers with rates of one library."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, do: str, **arguments: Any) -> Any:
        return {"rows": limits.MEASUREMENTS[do](self.name, **arguments), "blas": blas_libraries()}


def blas_libraries() -> list[str]:
    """The BLAS libraries and thread pools of this process, with their kernels."""
    told = []
    for pool in threadpoolctl.threadpool_info():
        parts = [pool["internal_api"], pool.get("version"), pool.get("architecture")]
        text = " ".join(str(part) for part in parts if part)
        told.append(f"{text}, {pool['num_threads']} threads")
    return sorted(told)


if __name__ == "__main__":
    main()
