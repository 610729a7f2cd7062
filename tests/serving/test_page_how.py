"""How it works in a real browser: seven chapters whose numbers are those of the models and of exact mathematics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import SIZES
from tests.serving.conftest import Live, live
from tests.serving.test_page import Tab
from tests.tokens.conftest import tiny_token_model

from tintype.diffusion.exact import finite_denoiser
from tintype.diffusion.guidance import window
from tintype.diffusion.samplers import sample
from tintype.diffusion.sigmas import SCHEDULES
from tintype.pipeline.pipeline import Pipeline
from tintype.serving.catalog import Catalog
from tintype.serving.settings import Settings
from tintype.serving.writers import Writers
from tintype.tokens import store as token_store

pytestmark = pytest.mark.slow

CHAPTERS = ("static", "noise", "layers", "gradient", "caption", "ways", "yours")
MODEL = "import('/page/state.js').then(({ model }) => model())"


@pytest.fixture(scope="module")
def served(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A tiny diffusion model, and a tiny token model whose pictures have 4 x 4 pieces."""
    folder = tmp_path_factory.mktemp("models") / "tiny-tokens"
    folder.mkdir()
    token_store.write(folder, tiny_token_model())
    server = Live(Catalog([tiny_model], "cpu"), Settings(max_batch=16), Writers([folder], "cpu"))
    server.ready()
    yield server
    server.stop()


@pytest.fixture
def tab(browser: Any, served: Live) -> Iterator[Tab]:
    opened = Tab(browser, served.url)
    yield opened
    assert opened.complaints == []
    opened.context.close()


def turn_to(tab: Tab, name: str) -> None:
    tab.page.evaluate(f"location.hash = '#how/{name}'")
    seen = f"#{section(name)} .seen"
    tab.wait(f"document.querySelector('{seen}')?.textContent.length > 0")


def section(name: str) -> str:
    return "how-caption-chapter" if name == "caption" else f"how-{name}"


def text(tab: Tab, selector: str) -> str:
    return str(tab.page.inner_text(selector))


def slide(tab: Tab, selector: str, value: float) -> None:
    tab.page.locator(selector).fill(str(value))


def in_page(tab: Tab, script: str, argument: object = None) -> Any:
    return tab.page.evaluate(script, argument)


def test_every_chapter_has_a_link_and_the_arrow_keys_turn_the_pages(tab: Tab) -> None:
    tab.page.evaluate("location.hash = '#how'")
    titles = []
    for name in CHAPTERS:
        tab.wait(f"!document.querySelector('#{section(name)}').hidden")
        assert tab.page.locator(".chapter:visible").count() == 1
        titles.append(text(tab, f"#{section(name)} h2"))
        tab.page.keyboard.press("ArrowRight")
    assert [title.split()[0] for title in titles] == list("1234567")
    assert tab.page.evaluate("location.hash") == "#how/yours"
    tab.page.keyboard.press("PageUp")
    tab.wait("location.hash === '#how/ways'")
    assert tab.page.evaluate("document.activeElement.id") == "ways-title"
    tab.page.evaluate("location.hash = '#how/static'")
    tab.page.focus("#static-level")
    tab.page.keyboard.press("ArrowRight")  # moves the slider
    assert tab.page.evaluate("location.hash") == "#how/static"


def test_the_noisy_picture_is_the_picture_plus_the_noise(tab: Tab) -> None:
    turn_to(tab, "noise")  # which shows once the model has drawn its picture
    turn_to(tab, "static")
    assert text(tab, "#static-source") == "drawn by tiny just now"
    slide(tab, "#static-level", 0)
    assert np.array_equal(tab.picture("#static-picture"), tab.picture("#static-noisy"))
    assert "768 numbers" in text(tab, "#static-seen")
    slide(tab, "#static-level", 40)
    picture, noise, noisy = (tab.picture(f"#static-{name}").astype(int) for name in ("picture", "noise", "noisy"))
    inside = np.all([(0 < shown) & (shown < 255) for shown in (picture, noise, noisy)], axis=0)  # not cut to the screen
    assert inside.mean() > 0.2
    assert np.abs(picture + noise - 127.5 - noisy)[inside].max() <= 2
    sigma = float(text(tab, "#static-times"))
    assert sigma == pytest.approx(0.02 * 4000**0.4, rel=0.05)
    variance = in_page(tab, "import('/page/subject.js').then(({ subject }) => [...subject.x0])")
    share = np.var(variance) / (np.var(variance) + sigma**2)
    shown = re.search(r"Of 100 parts of what you see (\d+)|One part in ([\d,]+)", text(tab, "#static-seen"))
    assert shown is not None
    told = int(shown[1]) / 100 if shown[1] else 1 / int(shown[2].replace(",", ""))
    assert told == pytest.approx(share, abs=0.006, rel=0.1)


