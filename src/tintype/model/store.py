"""Models on disk: shipped models (folders beside this file), model folders and run folders."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tintype.config import Config
from tintype.diffusion.parameterization import Prediction
from tintype.errors import CheckpointError, ConfigError
from tintype.model import checkpoint, custom, hub, manifest
from tintype.model.denoiser import Denoiser
from tintype.model.file_names import CHECKPOINTS, CONFIG, LOG, STATE, TOKEN_CONFIG, TOKEN_WEIGHTS, TOKENIZER, WEIGHTS
from tintype.model.meta_device import meta_device
from tintype.model.nets.tokens import require_learned
from tintype.model.network import NetFactory
from tintype.model.read_file import MAX_CONFIG_BYTES, MAX_TOKENIZER_BYTES, read_header, read_text


class Model(NamedTuple):
    """The location of a model on disk."""

    name: str
    folder: Path  # holds config.json, model.safetensors and perhaps tokenizer.json
    run: Path | None  # the run folder that `folder` is or belongs to
    damaged: tuple[str, ...] = ()  # what is damaged in newer checkpoints of the run, which are passed over

    @property
    def warning(self) -> str:
        """What is damaged in newer checkpoints, and what is used instead; empty where nothing is passed over."""
        if not self.damaged:
            return ""
        what = "the finished model" if self.folder == self.run else f"the older {self.folder.name}"
        return f"{'; '.join(self.damaged)}; {what} of {self.run} is used instead"


def shipped() -> dict[str, Path]:
    """Models shipped inside the package: name -> folder."""
    return _shipped_with(WEIGHTS)


def shipped_token_models() -> dict[str, Path]:
    """Shipped models that write pictures token by token (`tintype.tokens`): name -> folder."""
    return _shipped_with(TOKEN_WEIGHTS)


def _shipped_with(weights: str) -> dict[str, Path]:
    here = Path(str(files("tintype.model") / "shipped"))
    return {folder.name: folder for folder in sorted(here.iterdir()) if (folder / weights).is_file()}


def is_token_model(model: str | Path) -> bool:
    """Whether a name or folder is a model that writes pictures token by token, which `find` refuses."""
    return str(model) in shipped_token_models() or (Path(model) / TOKEN_CONFIG).is_file()


def find(model: str | Path) -> Model:
    """Find a shipped model by name, or a model in a folder; in an unfinished run, the newest whole checkpoint.

    `hf:OWNER/NAME` is fetched from the Hugging Face Hub (`model.hub`); nothing else is fetched. A shipped name wins
    over a folder of that name; write ./NAME for the folder. `warning` of the model names damaged checkpoints that are
    passed over. Raises CheckpointError.
    """
    packaged = shipped()
    if isinstance(model, str) and model in packaged:
        return Model(model, packaged[model], None)
    if isinstance(model, str) and model.startswith(hub.PREFIX):
        return Model(model, hub.fetched(model), None)
    folder = Path(model)
    names = ", ".join(packaged) or "none"
    if is_token_model(model):
        raise CheckpointError(
            f"{model} writes pictures token by token and has no noise levels: a diffusion model is needed here; draw "
            "with it by tintype generate --model, or tintype.TokenWriter"
        )
    if folder.suffix in (".html", ".htm") and folder.is_file():
        raise CheckpointError(f"{model} is a page: tintype import makes a model folder of it, if it is an exported one")
    if not folder.is_dir():
        raise CheckpointError(
            f"no model {str(model)!r}: give a model folder, a run folder, hf:OWNER/NAME or a shipped name ({names})"
        )
    name = folder.resolve().name
    run = folder if (folder / CHECKPOINTS).is_dir() else None
    newest, damaged = checkpoint.newest_whole(folder) if run else (None, {})
    final = folder / WEIGHTS
    if newest is not None and not (final.is_file() and _is_newer(folder, newest)):
        return Model(name, newest, run, tuple(damaged.values()))
    if final.is_file() and (folder / CONFIG).is_file():
        return Model(name, folder, run, tuple(what for path, what in damaged.items() if not _is_newer(folder, path)))
    if damaged:
        raise CheckpointError(
            f"every checkpoint in {folder} is damaged ({next(iter(damaged.values()))}); restore one from a backup, or "
            "train again with another --out"
        )
    if run or (folder / LOG).is_file():
        raise CheckpointError(f"{folder} has no checkpoint yet: wait until the run has saved one")
    raise CheckpointError(f"{folder} is not a model: it needs {CONFIG} and {WEIGHTS}")


def _is_newer(run: Path, newest: Path) -> bool:
    """Whether the finished model of a run has seen at least as many images as its newest checkpoint.

    Times of files say nothing: copies and clocks change them.
    """
    seen = manifest.read_images_seen(newest / STATE)
    if seen is None:  # a checkpoint without a count is never taken for newer than a finished model
        return True
    final = manifest.images_seen(run)
    if final is None:  # older runs: finished as planned, or still on the way to a new, longer plan
        final = read_config(Model(run.name, run, run)).train.images
        return seen >= final
    return final >= seen


def read_config(model: Model) -> Config:
    """The configuration of a model. Raises CheckpointError."""
    path = model.folder / CONFIG
    try:
        return Config.from_json(read_text(path, MAX_CONFIG_BYTES))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the model again") from None
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_components(model: Model) -> dict[str, str]:
    """The custom components of a model: part -> qualified name. Raises CheckpointError."""
    return custom.read_components(model.folder)


def load_denoiser(
    model: Model, net: NetFactory | nn.Module | None = None, prediction: Prediction | None = None
) -> Denoiser:
    """Load a model with its weights, on the CPU. Raises CheckpointError.

    net, prediction: the custom components of its training, if it had any.
    """
    components = {"net": net, "prediction": prediction}
    custom.require_components(
        model.name,
        {part: name for part, name in read_components(model).items() if part in components},
        {part: custom.qualified_name(value) for part, value in components.items() if value is not None},
    )
    config = read_config(model)
    require_fit(model, config, own_net=net is not None)
    module = net if net is None or isinstance(net, nn.Module) else net(config)
    tokenizer = read_tokenizer(model)
    if config.text.encoder == "learned" and tokenizer is not None:
        require_learned(tokenizer, config.text.vocabulary)
    denoiser = Denoiser(config, tokenizer, net=module, prediction=prediction)
    try:
        denoiser.load_state_dict(read_weights(model))
    except RuntimeError:
        raise CheckpointError(f"{model.folder}: the weights do not fit config.json; copy the model again") from None
    return denoiser


def require_fit(model: Model, config: Config, *, own_net: bool = False) -> None:
    """Raise CheckpointError if the weights of a model have other names or shapes than its configuration, or are not
    floating point.

    Compares the header of the file with a network that has no memory of its own, so that a configuration never takes
    more memory than the weights that come with it.

    Args:
        own_net: the network is an object from Python, and only the weights beside it are compared.
    """
    path = model.folder / WEIGHTS
    header = read_header(path)
    with meta_device():
        expected = Denoiser(config, net=nn.Identity() if own_net else None).state_dict()
    if own_net:
        header = {name: entry for name, entry in header.items() if not name.startswith("net.")}
    for name, (dtype, _) in header.items():
        if not dtype.startswith(("F", "BF")):
            raise CheckpointError(f"{path}: {name} is of type {dtype}, not floating point; copy the model again")
    if {name: shape for name, (_, shape) in header.items()} != {
        name: tuple(tensor.shape) for name, tensor in expected.items()
    }:
        raise CheckpointError(f"{model.folder}: the weights do not fit config.json; copy the model again")


def read_tokenizer(model: Model) -> str | None:
    """The tokenizer of a learned vocabulary as JSON, or None. Raises CheckpointError."""
    path = model.folder / TOKENIZER
    try:
        return read_text(path, MAX_TOKENIZER_BYTES) if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the model again") from None


def read_weights(model: Model) -> dict[str, Tensor]:
    """The weights of a model on the CPU, as float32 whatever their dtype on disk. Raises CheckpointError."""
    if (model.folder / checkpoint.MANIFEST).is_file():
        tensors = checkpoint.load_parts(model.folder, ["model"])["model"]
    else:
        tensors = checkpoint.read_tensors(model.folder / WEIGHTS)
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{model.folder / WEIGHTS}: {name} is not finite; use another checkpoint")
    return tensors


def weights_hash(model: Model) -> str:
    """sha256 of model.safetensors. Raises CheckpointError, also if it is not what the manifest of the model says."""
    path = model.folder / WEIGHTS
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy the model again") from None
    recorded = manifest.read(model.folder)
    if recorded is not None:
        manifest.require(model.folder, WEIGHTS, {"size": size, "sha256": sha256}, recorded)
    return sha256


def verify(model: Model) -> list[str]:
    """Compare every file of a model with its manifest. Returns their names. Raises CheckpointError."""
    if (model.folder / checkpoint.MANIFEST).is_file():
        return checkpoint.verify(model.folder)
    return manifest.verify(model.folder)
