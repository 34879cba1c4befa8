"""The program, again and again, by a process that has imported what it takes and then forks.

Each command line is run by a process of its own, in the folder and environment that are asked
for, from the program's first line to its exit code; it is spared three seconds of imports, most
of them PyTorch's, which hundreds of command lines add up to. Not for what these seconds are part
of: signals, kills, and variables that libraries read as they are imported.
"""

import atexit
import json
import os
import runpy
import sys
import threading
import traceback
from importlib import import_module

# What a cell or a search imports, but for the module that is asked whether it is the first time.
IMPORTED = (
    *("optsweep.cli", "optsweep.cli.search", "optsweep.training.cell", "optsweep.training.plan"),
    *("optsweep.report.curves", "optuna", "scipy.linalg", "numba", "rich.console", "rich.table"),
)


def serve() -> None:
    """Read what is asked for, a line each; answer with exit codes."""
    for name in IMPORTED:
        import_module(name)
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            run_program(**json.loads(line))
        _, status = os.waitpid(number, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run_program(arguments, folder, environment, output, errors) -> None:
    """Be `python -m optsweep` in a folder, and end as it does."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate((os.devnull, output, errors)):
        flags = os.O_WRONLY | os.O_TRUNC if descriptor else os.O_RDONLY
        os.dup2(os.open(path, flags), descriptor)
    sys.argv[1:], sys.path[0] = arguments, folder
    code = 1
    try:
        runpy.run_module("optsweep", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
