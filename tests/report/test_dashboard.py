"""A search in optuna-dashboard, looked at in a real browser."""

import socket
import subprocess
import sys
import time
import urllib.request

import optuna
import pytest

pytest.importorskip("optuna_dashboard")


@pytest.fixture
def dashboard(tmp_path):
    """Address of a dashboard that shows a study of three trials."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="weight_decay", storage=url, direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("optimizer.weight_decay", 0, 1), n_trials=3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    program = "from optuna_dashboard._cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, url, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api/studies", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def test_the_dashboard_shows_a_search(dashboard, browser):
    browser.get(f"{dashboard}/dashboard")
    for _ in range(60):
        if "weight_decay" in browser.page_source:
            break
        time.sleep(0.5)
    assert "weight_decay" in browser.find_element("tag name", "body").text
    browser.get(f"{dashboard}/dashboard/studies/1/trials")
    for _ in range(60):
        if "Trial 2" in browser.find_element("tag name", "body").text:
            break
        time.sleep(0.5)
    assert "Trial 2" in browser.find_element("tag name", "body").text
    browser.get("about:blank")  # or it would go on asking for news when there is nobody to answer
    browser.get_log("browser")
