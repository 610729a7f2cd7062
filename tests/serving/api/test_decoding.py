"""Decoding of clients' images: a few at once, in fair turns, each once."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from tests.serving.abuse import check
from tests.serving.conftest import held_pipeline, live, until

from tintype.serving.api import images, jobs
from tintype.serving.api.decoding import MAX_OPEN, MAX_OPEN_OF_CLIENT, PLACES, PLACES_OF_CLIENT, DecodingPlaces
from tintype.serving.api.errors import ApiError
from tintype.serving.engine.noise_levels import NoiseSweepTask

KEYS = ("alpha-key-0001", "beta-key-0002")


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def text_of(image: Image.Image) -> str:
    return base64.b64encode(file_of(image)).decode()


async def holds(places: DecodingPlaces, client: str, stack: AsyncExitStack) -> bool:
    """Whether a client gets a place without waiting."""
    task = asyncio.create_task(stack.enter_async_context(places.place(client)))
    await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    await task
    return True


def test_a_client_with_many_images_leaves_a_place_to_the_others() -> None:
    async def run() -> list[bool]:
        places = DecodingPlaces()
        async with AsyncExitStack() as stack:
            first = [await holds(places, "alpha", stack) for _ in range(PLACES_OF_CLIENT + 3)]
            others = [await holds(places, client, stack) for client in ("beta", "gamma")]
        assert (await holds(places, "alpha", stack), await stack.aclose()) == (True, None)
        return first + others

    num_others = PLACES - PLACES_OF_CLIENT
    expected = [True] * PLACES_OF_CLIENT + [False] * 3 + [True] * num_others + [False] * (2 - num_others)
    assert asyncio.run(run()) == expected


def test_too_many_images_are_refused_and_forgotten() -> None:
    async def decode(places: DecodingPlaces, client: str, free: asyncio.Event) -> None:
        async with places.place(client):
            await free.wait()

    async def run() -> None:
        places, free = DecodingPlaces(), asyncio.Event()
        waiting = [asyncio.create_task(decode(places, "alpha", free)) for _ in range(MAX_OPEN_OF_CLIENT)]
        await asyncio.sleep(0)
        for client in ("alpha", "beta", "gamma"):
            if client != "alpha":
                num = (MAX_OPEN - MAX_OPEN_OF_CLIENT) // 2
                waiting += [asyncio.create_task(decode(places, client, free)) for _ in range(num)]
                await asyncio.sleep(0)
        for client in ("alpha", "delta"):
            with pytest.raises(ApiError) as caught:
                await decode(places, client, free)
            assert (caught.value.status, caught.value.code) == (429, "slow_down")
            assert int(caught.value.headers["Retry-After"]) >= 1
        waiting[-1].cancel()
        free.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [result for result in results if result is not None] == [results[-1]]
        await decode(places, "alpha", free)
        assert not places._num
        assert not places._places_of

    asyncio.run(run())


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An image of blue takes until the event is set."""
    free = threading.Event()

    def slow(text: str, param: str) -> Image.Image:
        image = images.decode_base64(text, param)
        assert image.getpixel((0, 0)) != (0, 0, 255) or free.wait(30)
        return image

    monkeypatch.setattr(jobs, "decode_base64", slow)
    yield free
    free.set()


def test_large_images_of_one_key_hold_up_no_other(tiny_model: Path, blocked: threading.Event) -> None:
    clients = ({"Authorization": f"Bearer {key}"} for key in KEYS)
    blue, red = ({"prompt": "a", "steps": 1, "init_image": text_of(Image.new("RGB", (16, 16), name))}
                 for name in ("blue", "red"))  # fmt: skip
    with (
        live(tiny_model, api_keys=KEYS) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http,
        ThreadPoolExecutor(MAX_OPEN_OF_CLIENT + 1) as pool,
    ):
        alpha, beta = clients
        try:
            num = MAX_OPEN_OF_CLIENT + 1
            requests = [pool.submit(http.post, "/api/jobs", json=blue, headers=alpha) for _ in range(num)]
            until(lambda: any(future.done() for future in requests))  # the one too many
            answer = next(future.result() for future in requests if future.done())
            check(answer, 429, code="slow_down")
            assert int(answer.headers["retry-after"]) >= 1
            assert http.post("/api/jobs", json=red, headers=beta).status_code == 202
            assert http.post("/api/jobs", json={"prompt": "a", "steps": 1}, headers=alpha).status_code == 202
        finally:
            blocked.set()
        assert {future.result().status_code for future in requests} <= {
            202,
            429,
        }  # 429: the queue has its share per key
        assert http.post("/api/jobs", json=red, headers=beta).status_code == 202


def test_a_mask_is_decoded_once_and_upright(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    load = PngImageFile.load_end

    def counted(image: PngImageFile) -> None:
        calls.append(None)
        load(image)

    monkeypatch.setattr(PngImageFile, "load_end", counted)
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is on the right
    mask = Image.new("RGBA", (8, 4), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 2, 4))  # transparent at the left, which becomes the top
    decoded = images.decode_mask(file_of(mask, exif=exif), "mask")
    assert (decoded.mode, decoded.size, len(calls)) == ("L", (4, 8), 1)
    assert decoded.crop((0, 0, 4, 2)).getextrema() == (255, 255)
    assert decoded.crop((0, 2, 4, 8)).getextrema() == (0, 0)
    white = Image.new("RGBA", (8, 4), (255, 255, 255, 255))
    assert images.decode_mask(file_of(white), "mask").getextrema() == (255, 255)
    half = Image.new("LA", (8, 4), (0, 100))
    assert images.decode_mask(file_of(half), "mask").getextrema() == (155, 155)


def test_photographs_of_50_megapixels_are_taken() -> None:
    photograph = file_of(Image.new("L", (8688, 5792), 120), "JPEG")
    assert images.decode(photograph, "image").size == (8688, 5792)


def test_looking_keeps_no_large_image_while_it_waits(tiny_model: Path) -> None:
    pipeline, denoiser = held_pipeline(tiny_model)
    with (
        live(tiny_model, pipeline, max_batch=1) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http,
        ThreadPoolExecutor(1) as pool,
    ):
        denoiser.hold()
        assert http.post("/api/jobs", json={"prompt": "a"}).status_code == 202
        body = {"image": text_of(Image.new("RGB", (900, 600))), "prompt": "a"}
        look = pool.submit(http.post, "/api/look", json=body)
        try:
            until(lambda: bool([job for job in list(server.engine._waiting) if isinstance(job.task, NoiseSweepTask)]))
            task = next(job.task for job in server.engine._waiting if isinstance(job.task, NoiseSweepTask))
            assert tuple(task.x0.shape) == (1, 3, *reversed(task.size))
        finally:
            denoiser.release()
        assert look.result().status_code == 200
