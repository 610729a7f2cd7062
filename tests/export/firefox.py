"""Firefox without a window, steered by its own protocol, Marionette: JSON over a socket, so that no library is needed.

Playwright has a Firefox of its own only, which must be downloaded; a driver for the ordinary one is another program.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTINGS = {
    "app.normandy.enabled": False,
    "browser.download.folderList": 2,  # the one of browser.download.dir
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.manage-offline-status": False,
    "toolkit.telemetry.enabled": False,
}


def find_firefox() -> str | None:
    return shutil.which("firefox") or shutil.which("firefox-esr")


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A Firefox that is offline, with its profile and its output in an empty folder."""
    program = find_firefox()
    assert program is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "saved").mkdir()
    settings = {**SETTINGS, "browser.download.dir": str(folder / "saved"), "marionette.port": port}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in settings.items()]
    (folder / "user.js").write_text("\n".join(lines))
    command = [program, "--headless", "--no-remote", "--marionette", "--remote-allow-system-access"]
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen([*command, "--profile", str(folder)], stdout=output, stderr=subprocess.STDOUT)
    try:
        with _connected(port) as connection:
            started = Firefox(connection, folder)
            started.send("WebDriver:NewSession", {"pageLoadStrategy": "normal"})
            started.send("Marionette:SetContext", {"value": "chrome"})
            started.run("Services.io.offline = true;")
            started.send("Marionette:SetContext", {"value": "content"})
            yield started
    finally:
        process.terminate()
        process.wait(30)


class Firefox:
    """The connection to a Firefox."""

    def __init__(self, connection: socket.socket, folder: Path) -> None:
        self.stream = connection.makefile("rwb")
        self.folder = folder
        self.number = 0
        self._receive()  # its greeting

    def send(self, command: str, parameters: dict[str, Any]) -> Any:
        """The answer to a command of WebDriver."""
        self.number += 1
        content = json.dumps([0, self.number, command, parameters]).encode()
        self.stream.write(b"%d:%b" % (len(content), content))
        self.stream.flush()
        _, _, error, answer = self._receive()
        assert error is None, error
        return answer.get("value")

    def open(self, url: str) -> None:
        self.send("WebDriver:Navigate", {"url": url})

    def run(self, body: str) -> Any:
        """What the body of a function in the page returns."""
        return self.send("WebDriver:ExecuteScript", {"script": body, "args": [], "sandbox": None})

    def wait(self, condition: str, seconds: float = 120) -> None:
        """Until an expression in the page holds."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition});"):
            assert time.monotonic() < end, f"{condition}; the page says {self.run('return document.body.innerText')}"
            time.sleep(0.02)

    def saved(self, selector: str) -> Path:
        """The file that a click saves."""
        self.run(f"document.querySelector({json.dumps(selector)}).click();")
        for _ in range(300):
            files = [
                file for file in (self.folder / "saved").iterdir() if file.suffix != ".part" and file.stat().st_size
            ]
            if files and not list((self.folder / "saved").glob("*.part")):
                return files[0]
            time.sleep(0.1)
        raise TimeoutError(f"a click on {selector} saved nothing")

    def complaints(self, name: str) -> list[str]:
        """Errors and warnings of the page of that name and its worker, and nothing of what Firefox says of itself."""
        self.send("Marionette:SetContext", {"value": "chrome"})
        messages: list[str] = self.run("return Services.console.getMessageArray().map(String);")
        self.send("Marionette:SetContext", {"value": "content"})
        return [message for message in messages if name in message or "blob:" in message]

    def _receive(self) -> Any:
        size = b""
        while (byte := self.stream.read(1)) != b":":
            assert byte, "Firefox ended"
            size += byte
        return json.loads(self.stream.read(int(size)))


def _connected(port: int) -> socket.socket:
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=120)
        except ConnectionRefusedError:
            time.sleep(0.2)
    raise TimeoutError("Firefox does not answer")
