"""Token models on disk: tokens.json, tokens.safetensors and perhaps tokenizer.json. Loading runs no code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint, store
from tintype.model.file_names import TOKEN_CONFIG, TOKEN_WEIGHTS, TOKENIZER
from tintype.model.meta_device import meta_device
from tintype.model.nets.tokens import require_learned
from tintype.model.read_file import MAX_CONFIG_BYTES, MAX_TOKENIZER_BYTES, read_header, read_text
from tintype.tokens.config import TokenConfig
from tintype.tokens.model import TokenModel

CODES = "codes"  # name of the codebook among the weights
SHIPPED = "shapes-tokens"


def shipped() -> dict[str, Path]:
    """Token models shipped inside the package: name -> folder."""
    return store.shipped_token_models()


def is_token_model(model: str | Path) -> bool:
    """Whether a name or folder is a token model: a shipped one, a finished one, or a run that trains one."""
    return store.is_token_model(model)


def find(model: str | Path) -> Path:
    """The folder of a token model: a shipped name, a model folder, or the newest checkpoint of a run that still trains.

    Raises CheckpointError.
    """
    if isinstance(model, str) and model in shipped():
        return shipped()[model]
    folder = Path(model)
    if not is_token_model(folder):
        raise CheckpointError(
            f"{model} is no token model: give the folder of one, or a shipped name ({', '.join(shipped()) or 'none'})"
        )
    if (folder / TOKEN_WEIGHTS).is_file():
        return folder
    newest = checkpoint.latest(folder)
    if newest is None:
        raise CheckpointError(f"{folder} has no checkpoint yet: wait until the run has saved one")
    return newest


def load(folder: Path) -> TokenModel:
    """Load a token model, on the CPU, from a folder that `find` gives. Raises CheckpointError."""
    config, tokenizer = read_config(folder), _read_tokenizer(folder, TOKENIZER)
    if config.text.encoder == "learned" and tokenizer is not None:
        require_learned(tokenizer, config.text.vocabulary)
    weights = read_weights(folder, config)
    model = TokenModel(config, weights.pop(CODES).to(torch.uint8), tokenizer)
    model.load_state_dict(weights)
    return model.eval()


def read_config(folder: Path) -> TokenConfig:
    """The settings of a token model. Raises CheckpointError."""
    path = folder / TOKEN_CONFIG
    try:
        return TokenConfig.from_json(read_text(path, MAX_CONFIG_BYTES))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the model again") from None
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_weights(folder: Path, config: TokenConfig) -> dict[str, Tensor]:
    """Weights and codebook as float32, after a look at their names and shapes. Raises CheckpointError."""
    path = weights_file(folder)
    is_checkpoint = (folder / checkpoint.MANIFEST).is_file()
    headers = (
        [read_header(path), read_header(folder / f"{CODES}.safetensors")] if is_checkpoint else [read_header(path)]
    )
    shapes = {name: shape for header in headers for name, (_, shape) in header.items()}
    if any(not kind.startswith(("F", "BF")) for kind, _ in headers[0].values()) or shapes != _expected_shapes(config):
        raise CheckpointError(f"{folder}: the weights do not fit {TOKEN_CONFIG}; copy the model again")
    if is_checkpoint:
        parts = checkpoint.load_parts(folder, ["model", CODES])
        tensors = {**parts["model"], **parts[CODES]}
    else:
        tensors = checkpoint.read_tensors(path)
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} is not finite; use another checkpoint")
    return tensors


def write(folder: Path, model: TokenModel) -> None:
    """Write a finished model, its weights as float16. Raises CheckpointError, NotFiniteError."""
    weights = {name: weight.detach().half() for name, weight in model.named_parameters()}
    checkpoint.write_text(folder / TOKEN_CONFIG, model.config.to_json())
    if model.tokenizer is not None:
        checkpoint.write_text(folder / TOKENIZER, model.tokenizer)
    checkpoint.write_tensors(folder / TOKEN_WEIGHTS, {**weights, CODES: model.codebook.codes.half()})


def weights_file(folder: Path) -> Path:
    """The file of the weights in a model folder, or in a checkpoint of a run."""
    path = folder / TOKEN_WEIGHTS
    return path if path.is_file() else folder / "model.safetensors"


def weights_hash(folder: Path) -> str:
    """sha256 of the weights. Raises CheckpointError."""
    path = weights_file(folder)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the model again") from None


def _expected_shapes(config: TokenConfig) -> dict[str, tuple[int, ...]]:
    codes = (config.net.codes, 3 * config.net.patch**2)
    with meta_device():
        state = TokenModel(config, torch.zeros(codes)).state_dict()
    return {CODES: codes, **{name: tuple(tensor.shape) for name, tensor in state.items()}}


def _read_tokenizer(folder: Path, name: str) -> str | None:
    path = folder / name
    try:
        return read_text(path, MAX_TOKENIZER_BYTES) if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the model again") from None