def test_the_error_of_the_noise_is_that_of_the_model(tab: Tab, tiny_model: Path) -> None:
    turn_to(tab, "noise")
    right = in_page(
        tab,
        """import('/page/subject.js').then(({ subject }) => import('/page/pixels.js').then(({ draw, mix }) => {
            const canvas = document.createElement('canvas');
            draw(canvas, mix([0.5, subject.noise]), subject.shape);
            const shown = [...document.querySelectorAll('#noise-choices canvas')].map((each) => each.toDataURL());
            return shown.indexOf(canvas.toDataURL());
        }))""",
    )
    assert right in (0, 1, 2)
    tab.page.locator("#noise-choices button").nth(right).click()
    tab.wait("document.querySelectorAll('#noise-plots svg').length === 2")
    assert "You are right." in text(tab, "#noise-seen")
    assert "You 1 of 1" in text(tab, "#noise-score")
    x0, noise, caption = in_page(
        tab,
        "import('/page/subject.js').then(({ subject: s }) => [[...s.x0], [...s.noise], s.caption])",
    )
    for place in (11, 3):
        slide(tab, "#noise-slider", place)
        sigma = 0.02 * 4000 ** (place / 11)
        clean, drawn = (torch.tensor(values).reshape(1, 3, 16, 16) for values in (x0, noise))
        pipeline = Pipeline.load(tiny_model, "cpu")
        with torch.no_grad():
            x = clean + sigma * drawn
            guess = pipeline.denoiser(x, torch.tensor([sigma]), pipeline.encode([caption]))
        error = ((x - guess) / sigma - drawn).square().mean().item()
        off = 127.5 * (guess - clean).square().mean().sqrt().item()
        tab.wait(f"document.querySelector('#noise-level').textContent.endsWith(' {sigma:.2g}')")
        tab.page.wait_for_timeout(200)
        assert float(text(tab, "#noise-error").split(";")[0].split()[1].replace(",", "")) == pytest.approx(
            error, rel=0.06
        )
        assert float(text(tab, "#noise-off").split()[2]) == pytest.approx(off, rel=0.02, abs=0.06)
    tab.page.click("#noise-again")
    tab.wait("document.querySelector('#noise-plots').hidden")


def test_the_pages_mathematics_is_that_of_the_package(tab: Tab, tiny_model: Path) -> None:
    config = Pipeline.load(tiny_model, "cpu").config
    args = (config.sample.schedule_center, config.sample.schedule_spread)
    for steps in (1, 2, 12, 60):
        ours = in_page(
            tab, f"import('/page/network.js').then(({{ levels }}) => {MODEL}.then((m) => levels({steps}, m)))"
        )
        theirs = SCHEDULES["logistic"](steps, config.noise.sigma_min, config.noise.sigma_max, *args)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)
    sigmas = [0.3, 0.6, 1.0, 5.0, 9.0, 20.0]
    ours = in_page(
        tab,
        "(s) => import('/page/network.js').then(({ scaleAt }) =>"
        f" {MODEL}.then((m) => s.map((x) => scaleAt(m, 3, x))))",
        sigmas,
    )
    share = window(torch.tensor(sigmas), (config.sample.guidance_min, config.sample.guidance_max))
    np.testing.assert_allclose(ours, 1 + 2 * share.numpy(), atol=1e-5)
    points, places = torch.randn(40, 2, generator=torch.manual_seed(1)), [[0.3, -0.2], [5.0, 1.0], [-0.01, 0.0]]
    for sigma in (0.05, 0.5, 4.0):
        ours = in_page(
            tab,
            "([points, places, s]) => import('/page/plane.js').then(({ exactGuess }) =>"
            " places.map((place) => exactGuess(points, place, s)))",
            [points.tolist(), places, sigma],
        )
        exact = finite_denoiser(points)(torch.tensor(places), torch.full((3,), sigma))
        np.testing.assert_allclose(ours, exact.numpy(), atol=1e-5)


