"""Models with custom components: Python objects for the network or the prediction, recorded by qualified name."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tintype.errors import CheckpointError
from tintype.model.file_names import COMPONENTS
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text

OF_MODEL = ("net", "prediction")  # needed for sampling too; the other components matter only in training


def qualified_name(value: object) -> str:
    """Module and name of a function, a class, or the class of an object; the file name stands for `__main__`."""
    while isinstance(value, functools.partial):
        value = value.func
    owner = value if hasattr(value, "__qualname__") else type(value)
    module = str(getattr(owner, "__module__", ""))
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = spec.name if spec is not None else Path(file).stem if file else module
    return f"{module}.{owner.__qualname__}"


def to_json(components: Mapping[str, str]) -> str:
    return json.dumps(components, indent=2) + "\n"


def read_components(folder: Path) -> dict[str, str]:
    """Custom components of a model folder, run folder or checkpoint: part -> qualified name. Raises CheckpointError."""
    path = folder / COMPONENTS
    try:
        values = json.loads(read_text(path, MAX_CONFIG_BYTES)) if path.is_file() else {}
        return {str(part): str(name) for part, name in values.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the model again") from None


def require_components(model: str, recorded: Mapping[str, str], current: Mapping[str, str]) -> None:
    """Raise CheckpointError unless the recorded and the current components, part -> qualified name, are the same."""
    for part in sorted({*recorded, *current}):
        old, new = recorded.get(part), current.get(part)
        if old == new:
            continue
        if new is None:
            raise CheckpointError(f"{model} was trained with {part}={old}; pass that object as {part}=")
        if old is None:
            raise CheckpointError(f"{model} was trained without an object for {part}; leave out {part}={new}")
        raise CheckpointError(f"{model} was trained with {part}={old}, not {new}; pass that object as {part}=")
