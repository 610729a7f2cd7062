"""The nodes, in the form that ComfyUI calls version 1: a class with INPUT_TYPES, RETURN_TYPES and FUNCTION."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy.cli_args import args
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from tintype import Pipeline, Receipt
from tintype.diffusion.names import SAMPLERS, SCHEDULES
from tintype.errors import ConfigError
from tintype.model import hub, store
from tintype.pipeline.limits import MAX_GUIDANCE, MAX_SEED, MAX_SIDE, MAX_STEPS, MIN_STRENGTH, STRENGTH

from .images import mask_picture, one_picture, to_image, to_pictures

FOLDER = "tintype"  # in ComfyUI's folder of models
OWN = "the model's own"
MAX_BATCH = 4096
PREVIEW_SIZE = 512  # pixels, at most
CATEGORY = "tintype"
PIPELINE, IMAGE, STRING = "TINTYPE_MODEL", "IMAGE", "STRING"

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def models_on_disk() -> dict[str, Path]:
    """Model and run folders in ComfyUI's folders of Tintype models, by name."""
    parents = [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]
    folders = [folder for parent in parents if parent.is_dir() for folder in sorted(parent.iterdir())]
    return {folder.name: folder for folder in folders if (folder / "config.json").is_file()}


class LoadModel:
    """A Tintype model, on the device that ComfyUI computes on."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = (PIPELINE,)
    RETURN_NAMES = ("model",)
    DESCRIPTION = "Loads a model that Tintype ships, one in models/tintype, or any other by its path."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = list(dict.fromkeys([*store.shipped(), *models_on_disk()]))
        tip = "a model folder, a run folder (also while it trains) or hf:OWNER/NAME; used in place of the name above"
        return {
            "required": {"name": (names, {"tooltip": "a shipped model, or a folder in ComfyUI's models/tintype"})},
            "optional": {"path": (STRING, {"default": "", "tooltip": tip})},
        }

    @classmethod
    def IS_CHANGED(cls, name: str, path: str = "") -> str:
        """Another text when the model has changed on disk, as that of a run does; the Hub is not asked again."""
        place = cls.place(name, path)
        return place if place.startswith(hub.PREFIX) else store.weights_hash(store.find(place))

    @staticmethod
    def place(name: str, path: str) -> str:
        """What `Pipeline.load` takes."""
        if path.strip():
            return path.strip()
        found = models_on_disk()
        return name if name in store.shipped() or name not in found else str(found[name])

    def load(self, name: str, path: str = "") -> tuple[Pipeline]:
        return (Pipeline.load(self.place(name, path), comfy.model_management.get_torch_device()),)


class Sample:
    """Pictures of a caption, with a preview of each step."""

    CATEGORY = CATEGORY
    FUNCTION = "sample"
    RETURN_TYPES = (IMAGE, IMAGE, STRING)
    RETURN_NAMES = ("images", "steps", "receipt")
    OUTPUT_TOOLTIPS = (
        "the pictures",
        "every step of the first picture, as a batch",
        "what made each picture, as JSON, one line for each",
    )
    DESCRIPTION = "Draws pictures of a caption, or changes a picture."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 0, "min": 0, "max": MAX_SIDE, "step": 1, "tooltip": "pixels; 0: the model's own"}
        return {
            "required": {
                "model": (PIPELINE,),
                "caption": (STRING, {"multiline": True, "default": "a red circle left of a blue square"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True}),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": MAX_BATCH, "tooltip": "pictures of the seed"}),
                "steps": ("INT", {"default": 0, "min": 0, "max": MAX_STEPS, "tooltip": "0: the model's own"}),
                "guidance": (
                    "FLOAT",
                    {
                        "default": -1.0,
                        "min": -1.0,
                        "max": MAX_GUIDANCE,
                        "step": 0.1,
                        "tooltip": "1: none; below 0: the model's own",
                    },
                ),
                "sampler": ([OWN, *SAMPLERS],),
                "schedule": ([OWN, *SCHEDULES],),
                "width": ("INT", side),
                "height": ("INT", side),
                "show": (["denoised", "noisy"], {"tooltip": "previews and steps: the predicted or the noisy picture"}),
            },
            "optional": {
                "negative": (STRING, {"multiline": True, "default": "", "tooltip": "what to steer away from"}),
                "init_image": (IMAGE, {"tooltip": "a picture to start from, with noise added"}),
                "mask": ("MASK", {"tooltip": "where to repaint init_image; without it, everywhere"}),
                "strength": (
                    "FLOAT",
                    {
                        "default": STRENGTH,
                        "min": MIN_STRENGTH,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "how much noise init_image gets; 1: nothing of it is left",
                    },
                ),
            },
        }

    def sample(
        self,
        model: Pipeline,
        caption: str,
        seed: int,
        batch_size: int,
        steps: int,
        guidance: float,
        sampler: str,
        schedule: str,
        width: int,
        height: int,
        show: str,
        negative: str = "",
        init_image: Tensor | None = None,
        mask: Tensor | None = None,
        strength: float = STRENGTH,
    ) -> tuple[Tensor, Tensor, str]:
        """Draw. Raises ConfigError; ComfyUI's InterruptProcessingException when its user stops it."""
        if mask is not None and init_image is None:
            raise ConfigError("a mask needs an init_image: it says what of it to repaint")
        picture = None if init_image is None else one_picture(init_image, "init_image")
        request = model.request(
            [" ".join(caption.split())] * batch_size,  # a caption is one line
            seeds=seed,
            steps=steps or None,
            guidance=None if guidance < 0 else guidance,
            sampler=None if sampler == OWN else sampler,
            schedule=None if schedule == OWN else schedule,
            width=width or None,
            height=height or None,
            negative_prompt=" ".join(negative.split()),
            init_image=picture,
            strength=None if picture is None else strength,
            mask=None if mask is None or picture is None else mask_picture(mask, picture.size),
        )
        parts = list(request.parts(model.batch_limit(request)))
        drawn: list[Image.Image] = []
        shown: list[Image.Image] = []
        bar = comfy.utils.ProgressBar(len(parts))
        for done, part in enumerate(parts):
            sampling = model.run(part)
            while True:
                comfy.model_management.throw_exception_if_processing_interrupted()
                try:
                    step = next(sampling)
                except StopIteration as finished:
                    drawn += model.pictures(finished.value)
                    break
                preview = model.pictures((step.denoised if show == "denoised" else step.x)[:1])[0]
                if done == 0:
                    shown.append(preview)
                bar.update_absolute(
                    done * step.total + step.index + 1, len(parts) * step.total, ("PNG", preview, PREVIEW_SIZE)
                )
        receipts = [receipt.to_json() for receipt in model.receipts(request)]
        return to_image(drawn), to_image(shown), "\n".join(receipts)


