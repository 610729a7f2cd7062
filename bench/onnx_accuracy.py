"""What storing weights in fewer bits does to a model exported as ONNX graphs: sizes, caption accuracy, pictures, time.

    python bench/onnx_accuracy.py [--model shapes] [--num 200] [--precisions fp32,fp16,int8]

Every export draws the same new captions with the same seeds, with `examples/onnx_draw.py`. Pictures are compared with
those of the model itself. Accuracy is that of `bench/shapes_accuracy.py`, for models of the drawn shapes alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image

from tintype.evaluation.shapes_accuracy import SPLITS, attribute_score, caption_tasks, judge_pictures
from tintype.export.forms import export_model
from tintype.export.onnx.check import session_of
from tintype.model.nets.conditioning import CaptionKV
from tintype.pipeline.pipeline import Pipeline

sys.path.append(str(Path(__file__).parent.parent / "examples"))

from onnx_draw import Model


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; 99 for equal pictures."""
    error = np.square(one.astype(float) - other.astype(float)).mean()
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


def evaluation_inputs(pipeline: Pipeline) -> tuple[torch.Tensor, torch.Tensor, CaptionKV]:
    """What the network is asked once a step for one picture of the usual size."""
    width, height = pipeline.config.default_size
    kv = pipeline.denoiser.caption_kv(pipeline.encode(["a red circle left of a blue square"]))
    return torch.randn(1, pipeline.config.net.channels, height, width), torch.ones(1), kv


def as_arrays(x: torch.Tensor, sigma: torch.Tensor, kv: CaptionKV) -> dict[str, np.ndarray]:
    """The same for the graph `net`."""
    keys, values = torch.stack(kv.keys), torch.stack(kv.values)
    tensors = {"x": x, "sigma": sigma, "keys": keys, "values": values, "mask": kv.mask, "pooled_text": kv.pooled_text}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def milliseconds(run: Callable[[], object], num: int = 100) -> float:
    """The CPU time of the fastest of some runs; one thread computes."""
    times = []
    with torch.no_grad():
        for _ in range(num):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
    return 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--num", type=int, default=200, help="captions")
    parser.add_argument("--precisions", default="fp32,fp16,int8")
    options = parser.parse_args()

    torch.set_num_threads(1)
    tasks = caption_tasks(SPLITS["new"], options.num, set())
    pipeline = Pipeline.load(options.model, "cpu")

    def right(pictures: list[np.ndarray]) -> int:
        verdicts = judge_pictures([Image.fromarray(picture) for picture in pictures], tasks)
        return round(attribute_score(verdicts, [task.scene for task in tasks], "all").right.value * len(tasks))

    inputs = evaluation_inputs(pipeline)
    originals = [np.asarray(pipeline.generate(task.caption, seeds=[i])[0]) for i, task in enumerate(tasks)]
    fastest = milliseconds(lambda: pipeline.denoiser.denoise(*inputs))
    print(f"{options.model}: {right(originals)} of {len(tasks)} right, {fastest:.1f} ms an evaluation")
    for precision in options.precisions.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            start = time.process_time()
            folder = export_model(options.model, Path(scratch) / "model", to="onnx", precision=precision)
            exported = time.process_time() - start
            size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
            model = Model(folder)
            pictures = [model.draw(task.caption, i) for i, task in enumerate(tasks)]
            session, arrays = session_of(onnx.load(folder / "net.onnx")), as_arrays(*inputs)
            fastest = milliseconds(lambda session=session, arrays=arrays: session.run(None, arrays))
        ratios = [psnr(one, other) for one, other in zip(originals, pictures, strict=True)]
        levels = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(originals, pictures, strict=True))
        print(
            f"{precision}: {size:.1f} MB, exported in {exported:.0f} s of CPU; {right(pictures)} of {len(tasks)} "
            f"right, PSNR {statistics.median(ratios):.0f} dB (worst {min(ratios):.0f}), "
            f"largest difference {levels} levels; "
            f"{fastest:.1f} ms an evaluation"
        )


if __name__ == "__main__":
    main()
