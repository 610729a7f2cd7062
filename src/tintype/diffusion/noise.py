"""Random draws as pure functions of (seed, purpose, index): counter-based, with no state to save or share.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in int64 tensor arithmetic:

    key = seed (64 bits)        counter = (block, index low, index high, purpose)

A draw is the same in any batch, at any place in the batch and with any number of threads. Uniforms and permutations use
only operations that IEEE 754 or integer arithmetic fixes to the last bit, so they are the same on every device. So do
normals, but for a square root: that of x86 CPUs is MKL's, which rounds every sixth number the other way. Runs and
pictures depend on it, so it stays; other devices round correctly, and differ from it by one unit in the last place.
Compiled, these functions would not keep this, since compilers contract a product and a sum into one rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum, unique

import torch
from torch import Tensor

from tintype.diffusion.sigmas import per_sample

Index = int | Tensor
Words = tuple[Tensor, Tensor, Tensor, Tensor]
MASK = 0xFFFFFFFF
CACHED_BLOCKS = 2**16  # of four words, drawn at once on a CPU
GOLDEN = (0x9E3779B9, 0x7F4A7C15)  # high and low half of 2^64 / golden ratio


@unique
class Purpose(IntEnum):
    """The use of a draw. A number never changes and is never reused: old runs and receipts depend on it."""

    NOISE = 0  # added in training; index: position of the sample in the run
    SIGMA = 1  # noise level in training; index: position
    CROP = 2  # index: position
    FLIP = 3  # index: position
    CAPTION = 4  # which of a picture's captions; index: position
    DROPOUT = 5  # of the caption; index: position
    ORDER = 6  # of the samples in an epoch; index: epoch
    START = 7  # starting noise of a picture; index: picture of the request
    STEP = 8  # noise added while sampling; index: see `step_noise`
    INIT = 9  # weights of a new network; index: parameter
    EVALUATE = 10  # noise of the held-out measure; index: sample
    SHAPES = 11  # drawn pictures; index: picture
    MEASURED = 12  # which pictures an evaluation measures; index: `EvalSubset`
    SHUFFLE = 13  # captions given to other pictures; index: 0
    RESAMPLE = 14  # pictures of a bootstrap; index: group
    PAIRED = 15  # captions that pictures are judged by to know what chance would do; index: 0
    SEGMENT = 16  # in distillation: whether a sample is at a level of the student, and which; index: position
    CODEBOOK = 17  # patches that a codebook starts from, and pictures it is learned from; index: 0, 1
    TOKEN = 18  # tokens of a picture, in order of their places; index: picture of the request
    HALF_SIZE = 19  # whether a sample is trained at half the size; index: position
    WEIGHT = 20  # which samples are shown once more or less; index: epoch
    BLOCK = 21  # order of archives in an epoch; index: epoch
    AUGMENT = 22  # how a picture is changed in training; index: position
    FEATURES = 23  # features of the network that are dropped in training; index: position
    TEXT = 24  # noise on the text embeddings of training; index: position
    PLANTED = 25  # how planted copies of training pictures are changed; index: copy
    PLANTED_NOISE = 26  # noise on planted copies; index: copy
    TURN = 28  # how a picture is moved away from training pictures while sampling; index: picture of the request


class EvalSubset(IntEnum):
    """Random subsets of a data set that an evaluation draws: the index of a `Purpose.MEASURED` draw, never changed."""

    TRAINING = 0  # training pictures, to measure errors on
    UNSEEN = 1  # unseen pictures, to measure errors on
    SAMPLED = 2  # training pictures, whose captions are sampled
    CALIBRATION = 3  # unseen pictures, to calibrate the alarm for copies
    TUNING = 4  # unseen pictures, whose captions guidance and steps are compared on
    TUNING_REFERENCE = 5  # training pictures, that the samples of `TUNING` are compared with
    CONTROL = 6  # unseen pictures, whose captions are sampled as a control for copies
    PLANTED = 7  # training pictures, of which copies are planted


def uniform(seed: Index, purpose: int, index: Index, num: int, device: torch.device | str | None = None) -> Tensor:
    """Numbers evenly distributed in the open interval (0, 1), 52 bits each.

    seed, index: int or int64 [B]; an int counts as B = 1 or is shared. Returns [B, num] float64 on the device of the
    tensors given, else on `device`. The first draws do not depend on num.
    """
    a, b, c, d = _draw(seed, purpose, index, -(-num // 2), device)
    bits = torch.stack([_join52(a, b), _join52(c, d)], dim=-1).flatten(1)[:, :num]
    return _unit(bits)


def coarse_uniform(
    seed: Index, purpose: int, index: Index, num: int, device: torch.device | str | None = None
) -> Tensor:
    """`uniform` of 16 bits each, float32 [B, num], for a quarter of the arithmetic."""
    words = torch.stack(_draw(seed, purpose, index, -(-num // 8), device), dim=-1)
    halves = torch.stack([words & 0xFFFF, words >> 16], dim=-1).flatten(1)[:, :num]
    return (halves.float() + 0.5) * 2.0**-16


def normal(
    seed: Index, purpose: int, index: Index, shape: tuple[int, ...], device: torch.device | str | None = None
) -> Tensor:
    """Standard normal numbers (Box and Muller 1958), all four words of a block used.

    seed, index: int or int64 [B]; an int counts as B = 1 or is shared. Returns [B, *shape] float32 on the device of the
    tensors given, else on `device`. The first draws do not depend on shape.
    """
    num = math.prod(shape)
    num_blocks = -(-num // 4)
    seed, index, device = _rows(seed, index, device)
    rows = max(len(seed), len(index))
    if device.type != "cpu" or rows * num_blocks <= CACHED_BLOCKS:
        drawn = _normals(seed, purpose, index, 0, num_blocks)
    else:  # in parts that fit a cache, which is several times as fast
        drawn = torch.empty(rows, 4 * num_blocks)
        seed, index = seed.expand(rows), index.expand(rows)
        per_part = max(1, CACHED_BLOCKS // num_blocks)
        for row in range(0, rows, per_part):
            part = slice(row, row + per_part)
            for start in range(0, num_blocks, CACHED_BLOCKS):
                count = min(CACHED_BLOCKS, num_blocks - start)
                normals = _normals(seed[part], purpose, index[part], start, count)
                drawn[part, 4 * start : 4 * (start + count)] = normals
    return drawn[:, :num].reshape(rows, *shape)


def _normals(seed: Tensor, purpose: int, index: Tensor, start: int, num_blocks: int) -> Tensor:
    """[B, 4 * num_blocks] from the blocks of four words that begin with the block `start`."""
    a, b, c, d = _draw(seed, purpose, index, num_blocks, None, start)
    return torch.stack([*_box_muller(a, b), *_box_muller(c, d)], dim=-1).flatten(1)


def permutation(seed: int, purpose: int, index: int, num: int) -> Tensor:
    """A random order of range(num), [num] int64 on the CPU: the ranking of 62-bit draws."""
    a, b, c, d = _draw(seed, purpose, index, -(-num // 2), None)
    keys = torch.stack([(a << 30) | (b >> 2), (c << 30) | (d >> 2)], dim=-1).flatten()[:num]
    return torch.argsort(keys, stable=True)


def step_noise(
    seed: Index, index: Index, shape: tuple[int, ...], device: torch.device | str | None = None
) -> Callable[[int], Tensor]:
    """The `Randn` of a stochastic sampler: n -> [B, *shape] float32, the n-th draw of each picture (index < 2^32)."""

    def randn(num_drawn: int) -> Tensor:
        return normal(seed, Purpose.STEP, index + (num_drawn << 32), shape, device)

    return randn


def sigma_of(
    seed: int,
    index: Index,
    mean: float,
    std: float,
    sigma_min: float,
    sigma_max: float,
    device: torch.device | str | None = None,
) -> Tensor:
    """Training noise levels: ln sigma ~ N(mean, std), clamped to [sigma_min, sigma_max]. Returns [B] float32.

    The quantiles are a golden-ratio (Kronecker) sequence over index, turned by a draw from the seed: each is uniform
    over seeds, and any run of consecutive indices is evenly spread, which takes the luck out of a batch's noise levels.
    The sequence is regular, so pictures must come in random order (they do: `permutation`).
    """
    k_low, k_high = _halves(index, device)
    carry, low = _multiply(GOLDEN[1], k_low)
    high = (carry + _multiply(GOLDEN[0], k_low)[1] + _multiply(GOLDEN[1], k_high)[1]) & MASK
    a, b, _, _ = _draw(seed, Purpose.SIGMA, 0, 1, high.device)
    turned = (_join52(high, low) + _join52(a, b)[0, 0]) & (2**52 - 1)
    quantile = torch.special.ndtri(_unit(turned))
    return torch.exp(mean + std * quantile).float().clamp(sigma_min, sigma_max)


def add_noise(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x = x0 + sigma * noise, for x0 and noise [B, ...] and sigma [B]."""
    return x0 + per_sample(sigma, x0) * noise


