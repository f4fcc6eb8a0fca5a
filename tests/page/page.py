#!/usr/bin/env python3
"""The web page in headless Chromium, as a person uses it: look at a task, predict, upload, roll back; with API keys;
and where changes have a listener of their own.

`make page` runs it, and installs Debian's chromium and chromium-driver where they are missing. Needs
target/debug/xprompt-server.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/debug/xprompt-server"
PATIENCE = 60
# everything is on this machine
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"


def main() -> None:
    for scene in (everything, everything_in_the_dark, keys, a_listener_for_changes):
        with tempfile.TemporaryDirectory() as folder:
            scene(pathlib.Path(folder))
        print(f"{scene.__name__}: ok", flush=True)


# --- a server and a browser ---


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def serving(folder: pathlib.Path, *arguments: object) -> Iterator[str]:
    """The address of a server with one task."""
    prompts = folder / "prompts"
    prompts.mkdir()
    shutil.copy(ROOT / "prompts/tweet-sentiment.safetensors", prompts)
    address = free_address()
    model = ["--model", ROOT / "models/t5-nano", "--prompts", prompts, "--device", "cpu", "--log-level", "error"]
    server = subprocess.Popen([PROGRAM, *model, "--listen", address, *arguments])
    try:
        wait_for(server, address)
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE)


def wait_for(server: subprocess.Popen, address: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        if server.poll() is not None:
            sys.exit("the server ended")
        try:
            urllib.request.urlopen(f"http://{address}/health/ready")
            return
        except OSError:
            if time.monotonic() > end:
                sys.exit("the server is not ready")
            time.sleep(0.1)


class Page:
    """A tab of a browser, by what is in it."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def open(self, address: str, path: str = "") -> None:
        self.browser.get(f"http://{address}/{path}")

    def find(self, css: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def count(self, css: str) -> int:
        return len(self.browser.find_elements(By.CSS_SELECTOR, css))

    def text(self, css: str) -> str:
        return self.find(css).text

    def shows(self, css: str) -> bool:
        return self.find(css).is_displayed()

    def until(self, what: str, holds: object) -> None:
        message = lambda: f"not after {PATIENCE} s: {what}; the page says\n{self.text('body')}"
        try:
            WebDriverWait(self.browser, PATIENCE, poll_frequency=0.05).until(lambda _: holds())
        except Exception as error:
            raise AssertionError(message()) from error

    def predict(self, words: str) -> None:
        self.until("the task's fields", lambda: self.count("#fields textarea") == 1)
        self.find("#fields textarea").clear()
        self.find("#fields textarea").send_keys(words)
        self.find("#fields textarea").send_keys(Keys.CONTROL, Keys.ENTER)

    def upload(self, file: pathlib.Path, name: str) -> None:
        self.find("#upload-button").click()
        self.find("#upload-file").send_keys(str(file))
        self.find("#upload-name").clear()
        self.find("#upload-name").send_keys(name)
        self.find("#upload-send").click()

    def give_key(self, key: str) -> None:
        self.until("the page asks for a key", lambda: self.shows("#key"))
        self.find("#key-value").send_keys(key)
        self.find("#key button[value=send]").click()


@contextlib.contextmanager
def browsing(*arguments: str, refusals: tuple[int, ...] = ()) -> Iterator[Page]:
    """A page. The browser may complain about calls that are refused on purpose, by their statuses, and nothing else."""
    options = webdriver.ChromeOptions()
    always = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server")
    for argument in (*always, "--window-size=1280,1600", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Page(browser)
        meant = [f"status of {status}" for status in refusals]
        complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        complaints = [text for text in complaints if not any(words in text for words in meant)]
        assert not complaints, complaints
    finally:
        browser.quit()


# --- the scenes ---


def everything(folder: pathlib.Path, *appearance: str) -> None:
    with serving(folder) as address, browsing(*appearance, refusals=(422,)) as page:
        use(page, address, folder)


def everything_in_the_dark(folder: pathlib.Path) -> None:
    everything(folder, "--force-dark-mode", "--blink-settings=preferredColorScheme=0")


def use(page: Page, address: str, folder: pathlib.Path) -> None:
    page.open(address)
    page.until("the server is ready", lambda: page.text("#health-text") == "ready")
    page.until("the task is listed", lambda: "tweet-sentiment" in page.text("#list"))

    # the list by keyboard
    page.find("body").send_keys("/")
    assert page.browser.switch_to.active_element.get_attribute("id") == "filter"
    page.browser.switch_to.active_element.send_keys("nothing has this name")
    page.until("nothing is found", lambda: "No task" in page.text("#list-note"))
    page.find("#filter").clear()
    page.find("#filter").send_keys("tweet-s")
    page.until("the task is found", lambda: page.count("#list a") == 1)
    page.find("#list a").send_keys(Keys.ENTER)
    page.until("the task is shown", lambda: page.text("#task-name") == "tweet-sentiment")

    # an answer with its bars
    page.predict("thank you so much, you made my day")
    page.until("an answer", lambda: page.count(".score") == 3)
    first = page.text("#answer-note").split()[1]
    assert page.text(".score.best").startswith("positive"), page.text("#answer")
    latencies = lambda: [page.text(css) for css in ("#live-p50", "#live-p99")]
    page.until("latencies", lambda: all(text.endswith("s") for text in latencies()))

    # the picture shows every piece, kept or pruned
    page.until("the picture", lambda: page.count("#picture rect.kept, #picture rect.gone") == 320)
    assert page.count("#picture rect.kept") == 270

    # another task, uploaded
    page.upload(ROOT / "prompts/bbc-topics.safetensors", "topics")
    page.until("the new task is shown", lambda: page.text("#task-name") == "topics")
    page.until("its version is active", lambda: "is active" in page.text("#versions-note"))

    # a file that is no prompt says why
    bad = folder / "bad.safetensors"
    bad.write_bytes(b"no prompt")
    page.upload(bad, "bad")
    page.until("the reason", lambda: "safetensors" in page.text("#upload-note"))
    page.find("#upload button[value=cancel]").click()

    # another version of the first task, and back
    upload_and_roll_back(page, first)
    served = json.load(urllib.request.urlopen(f"http://{address}/tasks/tweet-sentiment"))
    assert served["version"] == first, served["version"]

    # narrow screens do not scroll sideways
    page.browser.set_window_size(500, 900)
    width = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = page.browser.execute_script(width)
    assert needed <= there, f"the page is {needed} wide on a screen of {there}"


def upload_and_roll_back(page: Page, first: str) -> None:
    page.upload(ROOT / "prompts/bbc-topics.safetensors", "tweet-sentiment")
    page.until("the task is shown", lambda: page.text("#task-name") == "tweet-sentiment")
    page.until("the upload is active", lambda: "is active" in page.text("#versions-note"))
    page.until("both versions are listed", lambda: page.count("#versions tr") >= 2)
    assert page.text("#versions tr code") != first
    assert "sport" in page.text("#about")
    row = next(row for row in page.browser.find_elements(By.CSS_SELECTOR, "#versions tr") if first in row.text)
    row.find_element(By.TAG_NAME, "button").click()
    page.until("the first is active", lambda: f"Version {first} is active" in page.text("#versions-note"))


def keys(folder: pathlib.Path) -> None:
    made = {name: keygen(name, *scopes) for name, scopes in {
        "web": ("--predict", "tweet-*"),
        "other": ("--predict", "other-*"),
        "ops": ("--admin", "--predict", "*"),
    }.items()}
    file = folder / "keys.toml"
    file.write_text("".join(line for _, line in made.values()))
    key = {name: key for name, (key, _) in made.items()}
    with serving(folder, "--keys", file) as address, browsing(refusals=(401, 403)) as page:
        page.open(address)
        page.until("the page asks for a key", lambda: page.shows("#key"))
        assert page.text("#key-note") == "", "nothing is wrong yet"

        # one that nobody knows
        page.give_key("xp_" + 64 * "0")
        page.until("the page says so", lambda: "not known" in page.text("#key-note"))
        assert "tweet" not in page.text("#list") and "not known" in page.text("#list-note")

        # who does not want to give one is asked no second time by what the page does on its own
        page.find("#key button[value=cancel]").click()
        time.sleep(5)
        assert not page.shows("#key")

        # one for this task: predictions, no changes
        page.find("#key-button").click()
        page.give_key(key["web"])
        page.until("the task is listed", lambda: "tweet-sentiment" in page.text("#list"))
        page.find("#list a").click()
        page.predict("what a lovely morning")
        page.until("an answer", lambda: page.count(".score") == 3)
        first = page.text("#answer-note").split()[1]
        page.upload(ROOT / "prompts/bbc-topics.safetensors", "tweet-sentiment")
        page.until("the key is not for changes", lambda: "not for changes" in page.text("#upload-note"))
        page.find("#upload button[value=cancel]").click()

        # it stays with the tab
        page.browser.refresh()
        page.until("the task is shown again", lambda: page.text("#task-name") == "tweet-sentiment")
        assert not page.shows("#key")

        # one for other tasks does not see this one
        page.find("#key-button").click()
        page.give_key(key["other"])
        page.until("no task is listed", lambda: "No tasks yet" in page.text("#list-note"))
        page.until("the task is not shown", lambda: "key is not for task" in page.text("#task-error"))

        # one for changes
        page.find("#key-button").click()
        page.give_key(key["ops"])
        page.until("the task is listed", lambda: "tweet-sentiment" in page.text("#list"))
        upload_and_roll_back(page, first)


def keygen(name: str, *scopes: str) -> tuple[str, str]:
    """A new key and its line."""
    made = subprocess.run([PROGRAM, "keygen", name, *scopes], capture_output=True, text=True, check=True)
    return made.stderr.splitlines()[0], made.stdout


def a_listener_for_changes(folder: pathlib.Path) -> None:
    admin = free_address()
    with serving(folder, "--admin-listen", admin) as public, browsing() as page:
        page.open(public, "#/tasks/tweet-sentiment")
        page.predict("what a lovely morning")
        page.until("an answer", lambda: page.count(".score") == 3)
        first = page.text("#answer-note").split()[1]
        page.until("the picture", lambda: page.count("#picture rect.kept") == 270)
        assert "--admin-listen" in page.text("#task"), page.text("#task")
        for css in ("#upload-button", "#versions", "a[href='/metrics']", "#live", "#task-error"):
            assert not page.shows(css), f"{css} is for the other address"

        page.open(admin, "#/tasks/tweet-sentiment")
        page.until("the version is listed", lambda: first in page.text("#versions"))
        page.until("metrics are shown", lambda: page.shows("#live"))
        upload_and_roll_back(page, first)


if __name__ == "__main__":
    main()
    print("the page does what it should")
