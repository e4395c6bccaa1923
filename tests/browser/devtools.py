"""A headless Chromium of Debian's, spoken to by its own DevTools protocol: no other browser is downloaded."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from websocket import WebSocket, create_connection

from cluster.packages import ADMIN_PATH, ensure

PROGRAM: Final = "chromium-headless-shell"
BROWSER: Final = {PROGRAM: "chromium-headless-shell"}
"""100 MB to download on a bare Debian, and 260 MB installed."""
FONT: Final = {"/usr/share/fonts/truetype/wqy/wqy-microhei.ttc": "fonts-wqy-microhei"}
"""For Chinese."""
OTHERS: Final = ("chromium", "chromium-browser", "google-chrome")
"""What will do where it is there already: Ubuntu, for one, has no package of ours."""
ADDRESS: Final = "DevToolsActivePort"
PATIENCE: Final = 60.0
LOOKING: Final = (Path(__file__).parent / "looking.js").read_text()
PHONE, DESK = 360, 1280
"""Widths in CSS pixels."""

Message = dict[str, Any]


def program() -> str | None:
    """Where a browser is; root installs one. None where there is none, and nobody to install it."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{ADMIN_PATH}"
        ensure(FONT if _present() else FONT | BROWSER)
    return _present()


def _present() -> str | None:
    return next((found for name in (PROGRAM, *OTHERS) if (found := shutil.which(name))), None)


class DevTools:
    """A connection to a browser. heard: the events since they were last cleared."""

    def __init__(self, socket: WebSocket) -> None:
        self.heard: list[Message] = []
        self._socket = socket
        self._sent = 0

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """The result of a command. Raises RuntimeError with what the browser says against it."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while (answer := self._next()).get("id") != self._sent:
            self.heard.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait_for(self, event: str) -> None:
        while not any(message["method"] == event for message in self.heard):
            self.heard.append(self._next())

    def _next(self) -> Message:
        message: Message = json.loads(self._socket.recv())
        return message


@contextlib.contextmanager
def browser(executable: str, profile: Path) -> Iterator[DevTools]:
    """One that is alive until the block is left. profile: a directory of its own."""
    arguments = [executable, "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    arguments += ["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        (profile / "log").open("wb") as log,
        subprocess.Popen(arguments, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        try:
            port, path = _address(profile, process)
            url = f"ws://127.0.0.1:{port}{path}"
            with contextlib.closing(create_connection(url, timeout=PATIENCE, suppress_origin=True)) as socket:
                yield DevTools(socket)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the program is a script that starts the browser


def _address(profile: Path, process: subprocess.Popen[bytes]) -> list[str]:
    """Port and path, which the browser writes once it listens."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            lines = (profile / ADDRESS).read_text().splitlines()
            if len(lines) == 2:
                return lines
        time.sleep(0.05)
    raise RuntimeError(f"the browser does not listen: {(profile / 'log').read_text()[-2000:]}")


class Tab:
    """A page, or a URL, as a person has it before them. width: in CSS pixels; a narrow one is a phone's."""

    def __init__(self, tools: DevTools, page: Path | str, width: int, scheme: str) -> None:
        self._tools = tools
        self._target = tools.call("Target.createTarget", url="about:blank")["targetId"]
        attached = tools.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        tools.heard.clear()
        self._width = width
        self.url = page if isinstance(page, str) else page.as_uri()
        self.call("Page.navigate", url=self.url)
        tools.wait_for("Page.loadEventFired")

    def call(self, method: str, **parameters: Any) -> Any:
        return self._tools.call(method, self._session, **parameters)

    def evaluate(self, script: str) -> Any:
        """The value of an expression of JavaScript, as JSON has it."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def frowns(self) -> list[str]:
        """At what a reader would frown, with every detail unfolded."""
        found: list[str] = self.evaluate(f"({LOOKING})({self._width})")
        return found

    def point_at(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def complaints(self) -> list[str]:
        """What a console would show."""
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(each["params"]) for each in self._tools.heard if each["method"] in kinds]

    def requests(self) -> list[str]:
        """What was asked for, but for the page."""
        asked = [each for each in self._tools.heard if each["method"] == "Network.requestWillBeSent"]
        urls = [each["params"]["request"]["url"] for each in asked]
        return [url for url in urls if url != self.url]

    def close(self) -> None:
        self._tools.call("Target.closeTarget", targetId=self._target)
