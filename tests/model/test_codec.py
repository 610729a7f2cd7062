import torch

from tintype.model.codec import PixelCodec


def test_every_pixel_value_survives_the_round_trip() -> None:
    pictures = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    x0 = PixelCodec().encode(pictures)
    assert x0.dtype == torch.float32
    assert (x0.min(), x0.max()) == (-1, 1)
    assert torch.equal(PixelCodec().decode(x0), pictures)


def test_what_lies_outside_is_cut_off() -> None:
    assert PixelCodec().decode(torch.tensor([-9.0, -1.01, 1.01, 9.0]).view(1, 1, 2, 2)).flatten().tolist() == [
        0,
        0,
        255,
        255,
    ]
