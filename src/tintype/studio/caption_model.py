"""An image-to-text model from a folder, of any kind that transformers knows, as pictures to captions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tintype.errors import ConfigError, MissingExtraError

PROMPT = "Describe this picture in one short sentence."  # for models that are asked in words
MAX_TOKENS = 48  # of a caption
OF_EXTRA = ("sentencepiece", "protobuf")  # packages of the extra `captioner`
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class CaptionModel:
    """Writes captions, the most likely words one after another.

    Only weights in safetensors are read, and no code of the folder is run. Raises ConfigError and MissingExtraError.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.update(OFFLINE)  # before transformers is imported, which reads them once
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        with _explained(folder):
            self._processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
            if not hasattr(self._processor, "image_processor"):  # a folder with a tokenizer and no word of its pictures
                self._images = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
                self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            else:
                self._images, self._tokenizer = self._processor, self._processor.tokenizer
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        self._model: Any = model.to(self._device).eval()

    def captions(self, pictures: Sequence[Image.Image]) -> list[str]:
        """A caption for each picture (mode RGB)."""
        import torch

        inputs = self._inputs(list(pictures)).to(self._device)
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1)
        asked = inputs.get("input_ids")
        if asked is not None and not self._model.config.is_encoder_decoder:
            length = asked.shape[1]
            if tokens.shape[1] >= length and bool((tokens[:, :length] == asked).all()):
                tokens = tokens[:, length:]
        return [" ".join(text.split()) for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    def _inputs(self, pictures: list[Image.Image]) -> Any:
        if not getattr(self._processor, "chat_template", None):
            return self._images(images=pictures, return_tensors="pt")
        question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}]
        text = self._processor.apply_chat_template(question, add_generation_prompt=True)
        self._tokenizer.padding_side = "left"  # what is written continues the end of the question
        nested = [[picture] for picture in pictures]
        return self._processor(images=nested, text=[text] * len(pictures), padding=True, return_tensors="pt")


@contextmanager
def _explained(folder: Path) -> Any:
    """The errors of transformers as ours, in one line."""
    try:
        yield
    except ImportError as error:
        raise _missing(str(error)) or ConfigError(f"{folder.name} cannot be loaded: {_first_line(error)}") from None
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise _missing(str(error)) or ConfigError(f"{folder.name} cannot be loaded: {_first_line(error)}") from None


def _missing(message: str) -> MissingExtraError | ConfigError | None:
    """The package that an error of transformers is about, if it is about one."""
    text = message.lower()
    for package in OF_EXTRA:
        if package in text:
            return MissingExtraError(package, "tintype[captioner]")
    for package in ("torchvision", "timm", "einops", "num2words", "av"):
        if f"{package} library" in text or f"install {package}" in text or f"no module named '{package}'" in text:
            return MissingExtraError(package, package)
    return None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
