"""Request bodies of /api/tokens. Types are strict, null counts as absent."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from tintype.pipeline.limits import MAX_CAPTION, MAX_GUIDANCE, MAX_INDEX, MAX_SEED
from tintype.tokens.config import MAX_CODES, MAX_TOKENS

MAX_ALTERNATIVES = 16


def _integer(low: int, high: int, text: str = "") -> Any:
    return Field(None, strict=True, ge=low, le=high, description=text or None)


def _number(low: float, high: float, text: str = "") -> Any:
    return Field(None, strict=True, ge=low, le=high, allow_inf_nan=False, description=text or None)


class WriteBody(BaseModel):
    """Body of POST /api/tokens/stream."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    prompt: Annotated[StrictStr, Field(max_length=MAX_CAPTION, description="The caption; empty for any picture.")]
    model: Annotated[StrictStr, Field(max_length=200)] | None = None
    seed: int | None = _integer(0, MAX_SEED)
    index: int | None = _integer(0, MAX_INDEX)
    temperature: float | None = _number(0, 4, "0: the likeliest token each time.")
    top_k: int | None = _integer(0, MAX_CODES, "Draw only from so many of the likeliest tokens; 0: all.")
    guidance: float | None = _number(0, MAX_GUIDANCE)
    tokens: (
        Annotated[
            list[Annotated[StrictInt, Field(ge=0, lt=MAX_CODES)] | None],
            Field(max_length=MAX_TOKENS, description="Given tokens; null, and what is missing, is written."),
        ]
        | None
    ) = None
    switch_at: int | None = _integer(1, MAX_TOKENS, "The place from which switch_prompt is the caption.")
    switch_prompt: Annotated[StrictStr, Field(max_length=MAX_CAPTION)] | None = None
    alternatives: int | None = _integer(0, MAX_ALTERNATIVES, "Likeliest tokens to report at each place.")


class EncodeBody(BaseModel):
    """Body of POST /api/tokens/encode."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    image: StrictStr
    model: Annotated[StrictStr, Field(max_length=200)] | None = None
