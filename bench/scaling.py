"""What each preset needs, whatever the machine: arithmetic, data and checkpoints, as docs/scaling.md has them.

    python bench/scaling.py [--presets nano,nano:128,small,base,large]

FLOPs of an image of full size are those of products, attention and convolutions, forward and backward, counted by torch
on one step.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from train_speed import SyntheticData

from tintype.config import Config
from tintype.model.denoiser import Denoiser
from tintype.training.core.trainer import Trainer

BATCH = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="What each preset needs.")
    parser.add_argument("--presets", default="nano,small,base,large", help="with :PIXELS, at another size")
    options = parser.parse_args()
    print(
        "| preset | pixels | weights | batch | GFLOP an image | KiB of data an image "
        "| MiB of a checkpoint | MiB of gradients |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for text in options.presets.split(","):
        name, _, pixels = text.partition(":")
        preset = Config.from_preset(name, int(pixels) if pixels else None)
        config = replace(preset, train=replace(preset.train, batch_size=BATCH, half_size=0.0))
        samples = SyntheticData(config)
        trainer = Trainer(Denoiser(config), samples, config, torch.device("cpu"))
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            trainer._gradient(torch.arange(BATCH))  # without the optimizer, whose work does not grow with the batch
        flops = counter.get_total_flops() / BATCH
        next(trainer.steps(2**62))  # the optimizer has its state after a step
        num_weights = sum(weight.numel() for weight in trainer.denoiser.parameters())
        saved = sum(tensor.nbytes for part in trainer.tensors().values() for tensor in part.values())
        embeddings = samples.text_embeddings(torch.arange(16), torch.zeros(16))
        text = sum(embedding.nbytes for embedding in embeddings) / len(embeddings)
        data = samples.pictures(torch.arange(1)).nbytes + text
        side = config.net.resolution
        print(
            f"| {name} | {side} | {num_weights / 1e6:.1f}M | {preset.train.batch_size} | {flops / 1e9:.2f} "
            f"| {data / 1024:.1f} | {saved / 2**20:.0f} | {4 * num_weights / 2**20:.0f} |"
        )


if __name__ == "__main__":
    main()