def slerp(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Noise [B, ...] on the great circle from `first` (share 0) to `second` (share 1); share: [B].

    On the way, noise of unit variance keeps it: each sample is taken at its own angle, and its length changes evenly.
    """
    a, b = first.flatten(1).double(), second.flatten(1).double()
    share = share.double()[:, None].to(a.device)
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    cosine = ((a * b).sum(1, keepdim=True) / (lengths[0] * lengths[1])).clamp(-1, 1)
    angle = torch.acos(cosine)
    # Nearly parallel: a straight line is as good, and no sine is divided by.
    sine = torch.sin(angle)
    flat = sine < 1e-6
    near = torch.where(flat, 1 - share, torch.sin((1 - share) * angle) / sine.clamp(min=1e-6))
    far = torch.where(flat, share, torch.sin(share * angle) / sine.clamp(min=1e-6))
    length = torch.lerp(lengths[0], lengths[1], share)
    mixed = (near * (a / lengths[0]) + far * (b / lengths[1])) * length
    mixed = torch.where(share == 0, a, torch.where(share == 1, b, mixed))
    return mixed.reshape(first.shape).to(first.dtype)


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Ten rounds of Philox4x32; words are int64 tensors holding 32 bits, broadcast against each other."""
    c0, c1, c2, c3, _ = torch.broadcast_tensors(*counter, key[0])  # type: ignore[no-untyped-call]
    k0, k1 = key
    for round_index in range(10):
        if round_index:
            k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c2 = high1.bitwise_xor_(c1).bitwise_xor_(k0), high0.bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3 = low1, low0
    return c0, c1, c2, c3


def _multiply(constant: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of constant * x, both below 2^32."""
    product = x * constant  # modulo 2^64, with the sign bit as its highest: the shift fills with it, the mask clears it
    low = product & MASK
    return product.bitwise_right_shift_(32).bitwise_and_(MASK), low


def _halves(value: Index, device: torch.device | str | None) -> tuple[Tensor, Tensor]:
    """Low and high 32 bits, each [B] int64; of a number beyond 64 bits, the lowest 64."""
    if isinstance(value, Tensor):
        value = value.to(torch.int64).reshape(-1)
        return value & MASK, (value >> 32) & MASK
    pair = torch.tensor([[value & MASK], [(value >> 32) & MASK]], dtype=torch.int64, device=device)
    return pair[0], pair[1]


def _rows(seed: Index, index: Index, device: torch.device | str | None) -> tuple[Tensor, Tensor, torch.device]:
    """Seed and index as int64 tensors [B] or [1] on one device: that of the tensors given, else `device`."""
    for given in (seed, index):
        if isinstance(given, Tensor):
            device = given.device
    seeds, indices = (
        value.to(torch.int64).reshape(-1)
        if isinstance(value, Tensor)
        else torch.tensor([_signed(value)], dtype=torch.int64, device=device)
        for value in (seed, index)
    )
    return seeds, indices, seeds.device


def _signed(value: int) -> int:
    """The number whose lowest 64 bits are those of `value`, as int64 holds it."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _draw(
    seed: Index, purpose: int, index: Index, num_blocks: int, device: torch.device | str | None, start: int = 0
) -> Words:
    """Four words [B, num_blocks] for each seed and index, from the block `start` on."""
    for given in (seed, index):
        if isinstance(given, Tensor):
            device = given.device
    key = _halves(seed, device)
    low, high = _halves(index, device)
    block = torch.arange(start, start + num_blocks, dtype=torch.int64, device=device)
    third = torch.full_like(low, int(purpose))
    size = max(len(low), len(key[0]))
    counter = (block.expand(size, -1), low[:, None], high[:, None], third[:, None])
    return philox(counter, (key[0][:, None], key[1][:, None]))


def _join52(high: Tensor, low: Tensor) -> Tensor:
    return (high << 20) | (low >> 12)


def _unit(bits: Tensor) -> Tensor:
    # 52 bits and a half make 53: exact in float64, and never 0 or 1.
    return (bits.double() + 0.5) * 2.0**-52


def _box_muller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent normals from two words of 32 bits."""
    radius = _sqrt(_minus_two_log(a))
    cosine, sine = _cos_sin(b)
    return radius * cosine, radius * sine


def _sqrt(x: Tensor) -> Tensor:
    return torch.sqrt(x) if x.device.type == "cpu" else rounded_sqrt(x)


def rounded_sqrt(x: Tensor) -> Tensor:
    """The correctly rounded square root of float32 x: no root of 24 bits is near enough to a tie for float64 to err."""
    return torch.sqrt(x.double()).float()


def _minus_two_log(word: Tensor) -> Tensor:
    """-2 ln((word + 1/2) / 2^32) in float32 to about 1e-7, by additions, multiplications and one division only."""
    # Library logarithms differ in the last bit between devices, and between body and tail of one vectorized loop.
    number = word.float() + 0.5
    pattern = number.view(torch.int32)
    exponent = (pattern - 0x3F3504F3) >> 23  # so that the mantissa lies between sqrt(1/2) and sqrt(2)
    mantissa = (pattern - (exponent << 23)).view(torch.float32)
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    series = _horner(square, (2 / 9, 2 / 7, 2 / 5, 2 / 3, 2.0)) * s  # 2 artanh(s) = ln(mantissa)
    # 32 - exponent first: small integers are exact. Rounding can leave -0.0 or a hair below 0 at the very end.
    return ((32 - exponent).float() * (2 * math.log(2)) - 2 * series).clamp_(min=0)


def _cos_sin(word: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, float32 to about 1e-7, of a turn by (word + 1/2) / 2^32 - 1/8."""
    # The two highest bits turn by quarters, exactly; the rest is an angle within an eighth of a turn of zero.
    quarter = word >> 30
    angle = ((word & 0x3FFFFFFF) - 0x20000000).float().add_(0.5) * (2 * math.pi / 2**32)
    square = angle * angle
    cosine = _horner(square, (1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0))
    sine = _horner(square, (1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0)) * angle
    odd = (quarter & 1).bool()
    sign = (1 - (quarter & 2)).float()
    return torch.where(odd, -sine, cosine) * sign, torch.where(odd, cosine, sine) * sign


def _horner(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    total = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total.mul_(x).add_(coefficient)
    return total
