"""`show`: how a result was made, from a PNG file alone or from the run beside it."""

import json
import shutil

import pytest
from PIL import Image, PngImagePlugin

from scoredistill import cli
from scoredistill.files import write_json
from scoredistill.media.images import save_image
from scoredistill.media.provenance import KEY, read_chunk, text_chunk

MADE = {"command": "scoredistill image 'an owl'", "version": "9", "prompt": "an öwl", "method": "msd", "seed": 3}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    request = {"prompt": "an öwl", "method": "msd", "seed": 3, "steps": 2}
    write_json(folder / "config.json", {"request": request, "version": "9", "command": MADE["command"]})
    write_json(folder / "result.json", {"clip_sim": [60.0, 70.0], "rows": 48, "seconds": 1.5})
    (folder / "report.html").touch()
    save_image(Image.new("RGB", (4, 4)), folder / "image_00.png", MADE)
    return folder


def test_the_chunk_holds_what_was_made_and_the_bytes_are_the_same(tmp_path):
    for name in ("a.png", "b.png"):
        save_image(Image.new("RGB", (4, 4)), tmp_path / name, MADE)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert read_chunk(tmp_path / "a.png") == MADE
    with Image.open(tmp_path / "a.png") as image:
        assert image.info[KEY]  # as other programs read it
    save_image(Image.new("RGB", (4, 4)), tmp_path / "plain.png")
    assert read_chunk(tmp_path / "plain.png") == {}


@pytest.mark.parametrize("text", ["no json", "[1]", "", "{" * 100_000])
def test_damaged_chunks_say_nothing(tmp_path, text):
    info = PngImagePlugin.PngInfo()
    info.add_itxt(KEY, text)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    assert read_chunk(tmp_path / "a.png") == {}
    (tmp_path / "b.png").write_text("no image")
    assert read_chunk(tmp_path / "b.png") == {}


def test_a_file_says_how_it_was_made_wherever_it_is(run, tmp_path, capsys):
    shutil.move(run / "image_00.png", tmp_path / "elsewhere.png")
    cli.main(["show", str(tmp_path / "elsewhere.png")])
    said = capsys.readouterr().out
    for value in ("scoredistill image 'an owl'", "an öwl", "msd", "3", "9"):
        assert value in said
    assert "similarity" not in said


@pytest.mark.parametrize("name", ["", "config.json", "report.html", "image_00.png"])
def test_a_run_also_says_what_became_of_it(run, name, capsys):
    cli.main(["show", str(run / name)])
    said = capsys.readouterr().out
    assert "65.0 CLIP similarity" in said
    assert "48 network evaluations (NFE), 1.5 s" in said
    assert "scoredistill --config" in said
    cli.main(["show", str(run / name), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["seed"], answer["run"]["score"]) == (3, 65.0)
    (run / "result.json").unlink()
    cli.main(["show", str(run / name)])
    assert "not finished" in capsys.readouterr().out


def test_strangers_files_send_no_control_characters(tmp_path, capsys):
    info = text_chunk({"command": "rm\x1b[2J\x07 it", "prompt": ["a\nb"]})
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    cli.main(["show", str(tmp_path / "a.png")])
    assert not {"\x1b", "\x07"} & set(capsys.readouterr().out)
    config = {"request": {"prompt": "a"}, "version": "1", "command": "scoredistill image a"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "result.json").write_text(json.dumps({"rows": 1, "seconds": "\x1b]0;x\x07"}))
    cli.main(["show", str(tmp_path)])
    assert not {"\x1b", "\x07"} & set(capsys.readouterr().out)


def test_what_says_nothing_is_refused(tmp_path, refused):
    assert "there is no" in refused("show", tmp_path / "missing.png")
    assert "holds no run: give a PNG file" in refused("show", tmp_path)
    save_image(Image.new("RGB", (4, 4)), tmp_path / "plain.png")
    assert "does not say how it was made, and no run is beside it" in refused("show", tmp_path / "plain.png")
