"""A process that scans or checks a data set, or suggests captions, and reports its progress on stdout as lines of JSON.

    python -m tintype.studio.worker scan ROOT STUDIO DATASET RESOLUTION
    python -m tintype.studio.worker check ROOT STUDIO DATASET RESOLUTION
    python -m tintype.studio.worker captions ROOT STUDIO DATASET 0

It is a process of its own because it opens files of strangers: what it breaks, and the memory it takes, go with it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tintype.errors import TintypeError, is_out_of_memory
from tintype.printable import print_line
from tintype.studio.dataset import open_dataset
from tintype.studio.places import Places
from tintype.studio.scan import Progress, scan
from tintype.studio.suggest import suggest
from tintype.studio.verdict import check

REPORT_SECONDS = 0.1  # between reports of progress


def main(arguments: Sequence[str]) -> int:
    """Do one piece of work. Returns the exit code; the last line of the output says what went wrong."""
    kind, root, studio, name, resolution = arguments
    places = Places(Path(root), Path(studio))
    try:
        dataset = open_dataset(places.datasets / name)
        if dataset is None:
            raise TintypeError("the data set is gone")
        if kind == "captions":
            _follow(suggest(dataset, places))
            return 0
        if kind == "scan":
            _follow(scan(dataset, places))
        _follow(check(dataset, places, int(resolution)))
    except TintypeError as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(error.strerror or type(error).__name__)
    except Exception as error:
        if is_out_of_memory(error):
            return _failed("not enough memory; close other programs")
        print_line(f"{type(error).__name__}: {error}", sys.stderr)
        return _failed(f"unexpected {type(error).__name__}; the server's log has the details")
    return 0


def _follow(work: Progress) -> None:
    told = 0.0
    for stage, done, total in work:
        now = time.monotonic()
        if done in (0, total) or now - told >= REPORT_SECONDS:
            told = now
            _say({"stage": stage, "done": done, "total": total})


def _failed(message: str) -> int:
    _say({"error": " ".join(message.split())})
    return 1


def _say(content: dict[str, object]) -> None:
    print_line(json.dumps(content))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
