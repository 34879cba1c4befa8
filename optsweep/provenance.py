"""Which code made a result: the sources that decide it, the libraries that compute it, and where.

None of it is part of a cell's name. A result by other code is used, and said to be one.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import optsweep
from optsweep.config.schema import Config, ModuleConfig

# The one list of rooms whose sources decide what comes out of a cell. Those above them ask for
# cells, keep what comes out and tell of it.
DECIDING_ROOMS = ("config", "data", "models", "optim", "engine", "training")
# Engine -> the libraries that compute there.
_LIBRARIES = {
    "torch": ("torch", "numpy"),
    "torch_graph": ("torch", "numpy"),
    "numba": ("torch", "numpy", "numba", "scipy"),  # SciPy has the BLAS that is called
}
# Of vectors, widest first: the kernel's names, and usual ones.
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}
_PACKAGE = Path(__file__).resolve().parent
_UNKNOWN = "unknown"


def made_by(config: Config) -> dict[str, Any]:
    """What a result says of the code that is making it, and of where that runs.

    Args:
        config: Of the cell.
    """
    return {
        "sources": sources(config),
        "commit": _commit(),
        "versions": {
            "optsweep": optsweep.__version__,
            "python": platform.python_version(),
            **_versions(),
        },
        "processor": processor(),
        "data": _checksums(config),
    }


def continued(made: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a result says that one code has begun and another ended, which is by neither of them.

    Args:
        made: What `made_by` says now.
        before: What it said then; None if that is not known.

    >>> code = {"sources": {"optsweep": "1f2e"}, "versions": {"torch": "2.9.0"}}
    >>> continued(code, code | {"sources": {"optsweep": "3a4b"}})["sources"]
    {'optsweep': '3a4b then 1f2e'}
    """

    def both(part: str, name: str, now: str) -> str:
        then = before[part].get(name, now) if before is not None else _UNKNOWN
        return now if then == now else f"{then} then {now}"

    parts = {
        part: {name: both(part, name, now) for name, now in made[part].items()}
        for part in ("sources", "versions")
    }
    return {**made, **parts}


def sources(config: Config) -> dict[str, str]:
    """The fingerprints of the code that decides a cell's result, the user's own included."""
    return {"optsweep": _own_fingerprint()} | {
        package: _fingerprint_of(package) for package in sorted(_packages(config))
    }


def by_other_code(result: Mapping[str, Any], config: Config) -> str:
    """Which other code made a result, in words; empty if it was this.

    A result of a version that did not say what it was is by other code.
    """
    now = sources(config) | _versions()
    made = code_of(result)
    other = {name: version for name, version in made.items() if now.get(name) != version}
    return in_words(other, _short_commit(result))


def other_versions(result: Mapping[str, Any]) -> dict[str, str]:
    """The libraries that a result was made with in versions that are not installed now."""
    made, installed = result.get("versions", {}), _versions()
    libraries = _LIBRARIES.get(result["engine"], ())
    known = {name: str(made[name]).partition("+")[0] for name in libraries if name in made}
    return {n: version for n, version in known.items() if installed[n].partition("+")[0] != version}


def told_of_other_code(makers: Sequence[str], what: str = "cells") -> str:
    """A line on results that are used although other code made them; empty if there are none.

    Args:
        makers: Of each result what `by_other_code` says.
        what: Is done.

    >>> told_of_other_code(["", "torch 2.9.0", "torch 2.9.0"])
    '2 of 3 cells done before by other code: torch 2.9.0 (rerun=stale trains these again)'
    """
    others = [maker for maker in makers if maker]
    if not others:
        return ""
    who = "; ".join(dict.fromkeys(others))
    counted = f"{len(others)} of {len(makers)} {what}"
    return f"{counted} done before by other code: {who} (rerun=stale trains these again)"


