"""Find, fetch, verify and decompress the four IDX files of a dataset; no torch in here.

Bytes are used only after their SHA-256 has been compared with the configured one, on
every load and from whichever source. What came compressed is kept decoded in the user's
cache folder, so that the next start neither fetches nor decompresses.

Written by hand, for pooch takes files from addresses into one folder, while these come from
folders that others filled and from programs (torchvision, apt-get), and its decompressed copies
are neither verified nor written atomically.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import expanduser
from pathlib import Path

from optsweep.config.checks import InputError
from optsweep.surroundings import user_folder

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

_FILE_NAME = re.compile(r"(?!\.\.?$)[^/\\\0]+")
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


@dataclass(frozen=True)
class FileSet:
    """Files of a dataset: what they hold, and where they may be had.

    Attributes:
        name: Of the dataset, and of a folder under `root`.
        files: Their names, without .gz.
        sha256: File to the SHA-256 of its uncompressed contents.
        gz_sha256: File to the SHA-256 of its .gz; asked where `sha256` has none.
        torchvision_class: Class of torchvision whose mirrors are asked.
        debian_package: Debian's package of the files.
        debian_folder: Where that package puts them.
        root: Folder that is searched first and holds the cache; None: the user's cache folder.

    Raises:
        InputError: If the name or a file's is not that of a file in a folder.
    """

    name: str
    files: tuple[str, ...] = FILES
    sha256: Mapping[str, str] = field(default_factory=dict)
    gz_sha256: Mapping[str, str] = field(default_factory=dict)
    torchvision_class: str | None = None
    debian_package: str | None = None
    debian_folder: str | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        for name in (self.name, *self.files):
            # A path would lead out of the folders that are searched and written.
            if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
                raise InputError(f"dataset {self.name}: {name!r} is not the name of a file")

    @property
    def folders(self) -> list[Path]:
        """Where the files are searched, in order."""
        root = data_root(self.root)
        raw = [root / self.torchvision_class / "raw"] if self.torchvision_class else []
        debian = [Path(self.debian_folder)] if self.debian_folder else []
        return [root, root / self.name, *raw, *debian]


def data_root(root: str | None) -> Path:
    """The folder `dataset.root`, or where it is null the user's cache; it need not exist."""
    return user_folder() if root is None else Path(expanduser(root))


def load_contents(wanted: FileSet) -> dict[str, bytes]:
    """Read the files, fetching those that are nowhere on the machine.

    A file, plain or .gz, is searched in `root`, `root/<name>`, `root/<torchvision_class>/raw`
    and `debian_folder`, then asked for at torchvision's mirrors and Debian's archive. Tells
    on stderr what is being fetched.

    Returns:
        The verified, uncompressed contents of each file.

    Raises:
        InputError: If a file is corrupt or the wrong one, or can be had nowhere.
    """
    contents = _local_contents(wanted)
    if missing := [file for file in wanted.files if file not in contents]:
        contents |= _fetch(wanted, missing)
    return contents


def verify(path: Path, data: bytes, expected: str, algorithm: str = "sha256") -> None:
    """Compare the checksum of `data`, which stood at `path`, with the `expected` one.

    Raises:
        InputError: If they differ.
    """
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != expected:
        kind = {"sha256": "SHA-256", "md5": "MD5"}[algorithm]
        raise InputError(
            f"{path} is corrupt or the wrong file: expected {kind} {expected}, "
            f"found {found}; replace or delete it"
        )


def download_from_mirrors(wanted: FileSet, folder: Path) -> Path:
    """Let torchvision download into `folder`; return the folder with the files.

    Raises:
        RuntimeError: If that fails or takes too long.
    """
    arguments = [str(wanted.torchvision_class), str(folder), str(CONNECT_SECONDS)]
    _run([sys.executable, "-c", _DOWNLOAD, *arguments], folder)
    return folder / str(wanted.torchvision_class) / "raw"


def download_debian_package(wanted: FileSet, folder: Path) -> Path:
    """Download and unpack Debian's package in `folder`, without root; return its data folder.

    Uses the system's package lists; where they lack the package or are out of date, as in a
    fresh container, lists of our own, which take some seconds more.

    Raises:
        RuntimeError: If that fails or takes too long.
    """
    limits = [f"-oAcquire::http::Timeout={CONNECT_SECONDS}", "-oAcquire::Retries=0"]
    # After "--" a package's name is never read as an option.
    download = ["download", "--", str(wanted.debian_package)]
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
    return folder / "unpacked" / str(wanted.debian_folder).lstrip("/")


