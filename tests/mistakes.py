"""Mistakes that users make, and the page docs/errors.md about what is said: `python tests/mistakes.py` writes it.

Every mistake ends with one sentence on standard error and exit code 2, before any work.
"""

import contextlib
import io
import json
import os
import re
import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from scoredistill.cli import main
from scoredistill.tasks.image_generation.request import Request

LIST = re.compile(r"use one of (\w+, \w+)(?:, \w+){4,}, (\w+)")  # long lists, which the page shortens
PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
MISTAKES = {
    "On the command line": {
        "A misspelled command": 'imge "a hamburger"',
        "A prompt without quotes": "image a hamburger",
        "No prompt": "image",
        "A misspelled option": 'image "a hamburger" --sed 3',
        "An option without its value": 'image "a hamburger" --steps --seed 3',
        "A word for a number": 'image "a hamburger" --steps many',
        "A number that is out of range": 'image "a hamburger" --steps 0',
        "A value that does not exist": 'image "a hamburger" --preset fast',
        "A misspelled method": 'image "a hamburger" --method colaborative',
        "An option of another kind of source": 'edit photo.png "make it night" --flow 2',
        "Options that exclude each other": "object owl --shape splats --encoding hash",
        "One prompt and several": 'image "a cat" --prompts "an owl" "a fox"',
    },
    "Models and methods": {
        "A model that does not exist": 'image "a hamburger" --prior emojis',
        "A directory without a model": 'image "a hamburger" --prior photos',
        "A device that does not exist": 'image "a hamburger" --device gpu',
        "A method of a file that is not there": 'image "a hamburger" --method mine.py:Mine',
    },
    "Sources": {
        "A file that is not there": 'edit phto.png "make it night"',
        "A file that is no image": 'edit notes.png "make it night"',
        "A damaged image": 'edit damaged.png "make it night"',
        "No instruction": "edit photo.png",
        "A mask that is not there": 'edit photo.png --region "mask.png: make it red"',
    },
    "Output directories and runs": {
        "A file in place of a directory": 'image "a hamburger" --out notes.png',
        "A directory with other files": 'image "a hamburger" --out photos',
        "A finished run": 'image "a hamburger" --out runs/done',
        "An interrupted run": 'image "a hamburger" --out runs/begun',
        "Nothing to resume": 'image "a hamburger" --out runs/new --resume',
        "Other settings than those of the run": 'image "a hamburger" --out runs/begun --resume --seed 4',
        "A run that is not there": "image --config runs/other.json",
        "A file that no run made": "show photo.png",
    },
}


def prepare(folder: Path) -> None:
    """Make the files that the mistakes name."""
    (folder / "photos").mkdir()
    Image.new("RGB", (32, 32), "teal").save(folder / "photos" / "a.png")
    whole = io.BytesIO()
    Image.effect_noise((32, 32), 50).save(whole, format="PNG")
    (folder / "damaged.png").write_bytes(whole.getvalue()[:600])
    Image.new("RGB", (32, 32), "teal").save(folder / "photo.png")
    (folder / "notes.png").write_text("no image")
    settings = asdict(Request("a hamburger").complete())
    config = {"request": settings, "version": "0", "command": "scoredistill image 'a hamburger'"}
    for name, file in (("done", "result.json"), ("begun", "checkpoint.safetensors")):
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "config.json").write_text(json.dumps(config))
        (folder / "runs" / name / file).write_text("{}")


def said(line: str) -> tuple[int | str | None, str]:
    """The exit code of a command and what it prints on standard error."""
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            main(shlex.split(line))
        except SystemExit as end:
            return end.code, error.getvalue()
    return 0, error.getvalue()


def page(sentences: dict[str, str]) -> str:
    """The page.

    Args:
        sentences: what is said, by command line.
    """
    parts = [
        "# What is said about mistakes",
        "Every mistake that can be seen before the work ends with exit code 2 and one sentence, which says what is "
        "wrong and how to\nmend it. This page is made by running the commands (`python tests/mistakes.py`), and a test "
        "runs them.",
    ]
    for title, mistakes in MISTAKES.items():
        parts.append(f"## {title}")
        for what, line in mistakes.items():
            shown = LIST.sub(r"use one of \1, ..., \2", sentences[line])
            parts.append(f"**{what}**\n\n```console\n$ scoredistill {line}\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


def all_said(folder: Path) -> dict[str, tuple[int | str | None, str]]:
    """Exit code and sentence of every mistake, by command line; files are made in a directory, which is entered."""
    before = Path.cwd()
    prepare(folder)
    os.chdir(folder)
    try:
        return {line: said(line) for mistakes in MISTAKES.values() for line in mistakes.values()}
    finally:
        os.chdir(before)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        PAGE.write_text(
            page({line: text.strip() for line, (_, text) in all_said(Path(place)).items()}), encoding="utf-8"
        )
    sys.exit(0)
