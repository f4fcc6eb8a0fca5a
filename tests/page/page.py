#!/usr/bin/env python3
"""The web page in headless Chromium, as a person uses it: look at a task, predict, upload, roll back.

`make page` runs it. Needs Debian's chromium and chromium-driver, and target/debug/xprompt-server.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ROOT = pathlib.Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1:18471"
PATIENCE = 30


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        prompts = pathlib.Path(folder) / "prompts"
        prompts.mkdir()
        shutil.copy(ROOT / "prompts/tweet-sentiment.safetensors", prompts)
        arguments = ["--model", ROOT / "models/t5-nano", "--prompts", prompts, "--listen", ADDRESS, "--device", "cpu"]
        server = subprocess.Popen([ROOT / "target/debug/xprompt-server", *arguments])
        try:
            wait_for_server(server)
            for dark in (False, True):
                look(dark, pathlib.Path(folder))
        finally:
            server.terminate()
            server.wait(PATIENCE)


def wait_for_server(server: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        if server.poll() is not None:
            sys.exit("the server ended")
        try:
            urllib.request.urlopen(f"http://{ADDRESS}/health/ready")
            return
        except OSError:
            if time.monotonic() > end:
                sys.exit("the server is not ready")
            time.sleep(0.1)


def look(dark: bool, folder: pathlib.Path) -> None:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1600"):
        options.add_argument(argument)
    if dark:
        options.add_argument("--force-dark-mode")
        options.add_argument("--blink-settings=preferredColorScheme=0")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        use(browser, folder)
        complaints = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        # a call that is refused on purpose is logged by the browser too
        complaints = [entry for entry in complaints if "status of 422" not in entry["message"]]
        assert not complaints, complaints
    finally:
        browser.quit()


def use(browser: webdriver.Chrome, folder: pathlib.Path) -> None:
    wait = WebDriverWait(browser, PATIENCE)
    find = lambda css: browser.find_element(By.CSS_SELECTOR, css)
    text = lambda css: find(css).text

    browser.get(f"http://{ADDRESS}/")
    wait.until(lambda _: text("#health-text") == "ready")
    wait.until(lambda _: "tweet-sentiment" in text("#list"))

    # the list by keyboard
    find("body").send_keys("/")
    assert browser.switch_to.active_element.get_attribute("id") == "filter"
    browser.switch_to.active_element.send_keys("nothing has this name")
    wait.until(lambda _: "No task" in text("#list-note"))
    find("#filter").clear()
    find("#filter").send_keys("tweet-s")
    wait.until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "#list a")) == 1)
    find("#list a").send_keys(Keys.ENTER)
    wait.until(lambda _: text("#task-name") == "tweet-sentiment")

    # an answer with its bars
    wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#fields textarea"))
    find("#fields textarea").send_keys("thank you so much, you made my day")
    find("#fields textarea").send_keys(Keys.CONTROL, Keys.ENTER)
    wait.until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, ".score")) == 3)
    first = text("#answer-note").split()[1]
    assert text(".score.best").startswith("positive"), text("#answer")
    wait.until(lambda _: text("#live-p50").endswith(" ms") and text("#live-p99").endswith(" ms"))

    # the picture shows every piece, kept or pruned
    wait.until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "#picture rect.kept, #picture rect.gone")) == 320)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#picture rect.kept")) == 270

    # another task, uploaded
    name = f"topics-{int(1000 * time.time())}"
    upload(browser, ROOT / "prompts/bbc-topics.safetensors", name)
    wait.until(lambda _: text("#task-name") == name)
    wait.until(lambda _: "is active" in text("#versions-note"))

    # a file that is no prompt says why
    bad = folder / "bad.safetensors"
    bad.write_bytes(b"no prompt")
    upload(browser, bad, "bad")
    wait.until(lambda _: "safetensors" in text("#upload-note"))
    find("#upload button[value=cancel]").click()

    # another version of the first task, and back
    upload(browser, ROOT / "prompts/bbc-topics.safetensors", "tweet-sentiment")
    wait.until(lambda _: text("#task-name") == "tweet-sentiment" and "is active" in text("#versions-note"))
    wait.until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "#versions tr")) >= 2)
    second = text("#versions tr code")
    assert second != first
    assert "sport" in text("#about")
    row = next(row for row in browser.find_elements(By.CSS_SELECTOR, "#versions tr") if first in row.text)
    row.find_element(By.TAG_NAME, "button").click()
    wait.until(lambda _: f"Version {first} is active" in text("#versions-note"))
    served = json.load(urllib.request.urlopen(f"http://{ADDRESS}/tasks/tweet-sentiment"))
    assert served["version"] == first, served["version"]

    # narrow screens do not scroll sideways
    browser.set_window_size(500, 900)
    wide = browser.execute_script("return document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not wide, "the page is wider than a narrow screen"


def upload(browser: webdriver.Chrome, file: pathlib.Path, name: str) -> None:
    find = lambda css: browser.find_element(By.CSS_SELECTOR, css)
    find("#upload-button").click()
    find("#upload-file").send_keys(str(file))
    find("#upload-name").clear()
    find("#upload-name").send_keys(name)
    find("#upload-send").click()


if __name__ == "__main__":
    main()
    print("the page does what it should")