def test_a_picture_of_the_page_is_that_of_the_sampler_euler(tab: Tab, tiny_model: Path) -> None:
    turn_to(tab, "layers")
    tab.wait("document.querySelector('#layers-where').textContent === 'step 12 of 12'")
    start, caption, final = in_page(
        tab,
        """import('/page/how-layers.js').then(({ run }) =>
            [[...run.steps[0].x], document.querySelector('#layers-caption').value, [...run.steps.at(-1).guess]])""",
    )
    pipeline = Pipeline.load(tiny_model, "cpu")
    config = pipeline.config
    request = pipeline.request([caption])
    sigmas = SCHEDULES["logistic"](
        12, config.noise.sigma_min, config.noise.sigma_max, config.sample.schedule_center, config.sample.schedule_spread
    )
    with torch.no_grad():
        x = torch.tensor(start).reshape(1, 3, 16, 16)
        expected = sample(pipeline.denoise(request), x, sigmas.float(), sampler="euler")
    np.testing.assert_allclose(np.array(final), expected.flatten().numpy(), atol=2e-3)


def test_layers_come_off_and_every_step_can_be_seen_again(tab: Tab) -> None:
    turn_to(tab, "layers")
    tab.wait("document.querySelector('#layers-where').textContent === 'step 12 of 12'")
    last = tab.pixels("#layers-guess")
    assert tab.pixels("#layers-next") == last  # all noise is off
    tab.page.focus("#layers-scrub")
    tab.page.keyboard.press("Home")
    assert "step 1 of 12" in text(tab, "#layers-where")
    assert tab.pixels("#layers-guess") != last
    assert tab.page.locator("#layers-strip canvas").count() == 12
    tab.page.click("#layers-dice")
    tab.wait("document.querySelector('#layers-where').textContent === 'step 12 of 12'")
    assert tab.pixels("#layers-guess") != last
    pictures = []
    for _ in range(2):
        tab.page.select_option("#layers-start", "none")
        tab.page.click("#layers-ask button[type=submit]")
        tab.page.wait_for_timeout(100)
        tab.wait("document.querySelector('#layers-where').textContent === 'step 12 of 12'")
        pictures.append(tab.pixels("#layers-guess"))
    assert pictures[0] == pictures[1]  # no noise, nothing to choose
    tab.page.select_option("#layers-times", "1")
    tab.wait("document.querySelector('#layers-where').textContent === 'step 1 of 1'")


def test_points_of_static_arrive_at_the_data_and_data_can_be_drawn(tab: Tab) -> None:
    turn_to(tab, "gradient")
    tab.page.click("#plane-go")
    tab.wait("document.querySelector('#gradient-seen').textContent.includes('have arrived')")
    arrived = re.search(r"(\d+) of 300", text(tab, "#gradient-seen"))
    assert arrived is not None
    assert int(arrived[1]) > 290
    tab.page.focus("#plane")
    for key in ("ArrowUp", "Space", "ArrowRight", "ArrowRight", "Space"):
        tab.page.keyboard.press(key)
    assert "2 data points" in text(tab, "#gradient-seen")
    assert tab.page.input_value("#plane-data") == "own"
    box = tab.page.locator("#plane").bounding_box()
    tab.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=9)
    tab.page.mouse.up()
    num = re.search(r"(\d+) data points", text(tab, "#gradient-seen"))
    assert num is not None
    assert int(num[1]) > 6
    here = tab.pixels("#arrow-from")
    slide(tab, "#arrow-walk", 0)
    assert tab.pixels("#arrow-on") == here
    slide(tab, "#arrow-walk", 100)
    assert tab.pixels("#arrow-on") == tab.pixels("#arrow-to")


def test_captions_pull_the_same_static_apart_and_guidance_0_ignores_them(tab: Tab) -> None:
    turn_to(tab, "caption")
    tab.wait("document.querySelector('#caption-seen').textContent.startsWith('Step 12')")
    canvases = [f"#caption-quad figure:nth-child({i}) canvas" for i in (1, 2, 3, 4)]
    assert len({tab.pixels(canvas) for canvas in canvases}) == 4
    slide(tab, "#caption-guidance", 0)
    tab.page.wait_for_timeout(100)
    tab.wait("document.querySelector('#caption-seen').textContent.includes('guidance 0')")
    tab.wait("document.querySelector('#caption-seen').textContent.startsWith('Step 12')")
    assert len({tab.pixels(canvas) for canvas in canvases}) == 1
    assert "differs by 0 of 255" in text(tab, "#caption-seen")


@pytest.fixture
def ways(browser: Any, served: Live) -> Iterator[Tab]:
    """Chapter 6 with the tiny token model, which comes before the shipped ones."""
    tab = Tab(browser, served.url)
    turn_to(tab, "ways")
    tab.wait("document.querySelector('#ways-time').value === '16'")
    yield tab
    assert tab.complaints == []
    tab.context.close()


def done_again(tab: Tab) -> str:
    tab.wait("document.querySelector('#ways-seen').textContent.includes('as they')")
    return text(tab, "#ways-seen")


