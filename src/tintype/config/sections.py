"""The sections of a configuration: frozen dataclasses. Every default lives here."""

from __future__ import annotations

from dataclasses import dataclass, field

from tintype.diffusion import names

HALF_SIZE_COST = 0.3  # of a sample of half the size, relative to one of full size; measured at 128 pixels (dev/LOG.md)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetConfig:
    """Shape of the network."""

    resolution: int = 32  # pixels; the side of the square training pictures
    channels: int = 3
    patch: int = 8  # pixels; the side of the square that one token stands for
    width: int = 192  # of a token
    depth: int = 5  # transformer blocks
    heads: int = 3
    stem_width: int = 32  # channels of the stem's first level: convolutions before and after the transformer
    stem_depth: int = 2  # convolution blocks on each side, at each level
    stem_levels: int = 2  # sizes of its convolutions, each half the one before; channels double from level to level
    stem_factor: int = 1  # pixels, along a side, that one position of the first level stands for
    head_width: int = 0  # channels of the head at full size; 0: no head, as fits a stem that starts there
    write_kernel: int = 3  # side of the convolution from the stem to the pixels or the head: 3, or before a head 1
    architecture: str = "dit"  # a name in model.network.NETWORKS
    codec: str = "pixels"  # between pictures and the space of the network: a name in model.codec.CODECS
    codec_factor: int = 1  # pixels that one position of that space stands for, along a side
    text_depth: int = 2  # transformer blocks that refine the text embeddings

    @property
    def multiple(self) -> int:
        """Pixels of which width and height of every picture are multiples."""
        return self.patch * self.codec_factor

    @property
    def patch_multiple(self) -> int:
        """The side of what one position of the stem's last level stands for; the patch is a multiple of it."""
        return int(self.stem_factor * 2 ** (self.stem_levels - 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """Where text embeddings come from."""

    encoder: str = "minilm"  # "minilm", "learned", "hf:NAME-OR-FOLDER", or "auto" until training starts
    max_tokens: int = 64  # longer captions are cut, and counted
    vocabulary: int = 0  # of "learned"; 0 for frozen encoders
    embedding_dim: int = 384  # D of a frozen encoder's text embeddings; for "learned", of the embedding table


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """The prediction of the network, the weight of its error, and the noise levels of training."""

    prediction: str = "image"  # "noise" (epsilon), "velocity" (flow), "image" (x0) or "edm"
    weight: str = "velocity"  # of the loss: a name in diffusion.loss.WEIGHTS
    weight_fade: float = 0.0  # sigma above which the weight falls as 1 / sigma; 0: nowhere, as in older runs
    sigma_data: float = 0.5  # standard deviation of x0
    log_sigma_mean: float = 1.0  # of ln sigma in training
    log_sigma_std: float = 0.9
    sigma_min: float = 0.02
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        name = names.PREDICTION_ALIASES.get(self.prediction, self.prediction)
        object.__setattr__(self, "prediction", name)  # one name is stored and compared

    @property
    def weighting(self) -> str:
        """The loss weight, for display."""
        return f"{self.weight}, faded above sigma {self.weight_fade:g}" if self.weight_fade else self.weight


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run. Every length is counted in images seen."""

    images: int = 500_000  # the planned end
    planned_images: int = 0  # before early stopping moved the end here; 0: it did not
    batch_size: int = 16
    micro_batch: int = 0  # pictures that one process computes at once; 0: its whole share of the batch
    lr: float = 1e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    warmup_images: int = 2_000
    decay_fraction: float = 0.2  # of the planned images, at the end, over which lr falls to zero
    ema_width: float = 0.05  # power-function EMA: standard deviation of the averaging profile, relative to its end
    ema_width_long: float = 0.1  # of a second, longer average; a measurement at the end chooses between the two
    caption_dropout: float = 0.1  # share of samples trained with the empty caption
    flip: bool = False  # mirror half of the pictures
    dropout: float = 0.0  # share of the features of the network that each sample is trained without
    augment: float = 0.0  # share of samples shown moved, of another size, in other colors, each told to the network
    token_dropout: float = 0.0  # share of the tokens of a caption that are left out
    text_noise: float = 0.0  # on the text embeddings of a frozen encoder: standard deviation relative to theirs
    stop_early: bool = False  # end the run once it would only learn its pictures by heart; so in new runs
    memorized_limit: float = 0.0  # of the gauge of memorization: noise levels above it count less; 0: all count
    half_size: float = 0.0  # share of samples trained at half the size, until the learning rate falls
    held_out: float = 0.03  # share of pictures never trained on, to measure the noise error
    seed: int = 0
    save_minutes: float = 5.0
    sample_minutes: float = 5.0
    keep_last: int = 3  # checkpoints; beside these, one every `keep_every` images and the best one are kept
    keep_every: int = 0  # images; 0: none
    keep_best: bool = True  # by the error on held-out pictures

    @property
    def schedule_images(self) -> int:
        """The images after which the learning rate would be zero; a run that stopped by itself may end before.

        Early stopping lets the rate fall where there are samples of half the size.
        """
        return self.planned_images if self.planned_images and not self.half_size else self.images

    @property
    def decay_start(self) -> float:
        """The images after which the learning rate falls, and all samples are of full size."""
        return self.schedule_images - self.decay_fraction * self.schedule_images

    def images_left(self, images_seen: int) -> float:
        """The images that would take as long, at the cost of one now, as the rest of the run.

        Samples of half the size cost less: while they are there, the end is further than the plain difference says.
        """
        cost = 1 - self.half_size * (1 - HALF_SIZE_COST)
        early = max(0.0, min(self.decay_start, self.images) - images_seen)
        late = max(0.0, self.images - images_seen - early)
        return early + (late / cost if early else late)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Preprocessing of pictures and captions. The defaults are those of older runs, which store no such settings."""

    crop: str = "square"  # "square": the middle of each picture; "none": shapes of nearly equal area, little is cut
    alpha_color: str = "white"  # behind transparency: a name or #rrggbb
    min_size: int = 0  # pixels; pictures with a shorter side below it are left out; 0: half the resolution
    max_aspect: float = 4.0  # longer over shorter side; pictures above it are left out
    animations: str = "first"  # of animations and pages: use the "first" picture, or "skip" the file
    caption_encoding: str = "utf-8"  # of text without a byte-order mark
    no_caption: str = "skip"  # without a caption: "skip" the picture, train on the "empty" one, or on the file's "name"
    dedupe: bool = False  # leave out exact copies but the first
    # These are not in the fingerprints of caches, which have captions and weights themselves.
    caption_from: str = field(default="", repr=False)  # "file", "folder" or "path": captions are their names; "": none
    repeats: str = field(default="ignore", repr=False)  # "folder": N times the weight for pictures in a folder N_name

    @classmethod
    def of_new_runs(cls) -> DataConfig:
        """The settings of a new run, unless others are given."""
        return cls(crop="none", repeats="folder")


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """Default settings of sampling."""

    sampler: str = "unipc"
    steps: int = 16
    schedule: str = "logistic"  # of noise levels: a name in diffusion.sigmas.SCHEDULES
    schedule_center: float = 0.7  # sigma around which the schedule has its steps, at the training resolution
    schedule_spread: float = 1.1  # of the steps: 1 is even in flow time; the wider, the more even in ln sigma
    guidance: float = 3.0
    guidance_min: float = 0.5  # guidance acts on noise levels between these two
    guidance_max: float = 10.0
    sizes: str = ""  # of most training pictures, WIDTHxHEIGHT, the most usual first and the default; "": the square


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """Distillation: the teacher and the number of steps. The defaults mean that the model was not distilled."""

    teacher: str = ""  # name of the model
    teacher_hash: str = ""  # sha256 of its weights
    steps: int = 0  # evaluations per picture, at the noise levels of its schedule of that many steps
    teacher_steps: int = 0  # steps of the teacher for each of these in training
    guidance: float = 1.0  # guidance of the teacher
    guidance_min: float = 0.4  # interval of noise levels of that guidance
    guidance_max: float = 10.0
