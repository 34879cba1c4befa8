"""A small study with every status that a cell can have."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # study_tree

from study_tree import (
    config_of,
    curve,
    write_cell,
    write_experiment,
    write_made_up,
    write_raw,
)

from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import options
from optsweep.config.identity import cell_name
from optsweep.report.collect import collect_runs
from optsweep.study.experiments import plan_experiment


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """An r1_init with cells that are completed, diverged in part, missing, partial and corrupt.

    Default: test accuracies 0.80, 0.81, 0.82 after two epochs. Gaussian: two seeds at 0.70 and
    0.71, the third diverged in its second epoch.
    """
    root = tmp_path_factory.mktemp("study")
    default, gaussian, xavier, kaiming, orthogonal = (
        config_of(init=init, epochs=2)
        for init in ("default", "gaussian", "xavier", "kaiming", "orthogonal")
    )
    cells = {}
    start = (2.3, 0.1)
    cells["default"] = write_cell(
        root,
        default,
        {
            0: curve(start, (1.0, 0.70), (0.5, 0.80)),
            1: curve(start, (1.1, 0.72), (0.6, 0.81)),
            2: curve(start, (1.2, 0.71), (0.7, 0.82)),
        },
    )
    cells["gaussian"] = write_cell(
        root,
        gaussian,
        {
            0: curve(start, (1.5, 0.60), (1.0, 0.70)),
            1: curve(start, (1.6, 0.62), (1.1, 0.71)),
            2: [*curve(start, (1.7, 0.61)), None],
        },
    )
    cells["xavier"] = cell_name(xavier)  # missing
    cells["kaiming"] = cell_name(kaiming)
    write_raw(root / "cells" / cells["kaiming"], config_yaml=kaiming.to_mapping())
    cells["orthogonal"] = cell_name(orthogonal)
    write_raw(
        root / "cells" / cells["orthogonal"], config_yaml=orthogonal.to_mapping(), result_json="{"
    )
    overrides = {cell: f"init={init} trainer.epochs=2 num_seeds=3" for init, cell in cells.items()}
    write_experiment(root, "r1_init", overrides)
    return root


@pytest.fixture(scope="session")
def planned_study(tmp_path_factory):
    """Every cell of every experiment of the study, as if trained: made-up scores, real settings."""
    root = tmp_path_factory.mktemp("planned")
    for name in options("experiment", config_dir()):
        cells = plan_experiment(name).cells
        write_experiment(root, name, {cell.name: cell.overrides for cell in cells.values()})
        for cell in cells.values():
            if not (root / "cells" / cell.name).exists():
                write_made_up(root, cell.config)
    return collect_runs(root)


@pytest.fixture(scope="session")
def planned_experiments(planned_study):
    """The settings of every experiment of the study."""
    return {name: planned_study.settings_of(name) for name in planned_study.experiments}


@pytest.fixture(scope="session")
def browser():
    """Chromium driven by Selenium; without them the test is skipped."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("there is no Chromium with its driver (apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--window-size=1400,1000",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()
