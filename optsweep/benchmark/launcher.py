"""Start a program and tell its wall time and peak memory, and when it printed certain lines.

It is a program of its own, small and run without `site`: a child's peak memory starts from that
of the process that started it.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Arguments: a JSON list of texts to look for in its output, then the command."""
    marks = json.loads(sys.argv[1])
    at: dict[str, float] = {}
    started = time.perf_counter()
    child = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        for mark in marks:
            if mark in line:
                at.setdefault(mark, time.perf_counter() - started)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    found = {"seconds": seconds, "megabytes": usage.ru_maxrss * unit / 1e6, "at": at}
    print(json.dumps(found | {"exit_code": child.returncode}))


if __name__ == "__main__":
    main()
