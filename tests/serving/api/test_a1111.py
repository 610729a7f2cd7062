"""The API of A1111's web UI: pictures, seeds, samplers, masks, progress, interruption, and who shares what."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.serving.abuse import check
from tests.serving.conftest import Held, Live, held_pipeline, live, until

from tintype.config import Config, DistillConfig
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt
from tintype.serving.api.a1111.bodies import Img2ImgBody, cfg_scale_of, guidance_of
from tintype.serving.api.a1111.images import init_images
from tintype.serving.api.a1111.names import NEAREST, OWN, SAME, method
from tintype.serving.api.errors import ApiError
from tintype.serving.catalog import Catalog
from tintype.serving.settings import Settings

TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Live]:
    with live(tiny_model, a1111=True) as running:
        yield running


def pictures(answer: httpx.Response) -> list[Image.Image]:
    assert answer.status_code == 200, answer.text
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in answer.json()["images"]]


def receipt(picture: Image.Image) -> Receipt:
    return Receipt.from_json(picture.info["tintype"])


def encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def close(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max()) <= 1


def test_the_routes_are_there_only_if_asked_for(tiny_model: Path) -> None:
    with live(tiny_model) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
        for path in (TXT2IMG, "/sdapi/v1/interrupt"):
            check(http.post(path, json={}), 404)
        check(http.get("/sdapi/v1/options"), 404)


def test_pictures_are_those_of_the_pipeline_with_seeds_that_count_up(http: httpx.Client, tiny_model: Path) -> None:
    body = {"prompt": "a red circle", "negative_prompt": "blue", "seed": 7, "steps": 5, "batch_size": 2, "n_iter": 2,
            "sampler_name": "DPM++ 2M Karras"}  # fmt: skip
    answer = http.post(TXT2IMG, json=body)
    made = pictures(answer)
    info = json.loads(answer.json()["info"])
    assert info["all_seeds"] == [7, 8, 9, 10]
    pipeline = Pipeline.load(tiny_model, "cpu")
    options: dict[str, Any] = {"steps": 5, "negative_prompt": "blue", "sampler": "dpmpp_2m", "schedule": "karras"}
    expected = pipeline.generate(["a red circle"] * 4, seeds=[7, 8, 9, 10], **options)
    assert all(close(picture, same) for picture, same in zip(made, expected, strict=True))
    assert [(receipt(picture).seed, receipt(picture).index) for picture in made] == [(s, 0) for s in (7, 8, 9, 10)]
    alone = pictures(http.post(TXT2IMG, json={**body, "seed": 9, "batch_size": 1, "n_iter": 1}))[0]
    assert close(alone, made[2])


def test_an_answer_has_what_a1111_says(http: httpx.Client) -> None:
    body = {"prompt": "a red circle", "seed": 3, "steps": 2, "cfg_scale": 7, "width": 512, "height": 512}
    answer = http.post(TXT2IMG, json={**body, "auth": "user:secret", "url": "http://here"})
    content = answer.json()
    assert set(content) == {"images", "parameters", "info"}
    assert content["parameters"] | body == content["parameters"]
    assert "secret" not in answer.text
    info = json.loads(content["info"])
    assert (info["prompt"], info["seed"], info["width"], info["height"], info["cfg_scale"]) == (
        "a red circle", 3, 512, 512, 7,
    )  # fmt: skip
    assert info["sd_model_name"] == "tiny"
    lines = info["infotexts"][0].split("\n")
    assert lines[0] == "a red circle"
    assert lines[1].startswith("Steps: 2, Sampler: UniPC, CFG scale: 7, Seed: 3, Size: 512x512, Model hash: ")
    assert info["warning"] == answer.headers["x-tintype-warning"]
    assert info["warning"].startswith("made at 16x16")


def test_the_settings_of_a_picture_sent_again_make_the_same_picture(http: httpx.Client) -> None:
    body = {"prompt": "a red circle", "seed": 3, "steps": 4, "cfg_scale": 5.5, "sampler_name": "Euler a",
            "width": 512, "height": 256}  # fmt: skip
    first = http.post(TXT2IMG, json=body).json()
    image = first["images"][0]
    info = http.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{image}"}).json()
    assert info["info"] == json.loads(first["info"])["infotexts"][0]
    settings = dict(entry.split(": ", 1) for entry in info["info"].split("\n")[1].split(", "))
    width, height = settings["Size"].split("x")
    again = {
        "prompt": info["info"].split("\n")[0],
        "steps": settings["Steps"],
        "sampler_name": settings["Sampler"],
        "cfg_scale": settings["CFG scale"],
        "seed": settings["Seed"],
        "width": width,
        "height": height,
    }
    assert http.post(TXT2IMG, json=again).json()["images"] == [image]


def test_a_picture_of_another_program_says_its_parameters_and_one_without_says_nothing(http: httpx.Client) -> None:
    from PIL.PngImagePlugin import PngInfo

    texts, buffer = PngInfo(), io.BytesIO()
    texts.add_text("parameters", "a cat\nSteps: 20")
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=texts)
    post = http.post("/sdapi/v1/png-info", json={"image": base64.b64encode(buffer.getvalue()).decode()})
    assert post.json()["info"] == "a cat\nSteps: 20"
    assert http.post("/sdapi/v1/png-info", json={"image": encoded(Image.new("RGB", (8, 8)))}).json()["info"] == ""
    check(http.post("/sdapi/v1/png-info", json={"image": "https://example.com/a.png"}), 400, "image")
    check(http.post("/sdapi/v1/png-info", json={}), 400, "image")


@pytest.mark.parametrize(("cfg_scale", "guidance"), [(7, 2), (1, 1), (4, 1.5), (13, 3)])
def test_seven_is_the_models_own_guidance_and_one_is_none(cfg_scale: float, guidance: float) -> None:
    assert guidance_of(cfg_scale, own=2.0) == pytest.approx(guidance)
    assert cfg_scale_of(guidance, own=2.0) == pytest.approx(cfg_scale)
    assert guidance_of(cfg_scale, own=1.0) == 1.0  # a model with guidance built in gets no more


def test_a_distilled_model_keeps_its_own_settings() -> None:
    config = replace(Config.from_preset("nano", resolution=32), distill=DistillConfig(teacher="t", steps=2))
    body, notes = Img2ImgBody(steps=50, cfg_scale=7, sampler_name="Euler a").generate_body("m", config)
    assert (body.steps, body.guidance, body.sampler, body.schedule) == (None, None, None, None)
    assert "distilled" in notes[0]


@pytest.mark.parametrize(
    ("sampler", "scheduler", "expected"),
    [("Euler a", None, ("euler_ancestral", None)), ("dpm++ 2m KARRAS", "automatic", ("dpmpp_2m", "karras")),
     ("DPM++ 2M", "Karras", ("dpmpp_2m", "karras")), ("DPM++ 2M Karras", "Exponential", ("dpmpp_2m", "log_snr")),
     ("k_euler_a", "", ("euler_ancestral", None)), ("unipc", "logistic", ("unipc", "logistic")),
     (None, None, (None, None)), ("Automatic", "Automatic", (None, None)), ("deis_4", "flow", ("deis_4", "flow"))],
)  # fmt: skip
def test_names_of_samplers(sampler: str | None, scheduler: str | None, expected: tuple[str, str]) -> None:
    chosen = method(sampler, scheduler)
    assert (chosen.sampler, chosen.schedule) == expected
    assert chosen.notes == ()


def test_what_a1111_has_and_this_server_has_not_is_replaced_and_said() -> None:
    chosen = method("DPM++ SDE Karras", "automatic")
    assert (chosen.sampler, chosen.schedule) == ("dpmpp_2m_sde", "karras")
    assert chosen.notes == ("the sampler DPM++ SDE Karras is not here: dpmpp_2m_sde was used, which is the nearest",)
    chosen = method("DDIM", "normal")
    assert (chosen.sampler, chosen.schedule) == ("ddim", None)
    assert chosen.notes == ("the scheduler normal is not here: the model's own schedule was used",)
    with pytest.raises(ApiError, match="sampler_name is unknown"):
        method("Eulor", None)


def test_every_sampler_of_the_lists_makes_a_picture(http: httpx.Client) -> None:
    names = [sampler["name"] for sampler in http.get("/sdapi/v1/samplers").json()]
    assert names == [*SAME, *OWN]
    assert names[0] == "UniPC"
    schedulers = [scheduler["label"] for scheduler in http.get("/sdapi/v1/schedulers").json()]
    for name in (*names, *NEAREST):
        body = {"prompt": "a", "steps": 2, "sampler_name": name, "scheduler": schedulers[1]}
        assert len(pictures(http.post(TXT2IMG, json=body))) == 1, name


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("steps", 201), ("steps", 1.5), ("cfg_scale", -1), ("cfg_scale", "NaN"), ("cfg_scale", 1e9),
     ("width", -1), ("width", 4096), ("width", "wide"), ("batch_size", 11), ("batch_size", 0), ("n_iter", 0),
     ("seed", -2), ("seed", 2**63), ("seed", "1e400"), ("sampler_name", "magic"), ("sampler_name", ["Euler"]),
     ("prompt", 3), ("prompt", "x" * 40_000), ("hr_scale", 1e9), ("override_settings", [1]),
     ("override_settings", "x"), ("script_name", "Ultimate SD upscale"), ("alwayson_scripts", [1])],
)  # fmt: skip
def test_wrong_values_are_refused(field: str, value: Any, http: httpx.Client, still_alive: None) -> None:
    body = {"prompt": "a", "steps": 1, field: value}
    check(http.post(TXT2IMG, json=body), 400, field if field != "prompt" or value != 3 else None)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"text"', b"NaN"])
@pytest.mark.parametrize("path", [TXT2IMG, IMG2IMG, "/sdapi/v1/options", "/sdapi/v1/png-info"])
def test_malformed_bodies(path: str, body: bytes, http: httpx.Client, still_alive: None) -> None:
    check(http.post(path, content=body, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize("body", [b'{"seed": NaN}', b'{"steps": 1e999}', b'{"cfg_scale": -Infinity}'])
def test_numbers_that_are_none(body: bytes, http: httpx.Client, still_alive: None) -> None:
    check(http.post(TXT2IMG, content=body, headers={"Content-Type": "application/json"}), 400)


def test_the_limits_are_those_of_the_other_routes(http: httpx.Client, still_alive: None) -> None:
    check(http.post(TXT2IMG, json={"prompt": "a", "batch_size": 5, "n_iter": 3}), 400, "batch_size")
    check(http.post(TXT2IMG, json={"prompt": "a", "width": 2048, "height": 2048, "batch_size": 2}), 400, "size")
    check(http.post(TXT2IMG, json={"prompt": "a", "width": 1536, "height": 1536, "enable_hr": True}), 400, "width")
    check(http.post(TXT2IMG, content=b"x" * 300_000, headers={"Content-Type": "application/json"}), 413)
    check(http.post(IMG2IMG, content=b"x" * (9 * 2**20), headers={"Content-Type": "application/json"}), 413)
    check(http.post(TXT2IMG, content=b"prompt=a", headers={"Content-Type": "text/plain"}), 415)
    check(http.post(IMG2IMG, json={"prompt": "a", "init_images": ["a"] * 17}), 400, "init_images")
    check(http.post(IMG2IMG, json={"prompt": "a"}), 400, "init_images", "missing_required_parameter")
    check(http.post(IMG2IMG, json={"init_images": ["https://example.com/a.png"]}), 400, "init_images", "invalid_image")
    check(http.post(IMG2IMG, json={"init_images": [base64.b64encode(b"no image").decode()]}), 400, "init_images")
    hostile = {"Origin": "https://elsewhere.example"}
    check(http.post(TXT2IMG, json={"prompt": "a"}, headers=hostile), 403)


def test_high_resolution_doubles_the_size(http: httpx.Client) -> None:
    body = {"prompt": "a", "steps": 1, "width": 96, "height": 64}
    assert pictures(http.post(TXT2IMG, json={**body, "enable_hr": True}))[0].size == (192, 128)
    resized = {**body, "enable_hr": True, "hr_resize_x": 100, "hr_resize_y": 90}
    assert pictures(http.post(TXT2IMG, json=resized))[0].size == (100, 90)
    assert pictures(http.post(TXT2IMG, json={**body, "hr_scale": 4}))[0].size == (96, 64)


def test_sizes_up_to_twice_the_models_are_made_and_larger_ones_enlarged(http: httpx.Client) -> None:
    sizes = {"16x16": "", "32x32": "", "48x16": "", "36x32": "36x32 lanczos", "64x64": "64x64 lanczos"}
    for size, enlarge in sizes.items():
        width, height = map(int, size.split("x"))
        (picture,) = pictures(http.post(TXT2IMG, json={"prompt": "a", "steps": 1, "width": width, "height": height}))
        assert (picture.size, receipt(picture).enlarge) == ((width, height), enlarge)
    (picture,) = pictures(http.post(TXT2IMG, json={"prompt": "a", "steps": 1}))
    assert picture.size == (16, 16)


def test_what_is_not_done_is_said(http: httpx.Client) -> None:
    body = {"prompt": "a", "steps": 1, "restore_faces": True, "styles": ["None", "film", None], "tiling": False}
    answer = http.post(TXT2IMG, json={**body, "alwayson_scripts": {"ADetailer": {"args": [True]}}})
    assert "this server has no restore_faces, styles, alwayson_scripts" in answer.headers["x-tintype-warning"]
    assert "x-tintype-warning" not in http.post(TXT2IMG, json={"prompt": "a", "steps": 1, "styles": [""]}).headers


def test_a_mask_keeps_what_it_leaves_black(http: httpx.Client) -> None:
    picture = Image.new("RGB", (16, 16), (10, 200, 90))
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (8, 0, 16, 16))
    body = {"prompt": "a", "steps": 4, "seed": 1, "init_images": [encoded(picture)], "mask": encoded(mask),
            "mask_blur": 0, "denoising_strength": 1}  # fmt: skip
    (made,) = pictures(http.post(IMG2IMG, json=body))
    pixels = np.asarray(made, dtype=int)
    assert np.abs(pixels[:, :8] - (10, 200, 90)).max() <= 1
    assert np.abs(pixels[:, 8:] - (10, 200, 90)).max() > 20
    (inverted,) = pictures(http.post(IMG2IMG, json={**body, "inpainting_mask_invert": 1}))
    assert np.abs(np.asarray(inverted, dtype=int)[:, 8:] - (10, 200, 90)).max() <= 1
    transparent = Image.merge("RGBA", (*Image.new("RGB", (16, 16)).split(), mask))  # opaque where to repaint
    (same,) = pictures(http.post(IMG2IMG, json={**body, "mask": "data:image/png;base64," + encoded(transparent)}))
    assert close(same, made)


def test_images_as_a1111_reads_them() -> None:
    picture = Image.new("RGB", (40, 20), "teal")
    mask = Image.new("L", (80, 40), 0)
    mask.paste(255, (40, 0, 80, 40))
    fields = {"init_images": [encoded(picture)], "mask": encoded(mask), "width": 64, "height": 64}
    stretched, of_it = init_images(Img2ImgBody(**fields))
    assert stretched.size == (64, 64)
    assert of_it is not None
    assert of_it.size == (64, 64)
    assert 0 < of_it.getpixel((30, 32)) < of_it.getpixel((33, 32)) < 255  # the edge is blurred
    kept, of_it = init_images(Img2ImgBody(**{**fields, "resize_mode": 1}))
    assert kept.size == (40, 20)  # the pipeline cuts it to fit
    assert of_it is not None
    assert of_it.size == (40, 20)


def test_how_much_of_the_picture_stays(http: httpx.Client) -> None:
    picture = encoded(Image.new("RGB", (64, 64), (200, 40, 40)))
    body = {"prompt": "a", "steps": 3, "seed": 1, "init_images": [picture], "width": 64, "height": 64}

    for strength, expected in {0: 0.01, 0.3: 0.3, 1: 1.0}.items():
        (made,) = pictures(http.post(IMG2IMG, json={**body, "denoising_strength": strength}))
        assert made.size == (64, 64)
        assert receipt(made).strength == expected
    answer = http.post(IMG2IMG, json=body).json()
    assert json.loads(answer["info"])["denoising_strength"] == 0.75
    assert answer["parameters"]["init_images"] is None
    back = http.post(IMG2IMG, json={**body, "include_init_images": True}).json()
    assert back["parameters"]["init_images"] == [picture]


def test_no_images_are_sent_if_none_are_wanted(http: httpx.Client) -> None:
    answer = http.post(TXT2IMG, json={"prompt": "a", "steps": 1, "send_images": False}).json()
    assert answer["images"] == []
    assert json.loads(answer["info"])["infotexts"]


def test_the_model_is_chosen_for_all_requests_or_for_one(tiny_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(tiny_model)
    server = Live(Catalog([tiny_model, other], "cpu", {"dall-e-3": "other"}), Settings(max_batch=16, a1111=True))
    try:
        server.ready()
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as http:

            def model(**fields: Any) -> Any:
                answer = http.post(TXT2IMG, json={"prompt": "a", "steps": 1, **fields})
                return json.loads(answer.json()["info"])["sd_model_name"]

            assert [entry["title"] for entry in http.get("/sdapi/v1/sd-models").json()] == ["tiny", "other"]
            assert model() == http.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == "tiny"
            assert model(override_settings={"sd_model_checkpoint": "dall-e-3"}) == "other"
            assert model() == "tiny"
            options = http.get("/sdapi/v1/options").json()
            assert http.post("/sdapi/v1/options", json={**options, "sd_model_checkpoint": "other"}).json() is None
            assert model() == http.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == "other"
            assert http.post("/sdapi/v1/options", json={"sd_model_checkpoint": ""}).status_code == 200
            check(http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "sdxl"}), 404, "model")
            assert model() == "other"
    finally:
        server.stop()


@pytest.fixture
def held_server(tiny_model: Path) -> Iterator[tuple[Live, Held]]:
    pipeline, held = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, a1111=True, api_keys=("key-of-ann", "key-of-bob")) as server:
        yield server, held


def test_progress_and_interruption_are_each_clients_own(held_server: tuple[Live, Held]) -> None:
    server, held = held_server
    ann, bob = (
        httpx.Client(base_url=server.url, timeout=30, trust_env=False, auth=("user", key))
        for key in ("key-of-ann", "key-of-bob")
    )
    answers: list[httpx.Response] = []
    body = {"prompt": "a", "steps": 6, "width": 512, "height": 512, "cfg_scale": 1}
    with ann, bob:
        check(httpx.post(f"{server.url}{TXT2IMG}", json=body, trust_env=False), 401)
        idle = ann.get("/sdapi/v1/progress").json()
        assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0.0, 0, None)
        held.hold()
        thread = threading.Thread(target=lambda: answers.append(ann.post(TXT2IMG, json=body)))
        thread.start()
        held.allow(2)
        until(lambda: ann.get("/sdapi/v1/progress").json()["state"]["sampling_step"] >= 2)
        state = ann.get("/sdapi/v1/progress").json()
        assert state["progress"] == pytest.approx(2 / 6)
        assert (state["state"]["job_count"], state["state"]["sampling_steps"]) == (1, 6)
        with Image.open(io.BytesIO(base64.b64decode(state["current_image"]))) as preview:
            assert preview.size == (512, 512)
        assert ann.get("/sdapi/v1/progress?skip_current_image=true").json()["current_image"] is None
        assert bob.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0
        assert bob.post("/sdapi/v1/interrupt").json() == {}
        held.allow(1)
        until(lambda: ann.get("/sdapi/v1/progress").json()["state"]["sampling_step"] >= 3)
        assert ann.post("/sdapi/v1/interrupt", headers={"Content-Type": "application/json"}).json() == {}
        held.release()
        thread.join(30)
        (answer,) = answers
        (picture,) = pictures(answer)
        assert picture.size == (512, 512)
        assert "tintype" not in picture.info  # no receipt: it is a guess
        assert ann.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0
        assert ann.post("/sdapi/v1/interrupt").json() == {}


def test_a_disconnect_frees_the_place(held_server: tuple[Live, Held]) -> None:
    server, held = held_server
    held.hold()
    with (
        httpx.Client(base_url=server.url, timeout=0.5, trust_env=False, auth=("", "key-of-ann")) as http,
        pytest.raises(httpx.ReadTimeout),
    ):
        http.post(TXT2IMG, json={"prompt": "a", "steps": 5})
    held.allow(2)
    until(lambda: server.engine.num_running == 0 and server.engine.num_waiting == 0)


def test_one_client_holds_no_more_than_its_share(held_server: tuple[Live, Held]) -> None:
    server, held = held_server
    held.hold()
    statuses: list[int] = []
    body = {"prompt": "a", "steps": 1, "cfg_scale": 1}

    def post() -> None:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False, auth=("", "key-of-ann")) as http:
            statuses.append(http.post(TXT2IMG, json=body).status_code)

    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: len(statuses) >= 4)
    assert set(statuses) == {429}
    held.release()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [200] * 16 + [429] * 4


def test_the_text_of_a_client_is_not_repeated_in_errors(http: httpx.Client) -> None:
    for body in ({"sampler_name": "<script>"}, {"override_settings": {"sd_model_checkpoint": "<script>"}}):
        answer = http.post(TXT2IMG, json={"prompt": "a", **body})
        assert answer.status_code in (400, 404)
        assert "script" not in answer.text
