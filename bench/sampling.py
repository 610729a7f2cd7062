"""How good pictures are after few evaluations of the network, beside diffusers and k-diffusion, in one run.

    python bench/sampling.py mixtures             error on exact mixtures at 8, 12, 16, 20 evaluations; all run in fp32
    python bench/sampling.py model  --model M     distance to the model's own picture after 500 evaluations
    python bench/sampling.py grids  --model M     the same, for each of our samplers and grids; --save keeps the best
    python bench/sampling.py overhead             time of a step outside the network, 64 px, one picture
    python bench/sampling.py rounds --model M     pictures led back to noise and developed again: PSNR

Every row is the same network object on the same starting noise. See peers.py for what the peers need installed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from peers import SIGMA_MAX, SIGMA_MIN, Peer, diffusers_peers, k_diffusion_peers, log_uniform_betas
from PIL import Image
from torch import Tensor

from tintype.config import Config, SampleConfig
from tintype.data.shapes import captions
from tintype.denoiser import Denoiser
from tintype.diffusion.exact import mixture_denoiser
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.samplers import SAMPLERS, finish, num_evaluations, sample
from tintype.diffusion.sigmas import GRIDS, log_snr_sigmas
from tintype.options import write_over
from tintype.pipeline import Pipeline

BUDGETS = (8, 12, 16, 20)
OWN = SampleConfig()


def mixtures() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Weights [K], means [K, C, 1, 1] and variances [K] of four worlds, float64."""
    turn = torch.arange(8).double() * math.pi / 4
    ring = torch.stack([turn.cos(), turn.sin()], dim=1)
    spread = normal(11, Purpose.EVALUATE, torch.arange(16), (48,)).double() / 2
    plane = normal(12, Purpose.EVALUATE, torch.arange(3), (48,)).double() * 0.6
    curved = (normal(13, Purpose.EVALUATE, torch.arange(40), (3,)).double() @ plane).clamp(-1, 1)
    worlds = {
        "3 blobs in 2-d": (
            torch.tensor([0.5, 0.3, 0.2]).double(),
            torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.2]]).double(),
            torch.tensor([0.05, 0.1, 0.02]).double(),
        ),
        "ring of 8 in 2-d": (torch.full((8,), 1 / 8).double(), ring, torch.full((8,), 0.02).double()),
        "16 spread in 48-d": (torch.full((16,), 1 / 16).double(), spread, torch.linspace(0.01, 0.05, 16).double()),
        "40 near a plane in 48-d": (torch.full((40,), 1 / 40).double(), curved, torch.full((40,), 0.02).double()),
    }
    return {name: (w, m[:, :, None, None], v) for name, (w, m, v) in worlds.items()}


