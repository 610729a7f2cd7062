"""Receipts of pictures that were written token by token."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import get_type_hints

from tintype.errors import DataError
from tintype.pipeline.receipt import clean

FORMAT = "tokens-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenReceipt:
    """Everything needed to write one picture again with the same model."""

    caption: str
    seed: int
    index: int
    temperature: float
    top_k: int
    guidance: float
    model: str  # a name for people; `model_hash` says which weights
    model_hash: str
    version: str  # of Tintype
    side: int  # pixels

    def to_json(self) -> str:
        values = {k: clean(v) if isinstance(v, str) else v for k, v in dataclasses.asdict(self).items()}
        return json.dumps({"format": FORMAT, **values})

    @classmethod
    def from_json(cls, text: str) -> TokenReceipt | None:
        """Read `to_json` output; None for a receipt of another kind. Raises DataError if it is damaged."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            return None
        hints = get_type_hints(cls)
        if set(values) != set(hints):
            raise DataError("its receipt has other entries than this version knows")
        for name, value in values.items():
            if hints[name] is float and type(value) is int and abs(value) < 2**53:
                values[name] = float(value)
            elif type(value) is not hints[name]:
                raise DataError(f"its receipt has an entry that this version does not understand: {name}")
        return cls(**values)

    def parameters(self) -> str:
        """The form that other programs for generated pictures read and show."""
        entries = {
            "Sampler": "token by token",
            "Temperature": f"{self.temperature:g}",
            "Top k": self.top_k,
            "CFG scale": f"{self.guidance:g}",
            "Seed": self.seed,
            "Size": f"{self.side}x{self.side}",
            "Model hash": self.model_hash[:10],
            "Model": self.model,
            "Version": f"tintype {self.version}",
        }
        return clean("\n".join([self.caption, ", ".join(f"{name}: {value}" for name, value in entries.items())]))
