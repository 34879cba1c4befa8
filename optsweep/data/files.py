"""Find, fetch, verify and decompress the four IDX files of a dataset; no torch in here.

Bytes are used only after their SHA-256 has been compared with the configured one, on
every load and from whichever source. What came compressed is kept decoded in the user's
cache folder, so that the next start neither fetches nor decompresses.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import platformdirs

from optsweep.config.schema import DatasetConfig, InputError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

CONNECT_SECONDS = 10  # a server that has not answered by then is taken for unreachable
TRANSFER_SECONDS = 600  # 31 MB at 0.4 Mbit/s

# Runs in a process of its own, which bounds the time of name look-ups too, keeps
# torchvision's output off the terminal and its import out of ours.
_DOWNLOAD = """
import socket, sys, torchvision
socket.setdefaulttimeout(float(sys.argv[3]))
getattr(torchvision.datasets, sys.argv[1])(sys.argv[2], download=True)
"""

# Package lists of our own need no root. The hooks that #clear drops act on the system's.
_APT_CONFIG = """
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


def load_contents(config: DatasetConfig) -> dict[str, bytes]:
    """Read the dataset's four files, fetching those that are nowhere on the machine.

    A file, plain or .gz, is searched in `root`, `root/<name>`, `root/<torchvision_class>/raw`
    and `debian_folder`, then asked for at torchvision's mirrors and Debian's archive. Tells
    on stderr what is being fetched.

    Returns:
        The verified, uncompressed contents of each of `FILES`.

    Raises:
        InputError: If a file is corrupt or the wrong one, or can be had nowhere.
    """
    contents = _local_contents(config)
    if missing := [file for file in FILES if file not in contents]:
        contents |= _fetch(config, missing)
    return contents


def dataset_root(config: DatasetConfig) -> Path:
    """The folder that is searched first and holds the cache; it need not exist."""
    if config.root is not None:
        return Path(os.path.expanduser(config.root))
    return platformdirs.user_cache_path("optsweep")


def download_from_mirrors(config: DatasetConfig, folder: Path) -> Path:
    """Let torchvision download into `folder`; return the folder with the files.

    Raises:
        RuntimeError: If that fails or takes too long.
    """
    arguments = [str(config.torchvision_class), str(folder), str(CONNECT_SECONDS)]
    _run([sys.executable, "-c", _DOWNLOAD, *arguments], folder)
    return folder / str(config.torchvision_class) / "raw"


def download_debian_package(config: DatasetConfig, folder: Path) -> Path:
    """Download and unpack Debian's package in `folder`, without root; return its data folder.

    Uses the system's package lists; where they lack the package or are out of date, as in a
    fresh container, lists of our own, which take some seconds more.

    Raises:
        RuntimeError: If that fails or takes too long.
    """
    limits = [f"-oAcquire::http::Timeout={CONNECT_SECONDS}", "-oAcquire::Retries=0"]
    # After "--" a package's name is never read as an option.
    download = ["download", "--", str(config.debian_package)]
    try:
        _run(["apt-get", *limits, *download], folder)
    except RuntimeError:
        for partial in folder.glob("*.deb*"):
            partial.unlink()
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "cache/archives/partial").mkdir(parents=True)
        (folder / "apt.conf").write_text(_APT_CONFIG.format(folder=folder))
        with_own_lists = ["apt-get", "-c", str(folder / "apt.conf"), *limits]
        # An update may fail for a source of no interest here; the download tells.
        with contextlib.suppress(RuntimeError):
            _run([*with_own_lists, "update"], folder)
        _run([*with_own_lists, *download], folder)
    (package,) = folder.glob("*.deb")
    _run(["dpkg", "-x", package.name, "unpacked"], folder)
    return folder / "unpacked" / str(config.debian_folder).lstrip("/")


def _local_contents(config: DatasetConfig) -> dict[str, bytes]:
    contents = {}
    for file in FILES:
        if path := _find(config, file, _folders(config)):
            contents[file] = _read(config, file, path)
            if path.suffix == ".gz" and file in config.sha256:
                with contextlib.suppress(OSError):  # the cache only saves time
                    _keep(config, file, path, contents[file])
    return contents


