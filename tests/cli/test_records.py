"""What a finished cell keeps: nobody changes it but the one who trains it again."""

from optsweep import runs

CELL = ("trainer.epochs=2", "num_seeds=2")


def files(root) -> dict[str, tuple]:
    """Every file of every cell: when it was written, and what is in it."""
    cells = root / "multirun" / "cells"
    return {
        str(path.relative_to(cells)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in cells.rglob("*")
        if path.is_file()
    }


def test_done_before_changes_no_byte(run, tmp_path):
    assert run(*CELL)[0] == 0
    before = files(tmp_path)
    assert f"/{runs.COMPOSED_FOLDER}/overrides.yaml" in "".join(before)
    for again in (
        CELL,
        (*CELL, "trainer.num_threads=1"),
        (*CELL, "trainer.checkpoint=true"),
        ("--multirun", *CELL, "optimizer.lr=0.1,1e-1"),
    ):
        code, output, errors = run(*again)
        assert (code, errors) == (0, "")
        assert "done before" in output
        assert files(tmp_path) == before


def test_what_hydra_composed_is_kept_of_the_training(run, tmp_path):
    assert run(*CELL, "optimizer.lr=0.2")[0] == 0
    (cell,) = (tmp_path / "multirun" / "cells").iterdir()
    composed = cell / runs.COMPOSED_FOLDER
    assert sorted(path.name for path in composed.iterdir()) == [
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    ]
    assert "- optimizer.lr=0.2\n" in (composed / "overrides.yaml").read_text()
    assert "  lr: 0.2\n" in (composed / "config.yaml").read_text()
    assert "output_dir: " in (composed / "hydra.yaml").read_text()


def test_rerun_replaces_a_record_as_a_whole(start, run, tmp_path):
    """In a directory that is used for one cell after another, as hydra.run.dir can be."""
    where = ("hydra.run.dir=mine", "trainer.epochs=400", "batch_size=10")
    directory = tmp_path / "mine"
    assert run("hydra.run.dir=mine", "trainer.epochs=1", "record.gradients=true")[0] == 0
    names = (runs.CONFIG_FILE, runs.HISTORY_FILE, runs.GRADIENTS_FILE, runs.RESULT_FILE)
    before = [(directory / name).read_bytes() for name in names]
    process = start(*where, "rerun=true")
    while not process.stdout.readline().startswith("epoch 3/400"):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert [(directory / name).read_bytes() for name in names] == before

    assert run("hydra.run.dir=mine", "trainer.epochs=2", "rerun=true")[0] == 0
    assert runs.read_config(directory).trainer.epochs == 2
    assert runs.last_epoch(runs.read_result(directory)) == 2
    assert not (directory / runs.GRADIENTS_FILE).exists()
    assert "trainer.epochs=2" in (directory / runs.COMPOSED_FOLDER / "overrides.yaml").read_text()


def test_a_damaged_record_is_set_aside_and_trained_again(run, tmp_path):
    sweep = ("--multirun", "trainer.epochs=1", "seed=0,1")
    assert run(*sweep)[0] == 0
    one, _ = sorted((tmp_path / "multirun" / "cells").iterdir())
    history = (one / runs.HISTORY_FILE).read_text()
    (one / runs.HISTORY_FILE).write_text(history.replace("0.", "1."))
    code, output, errors = run(*sweep)
    assert (code, errors) == (0, "")
    line = f"{one / runs.HISTORY_FILE} is not as it was written; it was set aside in "
    assert f"{line}{one / 'damaged_1'}\n" in output
    assert output.count("done before") == 1
    assert (one / "damaged_1" / runs.RESULT_FILE).exists()
    assert run(*sweep)[1].count("done before") == 2
