"""Images of A1111's requests: starting pictures and masks as that program reads them."""

from __future__ import annotations

from PIL import Image, ImageFilter, ImageOps

from tintype.serving.api.a1111.bodies import Img2ImgBody
from tintype.serving.api.images import base64_bytes, decode, decode_mask


def init_images(body: Img2ImgBody) -> tuple[Image.Image, Image.Image | None]:
    """The starting picture, mode RGB, and its mask, mode L and of its size, white where to repaint. Raises ApiError."""
    picture = decode(base64_bytes(body.init_images[0], "init_images"), "init_images")
    mask = None if body.mask is None else _mask(body, picture.size)
    width, height = body.size()
    if body.resize_mode in (0, 3) and width and height and picture.width * height != picture.height * width:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)  # a stretch, to the shape asked for
        mask = mask and mask.resize((width, height), Image.Resampling.BILINEAR)
    return picture, mask


def _mask(body: Img2ImgBody, size: tuple[int, int]) -> Image.Image:
    """Repaint where the mask is opaque, or if all of it is, where it is white; its edge blurred."""
    mask = decode_mask(base64_bytes(body.mask or "", "mask"), "mask", opaque=True)
    if mask.size != size:
        mask = mask.resize(size, Image.Resampling.BILINEAR)
    if body.inpainting_mask_invert:
        mask = ImageOps.invert(mask)
    if body.mask_blur:
        scale = size[0] / (body.size()[0] or size[0])  # the blur counts pixels of the finished picture
        mask = mask.filter(ImageFilter.GaussianBlur(min(256.0, body.mask_blur * scale)))
    return mask
