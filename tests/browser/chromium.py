"""Headless Chromium, driven by its DevTools protocol over a pair of pipes: no driver, no port, no library.

What a page did wrong is kept: what it wrote to its console, what it threw, what the content policy refused, and every address
that it asked for.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WAIT_SECONDS = 60.0
PLACE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads descriptor 3 and writes descriptor 4, whatever the pipes are called here."""
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}


class ChromiumAbsent(Exception):
    """No browser can be started here; the text says why."""


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        """Console errors and warnings, exceptions, refusals of the content policy."""
        self.requests: list[str] = []
        self._loaded = 0
        browser.pages[session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol. Raises AssertionError with the browser's words when it refuses."""
        return self._browser.call(method, self._session, **parameters)

    def told(self, method: str, event: dict[str, Any]) -> None:
        """What the browser tells of this tab."""
        if method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    # Going

    def open(self, address: str) -> None:
        """Loads an address and waits until the page is there."""
        before = self._loaded
        answer = self.call("Page.navigate", url=address)
        assert not answer.get("errorText"), answer
        self._browser.until(lambda: self._loaded > before, address)

    @contextlib.contextmanager
    def leaving(self) -> Iterator[None]:
        """What is done within leads to another page; it is there when the context ends."""
        before = self._loaded
        yield
        self._browser.until(lambda: self._loaded > before, "another page")

    # Looking

    def js(self, expression: str) -> Any:
        """What an expression gives. Raises AssertionError for what it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What a reader sees of the first element that fits."""
        return str(self.js(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        return list(self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.innerText)"))

    def until(self, expression: str) -> None:
        """Waits until an expression is true."""
        self._browser.until(lambda: self.js(expression), expression)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A picture of the page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **({"clip": self._all()} if whole else {}))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _all(self) -> dict[str, float]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    # Doing

    def press(self, key: str, *, shift: bool = False) -> None:
        """One key."""
        named = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"Enter": "\r", " ": " "}.get(key)
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, modifiers=8 if shift else 0, **named, **more)

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """The middle of the first element that fits, by the mouse."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{found}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.js(
            f"(({{x, y, width, height}}) => ({{x: x + width / 2, y: y + height / 2}}))({found}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **box)

    def choose(self, selector: str, value: str) -> None:
        """A value of a list, as a person would: the change is told to the page."""
        found = f"document.querySelector({json.dumps(selector)})"
        changed = f"{found}.dispatchEvent(new Event('change', {{bubbles: true}}))"
        self.js(f"{found}.value = {json.dumps(value)}, {changed}, null")

    def resize(self, width: int, height: int = 900, *, phone: bool = False, sharp: float = 1.0) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=sharp, mobile=phone)

    def prefer(self, scheme: str) -> None:
        """`dark` or `light`, as the person's system has it."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


class Browser:
    """A running browser."""

    def __init__(self, process: subprocess.Popen[bytes], reading: int, writing: int) -> None:
        self.pages: dict[str, Page] = {}
        self._process = process
        self._reading = reading
        self._writing = writing
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._rest = b""

    def page(self) -> Page:
        """A new tab, in a profile of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        allowed = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        self.call("Browser.grantPermissions", browserContextId=context, permissions=allowed)
        return Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        self.until(lambda: number in self._answers, method)
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return dict(answer["result"])

    def until(self, true: Any, what: str) -> None:
        """Takes in what the browser says until something is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"never: {what}"
            assert self._process.poll() is None, "the browser ended"
            self._listen(0.1)

    def _listen(self, seconds: float) -> None:
        if not select.select([self._reading], [], [], seconds)[0]:
            return
        *messages, self._rest = (self._rest + os.read(self._reading, 1 << 20)).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].told(message["method"], message["params"])


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """A browser for as long as the context lasts; all it writes lies in `folder`."""
    program = shutil.which("chromium")
    if program is None:
        raise ChromiumAbsent("no chromium: run tests/setup/debian.sh")
    command = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "about:blank",
    ]  # fmt: skip
    (theirs, writing), (reading, ours) = os.pipe(), os.pipe()
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (theirs, ours)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PLACE, *map(str, high), *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, pass_fds=high,
        )  # fmt: skip
    for each in (theirs, ours, *high):
        os.close(each)
    browser = Browser(process, reading, writing)
    try:
        yield browser
    finally:
        with contextlib.suppress(AssertionError, OSError):
            browser.call("Browser.close")
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(reading)
        os.close(writing)