class SavePicture:
    """Pictures as PNG files with their receipts inside, beside ComfyUI's own workflow."""

    CATEGORY = CATEGORY
    FUNCTION = "save"
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    DESCRIPTION = "Saves pictures with their receipts, which tintype info and tintype redo read."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "images": (IMAGE,),
                "receipt": (STRING, {"forceInput": True, "tooltip": "of the Tintype Sampler that drew the pictures"}),
                "filename_prefix": (STRING, {"default": "tintype"}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save(
        self,
        images: Tensor,
        receipt: str,
        filename_prefix: str,
        prompt: dict[str, Any] | None = None,
        extra_pnginfo: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the files. Raises ConfigError if pictures and receipts do not belong together, DataError, OSError."""
        receipts = [Receipt.from_json(line) for line in receipt.splitlines()]
        pictures = to_pictures(images)
        sizes = [(made.width, made.height) for made in receipts]
        if [picture.size for picture in pictures] != sizes:
            raise ConfigError("these pictures are not those of the receipt; connect both to the same Tintype Sampler")
        width, height = pictures[0].size
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        saved = []
        for index, (picture, made) in enumerate(zip(pictures, receipts, strict=True)):
            file = f"{name.replace('%batch_num%', str(index))}_{counter + index:05}_.png"
            picture.save(Path(folder) / file, pnginfo=_texts(made, prompt, extra_pnginfo))
            saved.append({"filename": file, "subfolder": subfolder, "type": "output"})
        return {"ui": {"images": saved}}


def _texts(receipt: Receipt, prompt: dict[str, Any] | None, extra: dict[str, Any] | None) -> PngInfo | None:
    """The texts in a PNG; None if ComfyUI was started with --disable-metadata."""
    if args.disable_metadata:
        return None
    info = PngInfo()
    info.add_text("parameters", receipt.parameters())
    info.add_text("tintype", receipt.to_json())
    for name, value in {"prompt": prompt, **(extra or {})}.items():
        if value is not None:
            info.add_text(name, json.dumps(value))
    return info
