"""requirements.lock: the tested set of packages with the sha256 of each file that pip may install.

    python dev/lock.py              # resolve with pip and constraints.txt, and write the lock (about a minute)
    python dev/lock.py --check      # are all lines hashed, and are the packages installed here those of the lock?

The files are those for the Python and the system that it runs on. PyTorch is pinned without a hash: its builds differ
by machine (CPU, CUDA, ROCm), and each index has files of its own under one version.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
EXTRAS = "test,docs,hub,tensorboard,heif,onnx,captioner"
UNHASHED = {"torch"}
NOT_LOCKED = {"pip", "setuptools", "wheel", "tintype"}
LINE = re.compile(
    r"(?P<comment># )?(?P<name>[a-z0-9-]+)==(?P<version>[^ +]+)(?P<hashes>( --hash=sha256:[0-9a-f]{64})*)"
)


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lock_text(report: dict[str, object]) -> str:
    """The lock, from what `pip install --report` would install."""
    lines = []
    for package in report["install"]:  # type: ignore[attr-defined]
        name, version = normalized(package["metadata"]["name"]), package["metadata"]["version"].partition("+")[0]
        if name in UNHASHED:
            lines.append((name, f"# {name}=={version}"))
        elif name not in NOT_LOCKED:
            sha256 = package["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append((name, f"{name}=={version} --hash=sha256:{sha256}"))
    system = f"Python {sys.version_info.major}.{sys.version_info.minor}, {platform.system()}"
    return (
        "\n".join(
            [
                f"# The tested set with hashes, for {system} {platform.machine()}; python dev/lock.py writes it.",
                "# torch is pinned without a hash: its builds for CPU, CUDA and ROCm differ; choose yours.",
                *(line for _, line in sorted(lines)),
            ]
        )
        + "\n"
    )


def problems_of(text: str) -> list[str]:
    """What is wrong with the lines of a lock."""
    problems = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match is None:
            if not line.startswith("# ") or "==" in line:
                problems.append(f"not a line of a lock: {line}")
        elif bool(match["hashes"]) is bool(match["comment"]) or bool(match["comment"]) is not (
            match["name"] in UNHASHED
        ):
            problems.append(f"{match['name']} must have a hash, unless it is one of: {', '.join(UNHASHED)}")
    return problems


def versions_of(text: str) -> dict[str, str]:
    """Package -> version in a lock."""
    return {match["name"]: match["version"] for line in text.splitlines() if (match := LINE.fullmatch(line))}


def differences(text: str) -> list[str]:
    """The packages installed here that the lock has otherwise or not at all."""
    locked = versions_of(text)
    mismatches = []
    for package in importlib.metadata.distributions():
        name, version = normalized(package.metadata["Name"]), package.version.partition("+")[0]
        if name not in NOT_LOCKED and locked.get(name) != version:
            mismatches.append(f"{name} {version} is installed, the lock has {locked.get(name, 'none')}")
    return sorted(mismatches)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true")
    if options.parse_args().check:
        text = LOCK.read_text(encoding="utf-8")
        if problems := problems_of(text) + differences(text):
            sys.exit(
                "\n".join(["requirements.lock is not what is installed; python dev/lock.py writes it:", *problems])
            )
        print(f"requirements.lock: {len(versions_of(text))} packages, as installed")
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    command = [*pip, "-c", str(ROOT / "constraints.txt"), f"{ROOT}[{EXTRAS}]"]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    LOCK.write_text(lock_text(json.loads(report)), encoding="utf-8")


if __name__ == "__main__":
    main()
