"""How good pictures are after few evaluations of the network, beside diffusers and k-diffusion, in one run.

    python bench/sampling.py mixtures             error on exact mixtures at 8, 12, 16, 20 evaluations; all run in fp32
    python bench/sampling.py model  --model M     distance to the model's own picture after 500 evaluations
    python bench/sampling.py grids  --model M     fit a grid to the model; --save keeps it in its settings
    python bench/sampling.py overhead             time of a step outside the network, 64 px, one picture

Every row is the same network object on the same starting noise. See peers.py for what the peers need installed. The
pictures after 500 evaluations take longest: --keep FOLDER holds them for the next time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from peers import SIGMA_MAX, Peer, diffusers_peers, k_diffusion_peers, log_uniform_betas
from torch import Tensor
from truth import DEFAULT_SAMPLING, Judge, distances, follow, levels, mixtures, of_model, tintype_peer

from tintype.cli.options import write_over
from tintype.config import Config, SampleConfig
from tintype.diffusion.exact import mixture_denoiser
from tintype.diffusion.noise import Purpose, normal
from tintype.diffusion.parameterization import Denoise
from tintype.diffusion.samplers import sample
from tintype.pipeline.pipeline import Pipeline

BUDGETS = (8, 12, 16, 20)
CENTERS = (0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
SPREADS = (0.9, 1.1, 1.4, 2.0, 2.5, 3.2)
FITTED, OTHERS = (
    2_000_003,
    1_000_003,
)  # numbers of the first captions: those a grid is fitted to, and those it is judged by


def compare(
    peers: dict[str, Peer], denoise: Denoise, noise: Tensor, truth: dict[float, Tensor], exact: Denoise
) -> dict[str, list[Tensor]]:
    """RMS distance of each picture to where the flow leads from its own start, per peer and number of evaluations."""
    table: dict[str, list[Tensor]] = {}
    for name, peer in peers.items():
        row = []
        for num in BUDGETS:
            evaluations = 0

            def counted(x: Tensor, sigma: Tensor) -> Tensor:
                nonlocal evaluations
                evaluations += 1
                return denoise(x, sigma.to(x.dtype))

            end, first = peer(counted, noise, num)
            if evaluations > num:
                raise RuntimeError(f"{name} used {evaluations} evaluations of {num}")
            first = round(first, 3)
            if first not in truth:
                truth[first] = follow(exact, noise.double(), first)
            row.append(distances(end, truth[first]))
        table[name] = row
        print(f"{name}: {rms(row)}", file=sys.stderr, flush=True)
    return table


def rms(row: list[Tensor]) -> list[float]:
    """Over all pictures, per number of evaluations: a few that end as another picture decide it."""
    return [errors.square().mean().sqrt().item() for errors in row]


def medians(row: list[Tensor]) -> list[float]:
    return [errors.median().item() for errors in row]


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
    peers = {"tintype, default": tintype_peer(), **all_peers()}
    squares: dict[str, list[float]] = {}
    worlds = mixtures()
    for world, mixture in worlds.items():
        noise = normal(options.seed, Purpose.START, torch.arange(options.num), tuple(mixture[1].shape[1:]))
        single = mixture_denoiser(*(parameter.float() for parameter in mixture))
        exact = mixture_denoiser(*mixture)
        fit_noise = normal(options.seed + 1, Purpose.START, torch.arange(32), tuple(mixture[1].shape[1:]))
        best = fitted(Judge(single, fit_noise, follow(exact, fit_noise.double(), SIGMA_MAX)))
        peers["tintype, fitted to 32 others"] = tintype_peer(best)
        table = {name: rms(row) for name, row in compare(peers, single, noise, {}, exact).items()}
        print(f"\n{world}: RMS error of {options.num} pictures")
        show(table, options.rows)
        for name, row in table.items():
            totals = squares.get(name, [0.0] * len(BUDGETS))
            squares[name] = [total + error**2 / len(worlds) for total, error in zip(totals, row, strict=True)]
    print("\nall mixtures together")
    show({name: [math.sqrt(total) for total in row] for name, row in squares.items()}, options.rows)


def loaded(options: argparse.Namespace) -> Pipeline:
    pipeline = Pipeline.load(options.model, options.device)
    pipeline.batch_invariant = False
    return pipeline


def on_model(options: argparse.Namespace) -> None:
    pipeline = loaded(options)
    judge = of_model(pipeline, options.num, OTHERS, options.seed, options.guidance, options.keep)
    wanted = options.only.split("|")
    # All from SIGMA_MAX.
    others = {n: p for n, p in all_peers().items() if "flow" not in n and any(part in n for part in wanted)}
    peers = {"tintype, default": tintype_peer(), **others}
    if pipeline.config.sample != DEFAULT_SAMPLING:
        peers = {"tintype, the model's own settings": tintype_peer(pipeline.config.sample), **peers}
    table = compare(peers, judge.denoise, judge.noise, {SIGMA_MAX: judge.truth}, judge.denoise)
    for statistic, statistic_of in (("RMS", rms), ("median", medians)):
        print(
            f"\n{options.model}: {statistic} distance to its own pictures after 500 evaluations, {options.num} captions"
        )
        show({name: statistic_of(row) for name, row in table.items()}, options.rows)


def fitted(judge: Judge, report: Callable[[str], None] = lambda line: None) -> SampleConfig:
    """The grid for `unipc` that is best: from the default on, each better neighbor of center and spread in turn.

    Good is half the logarithm of the errors, on average, and half that of their RMS: the first alone would not mind a
    few pictures that end as another picture, the second nothing else.
    """
    scores: dict[SampleConfig, float] = {}

    def score(candidate: SampleConfig) -> float:
        if candidate not in scores:
            errors = [judge.errors(candidate, num).clamp_min(1e-9) for num in BUDGETS]
            logs = statistics.fmean(float(e.log().mean()) for e in errors)
            scores[candidate] = (logs + statistics.fmean(map(math.log, rms(errors)))) / 2
            report(f"{named(candidate):32} {math.exp(scores[candidate]):.4f}, geometric mean {math.exp(logs):.4f}")
        return scores[candidate]

    best = DEFAULT_SAMPLING
    while True:
        column, row = CENTERS.index(best.schedule_center), SPREADS.index(best.schedule_spread)
        neighbors = [
            replace(best, schedule_center=CENTERS[c], schedule_spread=SPREADS[r])
            for c in range(max(0, column - 1), min(len(CENTERS), column + 2))
            for r in range(max(0, row - 1), min(len(SPREADS), row + 2))
        ]
        best_neighbor = min(neighbors, key=score)
        if score(best_neighbor) >= score(best):
            break
        best = best_neighbor
    return min([best, replace(DEFAULT_SAMPLING, schedule="log_snr")], key=score)


def on_grids(options: argparse.Namespace) -> None:
    """Fit a grid to a model on some captions, and look at others whether it is better than the default."""
    pipeline = loaded(options)
    judge = of_model(pipeline, options.num, FITTED, options.seed, options.guidance, options.keep)
    best = fitted(judge, lambda line: print(line, flush=True))
    others = of_model(pipeline, options.num, OTHERS, options.seed, options.guidance, options.keep)
    won = []
    for num in BUDGETS:
        before, after = others.errors(DEFAULT_SAMPLING, num), others.errors(best, num)
        won.append(float((after / before).log().mean()))
        print(
            f"other captions, {num:2} evaluations: median {before.median():.4f} -> {after.median():.4f}, "
            f"RMS {rms([before])[0]:.4f} -> {rms([after])[0]:.4f}"
        )
    if not options.save:
        return
    if best == DEFAULT_SAMPLING or statistics.fmean(won) >= 0:
        print("no grid is better than the default there: nothing is changed")
        return
    keep(Path(options.model), best)


def named(chosen: SampleConfig) -> str:
    if chosen.schedule == "log_snr":
        return "log_snr"
    return f"{chosen.schedule} center {chosen.schedule_center:g} spread {chosen.schedule_spread:g}"


def keep(folder: Path, best: SampleConfig) -> None:
    """Make a grid the model's own setting, in its config.json."""
    path = folder / "config.json"
    config = Config.from_json(path.read_text(encoding="utf-8"))
    schedule = {
        "schedule": best.schedule,
        "schedule_center": best.schedule_center,
        "schedule_spread": best.schedule_spread,
    }
    write_over(path, replace(config, sample=replace(config.sample, **schedule)).to_json().encode())
    print(f"{path}: now with the grid {named(best)}")


def overhead(options: argparse.Namespace) -> None:
    """Paired rounds in turn: median and smallest time of a step, and the median of their ratios."""
    import diffusers

    steps = 20
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    answer = x / 2
    sigmas = levels(DEFAULT_SAMPLING, steps)

    def ours() -> None:
        sample(lambda x, sigma: answer, x, sigmas, DEFAULT_SAMPLING.sampler)

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
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of pictures after 500 evaluations, used again")
    parser.add_argument("--device")
    options = parser.parse_args()
    options.num = options.num or (512 if options.what == "mixtures" else 32)
    runs[options.what](options)


if __name__ == "__main__":
    main()
