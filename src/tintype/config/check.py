"""Checks of a configuration: the range and the choices of each setting."""

from __future__ import annotations

import codecs

from tintype.config.sections import (
    DataConfig,
    DistillConfig,
    NetConfig,
    NoiseConfig,
    SampleConfig,
    TextConfig,
    TrainConfig,
)
from tintype.config.sizes import parse_sizes
from tintype.diffusion import names
from tintype.errors import ConfigError

CROPS = ("square", "none")
ANIMATIONS = ("first", "skip")
NO_CAPTION = ("skip", "empty", "name")
CAPTION_FROM = ("file", "folder", "path")
REPEATS = ("folder", "ignore")
TEXT_ENCODERS = ("auto", "minilm", "learned")  # besides hf:NAME-OR-FOLDER; training chooses for "auto"
MAX_ENCODER_NAME = 4096  # characters


def check_ranges(
    net: NetConfig,
    text: TextConfig,
    noise: NoiseConfig,
    train: TrainConfig,
    data: DataConfig,
    sample: SampleConfig,
    distill: DistillConfig,
) -> None:
    """Raise ConfigError, naming the setting and its range, for a number out of range or two in the wrong order."""
    ranges: list[tuple[str, float, float, float]] = [
        ("resolution", net.resolution, 8, 2048),
        ("patch", net.patch, 1, 64),
        ("codec_factor", net.codec_factor, 1, 64),
        ("width", net.width, 16, 8192),
        ("depth", net.depth, 1, 200),
        ("heads", net.heads, 1, 256),
        ("channels", net.channels, 1, 64),
        ("stem_width", net.stem_width, 1, 2048),
        ("stem_depth", net.stem_depth, 0, 64),
        ("stem_levels", net.stem_levels, 1, 6),
        ("stem_factor", net.stem_factor, 1, 64),
        ("head_width", net.head_width, 0, 1024),
        ("write_kernel", net.write_kernel, 1, 3),
        ("text_depth", net.text_depth, 0, 64),
        ("max_tokens", text.max_tokens, 2, 4096),
        ("vocabulary", text.vocabulary, 0, 2**20),
        ("embedding_dim", text.embedding_dim, 0, 65_536),
        ("sigma_data", noise.sigma_data, 1e-3, 1e3),
        ("log_sigma_mean", noise.log_sigma_mean, -20, 20),
        ("sigma_min", noise.sigma_min, 1e-5, 1.0),
        ("sigma_max", noise.sigma_max, 1.0, 1e5),
        ("log_sigma_std", noise.log_sigma_std, 0.01, 10),
        ("weight_fade", noise.weight_fade, 0, 1e5),
        ("images", train.images, 1, 10**13),
        ("planned_images", train.planned_images, 0, 10**13),
        ("batch_size", train.batch_size, 1, 2**20),
        ("micro_batch", train.micro_batch, 0, 2**20),
        ("lr", train.lr, 1e-8, 1.0),
        ("weight_decay", train.weight_decay, 0, 100),
        ("beta1", train.beta1, 0, 1 - 1e-9),
        ("beta2", train.beta2, 0, 1 - 1e-9),
        ("clip_norm", train.clip_norm, 0, 1e9),
        ("warmup_images", train.warmup_images, 0, 10**13),
        ("save_minutes", train.save_minutes, 0, 1e12),
        ("sample_minutes", train.sample_minutes, 0, 1e12),
        ("decay_fraction", train.decay_fraction, 0, 1),
        ("ema_width", train.ema_width, 1e-4, 0.28),
        ("ema_width_long", train.ema_width_long, 1e-4, 0.28),
        ("keep_last", train.keep_last, 1, 10**6),
        ("keep_every", train.keep_every, 0, 10**13),
        ("caption_dropout", train.caption_dropout, 0, 1),
        ("held_out", train.held_out, 0, 0.5),
        ("half_size", train.half_size, 0, 1),
        ("dropout", train.dropout, 0, 0.9),
        ("augment", train.augment, 0, 1),
        ("token_dropout", train.token_dropout, 0, 0.9),
        ("memorized_limit", train.memorized_limit, 0, 1),
        ("text_noise", train.text_noise, 0, 10),
        ("min_size", data.min_size, 0, 10_000),
        ("max_aspect", data.max_aspect, 1, 1000),
        ("seed", train.seed, 0, 2**63 - 1),
        ("steps", sample.steps, 1, 1000),
        ("guidance", sample.guidance, 0, 100),
        ("guidance_min", sample.guidance_min, 0, 1e5),
        ("guidance_max", sample.guidance_max, 0, 1e5),
        ("schedule_center", sample.schedule_center, 1e-3, 1e4),
        ("schedule_spread", sample.schedule_spread, 0.1, 10),
        ("distill: steps", distill.steps, 0, 100),
        ("distill: teacher_steps", distill.teacher_steps, 0, 1000),
        ("distill: guidance", distill.guidance, 0, 100),
        ("distill: guidance_min", distill.guidance_min, 0, 1e5),
        ("distill: guidance_max", distill.guidance_max, 0, 1e5),
    ]
    for name, value, low, high in ranges:
        if not low <= value <= high:  # NaN is neither
            raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {_number(value)}")
    if train.half_size and net.resolution < 2 * net.multiple:
        raise ConfigError(
            f"half_size needs pictures of at least two patches a side, {2 * net.multiple} pixels, not {net.resolution}"
        )
    if noise.sigma_min >= noise.sigma_max:
        raise ConfigError(f"sigma_min {noise.sigma_min:g} must be below sigma_max {noise.sigma_max:g}")


