"""The page is built, its functions do what the buttons promise, and the server says what is wrong before it starts."""

import os
import socket
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from scoredistill.files import write_json
from scoredistill.tasks.image_generation.request import Request
from scoredistill.ui import server
from scoredistill.ui.app import TABS, blocks
from scoredistill.ui.files import COLORS
from scoredistill.ui.jobs import State
from scoredistill.ui.server import devices, served
from scoredistill.ui.tabs.edit import drawable, regions_of
from scoredistill.ui.toolkit import gradio


@pytest.fixture
def page(desk, monkeypatch, tmp_path):
    """The blocks, without a server."""
    pytest.importorskip("gradio")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    return blocks(gradio(), replace(desk, models=("my/model",)))


def function(page, name):
    """The functions of the page of a name."""
    return [each.fn for each in page.fns.values() if each.fn is not None and each.fn.__name__ == name]


def labels(page, kind):
    return [block.label for block in page.blocks.values() if type(block).__name__ == kind]


def test_the_page_has_a_tab_for_each_task_and_labels_for_everything(page):
    assert labels(page, "Tab") == [*(label for label, _ in TABS), "Runs"]
    fields = ("Textbox", "Number", "Dropdown", "Checkbox", "CheckboxGroup", "Image", "Video", "ImageEditor", "Model3D")
    assert all(label for kind in fields for label in labels(page, kind))
    config = page.get_config_file()
    assert not any(str(each.get("api_visibility")) == "public" for each in config["dependencies"])
    models = [block.choices for block in page.blocks.values() if getattr(block, "label", "") == "Model"]
    assert [choices[-1][1] for choices in models] == ["my/model"] * len(TABS)


def test_buttons_submit_what_the_forms_hold(page, desk):
    starts = function(page, "start")
    assert len(starts) == len(TABS)
    gr = gradio()
    names = starts[-1](["sds", "ddim"], "a cat", 3, "mlp", "emoji")
    assert names == ["a_cat-ddim", "a_cat-sds"]
    assert [job.call.values["seed"] for job in desk.queue.jobs] == [3, 3]
    for missing in (starts[1], starts[2]):
        with pytest.raises(gr.Error, match="choose one first"):
            missing(None, None, *[""] * 20)
    with pytest.raises(gr.Error, match="no method is chosen"):
        starts[-1]([], "a cat", 3, "mlp", "emoji")
    with pytest.raises(gr.Error, match="the prompt is empty"):
        starts[-1](["sds"], " ", 3, "mlp", "emoji")


def test_only_what_changed_is_sent_to_the_page(page, desk):
    path = desk.root / "a"
    path.mkdir()
    write_json(path / "config.json", {"request": asdict(Request("an owl")), "version": "0", "command": "x"})
    (refresh, *_) = function(page, "_refresh")
    shown, *first = refresh(["a"], {})
    assert shown["headline"].startswith("<h2>an owl</h2>")
    skip = gradio().skip()
    assert first[0] == shown["headline"]
    assert refresh(["a"], shown) == [skip] * (1 + len(first))
    shown, *later = refresh([], shown)
    assert later[0] == ""
    assert later[4] == skip  # there was no model before


def test_painted_colors_and_instructions_belong_together(tmp_path):
    layer = np.zeros((4, 4, 4), np.uint8)
    layer[:2] = [*(int(COLORS["green"][k : k + 2], 16) for k in (1, 3, 5)), 255]
    drawing = {"layers": [layer]}
    (region,) = regions_of(drawing, ["", " make it night ", ""], tmp_path)
    assert region.startswith(f"{tmp_path.as_posix()}/uploads/mask-green-")
    assert region.endswith(".png: make it night")
    assert regions_of(None, ["", "", ""], tmp_path) == ()
    with pytest.raises(ValueError, match="nothing is painted in red"):
        regions_of(drawing, ["x", "y", ""], tmp_path)
    with pytest.raises(ValueError, match="something is painted in green"):
        regions_of(drawing, ["", "", ""], tmp_path)


def test_the_image_to_paint_on_fits_the_page(tmp_path):
    Image.new("RGB", (3000, 1500)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    assert drawable(str(tmp_path / "a.png")).shape == (512, 1024, 3)
    assert drawable(str(tmp_path / "b.png")) is drawable(None) is None


def test_a_busy_port_is_one_sentence(tmp_path):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(ValueError, match=str(port)), served(tmp_path, print, print, port=port):
            pass


def test_a_file_instead_of_a_directory_is_one_sentence(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(ValueError, match="runs is a file"), served(tmp_path / "runs", print, print, port=_free()):
        pass


def _free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(("count", "visible", "names"), [
    (0, "", [None]), (1, "3", [None]), (2, "", ["0", "1"]), (2, "3,5", ["3", "5"]),
])  # fmt: skip
def test_there_is_one_worker_per_gpu(monkeypatch, count, visible, names):
    monkeypatch.setattr(server.torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices() == names


def test_gradio_is_told_to_ask_nothing_of_the_network(page):
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert page.analytics_enabled is False
    assert State.QUEUED.value == "waiting"
