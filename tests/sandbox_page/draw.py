#!/usr/bin/env python3
"""Opens the page of the sandbox in a headless Chromium, checks that it shows requests as they end, and draws its picture.

    draw.py PROGRAM PICTURE

PROGRAM is the operator's binary, and `make sandbox-page` runs both. The browser is the program that CHROMIUM names, or the
first of the usual ones in the PATH. Chromium's protocol is spoken over pipes, so no Python package is needed.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

# Seconds that each step may take.
LIMIT = 60

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")

# As on the page of the sandbox.
KEY = "1000001.sandboxsandboxsandbox"
PATH = "/rest/v2/mailboxes/microsoft/credentials"

SIZE = {"width": 1100, "height": 900, "deviceScaleFactor": 1, "mobile": False}

# The rows of the request log, the newest first, without time and duration.
ROWS = """[...document.getElementById('log').rows].map(row => [...row.cells].map(cell => cell.textContent))
    .map(cells => cells.filter((_, at) => at !== 1 && at !== 5))"""


def browser_program():
    named = os.environ.get("CHROMIUM")
    found = [named] if named else [it for it in BROWSERS if shutil.which(it)]
    if not found:
        sys.exit(f"no browser found: install one of {', '.join(BROWSERS)}, or name it with CHROMIUM")
    return found[0]


class Browser:
    """A headless Chromium with one page."""

    def __init__(self, folder):
        # Chromium reads commands from file descriptor 3, and writes results to 4.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())]
        commands, self.commands, self.results, results = ends
        os.dup2(commands, 3)
        os.dup2(results, 4)
        arguments = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run"]
        arguments += ["--no-proxy-server", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        self.log = open(os.path.join(folder, "browser.log"), "w+")
        self.process = subprocess.Popen(
            [browser_program(), *arguments], pass_fds=(3, 4), stdout=self.log, stderr=self.log
        )
        for end in (3, 4, commands, results):
            os.close(end)
        self.last, self.received, self.events, self.session = 0, b"", [], None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def send(self, method, **parameters):
        """Sends a command and returns its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + LIMIT
        while True:
            message = self.receive(end, method)
            if message.get("id") == self.last:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            self.events.append(message)

    def receive(self, end, method):
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.results], [], [], max(0, end - time.monotonic()))
            piece = os.read(self.results, 1 << 16) if ready else b""
            if not piece:
                self.log.seek(0)
                sys.exit(f"the browser does not answer {method}:\n{self.log.read()}")
            self.received += piece
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, expression):
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_until(self, expression, expected):
        """Waits until the expression has a value for which `expected` is true."""
        end = time.monotonic() + LIMIT
        while not expected(value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} is {value!r}"
            time.sleep(0.1)

    def problems(self):
        """What the page has reported: exceptions, and what its policy does not allow."""
        named = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event.get("method") in named]

    def close(self):
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def sandbox(program):
    """A running sandbox; its URL."""
    arguments = [program, "sandbox", "--address", "127.0.0.1:0", "--log-format", "json"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout:
            if line.startswith("{") and "page" in (entry := json.loads(line)):
                yield entry["page"].rstrip("/")
                return
        sys.exit("the sandbox has not started")
    finally:
        process.terminate()
        process.wait()


def request(url, method, body=None):
    """Sends a request of the API; returns its status."""
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    data = json.dumps(body).encode() if body else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url + PATH, data, headers, method=method)) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def credential(secret):
    return {
        "tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
        "client_id": "e1c6ac69-480e-4a17-9b85-3467967bd179",
        "client_secret": secret,
        "secret_expires_at": "2099-11-28T23:59:59Z",
        "name": "MS Graph app",
    }


def check(browser, url):
    """Opens the page, and sends three requests, which it must show without being loaded again."""
    for domain in ("Page", "Runtime", "Log"):
        browser.send(f"{domain}.enable")
    browser.send("Emulation.setDeviceMetricsOverride", **SIZE)
    browser.send("Emulation.setTimezoneOverride", timezoneId="UTC")
    light = [{"name": "prefers-color-scheme", "value": "light"}]
    browser.send("Emulation.setEmulatedMedia", features=light)
    browser.send("Page.navigate", url=url + "/")
    browser.wait_until("document.getElementById('clock')?.textContent", lambda clock: clock and clock[:2] == "20")
    empty = browser.evaluate("document.getElementById('log').textContent")
    assert empty == "No requests yet.", empty
    # Another document would not have it.
    browser.evaluate("window.isTheSame = true")
    expected = []
    for method, body, status, answer in [
        ("POST", credential("any secret"), 201, ""),
        ("POST", credential("sandbox-conditional-access-blocked"), 422, "conditional-access-blocked"),
        ("GET", None, 200, ""),
    ]:
        found = request(url, method, body)
        assert found == status, f"{method}: {found}"
        expected.insert(0, [str(len(expected) + 1), f"{method} {PATH}", "main", str(status), answer])
        browser.wait_until(ROWS, lambda rows: rows == expected)
    assert browser.evaluate("window.isTheSame") is True, "the page was loaded again"
    assert not browser.problems(), browser.problems()


def main(program, picture):
    with sandbox(program) as url, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(folder)
        try:
            check(browser, url)
            image = base64.b64decode(browser.send("Page.captureScreenshot", format="png")["data"])
        finally:
            browser.close()
    with open(picture, "wb") as file:
        file.write(image)
    print(f"the page shows requests as they end: {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
