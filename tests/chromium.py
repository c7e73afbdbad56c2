"""A page in Chromium, driven through its debugging pipe; nothing but Python's library is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


def browser():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page, as a context manager.

    Attributes:
        complaints: what the console and the engine said that was an error or a warning.
        requests: URLs that the page asked for, its own among them.
    """

    def __init__(self, file, profile, width=1200, height=900, scheme="light"):
        self._numbers, self._rest, self._loaded = iter(range(1, 10**9)), b"", False
        self.complaints, self.requests = [], []
        read_theirs, self._to = os.pipe()
        self._from, write_theirs = os.pipe()

        # Chromium reads from descriptor 3 and writes to 4; copies out of their way come first.
        script = f'exec "$@" 3<&{read_theirs} 4>&{write_theirs}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", browser(), *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(read_theirs, write_theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_theirs)
        os.close(write_theirs)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=media)
        self.open(f"file://{file}")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        # Its children end with it when it is asked to end.
        os.write(self._to, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)
        os.close(self._to)
        os.close(self._from)

    def open(self, url):
        self._loaded = False
        self.call("Page.navigate", url=url)
        self._wait(lambda: self._loaded)

    def resize(self, width, height):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def run(self, expression):
        """The value of an expression of JavaScript, promises awaited."""
        options = {"returnByValue": True, "awaitPromise": True}
        done = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def press(self, key, code):
        for kind in ("rawKeyDown", "keyUp"):
            names = {"key": key, "code": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type=kind, **names)

    def move_mouse(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def settle(self):
        """Waits until what is in sight is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def screenshot(self, file):
        """A picture of the whole page."""
        width = self.run("innerWidth")
        # What comes into sight is drawn then, and may be higher than its place was.
        for _ in range(2):
            height = self.run("document.documentElement.scrollHeight")
            self.resize(width, min(height, 16000))
            self.settle()
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(file, "wb") as stream:
            stream.write(base64.b64decode(data))

    def call(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answers = []

        def take(message):
            if message.get("id") == number:
                answers.append(message)

        self._wait(lambda: answers, take)
        assert "result" in answers[0], answers[0]
        return answers[0]["result"]

    def _wait(self, condition, take=lambda message: None, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._from], [], [], max(left, 0))
            assert ready, "Chromium does not answer"
            part = os.read(self._from, 1 << 16)
            assert part, "Chromium has ended"
            *whole, self._rest = (self._rest + part).split(b"\0")
            for text in whole:
                message = json.loads(text)
                self._note(message)
                take(message)

    def _note(self, message):
        method, about = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(about["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.complaints.append(about["args"])
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"])