def own(sampler: str = OWN.sampler, grid: str = OWN.grid, center: float = OWN.grid_center) -> Peer:
    def run(denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
        steps = num
        while num_evaluations(SAMPLERS[sampler], GRIDS[grid](steps, SIGMA_MIN, SIGMA_MAX, center)) > num:
            steps -= 1
        sigmas = GRIDS[grid](steps, SIGMA_MIN, SIGMA_MAX, center)
        return sample(SAMPLERS[sampler], denoise, SIGMA_MAX * noise, sigmas), SIGMA_MAX

    return run


def rms(a: Tensor, b: Tensor) -> float:
    return (a.double() - b.double()).square().mean().sqrt().item()


def compare(
    peers: dict[str, Peer], denoise: Denoise, noise: Tensor, truth: dict[float, Tensor], exact: Denoise
) -> dict:
    """RMS distance to where the flow leads from each one's own start, per peer and number of evaluations."""
    table: dict[str, list[float]] = {}
    for name, peer in peers.items():
        row = []
        for num in BUDGETS:
            asked = 0

            def counted(x: Tensor, sigma: Tensor) -> Tensor:
                nonlocal asked
                asked += 1
                return denoise(x, sigma.to(x.dtype))

            end, first = peer(counted, noise, num)
            if asked > num:
                raise RuntimeError(f"{name} used {asked} evaluations of {num}")
            first = round(first, 3)
            if first not in truth:
                truth[first] = follow(exact, noise.double(), first)
            row.append(rms(end, truth[first]))
        table[name] = row
    return table


def follow(denoise: Denoise, noise: Tensor, sigma: float, num: int = 400, end: float = 1e-3) -> Tensor:
    """Where the flow leads from sigma * noise: fourth order on a fine grid, down to next to no noise."""
    sigmas = torch.cat([log_snr_sigmas(num, end, sigma)])
    return sample(SAMPLERS["reference"], denoise, sigma * noise, sigmas)


def show(table: dict[str, list[float]], rows: int) -> None:
    print(f"{'evaluations':44}" + "".join(f"{num:>9}" for num in BUDGETS))
    ranked = sorted(table, key=lambda name: sum(map(math.log, table[name])))
    ours = [name for name in ranked if name.startswith("tintype")]
    for name in ours + [name for name in ranked if name not in ours][:rows]:
        print(f"{name:44}" + "".join(f"{error:9.4f}" for error in table[name]))
    best = [
        min((table[name][i], name) for name in table if not name.startswith("tintype")) for i in range(len(BUDGETS))
    ]
    print(f"{'the best peer of each column':44}" + "".join(f"{error:9.4f}" for error, _ in best))
    for num, (_, name) in zip(BUDGETS, best, strict=True):
        print(f"    {num}: {name}")


def all_peers() -> dict[str, Peer]:
    return {**diffusers_peers(), **k_diffusion_peers()}


def on_mixtures(options: argparse.Namespace) -> None:
    peers = {"tintype, default": own(), **all_peers()}
    squares: dict[str, list[float]] = {name: [0.0] * len(BUDGETS) for name in peers}
    worlds = mixtures()
    for world, parts in worlds.items():
        noise = normal(options.seed, Purpose.START, torch.arange(options.num), tuple(parts[1].shape[1:]))
        single = mixture_denoiser(*(part.float() for part in parts))
        table = compare(peers, single, noise, {}, mixture_denoiser(*parts))
        print(f"\n{world}: RMS error of {options.num} pictures")
        show(table, options.rows)
        for name, row in table.items():
            squares[name] = [total + error**2 / len(worlds) for total, error in zip(squares[name], row, strict=True)]
    print("\nall mixtures together")
    show({name: [math.sqrt(total) for total in row] for name, row in squares.items()}, options.rows)


def of_model(options: argparse.Namespace) -> tuple[Denoise, Tensor, Tensor]:
    """The guided denoiser of a model for some captions, starting noise, and its pictures after 500 evaluations."""
    pipeline = Pipeline.load(options.model, options.device)
    pipeline.one_by_one = False
    texts = [caption for caption, _ in captions(options.num, 1_000_003)]
    request = pipeline.request(texts, seeds=options.seed, guidance=options.guidance)
    denoise = pipeline.denoise(request)
    shape = (pipeline.config.net.channels, request.height, request.width)
    noise = normal(options.seed, Purpose.START, torch.arange(len(texts)), shape).to(pipeline.device)
    sigmas = GRIDS["log_snr"](500, SIGMA_MIN, SIGMA_MAX, 1.0)
    return denoise, noise, sample(SAMPLERS["unipc"], denoise, SIGMA_MAX * noise, sigmas)


def on_model(options: argparse.Namespace) -> None:
    denoise, noise, truth = of_model(options)
    peers = {"tintype, default": own(), **all_peers()}
    same_start = {name: peer for name, peer in peers.items() if "flow" not in name}  # all from SIGMA_MAX
    table = compare(same_start, denoise, noise, {SIGMA_MAX: truth}, denoise)
    print(f"{options.model}: RMS distance to its own pictures after 500 evaluations, {options.num} captions")
    show(table, options.rows)


def on_grids(options: argparse.Namespace) -> None:
    denoise, noise, truth = of_model(options)
    choices = {f"tintype {name}, log_snr": own(name, "log_snr") for name in ("unipc", "dpmpp_2m", "deis_3")}
    for center in (0.35, 0.7, 1.4, 2.8):
        choices |= {
            f"tintype {name}, {grid} {center}": own(name, grid, center)
            for name in ("unipc", "dpmpp_2m")
            for grid in ("logistic", "flow")
        }
    table = compare(choices, denoise, noise, {SIGMA_MAX: truth}, denoise)
    ranked = sorted(table, key=lambda name: sum(map(math.log, table[name])))
    for name in ranked:
        print(f"{name:44}" + "".join(f"{error:9.4f}" for error in table[name]))
    if options.save:
        keep(Path(options.model), ranked[0])


def keep(folder: Path, name: str) -> None:
    """Make the choice with this name the model's own setting, in its config.json."""
    sampler, grid = name.removeprefix("tintype ").split(", ")
    kind, _, center = grid.partition(" ")
    path = folder / "config.json"
    config = Config.from_json(path.read_text(encoding="utf-8"))
    chosen = replace(config.sample, sampler=sampler, grid=kind, grid_center=float(center or config.sample.grid_center))
    write_over(path, replace(config, sample=chosen).to_json().encode())
    print(f"{path}: now with {sampler} on the grid {grid}")


def overhead(options: argparse.Namespace) -> None:
    """Paired rounds in turn: median and smallest time of a step, and the median of their ratios."""
    import diffusers

    steps = 20
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    answer = x / 2
    sigmas = GRIDS[OWN.grid](steps, SIGMA_MIN, SIGMA_MAX, OWN.grid_center)

    def ours() -> None:
        sample(SAMPLERS[OWN.sampler], lambda x, sigma: answer, x, sigmas)

    scheduler = diffusers.DPMSolverMultistepScheduler(trained_betas=log_uniform_betas(), use_exponential_sigmas=True)

    def theirs() -> None:
        sample_ = x
        for timestep in scheduler.timesteps:
            sample_ = scheduler.step(answer, timestep, sample_, return_dict=False)[0]

    def seconds(run: Callable[[], None]) -> float:
        scheduler.set_timesteps(steps)  # forgets the last run; not counted
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / steps

    rounds = [(seconds(ours), seconds(theirs)) for _ in range(options.rounds + 3)][3:]
    for name, times in zip(("tintype unipc", "diffusers DPMSolverMultistep"), zip(*rounds, strict=True), strict=True):
        print(f"{name:32}{1e6 * statistics.median(times):9.1f} us a step, at best {1e6 * min(times):.1f}")
    print(f"ratio {statistics.median(a / b for a, b in rounds):.3f} (median of {len(rounds)} pairs)")


def psnr(a: Image.Image, b: Image.Image) -> float:
    first, second = (torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).double() for p in (a, b))
    return 20 * math.log10(255) - 10 * math.log10(max(1e-4, (first - second).square().mean().item()))


