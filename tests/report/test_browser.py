"""A study's page in a real browser: what it shows, and what its readers can do."""

import csv
import re

import pytest
from etils import epath

from crnn_jax.report.study_page import write_report
from crnn_jax.study import runs
from crnn_jax.study.manifest import Origin, announce
from tests.analysis.studies import GAINS, write_study
from tests.report.conftest import DESKTOP, NAMES, PHONE

pytest.importorskip("altair", reason="needs the extra `report`")

# The marks of a chart that stand for networks or runs, with the data behind each.
MARKS = """[...document.querySelectorAll(arguments[0])]
    .map((element) => element.__data__ && element.__data__.datum)
    .filter((datum) => datum && datum.line)"""
POINTS = "#costs .mark-symbol path"


@pytest.fixture(scope="module")
def page(study):
    return write_report(study)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A study whose names are no names, with failures; and its page."""
    out = epath.Path(tmp_path_factory.mktemp("hostile") / "<script>window.hacked=1<script>")
    write_study(out, GAINS, targets=(25_000, 50_000), seeds=(0,), tags=NAMES)
    question = 'Which <script>window.hacked = 1</script>"?\n\nAnd <i>why</i>?'
    announce(out, Origin("crnn-jax sweep '<script>window.hacked=1</script>'", question))
    runs.write_failure(out / "crnn-1-uniform-seed0", "<script>window.hacked=1</script>", "")
    return write_report(out)


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    return browser


def rows_of(study):
    return list(csv.DictReader((study / "results.csv").read_text().splitlines()))


def move_to(browser, element):
    # Imported here: Selenium is optional.
    from selenium.webdriver import ActionChains

    ActionChains(browser.driver).scroll_to_element(element).move_to_element(element).perform()


def test_it_opens_offline_and_says_nothing(browser, page):
    browser.open(page)
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.said() == []
    drawn = browser.evaluate("[...document.querySelectorAll('.chart svg')].length")
    # Costs, three categories of tags, curves.
    assert drawn == 5


def test_hovering_shows_the_numbers_of_the_results(opened, study):
    from selenium.webdriver.common.by import By

    rows = [row for row in rows_of(study) if (row["arch"], row["target"]) == ("crnn", "100000")]
    auc = sum(float(row["test_auc"]) for row in rows) / len(rows)
    (point,) = [
        element
        for element in opened.driver.find_elements(By.CSS_SELECTOR, POINTS)
        if opened.evaluate(
            "((d) => d && d.line === 'CRNN, uniform s' && d.target === 100000 && 'interval' in d)"
            "(arguments[0].__data__ && arguments[0].__data__.datum)",
            element,
        )
    ]
    move_to(opened, point)
    opened.wait_until("document.querySelector('#vg-tooltip-element.visible') !== null")
    shown = dict(
        opened.evaluate(
            "[...document.querySelectorAll('#vg-tooltip-element tr')]"
            ".map((row) => [...row.cells].map((cell) => cell.textContent.replace(/:$/, '')))"
        )
    )
    assert shown["network"] == "CRNN, uniform s"
    assert float(shown["AUC"]) == pytest.approx(auc, abs=1e-4)
    assert shown["trainable parameters"] == f"{int(rows[0]['params']):,}"
    seconds = sum(float(row["train_s"]) for row in rows) / len(rows)
    assert float(shown["training time (s)"]) == pytest.approx(seconds, abs=0.1)
    low, high = map(float, re.findall(r"[\d.]+", shown["95 % interval"]))
    assert low < auc < high


def test_choosing_a_line_filters_every_chart_and_the_table(opened):
    legend = opened.find('button[data-line="CRNN, uniform s"]')
    everywhere = {
        chart: {each["line"] for each in opened.evaluate(MARKS, f"{chart} path")}
        for chart in ("#costs", "#tags", "#curves")
    }
    both = {"CRNN, uniform s", "Conv2D, uniform s"}
    assert everywhere == dict.fromkeys(everywhere, both)
    legend.click()
    opened.wait_until(
        f"({MARKS}).every((datum) => datum.line === 'CRNN, uniform s')", ".chart path"
    )
    for chart in everywhere:
        assert opened.evaluate(MARKS, f"{chart} path"), chart
    visible = opened.evaluate(
        "[...document.querySelectorAll('#runs tbody tr:not([hidden])')]"
        ".map((row) => row.dataset.line)"
    )
    assert visible == ["CRNN, uniform s"] * 12
    assert opened.find("#shown").text == "12 runs"
    # With the other one as well, and then with none, everything is shown.
    opened.find('button[data-line="Conv2D, uniform s"]').click()
    assert opened.find("#shown").text == "24 runs"
    for button in opened.driver.find_elements("css selector", "button[data-line]"):
        button.click()
    opened.wait_until(f"new Set(({MARKS}).map((datum) => datum.line)).size === 2", ".chart path")


def test_what_is_chosen_while_a_chart_is_drawn_is_not_lost(opened):
    opened.evaluate(
        "(() => { const axis = document.getElementById('axis'); for (const value of ['train_s', "
        "'train_flops']) { axis.value = value; axis.dispatchEvent(new Event('change')); } "
        "document.querySelector('button[data-line=\"CRNN, uniform s\"]').click(); })()"
    )
    opened.wait_until(
        "[...document.querySelectorAll('#costs .role-axis-title text')]"
        ".some((text) => text.textContent.startsWith('Floating-point'))"
    )
    opened.wait_until(f"({MARKS}).every((datum) => datum.line === 'CRNN, uniform s')", POINTS)
    assert opened.said() == []


def column(browser, number):
    return browser.evaluate(
        "[...document.querySelectorAll('#runs tbody tr:not([hidden])')]"
        ".map((row) => row.cells[arguments[0]].textContent)",
        number,
    )


def test_the_table_sorts_and_filters(opened, study):
    headers = opened.driver.find_elements("css selector", "#runs thead th")
    names = [header.text for header in headers]
    place = names.index("test AUC")
    expected = sorted(f"{float(row['test_auc']):.4f}" for row in rows_of(study))
    button = headers[place].find_element("css selector", "button")
    button.click()
    assert column(opened, place) == expected
    assert headers[place].get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(opened, place) == expected[::-1]
    # As numbers, not as words.
    headers[names.index("size")].find_element("css selector", "button").click()
    sizes = [int(text.replace(",", "")) for text in column(opened, names.index("size"))]
    assert sizes == sorted(sizes)
    assert headers[place].get_attribute("aria-sort") == "none"
    opened.find("#filter").send_keys("conv2d SEED1")
    assert {text[-5:] for text in column(opened, 0)} == {"seed1"}
    assert len(column(opened, 0)) == 4
    assert opened.find("#shown").text == "4 runs"


def test_a_network_is_chosen_in_a_chart_or_in_the_table_by_the_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    button = opened.driver.find_elements("css selector", "tr[data-network] button")[-1]
    name = button.text
    button.send_keys(Keys.ENTER)
    status = opened.find("#selected")
    assert status.text.startswith("Selected: CRNN, uniform s")
    rows = opened.evaluate(
        "[...document.querySelectorAll('tr.is-selected')].map((row) => row.cells[0].textContent)"
    )
    # All seeds of the network.
    assert name in rows
    assert len(rows) == 3
    target = int(name.split("-")[1])
    assert opened.find("#target").get_attribute("value") == str(target)
    shown = opened.evaluate(MARKS, "#tags .mark-symbol path")
    assert {datum["target"] for datum in shown} == {target}
    # Its learning curves are drawn once more, strongly.
    strong = (
        "[...document.querySelectorAll('#curves .mark-line path')]"
        ".filter((path) => path.getAttribute('stroke-width') === '2.4').length"
    )
    opened.wait_until(f"{strong} === 3")
    # And a point of the chart.
    move_to(opened, opened.driver.find_elements("css selector", POINTS)[-1])
    opened.driver.find_elements("css selector", POINTS)[-1].click()
    opened.wait_until("document.querySelectorAll('tr.is-selected').length === 3")


@pytest.mark.parametrize("axis", ["params", "train_s", "train_flops", "peak_memory_bytes"])
def test_auc_is_drawn_against_every_cost(opened, study, axis):
    from selenium.webdriver.support.select import Select

    Select(opened.find("#axis")).select_by_value(axis)
    title = opened.evaluate(
        "page.charts[`auc-${arguments[0]}`].layer[0].encoding.x.axis.title", axis
    )
    opened.wait_until(
        "[...document.querySelectorAll('#costs .role-axis-title text')]"
        ".some((text) => text.textContent === arguments[0])",
        title,
    )
    # From left to right as the costs are, in the order of results.csv's means.
    places = opened.evaluate(
        "[...document.querySelectorAll('#costs .mark-symbol path')].filter((each) => each.__data__ "
        "&& 'interval' in each.__data__.datum).map((each) => [each.__data__.datum[arguments[0]], "
        "each.getBoundingClientRect().x])",
        axis,
    )
    assert len(places) == 8
    in_order = [x for _, x in sorted(places)]
    assert in_order == sorted(in_order)
    assert opened.said() == []


def test_learning_curves_end_with_the_validation_scores(opened, study):
    from selenium.webdriver.support.select import Select

    last = {
        datum["name"]: datum["auc"]
        for datum in opened.evaluate(MARKS, "#curves .mark-symbol path")
        if datum["epoch"] == 10
    }
    names = {path.parent.name for path in study.glob("*/result.json")}
    assert set(last) == names
    for name, auc in last.items():
        assert auc == pytest.approx(runs.read_result(study / name).valid_auc, abs=1e-4)
    Select(opened.find("#curve-score")).select_by_value("loss")
    Select(opened.find("#curve-time")).select_by_value("seconds")
    opened.wait_until(
        "[...document.querySelectorAll('#curves .role-axis-title text')]"
        ".map((text) => text.textContent).join() === 'Training time (s),Training loss (nats)'"
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_fits_the_screen_in_light_and_dark(browser, page, hostile, size, dark):
    for each in (page, hostile):
        browser.open(each, size, dark=dark)
        width = browser.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], each
        light = browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert light != dark
        # Text and background differ by at least 4.5 to 1 (WCAG 2.2, AA).
        assert browser.evaluate(CONTRAST) >= 4.5
        assert browser.evaluate(CUT) == []


# Words of charts that are not whole within their chart.
CUT = """[...document.querySelectorAll(".chart svg")].flatMap((svg) => {
  const whole = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return text.textContent.trim() && getComputedStyle(text).opacity !== "0" && (
      box.left < whole.left - 1 || box.right > whole.right + 1
      || box.top < whole.top - 1 || box.bottom > whole.bottom + 1);
  }).map((text) => text.textContent);
})"""
# The least contrast of texts with their background, after WCAG 2.2.
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d");
  const luminance = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "white";
  };
  const texts = document.querySelectorAll(
    "h1, h2, h3, p, li, td, th, dt, dd, button, figcaption, .chart svg text");
  return Math.min(...[...texts].map((element) => {
    const style = getComputedStyle(element);
    const colour = element.closest("svg") ? style.fill : style.color;
    const both = [luminance(colour), luminance(back(element))];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  }));
})()"""


