"""What common clients send, request by request as their sources have it, and what they read of the answers.

docs/serving.md names the versions. Clients that let their user choose a model, a size or a sampler send their defaults.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.serving.conftest import Live

from tintype.serving.catalog import Catalog
from tintype.serving.settings import Settings

pytestmark = pytest.mark.slow

KEY = "a-key-of-a-client"
ALIASES = {"dall-e-2": "tiny", "gpt-image-1": "tiny"}


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Live]:
    server = Live(Catalog([tiny_model], "cpu", ALIASES), Settings(max_batch=16, a1111=True, api_keys=(KEY,)))
    try:
        server.ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def http(server: Live) -> Iterator[httpx.Client]:
    """A client whose user has entered the key as the password that A1111's `--api-auth` asks for."""
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False, auth=("user", KEY)) as client:
        yield client


@pytest.fixture
def openai_http(server: Live) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"{server.url}/v1", timeout=30, trust_env=False, headers=headers) as client:
        yield client


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def size_of(image: str) -> tuple[int, int]:
    with Image.open(io.BytesIO(base64.b64decode(image, validate=True))) as picture:
        assert picture.format == "PNG"
        return picture.size


def encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


SILLYTAVERN = {
    "url": "http://127.0.0.1:8000",
    "auth": f"user:{KEY}",
    "prompt": "best quality, absurdres, aesthetic, a red circle",
    "negative_prompt": "lowres, bad anatomy, bad hands, text, error, cropped, worst quality, low quality, signature",
    "sampler_name": "DDIM",
    "scheduler": "normal",
    "steps": 20,
    "cfg_scale": 7,
    "width": 512,
    "height": 512,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 2,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "override_settings": {"CLIP_stop_at_last_layers": 1},
    "override_settings_restore_afterwards": True,
    "clip_skip": 1,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
}


def test_sillytavern(http: httpx.Client) -> None:
    options = ok(http.get("/sdapi/v1/options"))
    upscalers, latent = ok(http.get("/sdapi/v1/upscalers")), ok(http.get("/sdapi/v1/latent-upscale-modes"))
    assert [entry["name"] for entry in (*upscalers, *latent)] == ["Lanczos"]
    assert [entry["model_name"] for entry in ok(http.get("/sdapi/v1/sd-vae"))] == []
    assert http.get("/sdapi/v1/sd-modules").status_code == 404  # Forge's; it asks both
    assert "DDIM" in [entry["name"] for entry in ok(http.get("/sdapi/v1/samplers"))]
    assert "karras" in [entry["name"] for entry in ok(http.get("/sdapi/v1/schedulers"))]
    (model,) = [entry["title"] for entry in ok(http.get("/sdapi/v1/sd-models"))]
    assert model == options["sd_model_checkpoint"]
    ok(http.post("/sdapi/v1/options", json={"sd_model_checkpoint": model}))
    progress = ok(http.get("/sdapi/v1/progress"))
    assert (progress["progress"], progress["state"]["job_count"]) == (0.0, 0)  # it waits for both
    assert "forge_preset" not in options
    answer = http.post("/sdapi/v1/txt2img", json=SILLYTAVERN)
    assert size_of(ok(answer)["images"][0]) == (512, 512)
    assert KEY not in answer.text
    refined = {**SILLYTAVERN, "enable_hr": True, "seed": 11, "alwayson_scripts": {"ADetailer": {"args": [True, True]}}}
    assert size_of(ok(http.post("/sdapi/v1/txt2img", json=refined))["images"][0]) == (1024, 1024)
    ok(http.post("/sdapi/v1/interrupt"))


def test_sillytavern_without_a_password(server: Live) -> None:
    headers = {"Authorization": "Basic"}  # with nothing behind it
    answer = httpx.get(f"{server.url}/sdapi/v1/options", headers=headers, trust_env=False)
    assert (answer.status_code, answer.headers["www-authenticate"][:5]) == (401, "Basic")