def there_and_back(options: argparse.Namespace) -> None:
    """Lead 8-bit pictures back, develop them again, compare. The noise found should be like any static: rms 1."""
    pipeline = Pipeline.load(options.model, options.device)
    texts = [caption for caption, _ in captions(options.num, 1_000_003)]
    pictures = pipeline.generate(texts)
    print(f"{'steps':>6}{'at least':>12}{'median':>12}{'noise rms':>12}{'evaluations back':>20}")
    for steps in (12, 16, 24, 40):
        found, rms_, asked = [], [], []
        for seed, (text, picture) in enumerate(zip(texts, pictures, strict=True)):
            request = pipeline.request(
                text, seeds=seed, init_image=picture, invert=text, guidance=options.guidance, steps=steps
            )
            with counting(pipeline.denoiser) as count:
                stream = pipeline.run(request)
                first = next(step for step in stream if step.sigma == SIGMA_MAX)  # the last of the way back
                asked.append(count[0])
                (back,) = pipeline.pictures(finish(stream))
            rms_.append((first.x / first.sigma).square().mean().sqrt().item())
            found.append(psnr(picture, back))
        print(
            f"{steps:>6}{min(found):>9.1f} dB{statistics.median(found):>9.1f} dB"
            f"{statistics.fmean(rms_):>12.3f}{statistics.fmean(asked):>20.1f}"
        )


@contextmanager
def counting(denoiser: Denoiser) -> Iterator[list[int]]:
    """Count the calls of a network."""
    count = [0]

    def one_more(*_: object) -> None:
        count[0] += 1

    hook = denoiser.net.register_forward_hook(one_more)
    try:
        yield count
    finally:
        hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy per evaluation, and the cost of a step.")
    runs = {"mixtures": on_mixtures, "model": on_model, "grids": on_grids}
    runs |= {"overhead": overhead, "rounds": there_and_back}
    parser.add_argument("what", choices=runs)
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--num", type=int, help="pictures (512 on mixtures, 32 of a model)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--rows", type=int, default=6, help="peers to show, best first")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--save", action="store_true", help="grids: keep the best in the config.json of a model folder")
    parser.add_argument("--device")
    options = parser.parse_args()
    options.num = options.num or (512 if options.what == "mixtures" else 32)
    runs[options.what](options)


if __name__ == "__main__":
    main()
