"""A workflow as ComfyUI's page saves it -> the prompt that its server takes, as the page converts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN"}


def prompt_of(path: Path, inputs_of: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Node number -> its class and inputs.

    inputs_of: node type -> what its INPUT_TYPES returns. The page lists values of widgets in that order, with one more
    after each seed: what to do with it after a run.
    """
    workflow = json.loads(path.read_text(encoding="utf-8"))
    sources = {link: [str(start), slot] for link, start, slot, _, _, _ in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        described = inputs_of[node["type"]]
        values = iter(node["widgets_values"])
        inputs = {}
        for name, (kind, *options) in {**described["required"], **described.get("optional", {})}.items():
            settings = options[0] if options else {}
            if (isinstance(kind, list) or kind in WIDGETS) and not settings.get("forceInput"):
                inputs[name] = next(values)
                if settings.get("control_after_generate"):
                    assert next(values) in ("fixed", "increment", "decrement", "randomize")
        assert not list(values), f"{node['type']} has values that none of its widgets takes"
        inputs |= {socket["name"]: sources[socket["link"]] for socket in node["inputs"] if socket["link"] is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
