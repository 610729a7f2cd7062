"""Draw with a model that was exported to ONNX: onnxruntime, tokenizers and numpy, without Tintype and PyTorch.

    tintype export shapes --to onnx --out shapes-onnx
    python examples/onnx_draw.py [FOLDER [CAPTION [SEED]]]           # writes picture.png

The picture is the one that `tintype generate CAPTION --seed SEED` makes: the starting noise is a function of the seed.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def starting_noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers (Box and Muller 1958) from the words of Philox4x32-10: counter (block, 0, 0, 7)."""
    block = np.arange(-(-int(np.prod(shape)) // 4), dtype=np.uint64)
    c, key = [block, block * 0, block * 0, block * 0 + np.uint64(7)], [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [second >> 32 ^ c[1] ^ key[0], second & 0xFFFFFFFF, first >> 32 ^ c[3] ^ key[1], first & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    pairs = (np.stack(c, axis=1).reshape(-1, 2) + 0.5) / 2**32
    normal = np.sqrt(-2 * np.log(pairs[:, 0])) * np.exp(2j * np.pi * (pairs[:, 1] - 1 / 8))
    return normal.view(float)[: np.prod(shape)].reshape(shape).astype(np.float32)


class Model:
    """A folder that `tintype export --to onnx` wrote."""

    def __init__(self, folder: Path) -> None:
        self.about = json.loads((folder / "tintype.json").read_text("utf-8"))
        self.run = {name: onnxruntime.InferenceSession(folder / f"{name}.onnx").run for name in self.about["graphs"]}
        self.tokenizer = Tokenizer.from_file(str(folder / self.about["tokenizer"]["file"]))
        self.tokenizer.enable_truncation(self.about["tokenizer"]["max_tokens"])

    def read(self, caption: str) -> list[np.ndarray]:
        """Keys, values, mask and pooled text of a caption, and of the empty one that guidance steers away from."""
        rules = self.about["tokenizer"]
        words = caption.lower() if rules["lowercase"] else caption
        ids = self.tokenizer.encode(words, add_special_tokens=rules["special_tokens"]).ids or [0]
        text, mask = np.array([ids], np.int64), np.array([[caption != ""], [False]]).repeat(len(ids), axis=1)
        if "encoder" in self.run:
            (text,) = self.run["encoder"](None, {"token_ids": text, "token_mask": np.ones(text.shape, bool)})
        return self.run["text"](None, {"text": text.repeat(2, axis=0), "token_mask": mask})

    def draw(self, caption: str, seed: int) -> np.ndarray:
        """The picture [height, width, 3] uint8 of a caption and a seed."""
        keys, values, mask, pooled = self.read(caption)
        plan, shape = self.about["sampling"]["plan"], self.about["picture"]["shape"]
        before = x = np.float32(plan[0]["sigma"]) * starting_noise(seed, (1, *shape))
        guesses = []  # newest first
        for step in plan:
            n = 1 if step["guidance"] == 1 else 2  # without guidance the empty caption is not asked
            inputs = {"keys": keys[:, :n], "values": values[:, :n], "mask": mask[:n], "pooled_text": pooled[:n]}
            inputs |= {"x": x.repeat(n, axis=0), "sigma": np.full(n, step["sigma"], np.float32)}
            (found,) = self.run["net"](None, inputs)
            guesses.insert(0, found[-1:] + np.float32(step["guidance"]) * (found[:1] - found[-1:]))
            if step["correct"]:
                x = step["corrector_keep"] * before + sum(map(np.multiply, step["correct"], guesses))
            before, x = x, step["keep"] * x + sum(map(np.multiply, step["predict"], guesses))
        return np.clip((x[0].transpose(1, 2, 0) + 1) * 127.5, 0, 255).round().astype(np.uint8)


def png(picture: np.ndarray) -> bytes:
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in picture))
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", *picture.shape[1::-1], 8, 2, 0, 0, 0), b"IDAT" + rows, b"IEND")
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


if __name__ == "__main__":
    folder, caption, seed = sys.argv[1:] + ["shapes-onnx", "a red circle", "0"][len(sys.argv) - 1 :]
    Path("picture.png").write_bytes(png(Model(Path(folder)).draw(caption, int(seed))))
