"""Rooms of the code and the arrows between them: which modules and folders there are, and which import which.

    python dev/rooms.py [REPOSITORY]                        # default: the one this file is in
    python dev/rooms.py --svg docs/pictures/rooms.svg       # the drawing of the package in docs/design.md

Rooms are the modules and folders at the top of src/tintype, and the folders bench and dev. An arrow is a pair of rooms
of which the first imports the second, anywhere in a file, also inside functions.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# Where the drawing has each room: (column, row) from the top left, and its contents in a few words.
DRAWING: dict[str, tuple[float, int, str]] = {
    "cli": (1, 0, "commands, options"),
    "studio": (0, 1, "data, captions, runs"),
    "serving": (0, 2, "engine, HTTP API, page"),
    "evaluation": (1, 2, "measures, report"),
    "export": (2, 2, "models in other forms"),
    "tokens": (0.5, 3, "pictures token by token"),
    "view": (0, 4, "sheets, terminal"),
    "training": (1, 4, "loop, run, checkpoints"),
    "shapes": (2, 4, "a drawn world"),
    "pipeline": (0, 5, "captions to pictures"),
    "metrics": (1, 5, "intervals, noise error"),
    "data": (1.6, 6, "sources, images, cache"),
    "model": (1, 7, "networks, codec, files"),
    "copies": (0, 8, "nearest pictures, alarm"),
    "diffusion": (1, 8, "noise, samplers, loss"),
    "config": (2, 8, "settings, presets"),
}
BOX, GAP, STEP = (190, 52), 30, 98  # width and height of a box, room between boxes, height of a row, in pixels
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
    files = list(files_of(repository))
    rooms = {room for room, _ in files}
    pairs = ((room, imported) for room, file in files for imported in imported_rooms(file, rooms))
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def direct(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that follow from no others: without room -> other where room -> ... -> other leads there too."""
    below: dict[str, set[str]] = {}

    def reach(room: str) -> set[str]:
        if room not in below:
            nearest = {imported for first, imported in pairs if first == room}
            below[room] = nearest.union(*map(reach, nearest))
        return below[room]

    return {
        (room, imported)
        for room, imported in pairs
        if not any(imported in reach(between) for first, between in pairs if first == room)
    }


def svg(pairs: set[tuple[str, str]]) -> str:
    """A drawing of the package's rooms and the direct arrows between them."""
    columns, rows = (max(position[axis] for position in DRAWING.values()) for axis in (0, 1))
    width, height = int((columns + 1) * (BOX[0] + GAP) + GAP), int(rows * STEP + BOX[1] + 40)
    corners = {name: (GAP + column * (BOX[0] + GAP), 20 + row * STEP) for name, (column, row, _) in DRAWING.items()}
    lines = []
    for room, imported in sorted(direct({pair for pair in pairs if pair[0] in corners and pair[1] in corners})):
        (x1, y1), (x2, y2) = corners[room], corners[imported]
        start, end = (x1 + BOX[0] / 2, y1 + BOX[1]), (x2 + BOX[0] / 2, y2 - 7)
        bend = (start[1] + end[1]) / 2
        lines.append(
            f'<path d="M{start[0]:g} {start[1]:g} C{start[0]:g} {bend:g} {end[0]:g} {bend:g} {end[0]:g} {end[1]:g}"/>'
        )
    boxes = []
    for room, (x, y) in corners.items():
        boxes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{BOX[0]}" height="{BOX[1]}" rx="8"/>'
            f'<text x="{x + BOX[0] / 2:g}" y="{y + 22:g}" class="room">{room}</text>'
            f'<text x="{x + BOX[0] / 2:g}" y="{y + 40:g}">{DRAWING[room][2]}</text>'
        )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" \
height="{height}" role="img" aria-label="The rooms of the package; each imports only from rooms below it">
<style>
text {{ font: 13px system-ui, sans-serif; text-anchor: middle; fill: #5b4636 }}
.room {{ font-weight: 600; font-size: 15px; fill: #2b1d12 }}
rect {{ fill: #f6efe4; stroke: #8a6d4f }}
path {{ fill: none; stroke: #8a6d4f; stroke-width: 1.3; marker-end: url(#tip) }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0 L8 4 L0 8 z" style="fill: #8a6d4f; stroke: none; marker-end: none"/></marker></defs>
<rect width="{width}" height="{height}" style="fill: #fffdf9; stroke: none"/>
{chr(10).join(lines)}
{chr(10).join(boxes)}
</svg>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", nargs="?", type=Path, default=REPOSITORY)
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the drawing")
    options = parser.parse_args()
    repository: Path = options.repository
    if options.svg is not None:
        options.svg.write_text(svg(set(arrows(repository))), encoding="utf-8")
        return
    rooms = sorted({room for room, _ in files_of(repository)})
    counts = arrows(repository)
    print(f"{len(rooms)} rooms, {len(counts)} arrows between them, {sum(counts.values())} imported names")
    for room in rooms:
        below = sorted(imported for importing, imported in counts if importing == room)
        print(f"  {room} -> {', '.join(below) or 'nothing'}")


if __name__ == "__main__":
    main()
