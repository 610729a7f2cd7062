"""How good pictures are after few evaluations of the network, beside diffusers and k-diffusion, in one run.

    python bench/sampling.py mixtures             error on exact mixtures at 8, 12, 16, 20 evaluations; all run in fp32
    python bench/sampling.py model  --model M     distance to the model's own picture after 500 evaluations
    python bench/sampling.py grids  --model M     fit a grid to the model; --save keeps it in its settings
    python bench/sampling.py overhead             time of a step outside the network, 64 px, one picture

Every row is the same network object on the same starting noise. See peers.py for what the peers need installed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from peers import SIGMA_MAX, SIGMA_MIN, Peer, diffusers_peers, k_diffusion_peers, log_uniform_betas
from torch import Tensor

from tintype.config import Config, SampleConfig
from tintype.data.shapes import captions
from tintype.diffusion.exact import mixture_denoiser
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.samplers import SAMPLERS, num_evaluations, sample
from tintype.diffusion.sigmas import GRIDS, log_snr_sigmas
from tintype.options import write_over
from tintype.pipeline import Pipeline

BUDGETS = (8, 12, 16, 20)
CENTERS = (0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
SPREADS = (0.9, 1.1, 1.4, 2.0)
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


def own(chosen: SampleConfig = OWN) -> Peer:
    """Our sampler and grid as a model's settings say."""

    def run(denoise: Denoise, noise: Tensor, num: int) -> tuple[Tensor, float]:
        sigmas, sampler = levels(chosen, num), chosen.sampler
        for steps in range(num - 1, 0, -1):
            if num_evaluations(SAMPLERS[sampler], sigmas) <= num:
                break
            sigmas = levels(chosen, steps)
        return sample(SAMPLERS[sampler], denoise, SIGMA_MAX * noise, sigmas), SIGMA_MAX

    return run


def levels(chosen: SampleConfig, steps: int) -> Tensor:
    return GRIDS[chosen.grid](steps, SIGMA_MIN, SIGMA_MAX, chosen.grid_center, chosen.grid_spread)


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
        print(f"{name}: {row}", file=sys.stderr, flush=True)
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
    squares: dict[str, list[float]] = {}
    worlds = mixtures()
    for world, parts in worlds.items():
        noise = normal(options.seed, Purpose.START, torch.arange(options.num), tuple(parts[1].shape[1:]))
        single = mixture_denoiser(*(part.float() for part in parts))
        exact = mixture_denoiser(*parts)
        known = normal(options.seed + 1, Purpose.START, torch.arange(32), tuple(parts[1].shape[1:]))
        best = min(fitted(Judge(single, known, follow(exact, known.double(), SIGMA_MAX))), key=lambda trial: trial[0])[
            1
        ]
        peers["tintype, fitted to 32 others"] = own(best)
        table = compare(peers, single, noise, {}, exact)
        print(f"\n{world}: RMS error of {options.num} pictures")
        show(table, options.rows)
        for name, row in table.items():
            before = squares.get(name, [0.0] * len(BUDGETS))
            squares[name] = [total + error**2 / len(worlds) for total, error in zip(before, row, strict=True)]
    print("\nall mixtures together")
    show({name: [math.sqrt(total) for total in row] for name, row in squares.items()}, options.rows)


class Judge(NamedTuple):
    """Pictures of a model, or of a mixture, that a sampler is to come close to."""

    denoise: Denoise
    noise: Tensor
    truth: Tensor  # after 500 evaluations, or exactly

    def errors(self, chosen: SampleConfig, num: int) -> Tensor:
        """RMS distance of each picture after so many evaluations."""
        made, _ = own(chosen)(self.denoise, self.noise, num)
        return (made.double() - self.truth.double()).flatten(1).square().mean(1).sqrt()


def of_model(pipeline: Pipeline, options: argparse.Namespace, first: int) -> Judge:
    """The guided denoiser of a model for some captions, and its pictures after 500 evaluations."""
    texts = [caption for caption, _ in captions(options.num, first)]
    request = pipeline.request(texts, seeds=options.seed, guidance=options.guidance)
    denoise = pipeline.denoise(request)
    shape = (pipeline.config.net.channels, request.height, request.width)
    noise = normal(first, Purpose.START, torch.arange(len(texts)), shape).to(pipeline.device)
    return Judge(
        denoise, noise, sample(SAMPLERS["unipc"], denoise, SIGMA_MAX * noise, log_snr_sigmas(500, SIGMA_MIN, SIGMA_MAX))
    )


