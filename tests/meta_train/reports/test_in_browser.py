"""The page in a real browser: it runs, sorts, fits a phone, and complains about nothing."""

import json
import re
import shutil
import subprocess

import pytest
from helpers.reports import make_report

from meta_train.reports import evaluation as module

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)

# Runs when the page is there: sorts every table up and down, then writes down what it measured.
PROBE = """
<script>
for (const th of document.querySelectorAll("table.sortable th[scope=col]")) {
  th.click(); th.click();
}
const heads = [...document.querySelectorAll("table.sortable")[0].querySelectorAll("th[scope=col]")];
const column = heads.findIndex(th => th.textContent.startsWith("diverged"));
heads[0].click();
const probe = document.createElement("pre");
probe.id = "probe";
probe.textContent = JSON.stringify({
  sorted: heads[0].getAttribute("aria-sort"),
  rows: document.querySelector("table.sortable").querySelectorAll("td").length,
  width: document.documentElement.scrollWidth, window: window.innerWidth,
  figures: [...document.querySelectorAll("figure svg")].filter(
    svg => svg.getBoundingClientRect().width > 100).length,
});
document.body.append(probe);
</script>
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)}"),
]


def opened(path, tmp_path, width, *options):
    """The page's text after its scripts ran, and what the browser's console said."""
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},900", *options),
        *("--dump-dom", path.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_runs_without_complaints(tmp_path, width):
    path = tmp_path / "report.html"
    path.write_text(module.html(make_report()).replace("</body>", PROBE + "</body>"))
    page, console = opened(path, tmp_path, width)
    assert console == []
    found = json.loads(re.search(r'<pre id="probe">(.*?)</pre>', page).group(1))
    assert found["sorted"] == "ascending"
    assert found["rows"] > 20
    assert found["width"] <= found["window"]  # tables scroll in themselves, the page does not


def test_complaints_are_seen(tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<body><script>nothing.here()</script></body>")
    assert "nothing is not defined" in " ".join(opened(path, tmp_path, 390)[1])
