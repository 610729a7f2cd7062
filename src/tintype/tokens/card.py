"""The card of a token model, README.md in its folder."""

from __future__ import annotations

from tintype.tokens.config import TokenConfig
from tintype.training.console import duration
from tintype.training.model_card import generate_command, markdown_text


def token_card(
    name: str,
    config: TokenConfig,
    *,
    data: str,
    num_training: int,
    num_held_out: int,
    num_weights: int,
    images_seen: int,
    seconds: float,
    bits: float | None,
    caption: str,
) -> str:
    """The card as Markdown. bits: a token of held-out pictures, None if none were held out."""
    net, train, write = config.net, config.train, config.write
    quality = (
        "No pictures were held out."
        if bits is None
        else f"A token of a held-out picture takes {bits:.3f} bits, a picture {bits * net.num_tokens:.0f}."
    )
    return f"""# {markdown_text(name)}

A text-to-image model made with Tintype that writes pictures token by token. A picture of {net.resolution} x
{net.resolution} pixels is {net.num_tokens} patches, each one of {net.codes:,} of a codebook; a causal transformer
writes them row by row.

## Data

{num_training:,} captioned pictures from `{markdown_text(data)}`; {num_held_out:,} more were held out.

## Training

{images_seen:,} images were shown ({images_seen / max(num_training, 1):.1f} times each) in {duration(seconds)}.

| setting | value |
| --- | --- |
| weights | {num_weights:,} |
| network | width {net.width}, depth {net.depth}, patch {net.patch} |
| text | {markdown_text(config.text.encoder)} |
| batch size, learning rate | {train.batch_size}, {train.lr:g} |
| temperature, top k, guidance | {write.temperature:g}, {write.top_k or "all"}, {write.guidance:g} |
| seed | {train.seed} |

tokens.json holds every setting.

## Quality

{quality}

## Use

    {generate_command(caption, name)}
"""