def loaded(options: argparse.Namespace) -> Pipeline:
    pipeline = Pipeline.load(options.model, options.device)
    pipeline.one_by_one = False
    return pipeline


def on_model(options: argparse.Namespace) -> None:
    pipeline = loaded(options)
    denoise, noise, truth = of_model(pipeline, options, 1_000_003)
    peers = {"tintype, default": own(), **all_peers()}
    if pipeline.config.sample != OWN:
        peers = {"tintype, the model's own settings": own(pipeline.config.sample), **peers}
    same_start = {name: peer for name, peer in peers.items() if "flow" not in name}  # all from SIGMA_MAX
    wanted = options.only.split("|")
    same_start = {
        name: peer
        for name, peer in same_start.items()
        if name.startswith("tintype") or any(part in name for part in wanted)
    }
    table = compare(same_start, denoise, noise, {SIGMA_MAX: truth}, denoise)
    print(f"{options.model}: RMS distance to its own pictures after 500 evaluations, {options.num} captions")
    show(table, options.rows)


def fitted(judge: Judge) -> Iterator[tuple[float, SampleConfig]]:
    """Every choice of grid for `unipc`, and how good it is: the mean logarithm of the errors.

    The mean of logarithms, since a few pictures that end as another picture would decide a mean of squares.
    """
    choices = [replace(OWN, grid="log_snr")]
    choices += [replace(OWN, grid_center=center, grid_spread=spread) for center in CENTERS for spread in SPREADS]
    for chosen in choices:
        score = statistics.fmean(float(judge.errors(chosen, num).clamp_min(1e-9).log().mean()) for num in BUDGETS)
        yield score, chosen


def on_grids(options: argparse.Namespace) -> None:
    """Fit a grid to a model on some captions, and look at others whether it is better than the default."""
    pipeline = loaded(options)
    judge = of_model(pipeline, options, 2_000_003)
    trials = []
    for score, chosen in fitted(judge):
        trials.append((score, chosen))
        print(f"{named(chosen):32} geometric mean of the errors {math.exp(score):.4f}", flush=True)
    best = min(trials, key=lambda trial: trial[0])[1]
    others = of_model(pipeline, options, 1_000_003)
    won = []
    for num in BUDGETS:
        before, after = others.errors(OWN, num), others.errors(best, num)
        won.append(float((after / before).log().mean()))
        print(
            f"other captions, {num:2} evaluations: median {before.median():.4f} -> {after.median():.4f}, "
            f"RMS {before.square().mean().sqrt():.4f} -> {after.square().mean().sqrt():.4f}"
        )
    if not options.save:
        return
    if best == OWN or statistics.fmean(won) >= 0:
        print("no grid is better than the default there: nothing is changed")
        return
    keep(Path(options.model), best)


def named(chosen: SampleConfig) -> str:
    if chosen.grid == "log_snr":
        return "log_snr"
    return f"{chosen.grid} center {chosen.grid_center:g} spread {chosen.grid_spread:g}"


def keep(folder: Path, best: SampleConfig) -> None:
    """Make a grid the model's own setting, in its config.json."""
    path = folder / "config.json"
    config = Config.from_json(path.read_text(encoding="utf-8"))
    grid = {"grid": best.grid, "grid_center": best.grid_center, "grid_spread": best.grid_spread}
    write_over(path, replace(config, sample=replace(config.sample, **grid)).to_json().encode())
    print(f"{path}: now with the grid {named(best)}")


def overhead(options: argparse.Namespace) -> None:
    """Paired rounds in turn: median and smallest time of a step, and the median of their ratios."""
    import diffusers

    steps = 20
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    answer = x / 2
    sigmas = levels(OWN, steps)

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


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy per evaluation, and the cost of a step.")
    runs = {"mixtures": on_mixtures, "model": on_model, "grids": on_grids, "overhead": overhead}
    parser.add_argument("what", choices=runs)
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--num", type=int, help="pictures (512 on mixtures, 32 of a model)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--only", default="", help="model: peers with one of these in their name: UniPC|DPMSolver++ 2M")
    parser.add_argument("--rows", type=int, default=6, help="peers to show, best first")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--save", action="store_true", help="grids: keep the best in the config.json of a model folder")
    parser.add_argument("--device")
    options = parser.parse_args()
    options.num = options.num or (512 if options.what == "mixtures" else 32)
    runs[options.what](options)


if __name__ == "__main__":
    main()
