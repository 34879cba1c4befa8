"""Runs with every status that a cell can have, and a browser."""

import shutil
from pathlib import Path

import pytest
from run_tree import write_every_status


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """An r1_init with cells of every status; see `write_every_status`."""
    return write_every_status(tmp_path_factory.mktemp("runs"))


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
