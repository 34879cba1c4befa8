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
