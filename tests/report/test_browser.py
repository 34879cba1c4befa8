"""The page in a real browser, Chromium driven by Selenium."""

import pytest
from run_tree import config_of, curve, write_cell, write_experiment

from optsweep.report.report import write_report
from optsweep.study.content import outline, outlines


@pytest.fixture(scope="module")
def page(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return write_report(tree, out, outline(), pages=outlines()).page


@pytest.fixture
def opened(browser, page):
    """The page, freshly loaded in the light."""
    emulate(browser, "light")
    browser.get(page.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def emulate(browser, scheme: str, media: str = "") -> None:
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},  # a click does not wait for a scroll
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def colours(browser) -> tuple[str, str]:
    """Of the text and the paper."""
    code = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    return tuple(browser.execute_script(code))


def brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3])
    return (red + green + blue) / 3


def column(browser, index: int) -> list[str]:
    code = """return [...document.querySelectorAll("#all-cells tbody tr")]
        .filter((row) => !row.hidden).map((row) => row.cells[arguments[0]].textContent)"""
    return browser.execute_script(code, index)


def heading(browser, name: str):
    buttons = browser.find_elements("css selector", "#all-cells thead button")
    # Their text whether or not it has been drawn yet: `text` is empty until then.
    names = [button.get_attribute("textContent").strip() for button in buttons]
    return names.index(name), buttons[names.index(name)]


def test_the_page_renders(opened):
    assert "Which optimizer" in opened.find_element("tag name", "h1").text
    figure = opened.find_element("css selector", "figure svg")
    assert figure.size["width"] > 600
    assert figure.size["height"] > 200
    # Nothing makes the page wider than the window.
    code = "return document.documentElement.scrollWidth <= innerWidth"
    assert opened.execute_script(code)
    assert len(opened.find_elements("css selector", ".claim .badge")) > 30


def test_numbers_sort_as_numbers_and_the_unknown_stays_last(opened):
    index, button = heading(opened, "test accuracy")
    button.click()
    assert column(opened, index) == ["0.7050", "0.8100", "–", "–", "–"]
    button.click()
    assert column(opened, index) == ["0.8100", "0.7050", "–", "–", "–"]
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "descending"


def test_words_sort_as_words(opened):
    index, button = heading(opened, "init")
    button.click()
    assert column(opened, index) == ["default", "Gaussian", "Kaiming", "orthogonal", "Xavier"]
    other, _ = heading(opened, "status")
    assert column(opened, other) == [
        "completed",
        "partly diverged",
        "partial",
        "corrupt",
        "missing",
    ]


def test_the_filter_keeps_rows_with_all_words(opened):
    opened.find_element("id", "filter").send_keys("sgd GAUSS")
    index, _ = heading(opened, "init")
    assert column(opened, index) == ["Gaussian"]
    assert opened.find_element("id", "shown").text == "1 of 5 cells"


def test_the_other_language_is_a_click_away(opened):
    opened.find_element("link text", "中文").click()
    assert opened.find_element("tag name", "html").get_attribute("lang") == "zh-Hans"
    assert "哪种优化器" in opened.find_element("tag name", "h1").text
    assert opened.find_element("id", "theme").text == "深色"
    opened.find_element("id", "filter").send_keys("gaussian")
    assert opened.find_element("id", "shown").text == "5种设置中的1种"
    code = "return document.documentElement.scrollWidth <= innerWidth"
    assert opened.execute_script(code)
    opened.find_element("link text", "English").click()
    assert "Which optimizer" in opened.find_element("tag name", "h1").text


def test_a_line_of_the_forest_leads_to_its_claim(browser, tmp_path):
    curves = {seed: curve((2, 0.1), (1, 0.7 + 0.001 * seed)) for seed in range(5)}
    higher = {seed: curve((2, 0.1), (0.5, 0.8 + 0.002 * seed)) for seed in range(5)}
    cells = {
        write_cell(tmp_path, config_of(init=init), scores): f"init={init}"
        for init, scores in (("gaussian", curves), ("default", higher))
    }
    write_experiment(tmp_path, "r1_init", cells)
    browser.get(write_report(tmp_path, tmp_path / "report", outline()).page.as_uri())
    line = browser.find_element("css selector", "#figure-forest .rows a")
    assert line.get_attribute("title").startswith("Gaussian initialisation lowers the loss more")
    browser.execute_script("arguments[0].click()", line)
    assert browser.current_url.endswith("#claim-r1_init_gaussian_slow_start")


def test_light_and_dark_follow_the_system(opened):
    text, paper = map(brightness, colours(opened))
    assert text < 80
    assert paper > 200
    emulate(opened, "dark")
    text, paper = map(brightness, colours(opened))
    assert text > 180
    assert paper < 50
    # The figures' ink is the page's.
    code = "return getComputedStyle(document.querySelector('figure svg text')).fill"
    assert brightness(opened.execute_script(code)) > 180


def test_the_button_changes_light_to_dark(opened):
    button = opened.find_element("id", "theme")
    assert button.text == "Dark"
    button.click()
    assert brightness(colours(opened)[1]) < 50
    assert button.text == "Light"
    button.click()
    assert brightness(colours(opened)[1]) > 200


def test_print_is_light_and_without_navigation(opened):
    emulate(opened, "dark", media="print")
    assert brightness(colours(opened)[1]) > 240
    assert not opened.find_element("css selector", ".contents").is_displayed()


def test_a_table_that_would_fill_many_sheets_is_not_printed(opened, browser, tmp_path):
    emulate(opened, "light", media="print")
    assert opened.find_element("id", "all-cells").is_displayed()
    cells = {f"lr_{number}": f"lr={number}" for number in range(201)}  # to be trained
    write_experiment(tmp_path, "mine", cells)
    browser.get(write_report(tmp_path, tmp_path / "report", outline()).page.as_uri())
    emulate(browser, "light", media="print")
    assert not browser.find_element("id", "all-cells").is_displayed()
    told = browser.find_element("css selector", "#cells .paper")
    assert told.text == "201 rows are not printed; the page has them."
    emulate(browser, "light")
    assert browser.find_element("id", "all-cells").is_displayed()
    assert not told.is_displayed()


@pytest.mark.parametrize("width", [360, 700, 1100])
def test_narrow_windows(opened, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        code = "return document.documentElement.scrollWidth"
        assert opened.execute_script(code) <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_hostile_name_runs_nothing(browser, tmp_path):
    name = "<img src=x onerror=document.title='hacked'>"
    cells = {
        write_cell(tmp_path, config_of(lr=lr), {0: curve((2, 0.1), (1, lr))}): f"init='{text}'"
        for lr, text in ((0.1, name), (0.2, "default"))
    }
    write_experiment(tmp_path, "mine", cells)
    browser.get(write_report(tmp_path, tmp_path / "report", outline()).page.as_uri())
    assert browser.title.startswith("optsweep")
    assert name in browser.find_element("css selector", "#mine table").text
