"""Rooms of the code and the arrows between them: which modules and folders there are, and which import which.

    python dev/rooms.py [REPOSITORY]    # default: the one this file is in

Rooms are the modules and folders at the top of src/tintype, and the folders bench and dev. An arrow is a pair of rooms
of which the first imports the second, anywhere in a file, also inside functions.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PACKAGE = "tintype"


def files_of(repository: Path) -> Iterator[tuple[str, Path]]:
    """Every Python file with its room: `training` for src/tintype/training/run.py, `bench` for bench/serve.py."""
    package = repository / "src" / PACKAGE
    for file in sorted(package.rglob("*.py")):
        yield file.relative_to(package).parts[0].removesuffix(".py"), file
    for room in ("bench", "dev"):
        yield from ((room, file) for file in sorted((repository / room).rglob("*.py")))


def imported_rooms(file: Path, rooms: set[str]) -> Iterator[str]:
    """The room of each name that a file imports from the package, by absolute imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, _, rest = name.partition(".")
            if first == PACKAGE:
                room = rest.split(".")[0]
                yield room if room in rooms else "__init__"


def arrows(repository: Path) -> Counter[tuple[str, str]]:
    """Imports from one room to another: (room, imported room) -> how many."""
    found = list(files_of(repository))
    rooms = {room for room, _ in found}
    pairs = ((room, other) for room, file in found for other in imported_rooms(file, rooms))
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", nargs="?", type=Path, default=REPOSITORY)
    repository = parser.parse_args().repository
    rooms = sorted({room for room, _ in files_of(repository)})
    found = arrows(repository)
    print(f"{len(rooms)} rooms, {len(found)} arrows between them, {sum(found.values())} imported names")
    for room in rooms:
        print(f"  {room} -> {', '.join(sorted(other for one, other in found if one == room)) or 'nothing'}")


if __name__ == "__main__":
    main()
