import gzip
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from optsweep.config.checks import InputError
from optsweep.data import files as dataset_files
from optsweep.data.files import FILES, FileSet, data_root, load_contents

HERE = Path(__file__).parents[1]
SLICE = HERE / "data" / "slice"
IMAGES = FILES[0]


def file_set(path, **changes):
    """The files that a YAML describes."""
    values = yaml.safe_load(path.read_text())
    names = [field.name for field in fields(FileSet)]
    return FileSet(**{key: values[key] for key in names if key in values}, **changes)


@pytest.fixture
def wanted(tmp_path):
    return file_set(HERE / "conf/dataset/slice.yaml", root=str(tmp_path / "root"))


@pytest.fixture
def cache(wanted):
    return Path(wanted.root) / wanted.name


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def slice_contents():
    return {file: gzip.decompress((SLICE / f"{file}.gz").read_bytes()) for file in FILES}


def put_plain(folder):
    folder.mkdir(parents=True)
    for file, contents in slice_contents().items():
        (folder / file).write_bytes(contents)


def put_gz(folder):
    shutil.copytree(SLICE, folder)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def refuse_fetching(monkeypatch):
    def fail(wanted, missing):
        raise AssertionError(f"fetched {missing}")

    monkeypatch.setattr(dataset_files, "_fetch", fail)


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """A stand-in for torchvision; the test fills `served` with what the mirrors have."""
    served = tmp_path / "served"
    package = tmp_path / "modules" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import shutil\n"
        "class datasets:\n"
        "    def Slice(root, download):\n"
        "        print('100%')\n"
        f"        shutil.copytree({str(served)!r}, root + '/Slice/raw')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return served


@pytest.fixture
def debian(tmp_path, monkeypatch):
    """Stand-ins for apt-get and dpkg; returns the file in which apt-get notes its calls."""
    log = tmp_path / "apt.log"
    programs = tmp_path / "programs"
    # The system's lists have the package only if the test says so.
    program(
        programs / "apt-get",
        f'#!/bin/sh\necho "$@" >> {log}\n'
        'case "$*" in\n'
        "*update) touch lists/updated ;;\n"
        '*) if [ -e lists/updated ] || [ "$SYSTEM_LISTS" ]; then touch package_1_all.deb\n'
        "   else echo 'E: Unable to locate package' >&2; exit 100; fi ;;\n"
        "esac\n",
    )
    program(
        programs / "dpkg",
        f'#!/bin/sh\nmkdir -p "$3/usr/share" && cp -r {SLICE} "$3/usr/share/slice"\n',
    )
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return log


@pytest.mark.parametrize("put", [put_plain, put_gz])
@pytest.mark.parametrize("folder", ["", "slice", "Slice/raw"])
@pytest.mark.usefixtures("refuse_fetching")
def test_files_are_found_in_root(wanted, put, folder):
    put(Path(wanted.root, folder))
    wanted = replace(wanted, torchvision_class="Slice")
    assert load_contents(wanted) == slice_contents()


@pytest.mark.parametrize("put", [put_plain, put_gz])
@pytest.mark.usefixtures("refuse_fetching")
def test_files_are_found_in_the_debian_folder(wanted, put, tmp_path):
    put(tmp_path / "debian")
    wanted = replace(wanted, debian_folder=str(tmp_path / "debian"))
    assert load_contents(wanted) == slice_contents()


@pytest.mark.usefixtures("refuse_fetching")
def test_files_may_lie_in_different_folders(wanted, tmp_path):
    put_gz(tmp_path / "debian")
    put_plain(Path(wanted.root))
    Path(wanted.root, IMAGES).unlink()
    (tmp_path / "debian" / f"{FILES[1]}.gz").write_bytes(b"is not looked at")
    wanted = replace(wanted, debian_folder=str(tmp_path / "debian"))
    assert load_contents(wanted) == slice_contents()


