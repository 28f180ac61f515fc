"""A browser, and studies to be looked at."""

import json
import shutil
import time

import pytest
from etils import epath

from crnn_jax.study import runs
from tests.analysis.studies import GAINS, write_study

DESKTOP, PHONE = (1280, 900), (390, 800)
# Until a page that has nothing else to do must have drawn its charts, in s.
PATIENCE = 60

# What a study may well be called by someone who wishes us ill, or writes from right to left.
NAMES = {
    "<script>window.hacked = 1</script>": "genre",
    '"><img src=x onerror="window.hacked=1">': "genre",
    "'; window.hacked = 1; //": "genre",
    "</script><script>window.hacked = 1</script>": "<b onclick='window.hacked=1'>mood</b>",
    "موسيقى هادئة": "<b onclick='window.hacked=1'>mood</b>",
    "x" * 200: "<b onclick='window.hacked=1'>mood</b>",
    "datum.auc && ${1+1} {{x}} \\u003cb\\u003e": 'in"strument',
    "a\nb\x1b[31m\u202ec": 'in"strument',
}


class Browser:
    """Headless Chromium, looking at one page."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, size=DESKTOP, *, dark=False):
        """Open a file, and wait until its script has drawn everything."""
        (width, height), scheme = size, "dark" if dark else "light"
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)
        # What earlier pages said.
        self.said(), self.requests()
        self.driver.get(epath.Path(path).resolve().as_uri())
        self.wait_until("document.documentElement.dataset.ready === 'true'")

    def command(self, name, **values):
        """Tell the browser something by its own protocol."""
        return self.driver.execute_cdp_cmd(name, values)

    def evaluate(self, code, *arguments):
        """Return the value of an expression in the page."""
        return self.driver.execute_script(f"return {code}", *arguments)

    def wait_until(self, code, *arguments):
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(code, *arguments):
            assert time.monotonic() < deadline, (code, self.said())
            time.sleep(0.02)

    def find(self, selector):
        """Return the only element of a selector."""
        (found,) = self.driver.find_elements("css selector", selector)
        return found

    def said(self):
        """Return what the page has said on the console since the last call, warnings included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Return the addresses that the page has asked for since the last call."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="session")
def browser():
    """A browser for all tests of a process."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    chromium, chromedriver = paths
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # Containers have neither user namespaces nor much shared memory.
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(chromedriver)
    driver = webdriver.Chrome(options, service)
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Two architectures at four sizes, three seeds each, with learning curves and tables."""
    out = epath.Path(tmp_path_factory.mktemp("reports") / "study")
    for cell, result in write_study(out, GAINS).items():
        write_history(out / cell.name, result)
    runs.write_tables(out)
    return out


def write_history(run, result, n_epochs=10):
    """Write a made-up ``metrics.jsonl`` that ends with the result."""
    lines = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "loss": 0.7 / epoch,
            "valid_auc": 0.5 + (result.valid_auc - 0.5) * epoch / n_epochs,
            "valid_ap": 0.5,
            "train_s": result.train_s * epoch / n_epochs,
        }
        for epoch in range(1, n_epochs + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