def _local_contents(wanted: FileSet) -> dict[str, bytes]:
    contents = {}
    for file in wanted.files:
        if path := _find(wanted, file, wanted.folders):
            contents[file] = _read(wanted, file, path)
            if path.suffix == ".gz" and file in wanted.sha256:
                with contextlib.suppress(OSError):  # the cache only saves time
                    _keep(wanted, file, path, contents[file])
    return contents


def _find(wanted: FileSet, file: str, folders: Sequence[Path]) -> Path | None:
    # Plain is faster than .gz, but cannot be verified by a checksum of the .gz.
    for suffix in _suffixes(wanted, file):
        for folder in folders:
            if os.path.isfile(path := folder / (file + suffix)):
                return path
    return None


def _suffixes(wanted: FileSet, file: str) -> tuple[str, ...]:
    only_gz_known = file in wanted.gz_sha256 and file not in wanted.sha256
    return (".gz",) if only_gz_known else ("", ".gz")


def _read(wanted: FileSet, file: str, path: Path) -> bytes:
    """The verified, uncompressed contents of `file`, which lies at `path`."""
    contents_sha256, gz_sha256 = wanted.sha256.get(file), wanted.gz_sha256.get(file)
    try:
        data = contents = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if gz_sha256 and not contents_sha256:
        verify(path, data, gz_sha256)
    if path.suffix == ".gz":
        try:
            contents = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            wanted_too = f", its contents should have {contents_sha256}" if contents_sha256 else ""
            raise InputError(
                f"{path} is truncated, corrupt or not gzip: the file as found has SHA-256 "
                f"{hashlib.sha256(data).hexdigest()}{wanted_too}; replace or delete it"
            ) from error
    if contents_sha256:
        verify(path, contents, contents_sha256)
    elif not gz_sha256:
        raise InputError(
            f"dataset {wanted.name} has no SHA-256 for {file}: add it to its YAML; the contents "
            f"of {path} have {hashlib.sha256(contents).hexdigest()}"
        )
    return contents


def _keep(wanted: FileSet, file: str, path: Path, contents: bytes) -> None:
    """Put what the next start needs into `root/<name>`, in one atomic step."""
    name, data = (file, contents) if file in wanted.sha256 else (path.name, path.read_bytes())
    folder = data_root(wanted.root) / wanted.name
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


def _sources(wanted: FileSet) -> Iterator[tuple[str, Callable[[FileSet, Path], Path]]]:
    if wanted.torchvision_class:
        yield "torchvision's mirrors", download_from_mirrors
    if wanted.debian_package and shutil.which("apt-get") and shutil.which("dpkg"):
        yield f"Debian's package {wanted.debian_package}", download_debian_package


def _fetch(wanted: FileSet, missing: Sequence[str]) -> dict[str, bytes]:
    failures = []
    for source, download in _sources(wanted):
        print(f"fetching {wanted.name}: {source}", file=sys.stderr, flush=True)
        try:
            with tempfile.TemporaryDirectory(prefix="optsweep-") as temporary:
                folder = download(wanted, Path(temporary))
                return {file: _take(wanted, file, folder) for file in missing}
        except (RuntimeError, ValueError, OSError) as error:
            failures.append(f"{source} ({error})")
    suffix = "" if "" in _suffixes(wanted, missing[0]) else ".gz"
    folders = ", ".join(str(folder) for folder in wanted.folders)
    install = f"run `apt-get install {wanted.debian_package}` or " if wanted.debian_package else ""
    raise InputError(
        f"dataset {wanted.name}: no {missing[0]}{suffix or '[.gz]'} in {folders}"
        + "".join(f"; {failure}" for failure in failures)
        + f"; {install}put the four IDX files{suffix and ' as .gz'} into "
        f"{data_root(wanted.root) / wanted.name}"
    )


def _take(wanted: FileSet, file: str, folder: Path) -> bytes:
    if (path := _find(wanted, file, [folder])) is None:
        raise RuntimeError(f"came without {file}")
    contents = _read(wanted, file, path)
    try:
        _keep(wanted, file, path, contents)
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