def test_librechat_stable_diffusion(http: httpx.Client) -> None:
    payload = {"prompt": "a red circle, detailed", "negative_prompt": "blurry, ugly", "cfg_scale": 4.5, "steps": 22,
               "width": 1024, "height": 1024}  # fmt: skip
    data = ok(http.post("/sdapi/v1/txt2img", json=payload))
    info = json.loads(data["info"])
    assert size_of(data["images"][0].split(",")[0]) == (info["width"], info["height"]) == (1024, 1024)
    assert info["infotexts"][0].split("\n")[-1].startswith("Steps: 22, Sampler: UniPC, CFG scale: 4.5, Seed: ")
    assert isinstance(info["seed"], int)


def test_librechat_before_it_read_infotexts(http: httpx.Client) -> None:
    data = ok(http.post("/sdapi/v1/txt2img", json={"prompt": "a red circle", "negative_prompt": "blue", "steps": 20}))
    image = data["images"][0]
    info = ok(http.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{image}"}))["info"]
    assert info == json.loads(data["info"])["infotexts"][0]


@pytest.mark.parametrize("size", ["auto", "1024x1024", pytest.param("1536x1024", marks=pytest.mark.slow)])
def test_librechat_openai_images(size: str, openai_http: httpx.Client) -> None:
    body = {"model": "gpt-image-1", "prompt": "a red circle", "n": 1, "background": "auto", "output_format": "png",
            "quality": "auto", "size": size}  # fmt: skip
    image = ok(openai_http.post("/images/generations", json=body))["data"][0]["b64_json"]
    assert size_of(image) == ((16, 16) if size == "auto" else tuple(map(int, size.split("x"))))
    form = {"model": "gpt-image-1", "prompt": "a red circle", "quality": "auto", "size": size}
    files = {"image[]": ("a.png", base64.b64decode(image), "image/png")}
    edited = ok(openai_http.post("/images/edits", data=form, files=files))["data"][0]["b64_json"]
    assert size_of(edited) == size_of(image)


def test_open_webui_automatic1111(http: httpx.Client) -> None:
    options = ok(http.get("/sdapi/v1/options"))
    assert [(entry["title"], entry["model_name"]) for entry in ok(http.get("/sdapi/v1/sd-models"))] == [
        ("tiny", "tiny")
    ]
    options["sd_model_checkpoint"] = "tiny"
    ok(http.post("/sdapi/v1/options", json=options))
    data = {"prompt": "a red circle", "batch_size": 2, "width": 512, "height": 512, "steps": 50}
    answer = ok(http.post("/sdapi/v1/txt2img", json={**data, "negative_prompt": "blue", "scheduler": "Karras"}))
    assert [size_of(image) for image in answer["images"]] == [(512, 512)] * 2
    assert isinstance(answer["info"], str)


@pytest.mark.parametrize("model", ["dall-e-2", "gpt-image-1", "tiny"])
def test_open_webui_openai(model: str, openai_http: httpx.Client) -> None:
    data = {"model": model, "prompt": "a red circle", "n": 1, "size": "512x512", "response_format": "b64_json"}
    answer = ok(openai_http.post("/images/generations", params={"api-version": "1"}, json=data))
    assert size_of(answer["data"][0]["b64_json"]) == (512, 512)
    form = {"model": model, "prompt": "a red circle", "n": "1", "size": "1024x1024", "response_format": "b64_json"}
    files = {"image": ("a.jpg", base64.b64decode(answer["data"][0]["b64_json"]), "image/png")}
    edited = ok(openai_http.post("/images/edits", data=form, files=files))
    assert size_of(edited["data"][0]["b64_json"]) == (1024, 1024)


@pytest.mark.parametrize("size", ["1024x1024", "256x256"])
def test_nextcloud(size: str, openai_http: httpx.Client) -> None:
    models = ok(openai_http.get("/models"))["data"]
    assert {model["id"] for model in models} == {"tiny", *ALIASES}
    for model in ("dall-e-2", "tiny"):  # its own default, and what its administrator chooses of the list
        body = {"prompt": "a red circle", "size": size, "n": 1, "model": model}
        data = ok(openai_http.post("/images/generations", json=body))["data"]
        assert [size_of(entry["b64_json"]) for entry in data] == [tuple(map(int, size.split("x")))]


AUTO_PHOTOSHOP = {
    "selection_info": {"left": 0, "top": 0, "right": 512, "bottom": 512, "width": 512, "height": 512},
    "alwayson_scripts": {},
    "prompt": "a red circle",
    "negative_prompt": "",
    "original_prompt": "a red circle",
    "original_negative_prompt": "",
    "clip_skip": 1,
    "steps": 20,
    "sampler_index": "Euler a",
    "width": 512,
    "height": 512,
    "denoising_strength": 0.7,
    "batch_size": 1,
    "cfg_scale": 7,
    "seed": "-1",
    "mask_blur": 4,
    "use_sharp_mask": False,
    "use_prompt_shortcut": False,
    "prompt_shortcut_ui_dict": {},
    "uniqueDocumentId": "0c2d",
    "mode": "txt2img",
    "restore_faces": False,
    "tiling": False,
    "session_id": 1,
}


def test_auto_photoshop(http: httpx.Client) -> None:
    assert ok(http.get("/sdapi/v1/samplers"))[0]["name"] == "UniPC"  # the one it begins with
    for path in ("upscalers", "loras", "embeddings", "scripts", "sd-models", "options"):
        ok(http.get(f"/sdapi/v1/{path}"))
    ok(http.post("/sdapi/v1/options", json={"inpainting_mask_weight": 1.0}))
    picture = Image.new("RGB", (512, 512), "teal")
    mask = Image.new("L", (512, 512), 0)
    mask.paste(255, (128, 128, 384, 384))
    inpaint = {"init_images": [encoded(picture)], "mask": encoded(mask), "expanded_mask": encoded(mask),
               "mask_expansion": 0, "inpaint_full_res": False, "inpaint_full_res_padding": 0, "inpainting_fill": 1,
               "mode": "inpaint"}  # fmt: skip
    for path, extra in (("txt2img", {}), ("img2img", {"init_images": [encoded(picture)]}), ("img2img", inpaint)):
        (image,) = ok(http.post(f"/sdapi/v1/{path}", json={**AUTO_PHOTOSHOP, **extra}))["images"]
        assert size_of(image) == (512, 512)
        info = ok(http.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{image}"}))["info"]
        assert "Sampler: Euler a, CFG scale: 7" in info
    ok(http.get("/sdapi/v1/progress?skip_current_image=false"))
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    assert ok(http.post("/sdapi/v1/interrupt", headers=headers)) == {}


def test_aiyabot(http: httpx.Client) -> None:
    ok(http.get("/sdapi/v1/cmd-flags"))
    assert http.head("/").status_code == 200
    assert http.get("/config").status_code == 404  # a page of Gradio; the bot goes on without
    for path in ("prompt-styles", "face-restorers", "hypernetworks", "loras", "realesrgan-models"):
        assert ok(http.get(f"/sdapi/v1/{path}")) == []
    assert ok(http.get("/sdapi/v1/embeddings"))["loaded"] == {}
    assert ok(http.get("/sdapi/v1/memory")) == {"ram": {}, "cuda": {}}  # webuiapi asks it
    payload = {"prompt": "a red circle", "negative_prompt": "", "steps": 30, "width": 512, "height": 512,
               "cfg_scale": "7.0", "sampler_index": "Euler a", "seed": 4_294_967_295, "seed_resize_from_h": -1,
               "seed_resize_from_w": -1, "denoising_strength": None, "n_iter": 1, "batch_size": 2, "styles": [None],
               "override_settings": {"CLIP_stop_at_last_layers": 1}}  # fmt: skip
    ok(http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "tiny"}))
    images = ok(http.post("/sdapi/v1/txt2img", json=payload))["images"]
    assert len(images) == 2
    start = {"init_images": ["data:image/png;base64," + images[0]], "denoising_strength": "0.75"}
    (image, _) = ok(http.post("/sdapi/v1/img2img", json={**payload, **start}))["images"]
    assert isinstance(
        ok(http.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{image}"}))["info"], str
    )
    state = ok(http.get("/sdapi/v1/progress"))
    assert (state["state"]["job"], state["current_image"]) == ("", None)
    ok(http.post("/sdapi/v1/skip"))
