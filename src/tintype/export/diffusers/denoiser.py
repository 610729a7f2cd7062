"""The denoiser of a Tintype model as a component of a diffusers pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tintype.errors import MissingExtraError
from tintype.model import checkpoint, file_names, manifest, store
from tintype.model.denoiser import Denoiser

try:
    from diffusers import ModelMixin
    from diffusers.utils import logging
except ImportError:
    raise MissingExtraError("diffusers", "diffusers") from None

logger = logging.get_logger(__name__)


class TintypeDenoiser(ModelMixin):  # type: ignore[misc]
    """A `Denoiser` that diffusers loads, moves and saves with the pipeline that it belongs to.

    denoiser = TintypeDenoiser.from_pretrained("cats")  # a model folder

    It computes in float32.
    """

    def __init__(self, denoiser: Denoiser, images_seen: int | None = None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.images_seen = images_seen

    @classmethod
    def from_pretrained(cls, folder: str | Path, torch_dtype: torch.dtype | None = None, **_: Any) -> TintypeDenoiser:
        """Load a model folder, or the one around it, which is where diffusers asks for `FOLDER/denoiser`.

        diffusers passes every option of loading to each of its components; but for these two they mean nothing here.
        Raises CheckpointError.
        """
        path = Path(folder)
        if not (path / file_names.WEIGHTS).is_file() and (path.parent / file_names.WEIGHTS).is_file():
            path = path.parent
        if torch_dtype not in (None, torch.float32):
            logger.warning(f"this model computes in float32; torch_dtype {torch_dtype} is not used")
        return cls.from_files(store.find(path))

    @classmethod
    def from_files(cls, files: store.Model) -> TintypeDenoiser:
        """Load a model that `store.find` has found. Raises CheckpointError."""
        denoiser = store.load_denoiser(files).eval().requires_grad_(False)
        return cls(denoiser, manifest.images_seen(files.folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder, with weights in float32. Raises CheckpointError, NotFiniteError."""
        path, denoiser = Path(folder), self.denoiser
        path.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(path / file_names.CONFIG, denoiser.config.to_json())
        weights = {name: weight.detach().cpu().float() for name, weight in denoiser.state_dict().items()}
        manifest.remove(path)
        checkpoint.write_tensors(path / file_names.WEIGHTS, weights)
        if denoiser.tokenizer is not None:
            checkpoint.write_text(path / file_names.TOKENIZER, denoiser.tokenizer)
        if self.images_seen is not None:
            manifest.write(path, self.images_seen)
