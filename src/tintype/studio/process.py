"""Processes that outlive the server: started in a session of their own, and known again by number and start time."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process: its number, which the system gives away again, and when it was started, which tells them apart."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether this very process still runs; not one that has its number now, and not one that has ended."""
        return bool(self.started) and started_at(self.pid) == self.started

    def send(self, number: signal.Signals) -> bool:
        """Send a signal, unless the process has ended. Returns whether it was sent."""
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def start(arguments: Sequence[str], log: Path, folder: Path) -> tuple[subprocess.Popen[bytes], ProcessId]:
    """Start `python -m tintype` with arguments, without a shell; its output is added to `log`. Raises OSError."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tintype", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,  # neither Ctrl-C nor a closed terminal of the server reaches it
        )
    return process, ProcessId(process.pid, started_at(process.pid))


def started_at(pid: int) -> str:
    """When a process was started, as its system says it; "" if it has ended, or is only waiting to be reaped."""
    if platform.system() == "Linux":
        return _started_on_linux(pid)
    try:
        listing = subprocess.run(
            ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
    except OSError:  # a system without ps
        return ""
    state, _, time = listing.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else time.strip()


def _started_on_linux(pid: int) -> str:
    """Ticks since the start of the system, and which start that was."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot}:{fields[19]}"
