"""Captioners: image-to-text models that lie on this machine's disk. Nothing is downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tintype.errors import ConfigError

FOLDER = "captioners"  # of the studio: what lies in there is found
MAX_CONFIG_BYTES = 2**20
PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def find_captioners(studio: Path, given: Sequence[Path] = ()) -> dict[str, Path]:
    """The captioners by name: those given, those in the studio's folder, and those in the cache of Hugging Face.

    Raises ConfigError for a given folder that holds none.
    """
    for folder in given:
        if not is_captioner(folder):
            raise ConfigError(
                f"--captioner {folder} is no image-to-text model of transformers with safetensors weights; give the "
                "folder that holds its config.json"
            )
    found = [(folder.resolve().name, folder.resolve()) for folder in given]
    found += [(folder.name, folder.resolve()) for folder in _folders(studio / FOLDER)]
    found += _cached()
    captioners: dict[str, Path] = {}
    for name, folder in found:
        if is_captioner(folder):
            captioners.setdefault(name, folder)
    return captioners


def is_captioner(folder: Path) -> bool:
    """Whether a folder holds a model of transformers that looks at pictures and writes text, and all that it needs."""
    try:
        file = folder / "config.json"
        config = json.loads(file.read_text(encoding="utf-8")) if file.stat().st_size <= MAX_CONFIG_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(config, dict) or not any((folder / name).is_file() for name in PROCESSORS):
        return False
    looks = "vision_config" in config or config.get("model_type") == "vision-encoder-decoder"
    names = config.get("architectures")
    writes = isinstance(names, list) and any(
        str(name).endswith(("ForConditionalGeneration", "ForCausalLM", "ForImageTextToText", "EncoderDecoderModel"))
        for name in names
    )
    return looks and writes and any(folder.glob("*.safetensors"))


def _cached() -> Iterator[tuple[str, Path]]:
    """The models in the cache of Hugging Face: name and folder of the newest snapshot of each."""
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    for folder in _folders(cache):
        if not folder.name.startswith("models--"):
            continue
        snapshots = sorted(_folders(folder / "snapshots"), key=lambda path: path.stat().st_mtime)
        if snapshots:
            yield folder.name.removeprefix("models--").replace("--", "/"), snapshots[-1]


def _folders(above: Path) -> list[Path]:
    try:
        return sorted(path for path in above.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []
