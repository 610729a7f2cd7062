"""Models with parts from Python: a network or a prediction that no configuration names, recorded by qualified name."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tintype.errors import CheckpointError
from tintype.model.file_names import COMPONENTS

OF_MODEL = ("net", "prediction")  # those that a model needs to make pictures; the others matter in training only


def qualified_name(value: object) -> str:
    """The module and name of a function or class, or those of an object's class; `__main__` is named by its file."""
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
    """What a model folder, run folder or checkpoint records: part -> qualified name. Raises CheckpointError."""
    path = folder / COMPONENTS
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {str(part): str(name) for part, name in values.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the model again") from None


def require_components(model: str, recorded: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Raise CheckpointError if a model or run was made with other parts than those given now; both: part -> name."""
    for part in sorted({*recorded, *given}):
        before, now = recorded.get(part), given.get(part)
        if before == now:
            continue
        if now is None:
            raise CheckpointError(f"{model} was trained with {part}={before}; pass that object as {part}=")
        if before is None:
            raise CheckpointError(f"{model} was trained without an object for {part}; leave out {part}={now}")
        raise CheckpointError(f"{model} was trained with {part}={before}, not {now}; pass that object as {part}=")
