"""The web app in a browser: a finished run of every tab, Stop, Continue, reload, history, a phone, and no network.

Run by `make test-browser`; needs Playwright and Chromium.
"""

import re
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoredistill.cli.ui import command, prepare
from scoredistill.media.video import VideoWriter
from scoredistill.ui.files import UPLOADS
from scoredistill.ui.server import served

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-gl=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
LONGEST = 1500.0  # seconds that a run may take
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """(address, directory of the runs)."""
    pytest.importorskip("gradio")
    root = tmp_path_factory.mktemp("app") / "runs"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with served(root, command, prepare, port=port) as url:
        yield url, root


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def visit(app, browser):
    """A function that opens the page; nothing may fail on it or be asked of other servers."""
    wrong, contexts = [], []

    def note(request):
        if not request.url.startswith((app[0], "data:", "blob:")):
            wrong.append(request.url)

    def opened(**settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.on("request", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
        page.goto(app[0])
        page.wait_for_selector("#sd-go-image", timeout=60_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def tab(page, name):
    page.get_by_role("tab", name=name).click()
    page.wait_for_timeout(500)


def field(page, label):
    return page.get_by_label(re.compile(rf"^\s*{label}\b")).locator("visible=true").first


def more(page):
    page.locator("text=More options >> visible=true").first.click()
    page.wait_for_timeout(500)


def choose(page, label, option):
    field(page, label).click()
    page.get_by_role("option", name=option).first.click()


def until(page, *words, inside="#sd-headline", of=""):
    """Wait for one of some words in a part of the page, which is about something; its text."""
    end = time.monotonic() + LONGEST
    while True:
        text = page.inner_text(inside) if page.locator(inside).is_visible() else ""
        if of in text:
            if any(word in text for word in words):
                return text
            assert "failed" not in text, text
        assert time.monotonic() < end, text
        page.wait_for_timeout(200)


def generate(page, prompt, method, steps):
    field(page, "Prompt").fill(prompt)
    choose(page, "Method", f"{method}:")
    more(page)
    field(page, "Steps").fill(str(steps))
    page.click("#sd-go-image")


def loaded(page, selector):
    """Whether all images of a part of the page have been loaded."""
    script = "all => all.length > 0 && all.every(each => each.complete && each.naturalWidth > 0)"
    return page.eval_on_selector_all(f"{selector} img", script)


def test_an_image_is_made_shown_and_downloaded(visit, app):
    page = visit()
    generate(page, "a hamburger", "ddim", 4)
    text = until(page, "finished", of="a hamburger")
    assert "network evaluations" in text
    page.wait_for_timeout(1500)
    assert loaded(page, "#sd-stage")
    assert page.locator("#sd-stage img").first.get_attribute("alt") == "a hamburger"
    page.get_by_text("Show me the command").click()
    page.get_by_text("Files", exact=True).click()
    shown = re.sub(r"\s+", " ", page.inner_text("#sd-command .cm-content"))
    assert "scoredistill image 'a hamburger' --method ddim --steps 4 --out" in shown
    with page.expect_download() as saved:
        page.get_by_role("link", name="image_00.png").click()
    assert Image.open(saved.value.path()).size == (64, 64)
    assert (app[1] / "a_hamburger-ddim" / "result.json").is_file()


def test_stop_continue_and_reload(visit, app):
    page = visit()
    generate(page, "an owl", "sds", 400)
    until(page, "of 400", inside="#sd-progress")
    again = visit()  # another window, or the same one reloaded
    until(again, "running", of="an owl")
    again.wait_for_function("document.querySelector('#sd-stage img')?.naturalWidth > 0", timeout=60_000)
    begun = time.monotonic()
    again.click("#sd-stop")
    until(again, "stopped")
    assert time.monotonic() - begun < 10
    until(page, "stopped")
    assert (app[1] / "an_owl-sds" / "preview.png").is_file()
    until(again, "Continue", inside="#sd-continue")
    again.click("#sd-continue")
    until(again, "of 400", inside="#sd-progress")
    again.click("#sd-stop")
    until(again, "stopped")


def test_runs_on_disk_are_found_and_compared(visit, app):
    copy = app[1] / "by-the-command-line"
    shutil.copytree(app[1] / "a_hamburger-ddim", copy)
    page = visit()
    tab(page, "Runs")
    page.wait_for_selector("#sd-history button img", timeout=60_000)
    page.locator("#sd-history .grid-container button").last.click()
    until(page, "finished", of="a hamburger")
    field(page, "Side by side").click()
    for index in range(2):
        page.get_by_role("option").nth(index).click()
    page.keyboard.press("Escape")
    page.click("#sd-go-several")
    until(page, "2 of 2", "1 of 2")
    page.wait_for_timeout(1500)
    assert page.locator("#sd-stage figure").count() == 2
    assert loaded(page, "#sd-stage")


def test_methods_are_compared(visit):
    page = visit()
    tab(page, "Compare")
    field(page, "Prompt").fill("a castle")
    for method in ("sds", "csd"):
        page.get_by_label(method, exact=True).locator("visible=true").uncheck()
    page.click("#sd-go-compare")
    until(page, "2 of 2 runs are finished")
    page.wait_for_timeout(1500)
    assert loaded(page, "#sd-stage")


def test_an_edit_with_a_painted_region(visit, app, tmp_path):
    Image.new("RGB", (96, 64), (120, 180, 230)).save(tmp_path / "My Sky.png")
    page = visit()
    tab(page, "Edit")
    page.set_input_files("#sd-source input[type=file]", str(tmp_path / "My Sky.png"))
    page.get_by_text("Paint regions").click()
    page.wait_for_timeout(3000)
    box = page.locator("#sd-canvas canvas").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.52, steps=8)
    page.mouse.up()
    field(page, "Instruction for red").fill("make it night")
    more(page)
    field(page, "Size").fill("64")
    field(page, "Sweeps").fill("1")
    page.click("#sd-go-edit")
    until(page, "finished", of="make it night (in a region)")
    page.wait_for_selector("#sd-slider img", timeout=30_000)
    masks = list((app[1] / UPLOADS).glob("mask-red-*.png"))
    painted = np.asarray(Image.open(masks[0])) > 0
    assert 0 < painted.mean() < 0.5
    assert painted[:, : painted.shape[1] // 2].any()


def test_a_video_is_edited(visit, tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", 64, 64, times=[k / 4 for k in range(4)]) as clip:
        for k in range(4):
            clip.write(np.full((64, 64, 3), 60 * k, np.uint8))
    page = visit()
    tab(page, "Video")
    page.set_input_files("#sd-video input[type=file]", str(tmp_path / "clip.mp4"))
    field(page, "Instruction").fill("make it sepia")
    more(page)
    field(page, "Sweeps").fill("1")
    page.wait_for_timeout(1500)
    page.click("#sd-go-video")
    until(page, "finished", of="make it sepia")
    page.wait_for_function("document.querySelectorAll('#sd-stage video').length == 2", timeout=30_000)


def test_an_object_is_made_and_can_be_turned(visit):
    page = visit()
    tab(page, "Object")
    field(page, "Prompt").fill("a rocket")
    more(page)
    for label, value in (("Steps", 3), ("Views", 2), ("Size", 32)):
        field(page, label).fill(str(value))
    page.click("#sd-go-object")
    until(page, "finished", of="a rocket")
    page.wait_for_selector("#sd-stage video, #sd-stage img", timeout=30_000)
    page.wait_for_selector("#sd-model canvas", timeout=120_000)


def test_what_is_wrong_is_one_sentence(visit):
    page = visit()
    page.click("#sd-go-image")
    toast = page.get_by_test_id("toast-body").first
    toast.wait_for(timeout=30_000)
    assert 'the prompt is empty: say what the image shows, for example "a hamburger"' in toast.inner_text()
    tab(page, "Edit")
    page.click("#sd-go-edit")
    page.get_by_text("there is no image yet: choose one first").wait_for(timeout=30_000)


@pytest.mark.parametrize("colors", ["light", "dark"])
def test_a_phone_shows_everything_in_one_column(visit, colors, tmp_path):
    page = visit(viewport=PHONE, is_mobile=True, has_touch=True, color_scheme=colors)
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("#sd-run").bounding_box()["y"] > page.locator("#sd-go-image").bounding_box()["y"]
    assert Path(page.screenshot(path=tmp_path / "phone.png") and tmp_path / "phone.png").stat().st_size > 10_000
