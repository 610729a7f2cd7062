"""Tintype in ComfyUI: load a model, draw with it, save pictures with their receipts."""

from __future__ import annotations

from .nodes import LoadModel, Sample, SavePicture

NODE_CLASS_MAPPINGS = {
    "TintypeLoadModel": LoadModel,
    "TintypeSample": Sample,
    "TintypeSavePicture": SavePicture,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "TintypeLoadModel": "Load Tintype Model",
    "TintypeSample": "Tintype Sampler",
    "TintypeSavePicture": "Save Tintype Picture",
}
__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