def _folders(config: DatasetConfig) -> list[Path]:
    root = dataset_root(config)
    raw = [root / config.torchvision_class / "raw"] if config.torchvision_class else []
    debian = [Path(config.debian_folder)] if config.debian_folder else []
    return [root, root / config.name, *raw, *debian]


def _find(config: DatasetConfig, file: str, folders: Sequence[Path]) -> Path | None:
    # Plain is faster than .gz, but cannot be verified without a checksum of the contents.
    for suffix in ("", ".gz") if file in config.sha256 else (".gz",):
        for folder in folders:
            if os.path.isfile(path := folder / (file + suffix)):
                return path
    return None


def _read(config: DatasetConfig, file: str, path: Path) -> bytes:
    """The verified, uncompressed contents of `file`, which lies at `path`."""
    expected = config.sha256.get(file) or config.gz_sha256.get(file)
    if expected is None:
        raise InputError(f"dataset {config.name} has no SHA-256 for {file}: add it to its YAML")
    try:
        data = contents = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if file not in config.sha256:
        _verify(path, data, expected)
    if path.suffix == ".gz":
        try:
            contents = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{path} is truncated, corrupt or not gzip: the file as found has SHA-256 "
                f"{hashlib.sha256(data).hexdigest()}, its contents should have {expected}; "
                "replace or delete it"
            ) from error
    if file in config.sha256:
        _verify(path, contents, expected)
    return contents


def _verify(path: Path, data: bytes, expected: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != expected:
        raise InputError(
            f"{path} is corrupt or the wrong file: expected SHA-256 {expected}, "
            f"found {found}; replace or delete it"
        )


def _keep(config: DatasetConfig, file: str, path: Path, contents: bytes) -> None:
    """Put what the next start needs into `root/<name>`, in one atomic step."""
    name, data = (file, contents) if file in config.sha256 else (path.name, path.read_bytes())
    folder = dataset_root(config) / config.name
    folder.mkdir(parents=True, exist_ok=True)
    # The name is never searched for, and is this process's own.
    partial = folder / f".{name}.{uuid.uuid4().hex}.partial"
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, folder / name)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _sources(config: DatasetConfig) -> Iterator[tuple[str, Callable[[DatasetConfig, Path], Path]]]:
    if config.torchvision_class:
        yield "torchvision's mirrors", download_from_mirrors
    if config.debian_package and shutil.which("apt-get") and shutil.which("dpkg"):
        yield f"Debian's package {config.debian_package}", download_debian_package


def _fetch(config: DatasetConfig, missing: Sequence[str]) -> dict[str, bytes]:
    failures = []
    for source, download in _sources(config):
        print(f"fetching {config.name}: {source}", file=sys.stderr, flush=True)
        try:
            with tempfile.TemporaryDirectory(prefix="optsweep-") as temporary:
                folder = download(config, Path(temporary))
                return {file: _take(config, file, folder) for file in missing}
        except (RuntimeError, ValueError, OSError) as error:
            failures.append(f"{source} ({error})")
    suffix = "" if missing[0] in config.sha256 else ".gz"
    folders = ", ".join(str(folder) for folder in _folders(config))
    install = f"run `apt-get install {config.debian_package}` or " if config.debian_package else ""
    raise InputError(
        f"dataset {config.name}: no {missing[0]}{suffix or '[.gz]'} in {folders}"
        + "".join(f"; {failure}" for failure in failures)
        + f"; {install}put the four IDX files{suffix and ' as .gz'} into "
        f"{dataset_root(config) / config.name}"
    )


def _take(config: DatasetConfig, file: str, folder: Path) -> bytes:
    if (path := _find(config, file, [folder])) is None:
        raise RuntimeError(f"came without {file}")
    contents = _read(config, file, path)
    try:
        _keep(config, file, path, contents)
    except OSError as error:
        print(f"cannot keep {file} for the next start: {error}", file=sys.stderr)
    return contents


def _run(command: Sequence[str], folder: Path) -> None:
    """Run `command` in `folder`, silently; a RuntimeError tells the last line it wrote."""
    env = {**os.environ, "LC_ALL": "C"}
    limit = TRANSFER_SECONDS
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, input=b"", capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"not done after {limit} seconds") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(said[-1].strip() if said else f"exit status {done.returncode}")
