"""The images API, tried with the client that people use."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image
from tests.serving.conftest import Held, Live, held_pipeline, live, until

from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.receipt import Receipt
from tintype.pipeline.request import Options
from tintype.serving.api.schemas import SamplingBody
from tintype.serving.catalog import Catalog
from tintype.serving.settings import Settings

PROMPT = "a red circle left of a blue square"


ClientOf = Callable[..., openai.OpenAI]


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    """Clients of a server, closed at the end."""
    clients: list[openai.OpenAI] = []

    def make(server: Live, **options: Any) -> openai.OpenAI:
        http = openai.DefaultHttpxClient(trust_env=False)
        settings = {"api_key": "any", "max_retries": 0, **options}
        clients.append(openai.OpenAI(base_url=f"{server.url}/v1", http_client=http, **settings))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(server: Live, client_of: ClientOf) -> openai.OpenAI:
    return client_of(server)


def picture(b64: str | None) -> Image.Image:
    assert b64 is not None
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def png(picture: Image.Image) -> io.BytesIO:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    buffer.name = "picture.png"
    buffer.seek(0)
    return buffer


def close(a: Image.Image, b: Image.Image) -> bool:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max()) <= 1


def test_the_same_seed_is_the_same_file_and_the_pipelines_picture(client: openai.OpenAI, tiny_model: Path) -> None:
    options = {"seed": 7, "num_inference_steps": 5, "guidance_scale": 2.5, "negative_prompt": "blue"}
    responses = [client.images.generate(prompt=PROMPT, extra_body=options) for _ in range(2)]
    assert responses[0].data is not None
    assert responses[1].data is not None
    assert responses[0].data[0].b64_json == responses[1].data[0].b64_json
    image = picture(responses[0].data[0].b64_json)
    pipeline = Pipeline.load(tiny_model, "cpu")
    expected = pipeline.generate(PROMPT, seeds=[7], steps=5, guidance=2.5, negative="blue")[0]
    assert close(image, expected)
    receipt = Receipt.from_json(image.info["tintype"])
    assert (receipt.caption, receipt.seed, receipt.steps, receipt.guidance) == (PROMPT, 7, 5, 2.5)
    assert receipt.model_hash == pipeline.model_hash


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits"])
@pytest.mark.parametrize(
    ("new", "old", "value", "other"),
    [("negative_prompt", "negative", "blue", "red"), ("guidance_interval", "interval", [0.3, 5], [0.3, 6.5]),
     ("schedule", "grid", "karras", "log_snr")],
)  # fmt: skip
def test_an_option_has_the_same_meaning_under_its_older_name(
    path: str, new: str, old: str, value: Any, other: Any, http: httpx.Client
) -> None:
    def post(**options: Any) -> httpx.Response:
        fields = {"prompt": PROMPT, "seed": 7, "steps": 4, "guidance": 3, **options}
        if path.endswith("generations"):
            return http.post(path, json=fields)
        form = {name: ",".join(map(str, v)) if isinstance(v, list) else v for name, v in fields.items()}
        return http.post(path, data=form, files={"image": png(Image.new("RGB", (16, 16), "teal"))})

    def image(**options: Any) -> str:
        answer = post(**options)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"][0]["b64_json"])

    assert image(**{new: value}) == image(**{old: value}) == image(**{new: value, old: value})
    assert image(**{new: value}) != image()
    answer = post(**{new: value, old: other})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, new)
    assert old in answer.json()["error"]["message"]


def test_a_null_is_as_good_as_absent_beside_the_older_name(http: httpx.Client) -> None:
    fields = {"prompt": PROMPT, "seed": 7, "steps": 4, "negative": "blue"}
    first, second = (
        http.post("/v1/images/generations", json={**fields, **extra}).json()["data"][0]["b64_json"]
        for extra in ({}, {"negative_prompt": None})
    )
    assert first == second
    assert Receipt.from_json(picture(first).info["tintype"]).negative == "blue"


@pytest.mark.parametrize(
    ("name", "value"),
    [("schedule", "magic"), ("grid", "magic"), ("schedule", 3), ("guidance_interval", [1]), ("interval", [0.1, -1]),
     ("guidance_interval", [5, 1]), ("guidance_interval", ["a", 1]), ("guidance_interval", 1)],
)  # fmt: skip
def test_schedules_and_intervals_that_do_not_exist_are_refused(name: str, value: Any, http: httpx.Client) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "a", name: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name), answer.text
    assert "magic" not in answer.text


def test_every_sampling_field_is_an_option_of_the_pipeline() -> None:
    assert set(SamplingBody.model_fields) <= set(Options.__annotations__)


def test_pictures_of_one_request_have_one_seed_and_their_own_index(client: openai.OpenAI) -> None:
    response = client.images.generate(prompt=PROMPT, n=3, model="tiny", size="24x16", extra_body={"seed": 3})  # type: ignore[call-overload]
    assert [(item.seed, item.index) for item in response.data] == [(3, 0), (3, 1), (3, 2)]
    assert len({item.b64_json for item in response.data}) == 3
    assert {picture(item.b64_json).size for item in response.data} == {(24, 16)}
    assert response.usage.output_tokens == 3 * 6 * 4  # patches of 4x4 pixels
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    third = client.images.generate(prompt=PROMPT, size="24x16", extra_body={"seed": 3, "index": 2})  # type: ignore[call-overload]
    assert close(picture(third.data[0].b64_json), picture(response.data[2].b64_json))


def test_without_a_seed_pictures_differ_and_their_seed_is_told(client: openai.OpenAI) -> None:
    first, second = (client.images.generate(prompt=PROMPT, extra_body={"steps": 1}).data for _ in range(2))
    assert first is not None
    assert second is not None
    assert first[0].b64_json != second[0].b64_json
    again = client.images.generate(prompt=PROMPT, extra_body={"steps": 1, "seed": first[0].seed}).data  # type: ignore[attr-defined]
    assert again is not None
    assert close(picture(again[0].b64_json), picture(first[0].b64_json))


@pytest.mark.parametrize(("form", "kind"), [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_formats(form: Any, kind: str, client: openai.OpenAI) -> None:
    response = client.images.generate(prompt=PROMPT, output_format=form, output_compression=80, extra_body={"seed": 1})
    assert response.data is not None
    assert picture(response.data[0].b64_json).format == kind
    assert response.output_format == form


def test_streaming_shows_the_models_guesses_and_ends_with_the_same_picture(client: openai.OpenAI) -> None:
    options = {"seed": 5, "num_inference_steps": 8}
    unstreamed = client.images.generate(prompt=PROMPT, extra_body=options)
    events = list(client.images.generate(prompt=PROMPT, stream=True, partial_images=3, extra_body=options))
    kinds = [event.type for event in events]
    assert kinds[-1] == "image_generation.completed"
    partial = [event for event in events if event.type == "image_generation.partial_image"]
    assert len(kinds) == len(partial) + 1
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))
    steps = [event.step for event in partial]  # type: ignore[attr-defined]
    assert steps == sorted(set(steps))
    assert set(steps) <= {1, 3, 5}
    assert unstreamed.data is not None
    assert events[-1].b64_json == unstreamed.data[0].b64_json
    assert events[-1].usage.total_tokens > 0  # type: ignore[union-attr]
    assert all(picture(event.b64_json).size == (16, 16) for event in events)
    assert {event.quality for event in events} <= {"low", "medium", "high", "auto"}


def test_no_partial_images_means_the_finished_one_alone(client: openai.OpenAI) -> None:
    for extra in ({}, {"partial_images": 0}):
        events = list(client.images.generate(prompt=PROMPT, stream=True, **extra))  # type: ignore[call-overload]
        assert [event.type for event in events] == ["image_generation.completed"]


def test_a_stream_of_several_pictures_says_which_is_which(client: openai.OpenAI) -> None:
    options = {"seed": 5, "preview_every": 1}
    events = list(client.images.generate(prompt=PROMPT, n=2, stream=True, extra_body=options))
    completed = [event for event in events if event.type == "image_generation.completed"]
    assert [event.image_index for event in completed] == [0, 1]  # type: ignore[attr-defined]


def test_a_stream_that_is_read_more_slowly_than_pictures_are_made_comes_to_its_end(client: openai.OpenAI) -> None:
    options = {"preview_every": 1, "num_inference_steps": 60, "seed": 1}
    events = list(client.images.generate(prompt=PROMPT, stream=True, n=3, extra_body=options))
    assert [event.type for event in events[-3:]] == ["image_generation.completed"] * 3
    previews = [(event.step, event.image_index) for event in events[:-3]]  # type: ignore[attr-defined]
    assert [row for _, row in previews] == [0, 1, 2] * (len(previews) // 3)  # every picture of each previewed step
    assert [step for step, _ in previews] == sorted(step for step, _ in previews)


def test_edits_keep_what_the_mask_does_not_cover(client: openai.OpenAI) -> None:
    original = Image.new("RGB", (16, 16), (200, 30, 90))
    mask = Image.new("RGBA", (16, 16), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 8, 16))  # transparent: to be made again
    response = client.images.edit(
        image=png(original), mask=png(mask), prompt=PROMPT, extra_body={"seed": 1, "strength": 0.9}
    )
    assert response.data is not None
    pixels = np.asarray(picture(response.data[0].b64_json))
    assert (pixels[:, 8:] == (200, 30, 90)).all()
    assert not (pixels[:, :8] == (200, 30, 90)).all()
    assert response.usage is not None
    assert response.usage.input_tokens_details.image_tokens == 16


def test_edits_take_a_list_of_one_picture_and_stream(client: openai.OpenAI) -> None:
    original = Image.new("RGB", (40, 30), "teal")
    events = list(client.images.edit(image=[png(original)], prompt=PROMPT, stream=True, partial_images=1))
    assert [event.type for event in events][-1] == "image_edit.completed"
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(image=[png(original), png(original)], prompt=PROMPT)
    assert refused.value.param == "image"


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "tintype"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("dall-e-3")


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(prompt=PROMPT, model="dall-e-3")
    assert missing.value.code == "model_not_found"
    assert missing.value.request_id
    for wrong in ({"n": 0}, {"size": "7x8"}, {"output_format": "svg"}, {"background": "transparent"},
                  {"response_format": "url"}):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.generate(prompt=PROMPT, **wrong)  # type: ignore[call-overload]
        assert refused.value.param == next(iter(wrong))
        assert "Error code: 400" in str(refused.value)
    with pytest.raises(openai.InternalServerError), pytest.warns(DeprecationWarning, match="deprecated"):
        client.images.create_variation(image=png(Image.new("RGB", (8, 8))))


def test_a_key_is_asked_for_and_told(tiny_model: Path, client_of: ClientOf) -> None:
    with live(tiny_model, api_keys=("a-long-key",)) as server:
        with pytest.raises(openai.AuthenticationError):
            client_of(server).images.generate(prompt=PROMPT)
        good = client_of(server, api_key="a-long-key")
        assert good.images.generate(prompt=PROMPT).data


@pytest.fixture
def slow(tiny_model: Path) -> Iterator[tuple[Live, Held]]:
    """A server that makes a step only when allowed."""
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, max_batch=2, max_waiting=1) as server:  # one request at a time
        denoiser.hold()
        yield server, denoiser


def test_closing_a_stream_stops_the_work(slow: tuple[Live, Held], client_of: ClientOf) -> None:
    server, denoiser = slow
    denoiser.allow(3)
    stream = client_of(server).images.generate(
        prompt=PROMPT, stream=True, extra_body={"num_inference_steps": 100, "preview_every": 1}
    )
    next(iter(stream))
    stream.close()
    until(lambda: (denoiser.allow(1), server.engine.num_running == 0)[1])
    assert len(denoiser.calls) < 90


def test_a_client_that_gives_up_waiting_stops_the_work(slow: tuple[Live, Held], client_of: ClientOf) -> None:
    server, denoiser = slow
    with pytest.raises(openai.APITimeoutError):
        client_of(server, timeout=0.5).images.generate(prompt=PROMPT, extra_body={"num_inference_steps": 100})
    until(lambda: (denoiser.allow(1), server.engine.num_running == 0)[1])
    assert len(denoiser.calls) < 90


def test_overload_is_a_rate_limit_error_at_once(slow: tuple[Live, Held]) -> None:
    server, denoiser = slow

    async def storm() -> list[Any]:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
            tasks = []
            for num in range(2):  # one runs, one waits
                tasks.append(asyncio.create_task(http.post("/v1/images/generations", json={"prompt": "a", "n": 1})))
                while server.engine.num_running + server.engine.num_waiting < num + 1:
                    await asyncio.sleep(0.005)
            answers = [await http.post("/v1/images/generations", json={"prompt": "a"}) for _ in range(3)]
            denoiser.release()
            return [*answers, *await asyncio.gather(*tasks)]

    answers = asyncio.run(storm())
    assert [answer.status_code for answer in answers] == [429, 429, 429, 200, 200]
    assert answers[0].json()["error"]["code"] == "slow_down"
    assert int(answers[0].headers["retry-after"]) >= 1


def test_a_failure_midway_reaches_a_streaming_client(slow: tuple[Live, Held], client_of: ClientOf) -> None:
    server, denoiser = slow
    denoiser.fault = lambda x, sigma: x * float("nan")
    denoiser.release()
    with pytest.raises(openai.APIError, match="NaN or infinity"):
        list(client_of(server).images.generate(prompt=PROMPT, stream=True))
    with pytest.raises(openai.InternalServerError) as failed:
        client_of(server, max_retries=2).images.generate(prompt=PROMPT)
    assert failed.value.response.headers["x-should-retry"] == "false"


def test_a_caption_that_is_too_long_for_the_model_is_made_with_a_warning(http: httpx.Client) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "circle " * 500, "steps": 1})
    assert answer.status_code == 200
    assert "16 tokens" in answer.headers["x-tintype-warning"]
    assert answer.json()["warning"] == answer.headers["x-tintype-warning"]


def test_fields_that_mean_nothing_are_named(http: httpx.Client) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "a", "steps": 1, "lora": "x", "hires\n\u00e9": 1})
    assert answer.status_code == 200
    assert "lora" in answer.json()["warning"]
    assert answer.headers["x-tintype-warning"].isascii()
    many = {f"field{number}": 1 for number in range(1000)}
    assert len(http.post("/v1/images/generations", json={"prompt": "a", "steps": 1, **many}).json()["warning"]) < 400


def test_known_fields_and_cfg_are_no_surprise(http: httpx.Client) -> None:
    body = {"prompt": "a", "steps": 1, "cfg": 1, "user": "me", "quality": "high", "n": None}
    answer = http.post("/v1/images/generations", json=body)
    assert "warning" not in answer.json()
    receipt = receipt_of(answer)
    assert receipt.guidance == 1


def test_weights_in_a_caption_are_noted(http: httpx.Client) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "a (red:1.3) circle", "steps": 1})
    assert "(red:1.3)" in answer.json()["warning"]


def test_a_large_size_is_made_with_a_warning_and_a_larger_one_names_the_way(http: httpx.Client) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "a", "steps": 1, "size": "64x64"})
    assert "enlarge" in answer.json()["warning"]
    body = {"prompt": "a", "steps": 1, "size": "512x512", "enlarge": False}
    refused = http.post("/v1/images/generations", json=body)
    assert refused.status_code == 400
    assert "enlarge" in refused.json()["error"]["message"]


def test_an_enlarged_picture_may_have_any_size(http: httpx.Client) -> None:
    body = {"prompt": "a", "steps": 1, "size": "500x499", "enlarge": True}
    answer = http.post("/v1/images/generations", json=body)
    assert answer.json()["size"] == "500x499"
    with Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))) as picture:
        assert picture.size == (500, 499)
    assert receipt_of(answer).enlarge == "500x499 lanczos"
    for refused in (
        {**body, "size": "2048x2048", "n": 2},
        {"prompt": "a", "enlarge": True},
        {**body, "size": "4000x4"},
    ):
        assert http.post("/v1/images/generations", json=refused).status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "made_at"),
    [("512x512", "16x16"), ("1024x1024", "16x16"), ("1792x1024", "20x12"), ("1024x1792", "12x20"), ("21x20", "16x16")],
)
def test_a_size_of_large_models_is_enlarged_and_said(size: str, made_at: str, http: httpx.Client) -> None:
    body = {"prompt": "a", "steps": 1, "size": size, "seed": 3}
    answer = http.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["size"] == size
    assert answer.headers["x-tintype-warning"].startswith(f"made at {made_at}, the size of this model, and enlarged to")
    receipt = receipt_of(answer)
    assert (f"{receipt.width}x{receipt.height}", receipt.enlarge) == (made_at, f"{size} lanczos")
    asked = http.post("/v1/images/generations", json={**body, "enlarge": True})
    assert asked.json()["data"] == answer.json()["data"]
    assert "x-tintype-warning" not in asked.headers


@pytest.mark.parametrize("size", ["16x16", "24x16", "64x64", "128x32", "12x12"])
def test_a_size_that_the_model_can_make_is_made(size: str, http: httpx.Client) -> None:
    receipt = receipt_of(http.post("/v1/images/generations", json={"prompt": "a", "steps": 1, "size": size}))
    assert (f"{receipt.width}x{receipt.height}", receipt.enlarge) == (size, "")


@pytest.mark.parametrize("size", ["7x7", "2052x2052", "4096x16", "13x14"])
def test_sizes_beyond_the_limits_and_small_odd_ones_are_still_refused(size: str, http: httpx.Client) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "a", "steps": 1, "size": size})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")


@pytest.mark.slow
def test_the_pixels_of_all_enlarged_pictures_have_a_limit(http: httpx.Client) -> None:
    body = {"prompt": "a", "steps": 1, "size": "1024x1024", "n": 5}
    answer = http.post("/v1/images/generations", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")
    assert len(http.post("/v1/images/generations", json={**body, "n": 4}).json()["data"]) == 4


def test_an_edit_of_an_insisted_size_is_enlarged_with_its_mask(http: httpx.Client) -> None:
    picture, mask = Image.new("RGB", (640, 640), "teal"), Image.new("L", (640, 640), 255)
    files = {"image": ("a.png", png(picture), "image/png"), "mask": ("m.png", png(mask), "image/png")}
    answer = http.post("/v1/images/edits", data={"prompt": "a", "steps": "2", "size": "1024x1024"}, files=files)
    assert answer.status_code == 200, answer.text
    assert receipt_of(answer).enlarge == "1024x1024 lanczos"


def test_the_own_api_stays_strict(http: httpx.Client) -> None:
    refused = http.post("/api/jobs", json={"prompt": "a", "steps": 1, "size": "512x512"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "size")
    assert http.post("/api/jobs", json={"prompt": "a", "steps": 1, "size": "512x512", "enlarge": True}).is_success


def test_an_edit_keeps_the_shape_of_its_image(http: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200)).save(buffer, "PNG")
    files = {"image": ("a.png", buffer.getvalue(), "image/png")}
    answer = http.post("/v1/images/edits", data={"prompt": "a", "steps": "1"}, files=files)
    assert answer.json()["size"] == "20x12"
    form = {"prompt": "a", "steps": "1", "size": "90x60", "enlarge": "true"}
    assert http.post("/v1/images/edits", data=form, files=files).json()["size"] == "90x60"
    huge = {"prompt": "a", "steps": "1", "width": "2048"}
    assert http.post("/v1/images/edits", data=huge, files=files).status_code == 400


def receipt_of(answer: httpx.Response) -> Receipt:
    content = base64.b64decode(answer.json()["data"][0]["b64_json"])
    with Image.open(io.BytesIO(content)) as picture:
        return Receipt.from_json(picture.info["tintype"])


def test_signs_that_the_model_cannot_read_are_named_in_a_warning(http: httpx.Client) -> None:
    body = {"prompt": "a red 🍕 circle", "steps": 1, "response_format": "b64_json"}
    answer = http.post("/v1/images/generations", json=body)
    assert answer.status_code == 200
    assert "cannot read '🍕'" in answer.json()["warning"]
    assert "cannot read '\\U0001f355'" in answer.headers["x-tintype-warning"]
    stream = http.post("/v1/images/generations", json={**body, "stream": True}).text
    (last,) = [
        json.loads(line[6:]) for line in stream.splitlines() if 'generation.completed"' in line and line[0] == "d"
    ]
    assert last["warning"] == answer.json()["warning"]
    assert "warning" not in http.post("/v1/images/generations", json={"prompt": "a red circle", "steps": 1}).json()


def test_an_alias_is_a_name_of_the_model(tiny_model: Path) -> None:
    catalog = Catalog([tiny_model], "cpu", {"gpt-image-1": "tiny", "openai/dall-e-3": "tiny"})
    server = Live(catalog, Settings(max_batch=16))
    try:
        server.ready()
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as http:
            models = http.get("/v1/models").json()["data"]
            assert [(model["id"], model.get("root")) for model in models] == [
                ("tiny", None), ("gpt-image-1", "tiny"), ("openai/dall-e-3", "tiny"),
            ]  # fmt: skip
            assert http.get("/v1/models/openai/dall-e-3").json()["root"] == "tiny"
            body = {"prompt": "a", "steps": 1, "seed": 5}
            named, aliased = (
                http.post("/v1/images/generations", json={**body, "model": model}) for model in ("tiny", "gpt-image-1")
            )
            assert named.json()["data"] == aliased.json()["data"]
            assert receipt_of(aliased).model == "tiny"
            unknown = http.post("/v1/images/generations", json={**body, "model": "dall-e-2"})
            assert unknown.status_code == 404
            assert "gpt-image-1" in unknown.json()["error"]["message"]
            assert [model["name"] for model in http.get("/api/models").json()["models"]] == ["tiny"]
    finally:
        server.stop()
