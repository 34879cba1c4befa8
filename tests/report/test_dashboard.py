"""A search in optuna-dashboard, looked at in a real browser."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
import warnings

import optuna
import pytest

pytest.importorskip("optuna_dashboard")


def _objective(trial):
    """Good trials have a small rate, bad ones a great weight decay."""
    rate = trial.suggest_float("optimizer.lr", 0, 1)
    return -rate - 10 * trial.suggest_float("optimizer.weight_decay", 0, 1) ** 20


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of a study of thirty trials."""
    url = f"sqlite:///{tmp_path_factory.mktemp('search') / 'study.db'}"
    study = optuna.create_study(study_name="weight_decay", storage=url, direction="maximize")
    study.optimize(_objective, n_trials=30)
    return url


@pytest.fixture(scope="module")
def dashboard(url):
    """Address of a dashboard that shows it."""
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


def test_the_dashboards_importances_are_of_the_best_trials(dashboard, url):
    with urllib.request.urlopen(f"{dashboard}/api/studies/1/param_importances") as answer:
        (told,) = json.load(answer)["param_importances"]
    study = optuna.load_study(study_name=None, storage=url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        wanted = optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert {each["name"]: each["importance"] for each in told} == pytest.approx(wanted)


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
