"""The network, the samplers and the tokenizers of the page compute what Python computes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tests.export.javascript import Run, drawer

from tintype.config import Config, NetConfig, NoiseConfig, SampleConfig, TextConfig
from tintype.diffusion.noise import Purpose, normal
from tintype.errors import ConfigError
from tintype.export import plans, wat
from tintype.export.description import describe
from tintype.export.options import ExportOptions
from tintype.export.page import read_page_file
from tintype.export.payload import PART, Payload, text_parts
from tintype.model import store
from tintype.model.denoiser import Denoiser
from tintype.model.nets.legibility import FrozenReader
from tintype.model.nets.tokens import encoder_folder, learn_tokenizer, read_tokenizer
from tintype.pipeline.pipeline import Pipeline

CAPTIONS = ["a red circle", "a blue square left of a green star", "ein Haus am See", "東京", "🍕 and 🍕"]
SEED = 2**62 + 12345
SMALL = NetConfig(resolution=16, patch=4, width=32, depth=1, heads=2, stem_width=16, stem_depth=1, text_depth=1)


def network(**changes: Any) -> NetConfig:
    return dataclasses.replace(SMALL, **changes)


# Between them: one to three levels, stems that start smaller, heads, strides of the patches, widths that no vector
# divides, several groups of channels, wide and narrow heads, pictures that are not square, all predictions, all
# samplers of plans, strong guidance.
VARIANTS = {
    "two levels": (network(), NoiseConfig(), SampleConfig(steps=4)),
    "one level": (
        network(stem_levels=1, stem_width=32),
        NoiseConfig(prediction="velocity"),
        SampleConfig(steps=2, sampler="euler"),
    ),
    "three levels": (
        network(resolution=32, patch=8, stem_levels=3, depth=2),
        NoiseConfig(prediction="edm"),
        SampleConfig(steps=4, sampler="dpmpp_2m", sizes="48x16 32x32"),
    ),
    "a head": (
        network(resolution=32, patch=8, stem_factor=4, head_width=24, stem_width=48),
        NoiseConfig(),
        SampleConfig(steps=3, sizes="48x16 32x32"),
    ),
    "a head after single pixels": (
        network(patch=8, stem_factor=4, stem_levels=1, head_width=16, write_kernel=1),
        NoiseConfig(),
        SampleConfig(steps=2, sizes="24x8 16x16"),
    ),
    "a smaller stem alone": (
        network(patch=8, stem_factor=2, stem_levels=1, stem_width=16),
        NoiseConfig(),
        SampleConfig(steps=3),
    ),
    "odd widths": (
        network(patch=2, stem_width=6, width=36, heads=3, stem_depth=2, text_depth=2),
        NoiseConfig(prediction="noise", sigma_max=20.0),
        SampleConfig(steps=4, sampler="deis_3", guidance=6.0, sizes="10x14 16x16"),
    ),
    "narrow heads": (
        network(width=48, heads=4, depth=3, text_depth=0, stem_depth=0),
        NoiseConfig(),
        SampleConfig(steps=3, sampler="deis_4", guidance=1.0, schedule="karras", sizes="20x12 16x16"),
    ),
}  # fmt: skip


def make_model(folder: Path, net: NetConfig, noise: NoiseConfig, sample: SampleConfig) -> Path:
    """A model folder with random weights."""
    folder.mkdir(parents=True)
    tokenizer, vocabulary = learn_tokenizer(CAPTIONS, 300)
    text = TextConfig(encoder="learned", vocabulary=vocabulary, embedding_dim=32, max_tokens=16)
    config = Config(net=net, text=text, noise=noise, sample=sample)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        denoiser = Denoiser(config, tokenizer)
        for weight in denoiser.parameters():  # a fresh network says 0 whatever the caption
            weight.add_(0.1 * torch.randn_like(weight))
    save_file(denoiser.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return folder


def drawn(javascript: Run, statements: str, caption: str, seed: int, config: Config) -> NDArray[np.float32]:
    """The predictions of all steps of a picture, [steps, 3, H, W]."""
    width, height = config.default_size
    request = {
        "caption": caption,
        "seed": str(seed),
        "numSteps": config.sample.steps,
        "guidance": config.sample.guidance,
    }
    steps = javascript(
        f"{statements} const steps = await all(model.draw({json.dumps(request)}));"
        "return steps.map((step) => Array.from(step.denoised));"
    )
    return np.array(steps, np.float32).reshape(-1, 3, height, width)


@pytest.mark.parametrize("is_fast", [True, False], ids=["wasm", "plain"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_page_draws_what_python_draws(
    variant: str, is_fast: bool, javascript: Run, models: Path, few_steps: None
) -> None:
    folder = make_model(models / "random", *VARIANTS[variant])
    pipeline = Pipeline.load(folder, "cpu")
    caption = CAPTIONS[1]
    expected = [step.denoised[0].numpy() for step in pipeline.stream(caption, seeds=SEED)]
    found = drawn(javascript, drawer(folder, is_fast=is_fast), caption, SEED, pipeline.config)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() < 1e-4 * max(1.0, np.abs(other).max())


def test_captions_of_any_script_give_the_same_tokens_and_notes(
    javascript: Run, tiny_model: Path, few_steps: None
) -> None:
    reader = Pipeline.load(tiny_model, "cpu").denoiser.encoder.reader
    captions = [
        "",
        " ",
        "\u3000",
        "A RED  circle's\tedge\n",
        "東京 🍕👩‍🎤",
        "l'été à ΟΔΟΣ",
        "1234, (x)!!",
        "naïve\u0085\u00a0x",
        "ẞß",
        "مرحبا",
        *CAPTIONS,
    ]
    found = javascript(
        f"{drawer(tiny_model)} const {{ tokenizer }} = model;"
        f"return {json.dumps(captions)}.map((text) => [tokenizer.ids(text), tokenizer.illegible(text)]);"
    )
    for caption, ids, unknown, (found_ids, found_unknown) in zip(
        captions, reader.token_ids(captions), reader.illegible(captions), found, strict=True
    ):
        assert (caption, found_ids, found_unknown) == (caption, ids, unknown)


def test_words_of_minilm_are_those_of_its_tokenizer(javascript: Run) -> None:
    folder = encoder_folder("minilm")
    reader, known = FrozenReader(folder), read_tokenizer(folder).get_vocab()
    captions = [
        *CAPTIONS, "Café CRÈME, naïve!", "東京 tower", "🍕 pizza🍕x y", "[CLS] hi [UNK] [sep]",
        "a\0b\x0bc\x85d\u200be\u00adf",
        "don't; stop!!", f"{'x' * 101} y", "ﬁ ½ №", "👩‍🎤 sings", "İstanbul ΑΣ ẞ", "हिन्दी ไทย 한국어",
        "ok\tgo\n", "$5 ^_^ |y|", "\u0378 \ue000",
    ]  # fmt: skip
    words = sorted(known, key=lambda word: int(known[word]))
    found = javascript(
        f"const tokenizer = new WordPiece({json.dumps(words)}, 6);"
        "const all = (text) => [tokenizer.ids(text), tokenizer.illegible(text), tokenizer.read(text)];"
        f"return {json.dumps(captions)}.map(all);"
    )
    for caption, ids, unknown, answer in zip(
        captions, reader.token_ids(captions), reader.illegible(captions), found, strict=True
    ):
        assert (caption, *answer[:2]) == (caption, ids, unknown)
        assert answer[2] == {"ids": [known["[CLS]"], *ids[:4], known["[SEP]"]], "isCut": len(ids) > 4}
    assert javascript('return new WordPiece([], 6).read("");') == {"ids": [], "isCut": False}


def test_noise_is_that_of_the_seed(javascript: Run) -> None:
    for seed in (0, 7, 2**32, SEED, 2**63 - 1):
        expected = normal(seed, Purpose.START, 0, (1001,))[0].numpy()
        found = np.array(javascript(f'return Array.from(normal("{seed}", START, 0, 1001));'), np.float32)
        # The square root of PyTorch may be off in its last bit.
        assert np.abs(found - expected).max() <= np.spacing(np.abs(expected).max())
        assert np.mean(found == expected) > 0.7


def test_the_kernel_needs_nothing_but_the_memory() -> None:
    fused, plain = (wat.assemble(read_page_file("kernel.wat"), relaxed=relaxed) for relaxed in (True, False))
    assert fused.startswith(b"\0asm\x01\0\0\0")
    assert b"\xfd\x85\x02" in fused  # relaxed_madd
    assert b"\xfd\x85\x02" not in plain
    with pytest.raises(ValueError, match=r"f64\.add"):
        wat.assemble('(module (func (export "f") (f64.add)))', relaxed=True)
    with pytest.raises(ValueError, match="not closed"):
        wat.assemble("(module (func", relaxed=True)


def test_bytes_survive_as_text_in_html(javascript: Run) -> None:
    contents = [b"", bytes(100), b"\r<" * 99, bytes(range(256)), np.random.default_rng(0).bytes(PART + 5), b"<" * 8]
    for content in contents:
        parts = list(text_parts(content))
        assert not set("\0\r<") & set("".join(parts))
        sizes = [min(PART, len(content) - start) for start in range(0, len(content), PART)]
        assert sum(len(part.encode()) for part in parts) <= len(content) * 8 / 7 + 2 * len(parts)
        found = javascript(
            f"return {json.dumps(parts)}.map((part, i) => Array.from(bytesOf(part, {json.dumps(sizes)}[i])));"
        )
        assert bytes(value for part in found for value in part) == content


def test_stored_numbers(javascript: Run) -> None:
    payload = Payload()
    numbers = torch.tensor([[0.0, -1.5, 2.0**-20, 65504.0], [1e-3, -3e-3, 7.0, 0.1]])
    payload.add_halves("half", numbers)
    payload.add_bytes("byte", numbers[1:])
    payload.add_bytes("zero", torch.zeros(1, 3))
    content = json.dumps(list(payload.content()))
    statements = f"const weights = new Weights({json.dumps(payload.header)}, Uint8Array.from({content}));"
    found = javascript(statements + 'return ["half", "byte", "zero"].map((name) => Array.from(weights.tensor(name)));')
    assert found[0] == numbers.half().float().flatten().tolist()
    assert np.abs(np.array(found[1]) - numbers[1].numpy()).max() <= 7.0 / 90 / 2 + 1e-6
    assert found[2] == [0, 0, 0]


def test_rounding_to_halves_is_that_of_python(javascript: Run) -> None:
    numbers = np.float32(
        [0, 1, -1.0004883, 1.0014648, 2049, 65519, 65520, 6e-8, 3e-8, 2.9e-8, -0.1, 1e-5, 5.96e-8 * 2.5]
    )
    found = javascript(f"return {json.dumps(numbers.tolist())}.map((x) => String(toHalf(x)));")
    with np.errstate(over="ignore"):
        assert [float(text) for text in found] == numbers.astype(np.float16).astype(float).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": SampleConfig(sampler="heun")}, "heun"),
        ({"text": TextConfig(encoder="hf:somebody/encoder", embedding_dim=32)}, "learned and minilm"),
    ],
)
def test_a_model_that_a_page_cannot_draw_with_is_refused(
    change: dict[str, Any], message: str, models: Path, few_steps: None
) -> None:
    folder = make_model(models / "other", *VARIANTS["two levels"])
    config = dataclasses.replace(Config.from_json((folder / "config.json").read_text()), **change)
    (folder / "config.json").write_text(config.to_json())
    with pytest.raises(ConfigError, match=message):
        describe(store.find(folder), ExportOptions(name="other"))


def test_the_page_refuses_what_it_does_not_know(javascript: Run, tiny_model: Path, few_steps: None) -> None:
    for change, message in (
        ('net.architecture = "unet"', "the network unet"),
        ("format = 9", "the format 9"),
        ('text.encoder = "hf:x"', "the text encoder hf:x"),
    ):
        found = javascript(
            f"{drawer(tiny_model)} described.config.{change};"
            "try { new Model(described, weights, []); } catch (error) { return error.message; }"
        )
        assert message in found


def test_a_plan_has_a_row_for_each_step_of_each_number() -> None:
    config = Config(net=SMALL, sample=SampleConfig(steps=60, sampler="deis_3"))
    usual, strong = plans.make_plans(config)
    assert sorted(usual) == [*range(1, plans.MAX_STEPS + 1), 60]
    assert all(plan.shape == (steps, 17) for steps, plan in usual.items())
    assert sorted(strong) == sorted(usual)  # strong guidance takes another sampler
    assert plans.make_plans(dataclasses.replace(config, sample=SampleConfig())).strong == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share", "levels"), [("shapes", 0.01, 1), ("emoji", 0.05, 2)])
def test_the_shipped_models_draw_the_same_pictures(name: str, share: float, levels: int, javascript: Run) -> None:
    pipeline = Pipeline.load(name, "cpu")
    caption = store.find(name).folder / "samples" / "captions.txt"
    statements = drawer(Path(name), precision="fp16")
    for seed, text in enumerate(caption.read_text("utf-8").splitlines()[:2]):
        picture = np.asarray(pipeline.generate(text, seeds=seed)[0], int)
        request = {
            "caption": text,
            "seed": str(seed),
            "numSteps": pipeline.config.sample.steps,
            "guidance": pipeline.config.sample.guidance,
        }
        pixels = javascript(
            f"{statements} const steps = await all(model.draw({json.dumps(request)}));"
            "return Array.from(pixelsOf(steps.at(-1).denoised));"
        )
        difference = np.abs(np.array(pixels).reshape(*picture.shape[:2], 4)[..., :3] - picture)
        assert difference.max() <= levels
        assert np.mean(difference.max(axis=2) > 0) <= share