def check_net(net: NetConfig) -> None:
    """Raise ConfigError for sizes of a network that do not divide each other as they must."""
    if net.patch % net.patch_multiple:
        raise ConfigError(f"patch {net.patch} must be a multiple of {net.patch_multiple}, for its stem")
    if any(size % max(1, size // 16) for size in (net.stem_width * 2**level for level in range(net.stem_levels))):
        raise ConfigError(f"stem_width must be a multiple of 16, or below 32, not {net.stem_width}")
    if net.write_kernel == 2 or (net.write_kernel == 1 and not net.head_width):
        raise ConfigError(f"write_kernel must be 3, or 1 for a network with a head, not {net.write_kernel}")
    if net.resolution % net.multiple:
        raise ConfigError(f"resolution {net.resolution} must be a multiple of the patch, {net.multiple}")
    if net.width % (4 * net.heads):
        raise ConfigError(f"width {net.width} must be a multiple of 4 times the number of heads, {net.heads}")


def check_names(noise: NoiseConfig, sample: SampleConfig) -> None:
    """Raise ConfigError, naming the choices, for an unknown prediction, loss weight, sampler or schedule."""
    # Predictions and weights are named beside their formulas, which need PyTorch; whoever has a Config needs it too.
    from tintype.diffusion.loss import WEIGHTS
    from tintype.diffusion.parameterization import PREDICTIONS

    for name, value, choices in (
        ("prediction", noise.prediction, (*PREDICTIONS, *names.PREDICTION_ALIASES)),
        ("weight", noise.weight, tuple(WEIGHTS)),
        ("sampler", sample.sampler, names.SAMPLERS),
        ("schedule", sample.schedule, names.SCHEDULES),
    ):
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {short(value)}")


def check_sizes(net: NetConfig, sample: SampleConfig) -> None:
    """Raise ConfigError for sizes that no training picture has: more pixels than the square, or part of a patch."""
    multiple, most = net.multiple, net.resolution**2
    for width, height in parse_sizes(sample.sizes):
        if width % multiple or height % multiple or width * height > most:
            raise ConfigError(
                f"sizes must have multiples of {multiple} and at most {most} pixels, not {width}x{height}"
            )


def check_text_encoder(name: str) -> None:
    """Raise ConfigError if there is no text encoder of this name."""
    is_folder = name.startswith("hf:") and 3 < len(name) <= MAX_ENCODER_NAME and name.isprintable()
    if not (name in TEXT_ENCODERS or is_folder):
        raise ConfigError(f"text must be {', '.join(TEXT_ENCODERS)} or hf:NAME-OR-FOLDER, not {short(name)}")


def check_data(data: DataConfig) -> None:
    """Raise ConfigError for an unknown choice of preprocessing."""
    for name, value, choices in (
        ("crop", data.crop, CROPS),
        ("animations", data.animations, ANIMATIONS),
        ("no_caption", data.no_caption, NO_CAPTION),
        ("caption_from", data.caption_from, ("", *CAPTION_FROM)),
        ("repeats", data.repeats, REPEATS),
    ):
        if value not in choices:
            raise ConfigError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {short(value)}")
    try:
        codecs.lookup(data.caption_encoding)
    except (LookupError, ValueError):
        raise ConfigError(f"caption_encoding must be one such as latin-1, not {short(data.caption_encoding)}") from None


def _number(value: float) -> str:
    try:
        return f"{value:g}"
    except OverflowError:
        return "a number so large"


def short(value: object) -> str:
    """Show `value` in at most 60 characters, for a message."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number so large"
    return text if len(text) <= 60 else f"{text[:60]}..."
