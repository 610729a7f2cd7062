"""The part of ComfyUI 0.3.64 that the nodes meet: the modules that they import, and how its server runs a prompt."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

PACKAGE = Path(__file__).parents[2] / "comfyui"
HIDDEN = {"PROMPT", "EXTRA_PNGINFO", "UNIQUE_ID"}


class InterruptProcessingException(Exception):
    """What stops a prompt when its user has asked for it."""


class ComfyUI:
    """Stand-ins of its modules `comfy.utils`, `.model_management`, `.cli_args` and `folder_paths`; what they heard."""

    def __init__(self, folder: Path) -> None:
        self.output, self.models = folder / "output", folder / "models"
        self.output.mkdir()
        self.models.mkdir()
        self.progress: list[tuple[int, int, Any]] = []  # value, total, preview
        self.on_progress: Callable[[], None] = lambda: None
        self.interrupted = False
        self.folders: dict[str, list[str]] = {}
        self.args = SimpleNamespace(disable_metadata=False)

    def modules(self) -> dict[str, ModuleType]:
        comfy = self

        class ProgressBar:
            def __init__(self, total: int, node_id: str | None = None) -> None:
                self.total, self.current = total, 0

            def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
                self.total = self.total if total is None else total
                self.current = min(value, self.total)
                comfy.progress.append((self.current, self.total, preview))
                comfy.on_progress()

            def update(self, value: int) -> None:
                self.update_absolute(self.current + value)

        utils, management, cli_args = (
            ModuleType(f"comfy.{name}") for name in ("utils", "model_management", "cli_args")
        )
        utils.ProgressBar = ProgressBar  # type: ignore[attr-defined]
        management.get_torch_device = lambda: torch.device("cpu")  # type: ignore[attr-defined]
        management.InterruptProcessingException = InterruptProcessingException  # type: ignore[attr-defined]
        management.throw_exception_if_processing_interrupted = self._throw  # type: ignore[attr-defined]
        cli_args.args = self.args  # type: ignore[attr-defined]
        package = ModuleType("comfy")
        package.__path__ = []
        for module in (utils, management, cli_args):
            setattr(package, module.__name__.removeprefix("comfy."), module)
        paths = ModuleType("folder_paths")
        paths.models_dir = str(self.models)  # type: ignore[attr-defined]
        paths.add_model_folder_path = self._add_folder  # type: ignore[attr-defined]
        paths.get_folder_paths = lambda folder_name: list(self.folders[folder_name])  # type: ignore[attr-defined]
        paths.get_output_directory = lambda: str(self.output)  # type: ignore[attr-defined]
        paths.get_save_image_path = self._save_path  # type: ignore[attr-defined]
        return {module.__name__: module for module in (package, utils, management, cli_args, paths)}

    def _throw(self) -> None:
        if self.interrupted:
            self.interrupted = False
            raise InterruptProcessingException

    def _add_folder(self, folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
        self.folders.setdefault(folder_name, []).append(full_folder_path)

    def _save_path(
        self, filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
    ) -> tuple[str, str, int, str, str]:
        subfolder, _, name = filename_prefix.rpartition("/")
        folder = Path(output_dir) / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        counters = [int(file.name[len(name) + 1 :].split("_")[0]) for file in folder.glob(f"{name}_*")]
        return str(folder), name, max(counters, default=0) + 1, subfolder, filename_prefix


def load_package(comfy: ComfyUI, patch: pytest.MonkeyPatch, name: str = "custom_nodes_tintype") -> ModuleType:
    """Import the package as ComfyUI does: by its path, under a name of its choice."""
    for module_name, module in comfy.modules().items():
        patch.setitem(sys.modules, module_name, module)
    spec = importlib.util.spec_from_file_location(name, PACKAGE / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    for part in ("", ".nodes", ".images"):
        patch.delitem(sys.modules, name + part, raising=False)
    patch.setitem(sys.modules, name, package)
    spec.loader.exec_module(package)
    return package


class PreviewImage:
    """The stock node of this name, as far as links go."""

    FUNCTION = "preview"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"images": ("IMAGE",)}}

    def preview(self, images: torch.Tensor) -> dict[str, Any]:
        return {"ui": {"images": [{"number": index} for index in range(len(images))]}}


def run_prompt(prompt: dict[str, Any], classes: dict[str, Any], extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Check and run a prompt as the server does; returns what each output node shows."""
    done: dict[str, Any] = {}
    shown: dict[str, Any] = {}

    def output(number: str, slot: int) -> Any:
        if number not in done:
            done[number] = execute(number)
        return done[number][slot]

    def execute(number: str) -> Any:
        node, given = classes[prompt[number]["class_type"]], prompt[number]["inputs"]
        described = node.INPUT_TYPES()
        known = {**described["required"], **described.get("optional", {})}
        assert set(given) <= set(known), set(given) - set(known)
        assert set(described["required"]) <= set(given), set(described["required"]) - set(given)
        values = {name: _value(known[name], given[name], output) for name in given}
        for name, kind in described.get("hidden", {}).items():
            assert kind in HIDDEN
            values[name] = {"PROMPT": prompt, "EXTRA_PNGINFO": extra, "UNIQUE_ID": number}[kind]
        answer = getattr(node(), node.FUNCTION)(**values)
        if isinstance(answer, dict):
            shown[number] = answer["ui"]
            return ()
        assert len(answer) == len(node.RETURN_TYPES) == len(getattr(node, "RETURN_NAMES", node.RETURN_TYPES))
        for value, kind in zip(answer, node.RETURN_TYPES, strict=True):
            require_type(value, kind)
        return answer

    for number, node in prompt.items():
        if getattr(classes[node["class_type"]], "OUTPUT_NODE", False) and number not in done:
            done[number] = execute(number)
    return shown


def _value(described: Any, given: Any, output: Callable[[str, int], Any]) -> Any:
    kind, settings = described[0], described[1] if len(described) > 1 else {}
    if isinstance(given, list):  # a link: node and slot
        value = output(*given)
        require_type(value, kind)
        return value
    if isinstance(kind, list):
        assert given in kind
    elif kind in ("INT", "FLOAT"):
        assert settings["min"] <= given <= settings["max"]
    else:
        assert kind == "STRING", f"{kind} needs a link"
    return given


def require_type(value: Any, kind: str) -> None:
    """Assert what a value of a type looks like."""
    if kind == "IMAGE":
        assert value.dtype == torch.float32
        assert value.ndim == 4
        assert value.shape[-1] == 3
        assert 0 <= float(value.min()) <= float(value.max()) <= 1
    if kind == "MASK":
        assert value.ndim == 3
    if kind == "STRING":
        assert isinstance(value, str)