def test_what_a_token_model_has_written_stays_and_diffusion_revises_it(ways: Tab) -> None:
    page = ways.page
    left, right = ways.picture("#ways-tokens"), ways.picture("#ways-all")
    page.click("#ways-half")
    assert "8 of 16 pieces" in text(ways, "#ways-tokens-say")
    assert ways.picture("#ways-tokens")[4:].max() == 0  # nothing is written there yet
    assert np.array_equal(ways.picture("#ways-tokens")[:4], left[:4])
    page.fill("#ways-other", "a blue square left of a green star")
    page.click("#ways-change button[type=submit]")
    assert "At left 8 of the 8 pieces" in done_again(ways)
    assert np.array_equal(ways.picture("#ways-tokens")[:4], left[:4])
    assert not np.array_equal(ways.picture("#ways-all")[:8], right[:8])


def test_a_stain_stays_at_left_and_is_looked_at_again_at_right(ways: Tab) -> None:
    page = ways.page
    left = ways.picture("#ways-tokens")
    page.locator("#ways-time").fill("8")
    page.locator("#ways-tokens").click(position={"x": 5, "y": 5})
    told = done_again(ways)
    assert "At left 4 of the 4 pieces that stood at moment 8 are as they were, and the stain stays" in told
    now = ways.picture("#ways-tokens")
    assert not np.array_equal(now[:4, :4], left[:4, :4])
    assert np.array_equal(now[:4, 4:], left[:4, 4:])
    assert re.search(r"the stain was \d+ of 255 levels off and is now \d+", told)


def test_a_network_learns_the_data_of_the_plane(tab: Tab) -> None:
    turn_to(tab, "yours")
    tab.page.click("#yours-go")
    tab.wait("document.querySelector('#yours-seen').textContent.startsWith('Step 1500')", 120)
    now, best = (float(value) for value in re.findall(r"is (\d\.\d\d)\.?", text(tab, "#yours-seen"))[:2])
    assert best <= now < 1.2 * best
    tab.page.fill("#yours-folder", "my cats; rm -r")
    tab.page.select_option("#yours-captions", "name")
    assert "tintype train 'my cats; rm -r' --no-caption name --out 'my cats; rm -r-model'" in text(
        tab, "#yours-commands"
    )


def test_another_model_draws_its_own_picture_and_ones_own_stays(browser: Any, tiny_model: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (100, 60), "orange").save(tmp_path / "wide.png")
    with live(tiny_model) as server:
        tab = Tab(browser, server.url)
        turn_to(tab, "static")
        tab.page.set_input_files("#how-open", tmp_path / "wide.png")
        tab.wait("document.querySelector('#static-source').textContent === 'yours'")
        assert tab.picture("#static-noisy").shape[:2] == (12, 20)
        turn_to(tab, "noise")
        tab.page.click("#noise-reveal")
        tab.wait("document.querySelectorAll('#noise-plots svg').length === 2")
        assert tab.picture("#noise-guess").shape[:2] == (12, 20)
        tab.page.set_input_files("#how-open", Path(__file__))
        tab.wait("document.querySelector('#how-status').textContent === 'cannot read this picture'")
        assert tab.complaints == []
        tab.context.close()


def test_all_chapters_are_printed_with_their_pictures(tab: Tab) -> None:
    turn_to(tab, "static")
    tab.page.evaluate(
        "() => { window.print = () => { window.printed = 1; dispatchEvent(new Event('beforeprint')); }; }"
    )
    tab.page.click("#how-print")
    tab.wait("window.printed === 1", 120)
    tab.page.emulate_media(media="print")
    assert tab.page.locator(".chapter:visible").count() == 7
    told = tab.page.locator(".seen:visible").all_inner_texts()
    assert [text for text in told if len(text) < 20] == []
    assert len(told) >= 7
    assert tab.page.locator("#noise-plots svg").count() == 2  # the answer of the quiz, too
    tab.page.emulate_media(media="screen")
    tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.page.locator(".chapter:visible").count() == 1


@pytest.mark.parametrize("size", [*SIZES, "projector"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nothing_that_axe_minds_in_any_chapter(size: str, scheme: str, browser: Any, served: Live) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    width, height = {**SIZES, "projector": (1920, 1080)}[size]
    tab = Tab(browser, served.url, color_scheme=scheme, viewport={"width": width, "height": height})
    for name in CHAPTERS:
        turn_to(tab, name)
        violations = axe.Axe().run(tab.page).response["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == [], name
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert tab.complaints == []
    tab.context.close()