def test_root_defaults_to_the_cache_folder_of_the_user(wanted, monkeypatch, tmp_path):
    wanted = replace(wanted, root=None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_root(wanted.root) == tmp_path / "xdg" / "optsweep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root(wanted.root) == tmp_path / ".cache" / "optsweep"
    home = replace(wanted, root="~/here")
    assert data_root(home.root) == tmp_path / "here"


def test_mirrors_are_asked_before_debian(wanted, cache, mirrors, debian, capfd):
    put_gz(mirrors)
    wanted = replace(
        wanted, torchvision_class="Slice", debian_package="p", debian_folder="/no/such/folder"
    )
    assert load_contents(wanted) == slice_contents()
    assert capfd.readouterr() == ("", "fetching slice: torchvision's mirrors\n")
    assert not debian.exists()
    assert names(cache) == sorted(FILES)
    shutil.rmtree(mirrors)
    assert load_contents(wanted) == slice_contents()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("system_lists", ["", "1"])
def test_debian_package_is_unpacked(wanted, debian, tmp_path, monkeypatch, system_lists):
    monkeypatch.setenv("SYSTEM_LISTS", system_lists)
    wanted = replace(wanted, debian_package="dataset-slice", debian_folder="/usr/share/slice")
    assert load_contents(wanted) == slice_contents()
    calls = [call.split()[-1] for call in debian.read_text().splitlines()]
    without_lists = ["dataset-slice", "update", "dataset-slice"]
    assert calls == (["dataset-slice"] if system_lists else without_lists)
    assert names(Path(wanted.root, "slice")) == sorted(FILES)
    assert not list(tmp_path.glob("optsweep-*"))


def test_all_that_was_tried_is_told_in_one_line(wanted, mirrors, debian, tmp_path, capfd):
    wanted = replace(
        wanted, torchvision_class="Slice", debian_package="p", debian_folder="/no/such/folder"
    )
    program(tmp_path / "programs" / "apt-get", "#!/bin/sh\necho E: no route >&2\nexit 100\n")
    with pytest.raises(InputError) as raised:
        load_contents(wanted)
    message = str(raised.value)
    assert "\n" not in message
    for part in (
        f"no {IMAGES}[.gz] in {wanted.root}, {wanted.root}/slice, {wanted.root}/Slice/raw, /no/",
        "torchvision's mirrors (FileNotFoundError: ",
        "Debian's package p (E: no route)",
        f"run `apt-get install p` or put the four IDX files into {wanted.root}/slice",
    ):
        assert part in message
    assert capfd.readouterr().err.count("fetching slice: ") == 2


def test_a_source_that_takes_too_long_is_given_up(wanted, debian, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_files, "TRANSFER_SECONDS", 0.1)
    program(tmp_path / "programs" / "apt-get", "#!/bin/sh\nexec sleep 60\n")
    wanted = replace(wanted, debian_package="p", debian_folder="/no/such/folder")
    with pytest.raises(InputError, match=r"Debian's package p \(not done after 0.1 seconds\)"):
        load_contents(wanted)


def test_wrong_files_from_a_mirror_are_refused(wanted, cache, mirrors):
    put_plain(mirrors)
    (mirrors / IMAGES).write_bytes(b"<html>")
    wanted = replace(wanted, torchvision_class="Slice")
    with pytest.raises(InputError, match=sha256(b"<html>")):
        load_contents(wanted)
    assert not cache.exists()


@pytest.mark.parametrize("where", ["root", "debian"])
@pytest.mark.usefixtures("refuse_fetching")
def test_corrupt_plain_file_is_named(wanted, tmp_path, where):
    folder = tmp_path / where
    put_plain(folder)
    path = folder / IMAGES
    contents = bytearray(path.read_bytes())
    contents[5000] ^= 1
    path.write_bytes(contents)
    expects_error(replace(wanted, debian_folder=str(tmp_path / "debian")), path, sha256(contents))


@pytest.mark.parametrize("damage", [lambda b: b[:-1000], lambda b: b"", lambda b: b"\0" + b[1:]])
@pytest.mark.usefixtures("refuse_fetching")
def test_damaged_gz_is_named(wanted, cache, damage):
    put_gz(Path(wanted.root))
    path = Path(wanted.root, f"{IMAGES}.gz")
    path.write_bytes(damage(path.read_bytes()))
    # An empty file is an empty gzip: then the checksum is that of the empty contents.
    expects_error(wanted, path, sha256(path.read_bytes()))
    assert not cache.exists()


@pytest.mark.parametrize("put", [put_plain, put_gz])
@pytest.mark.usefixtures("refuse_fetching")
def test_wrong_file_is_named(wanted, put):
    folder = Path(wanted.root)
    put(folder)
    suffix = ".gz" if put is put_gz else ""
    train, test = folder / (IMAGES + suffix), folder / (FILES[2] + suffix)
    train.rename(folder / "other")
    test.rename(train)
    (folder / "other").rename(test)
    expects_error(wanted, train, wanted.sha256[FILES[2]])


@pytest.mark.usefixtures("refuse_fetching")
def test_corrupt_cache_is_named(wanted, cache):
    put_gz(Path(wanted.root))
    load_contents(wanted)
    (cache / IMAGES).write_bytes(b"")
    expects_error(wanted, cache / IMAGES, sha256(b""))


def expects_error(wanted, path, found):
    with pytest.raises(InputError) as raised:
        load_contents(wanted)
    message = str(raised.value)
    assert message.startswith(f"{path} ")
    assert wanted.sha256[IMAGES] in message
    assert found in message
    assert "\n" not in message


@pytest.mark.parametrize("put", [put_plain, put_gz])
def test_file_without_a_checksum_is_refused_with_the_one_that_it_has(wanted, put):
    put(Path(wanted.root, "slice"))
    there = f"slice has no SHA-256 for {IMAGES}.* have {wanted.sha256[IMAGES]}"
    with pytest.raises(InputError, match=there):
        load_contents(replace(wanted, sha256={}))


def test_files_may_have_other_names(wanted):
    put_gz(Path(wanted.root))
    names = tuple(f"emnist-{file}" for file in FILES)
    for file in FILES:
        Path(wanted.root, f"{file}.gz").rename(Path(wanted.root, f"emnist-{file}.gz"))
    sums = {f"emnist-{file}": digest for file, digest in wanted.sha256.items()}
    contents = load_contents(replace(wanted, files=names, sha256=sums))
    assert list(contents) == list(names)
    assert list(contents.values()) == list(slice_contents().values())


@pytest.mark.parametrize("name", ["", ".", "..", "../slice", "a/b", "a\\b", 3])
def test_name_that_is_a_path_is_refused(wanted, name):
    message = f"dataset {re.escape(str(name))}.*is not the name of a file"
    with pytest.raises(InputError, match=message):
        replace(wanted, name=name)
    with pytest.raises(InputError, match="is not the name of a file"):
        replace(wanted, files=(*FILES[:3], name))


@pytest.mark.usefixtures("refuse_fetching")
def test_second_load_reads_the_cache(wanted, cache, tmp_path, monkeypatch):
    put_gz(tmp_path / "debian")
    wanted = replace(wanted, debian_folder=str(tmp_path / "debian"))
    load_contents(wanted)
    assert names(cache) == sorted(FILES)
    shutil.rmtree(tmp_path / "debian")
    expected = slice_contents()
    monkeypatch.setattr(gzip, "decompress", None)
    assert load_contents(wanted) == expected


@pytest.mark.usefixtures("refuse_fetching")
def test_cache_of_a_given_gz_lies_in_the_folder_of_the_dataset(wanted, cache):
    put_gz(Path(wanted.root))
    load_contents(wanted)
    assert names(cache) == sorted(FILES)
    assert names(Path(wanted.root)) == sorted([f"{file}.gz" for file in FILES] + ["slice"])


def test_unwritable_root_goes_without_a_cache(wanted, tmp_path, mirrors, capfd):
    # No folder can be made below a file, not even by root.
    (tmp_path / "file").touch()
    put_gz(mirrors)
    wanted = replace(wanted, root=str(tmp_path / "file" / "root"), debian_folder=str(SLICE))
    assert load_contents(wanted) == slice_contents()
    assert capfd.readouterr().err == ""
    wanted = replace(wanted, debian_folder=None, torchvision_class="Slice")
    assert load_contents(wanted) == slice_contents()
    assert f"cannot keep {IMAGES} for the next start" in capfd.readouterr().err


def test_interrupted_write_leaves_nothing_that_is_taken_for_data(wanted, cache, monkeypatch):
    wanted = replace(wanted, debian_folder=str(SLICE))

    def interrupt(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_contents(wanted)
        assert names(cache) == []
        # Killed outright, not even the partial file is removed.
        patch.setattr(Path, "unlink", lambda path, missing_ok: None)
        with pytest.raises(KeyboardInterrupt):
            load_contents(wanted)
    (left,) = cache.iterdir()
    left.write_bytes(left.read_bytes()[:1000])
    with pytest.raises(InputError, match="no train-images"):
        load_contents(replace(wanted, debian_folder=None))
    assert load_contents(wanted) == slice_contents()
    assert load_contents(replace(wanted, debian_folder=None)) == slice_contents()


def test_loads_at_the_same_time_do_not_disturb_each_other(wanted, cache):
    wanted = replace(wanted, debian_folder=str(SLICE))
    loaded = []
    threads = [
        threading.Thread(target=lambda: loaded.append(load_contents(wanted))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [slice_contents()] * 8
    assert names(cache) == sorted(FILES)


def only_gz_known(wanted):
    gz_sha256 = {file: sha256((SLICE / f"{file}.gz").read_bytes()) for file in FILES}
    return replace(wanted, sha256={}, gz_sha256=gz_sha256)


def test_gz_checksum_accepts_gz_files_only(wanted, cache):
    wanted = only_gz_known(wanted)
    put_plain(cache)
    with pytest.raises(InputError, match=rf"no {IMAGES}.gz in .* IDX files as .gz into {cache}"):
        load_contents(wanted)
    put_gz(Path(wanted.root, "given"))
    given = replace(wanted, root=str(Path(wanted.root, "given")))
    assert load_contents(given) == slice_contents()
    path = Path(given.root, f"{IMAGES}.gz")
    path.write_bytes(gzip.compress(slice_contents()[IMAGES], 1))
    with pytest.raises(InputError, match=sha256(path.read_bytes())) as raised:
        load_contents(given)
    assert str(path) in str(raised.value)
    assert wanted.gz_sha256[IMAGES] in str(raised.value)


def test_fetched_files_of_unknown_contents_are_kept_as_gz(wanted, cache, mirrors):
    put_gz(mirrors)
    wanted = replace(only_gz_known(wanted), torchvision_class="Slice")
    assert load_contents(wanted) == slice_contents()
    assert names(cache) == sorted(f"{file}.gz" for file in FILES)
    shutil.rmtree(mirrors)
    assert load_contents(wanted) == slice_contents()


def test_neither_torch_nor_torchvision_is_imported():
    code = "import sys, optsweep.data.files; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "kmnist"])
def test_every_dataset_has_a_checksum_of_each_file(name):
    wanted = file_set(HERE.parent / "conf" / "dataset" / f"{name}.yaml")
    known = wanted.sha256 or wanted.gz_sha256
    assert wanted.name == name
    assert sorted(known) == sorted(FILES)
    assert all(len(bytes.fromhex(digest)) == 32 for digest in known.values())


@pytest.mark.network
@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt-get")
def test_debian_archive_has_the_real_files(tmp_path):
    wanted = file_set(HERE.parent / "conf/dataset/fashion_mnist.yaml")
    folder = tmp_path / "apt"
    folder.mkdir()
    raw = dataset_files.download_debian_package(wanted, folder)
    contents = load_contents(replace(wanted, root=str(raw), debian_folder=None))
    for file, count in zip(FILES, (60_000, 60_000, 10_000, 10_000), strict=True):
        assert len(contents[file]) == (16 + 784 * count if "idx3" in file else 8 + count)
    labels = np.frombuffer(contents[FILES[1]], np.uint8, offset=8)
    assert np.bincount(labels).tolist() == [6000] * 10
