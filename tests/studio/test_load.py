"""The bench of the studio, small: nothing of a cut upload is lost, and the memory of the server does not follow it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 128  # of the upload
GROWTH = 64  # MiB that the server may take for chunks, however large the file is


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_stays_flat_and_a_cut_upload_is_whole() -> None:
    command = [sys.executable, "bench/studio.py", "--pictures", "200", "--upload-gib", str(MIB / 1024)]
    done = subprocess.run(
        [*command, "--parts", "search,pictures,upload"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    upload, pictures = result["upload"], result["pictures"]
    assert (upload["cuts"], upload["is_whole"]) == (2, True)
    assert upload["MiB_highest"] - upload["MiB_before"]["VmRSS"] < GROWTH
    first, second = (each["VmRSS"] for each in pictures["MiB_after_each_pass"])
    assert second - first < GROWTH / 4
    assert set(result["search"]["seconds_of_searches"]) == {
        "drawing 199",
        "a red",
        "star",
        "nothing has these words",
        "07/",
    }