def code_of(result: Mapping[str, Any]) -> dict[str, str]:
    """What made a result: package -> fingerprint of its sources, library -> version.

    >>> code_of({"versions": {"torch": "2.9.0"}})
    {'optsweep': 'unknown'}
    """
    if "sources" not in result:
        return {"optsweep": _UNKNOWN}
    libraries = _LIBRARIES.get(result["engine"], ())
    versions = {name: str(result["versions"].get(name)) for name in libraries}
    return {name: str(known) for name, known in result["sources"].items()} | versions


def in_words(code: Mapping[str, str], commit: str = "") -> str:
    """Code as a reader wants it.

    >>> in_words({"optsweep": "1f2e3d4c5b", "torch": "2.9.0"}, "commit 89abcdef")
    'other sources of optsweep (1f2e3d4c5b, commit 89abcdef), torch 2.9.0'
    >>> in_words({"optsweep": "unknown"})
    'an unknown version'
    """
    told = []
    for name, version in code.items():
        if version == _UNKNOWN:
            told.append("an unknown version")
        elif name in _LIBRARIES["numba"]:
            told.append(f"{name} {version}")
        else:
            which = f"{version}, {commit}" if commit and name == "optsweep" else version
            told.append(f"other sources of {name} ({which})")
    return ", ".join(told)


def _short_commit(result: Mapping[str, Any]) -> str:
    commit, _, dirty = str(result.get("commit") or "").partition("-")
    return f"commit {commit[:8]}{'-' * bool(dirty)}{dirty}" if commit else ""


@functools.cache
def _own_fingerprint() -> str:
    return _fingerprint(path for room in DECIDING_ROOMS for path in (_PACKAGE / room).rglob("*.py"))


@functools.cache
def _fingerprint_of(package: str) -> str:
    """The fingerprint of a package of the user's; nothing of it is imported."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None:
        return "not found"
    folders = [Path(folder) for folder in found.submodule_search_locations or ()]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return _fingerprint(files or [Path(found.origin or "")])


def _fingerprint(files: Iterable[Path]) -> str:
    """Ten hexadecimal digits that source files have in common, wherever they lie."""
    digest = hashlib.sha256()
    for path in sorted(files):
        # Git and wheels may end lines in two ways.
        content = path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else b""
        digest.update(f"{path.parent.name}/{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:10]


def _packages(config: Config) -> set[str]:
    """The packages of the user's that a configuration names."""
    model = config.model.target if isinstance(config.model, ModuleConfig) else ""
    parts = (config.init, config.optimizer, config.scheduler, config.dataset.source)
    targets = [model, *(target for part in parts for target in _targets(part))]
    packages = {target.partition(".")[0] for target in targets if target}
    return packages - {"optsweep", "torch", "torchvision"}


def _targets(part: Any) -> Iterator[str]:
    """Every dotted path in a section, those of its own parts included."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield from [str(value)] if key == "_target_" else _targets(value)
    elif isinstance(part, (list, tuple)):
        for each in part:
            yield from _targets(each)


@functools.cache
def _versions() -> dict[str, str]:
    names = dict.fromkeys(name for names in _LIBRARIES.values() for name in names)
    return {name: metadata.version(name) for name in names}


@functools.cache
def _commit() -> str | None:
    """The commit that is checked out, as `git describe --dirty` marks it; None if there is none."""

    def git(*arguments: str) -> str:
        command = ("git", "--no-optional-locks", "-C", str(_PACKAGE), *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # or it is the repository of another
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@functools.cache
def processor() -> str:
    """The name of this machine's processor and, where it can be told, its widest vectors.

    Machines of one name may have others, and then round otherwise and take another time.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    names = re.findall(r"model name\s*: (.+)", text)
    vectors = (f", {told}" for flag, told in _VECTORS.items() if f" {flag} " in text)
    name = names[0] if names else platform.processor() or platform.machine()
    return name + next(vectors, "")


def _checksums(config: Config) -> dict[str, str]:
    """The SHA-256 of what was trained on: of all arrays, or of the files that they came in."""
    if config.dataset.checksum is not None:
        return {"arrays": config.dataset.checksum}
    source = config.dataset.source
    zipped = {f"{file}.gz": known for file, known in (source.get("gz_sha256") or {}).items()}
    return zipped | dict(source.get("sha256") or {})
