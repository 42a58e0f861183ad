"""Debian's Chromium, driven by Selenium: what a reader of the page sees."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--disable-dev-shm-usage",  # containers have little of that memory
)  # fmt: skip
SCREENS = {1400: 900, 800: 1000, 390: 844}
"""Widths and heights of screens: a desk, a tablet, a telephone."""

# Colors as Chromium computes them, blended from the text up to the page.
CONTRASTS = """
const parse = (text) => {
  const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a === undefined ? 1 : a];
};
const over = (top, under) =>
  [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
const light = (color) => {
  const [r, g, b] = color.map((x) => x / 255)
    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) {
    layers.push(parse(getComputedStyle(e).backgroundColor));
  }
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const element = walker.currentNode.parentElement;
  if (!text || !element.getClientRects().length) continue;
  const back = behind(element);
  const style = getComputedStyle(element);
  const pair = [light(over(parse(style.color), back)), light(back)].sort((a, b) => b - a);
  const big = parseFloat(style.fontSize) >= 24 ||
    (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
  found.push({text, ratio: (pair[0] + 0.05) / (pair[1] + 0.05), least: big ? 3 : 4.5});
}
return found;
"""


def why_absent() -> str:
    """What the tests lack; empty if they can run."""
    if not CHROMIUM or not DRIVER:
        return "chromium and chromedriver are not here (Debian: apt-get install chromium-driver)"
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed (make test installs it)"
    return ""


class Browser:
    """One page in one window."""

    def __init__(self, driver: Any):
        self.driver = driver

    def show(self, page: Path, width: int = 1400, dark: bool = False) -> None:
        screen = {"width": width, "height": SCREENS[width], "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setDeviceMetricsOverride", **screen)
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.driver.get("about:blank")  # ends what the page before, or the first tab, still loads
        self.logs("browser"), self.logs("performance")  # forget theirs
        self.driver.get(page.as_uri())

    def command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def logs(self, kind: str) -> list[dict]:
        return self.driver.get_log(kind)

    def requests(self) -> list[str]:
        """Addresses that were asked for since `show`, but for those of the browser's own first tab.

        No page may ask for a chrome:// address, so that none of its requests is left out.
        """
        messages = [json.loads(entry["message"])["message"] for entry in self.logs("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        addresses = [one["request"]["url"] for one in sent]
        return [address for address in addresses if not address.startswith("chrome://")]

    def press(self, key: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def open_details(self) -> None:
        self.run("document.querySelectorAll('details').forEach((e) => { e.open = true; })")


@contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """A browser with a fresh profile in `folder`, that is closed in the end."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