def test_names_are_text_and_nothing_else(browser, hostile):
    browser.open(hostile)
    assert browser.said() == []
    assert browser.requests() == [hostile.resolve().as_uri()]
    assert browser.evaluate("window.hacked === undefined")
    text = browser.evaluate("document.body.textContent")
    assert 'Which <script>window.hacked = 1</script>"?' in text
    assert "And <i>why</i>?" in text
    drawn = browser.evaluate(
        "[...document.querySelectorAll('#tags svg text')].map((each) => each.textContent)"
    )
    assert any(name.startswith("<script>window.hacked") for name in drawn)
    assert any("موسيقى" in name for name in drawn)
    # Everything that a tooltip shows of a tag.
    mark = browser.driver.find_elements("css selector", "#tags .mark-symbol path")[0]
    move_to(browser, mark)
    browser.wait_until("document.querySelector('#vg-tooltip-element.visible') !== null")
    assert browser.evaluate("window.hacked === undefined")
    assert browser.evaluate("document.querySelector('#vg-tooltip-element script, img') === null")
    failed = browser.evaluate(
        "[...document.querySelectorAll('#failed td')].map((cell) => cell.textContent)"
    )
    assert failed == ["crnn-1-uniform-seed0", "<script>window.hacked=1</script>"]


def test_screen_readers_are_told_what_things_are(opened):
    tree = opened.command("Accessibility.getFullAXTree")["nodes"]
    roles = {}
    for node in tree:
        if not node.get("ignored"):
            name = node.get("name", {}).get("value", "")
            roles.setdefault(node["role"]["value"], []).append(name)
    assert roles["heading"][0].startswith("How does AUC depend")
    # A filter, a size and an axis to be chosen, each with its name.
    assert {"Against", "Networks of"} <= {name.strip() for name in roles["combobox"]}
    assert any("Filter" in name for name in roles["searchbox"])
    assert "All finished runs" in roles["table"]
    assert len(roles["columnheader"]) == 16
    for button in roles["button"]:
        assert button.strip()
