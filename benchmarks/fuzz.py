"""Fuzz every reader of files: mutated inputs must be read, or refused by a ValueError of one line.

    python benchmarks/fuzz.py --out docs/results/fuzz.json     20,000 inputs, evenly over the readers
    python benchmarks/fuzz.py --inputs 500 --only ply

Each reader has a few intact files. Hypothesis changes, cuts, repeats and inserts bytes of one of them, and shrinks what
fails. An input that takes more than 20 seconds of the processor counts as a hang, a change of any file beside the
inputs as a write. The exit status is 1 if there was a crash, a hang or a write. Results are kept after each reader, and
the same command leaves out readers that have passed; a file of results begins anew under another name.
"""

import argparse
import io
import json
import signal
import struct
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import hypothesis
import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from scoredistill.checkpoint import load_state, save_state
from scoredistill.files import read_text, write_json
from scoredistill.media.images import read_image
from scoredistill.media.svg import read_svg, to_svg
from scoredistill.media.video.reading import is_video, open_video
from scoredistill.optional import MissingExtra
from scoredistill.priors.pipelines.trusted import check_folder
from scoredistill.priors.vocabulary import Concept, Instruction, Vocabulary
from scoredistill.tasks.image_editing.regions import parse
from scoredistill.three_d.capture import capture_shape, read_capture
from scoredistill.three_d.splatting.gaussians import Gaussians
from scoredistill.three_d.splatting.ply import read_ply, write_ply

SECONDS = 20  # after which an input counts as a hang
TOKENS = [
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"1e999",
    b"-1",
    b"nan",
    b"null",
    b"[" * 3000,
    b"{}",
    b"../",
    b"9" * 50,
]
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO", "TGA", "JPEG2000", "AVIF")


@dataclass(frozen=True)
class Reader:
    """What is fuzzed.

    Attributes:
        read: reads the folder in which the mutated file is.
        seeds: intact files.
        file: name of the mutated file in the folder.
        prepare: makes what else the folder needs.
    """

    read: Callable[[Path], object]
    seeds: list[bytes]
    file: str
    prepare: Callable[[Path], None] = lambda folder: None


def picture(kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).save(data, format=kind, **options)
    return data.getvalue()


def animation(kind: str) -> bytes:
    data = io.BytesIO()
    first, *others = [Image.new("RGB", (12, 9), color) for color in ("red", "green", "blue")]
    first.save(data, format=kind, save_all=True, append_images=others, duration=80)
    return data.getvalue()


def photographs(folder: Path) -> None:
    (folder / "images").mkdir()
    for i in range(3):
        (folder / "images" / f"{i}.png").write_bytes(picture("PNG"))


def transforms() -> list[bytes]:
    turns = [np.eye(4), np.diag([-1.0, 1, -1, 1]), np.eye(4)]
    frames = [{"file_path": f"images/{i}.png", "transform_matrix": turn.tolist()} for i, turn in enumerate(turns)]
    frames[0] |= {"mask_path": "images/1.png", "alpha_path": "images/2.png", "depth_file_path": "images/1.png"}
    lens = {"fl_x": 9.0, "fl_y": 9.0, "cx": 6.0, "cy": 4.5, "w": 12, "h": 9, "k1": 0.01}
    angle = {"camera_angle_x": 0.8, "train_filenames": ["images/0.png", "images/1.png"], "camera_model": "OPENCV"}
    return [json.dumps({**keys, "frames": frames}).encode() for keys in (lens, angle)]


def colmap(kind: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        photographs(folder)
        (folder / f"cameras.{kind}").write_bytes(CAMERAS[kind])
        (folder / f"images.{kind}").write_bytes(LISTS[kind])

    return prepare


CAMERAS = {
    "txt": b"# comment\n1 OPENCV 12 9 9 9 6 4.5 0.01 0 0 0\n2 PINHOLE 12 9 9 9 6 4.5\n",
    "bin": struct.pack("<Q", 1) + struct.pack("<iiQQ4d", 1, 1, 12, 9, 9, 9, 6, 4.5),
}
LISTS = {
    "txt": b"1 1 0 0 0 0 0 1 1 0.png\n1 2 -1\n2 0 1 0 0 0 0 1 1 1.png\n\n3 0.5 0.5 0.5 0.5 0 0 1 1 2.png\n\n",
    "bin": struct.pack("<Q", 2)
    + b"".join(
        struct.pack("<i7di", i, 1, 0, 0, 0, 0, 0, 1, 1) + b"%d.png\0" % i + struct.pack("<Q", 0) for i in (0, 1)
    ),
}


def splats() -> list[bytes]:
    made = []
    for degree in (1, 4):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.ply"
            values = [torch.rand(5, n) for n in (3, 3, 4)]
            write_ply(path, Gaussians(*values, torch.rand(5), torch.rand(5, degree, 3)))
            made.append(path.read_bytes())
    return made


def checkpoint() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        save_state({"next": 3, "rng": [torch.arange(4)], "generator": {"values": torch.rand(3)}}, Path(folder) / "a")
        return [(Path(folder) / "a").read_bytes()]


SVGS = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><g transform="rotate(20 32 32) scale(1.2)" '
    b'style="fill:#f00;opacity:.5"><path d="M10 30A20 12 30 1 0 50 20q-8 8-12-4t-9 3s-9 4-9-19z"/></g></svg>',
    b'<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd"><svg width="10px" '
    b'height="4"><circle r="3" cx="4" cy="5" fill="hsl(30,40%,50%)"/><polygon points="1,2 3,4 5,9"/></svg>',
)


def vocabularies() -> list[bytes]:
    draws = Vocabulary(concepts=(Concept("owl", "an owl", "animals", ("bird",), ("owls",), ("wise",)),), objects=2)
    edits = Vocabulary(instructions=(Instruction("night", ("make it night", "at night")),), typical={"a": 1.0})
    made = []
    for each in (draws, edits):
        with tempfile.TemporaryDirectory() as folder:
            each.write(Path(folder))
            made.append((Path(folder) / "vocabulary.json").read_bytes())
    return made


def model(folder: Path) -> None:
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')


def video(kind: str) -> list[bytes]:
    """A short video, if PyAV is installed."""
    try:
        from scoredistill.media.video import VideoWriter

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a.{kind}"
            with VideoWriter(path, 16, 16, times=[0.0, 0.1, 0.2]) as writer:
                for i in range(3):
                    writer.write(np.full((16, 16, 3), 60 * i, np.uint8))
            return [path.read_bytes()]
    except MissingExtra:
        return []


def frames_of(path: Path) -> None:
    for _ in open_video(path).frames():
        pass


def readers() -> dict[str, Reader]:
    Image.init()
    still = [picture(kind) for kind in FORMATS if kind in Image.SAVE]
    moving = [animation(kind) for kind in ("GIF", "WEBP", "PNG")]
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": [None, None],
    }
    scene = lambda folder: (capture_shape(folder), read_capture(folder, size=8))
    found = {
        "image": Reader(lambda folder: read_image(folder / "a"), still, "a"),
        "kind": Reader(lambda folder: is_video(folder / "a.x"), still + moving, "a.x"),
        "animation": Reader(lambda folder: frames_of(folder / "a.gif"), moving, "a.gif"),
        "frames": Reader(
            frames_of, still, "1.png", lambda folder: (folder / "2.png").write_bytes(picture("PNG")) and None
        ),
        "times": Reader(frames_of, [b"0\n0.1\n"], "times.txt", _two),
        "video": Reader(lambda folder: frames_of(folder / "a.mp4"), video("mp4") + video("webm"), "a.mp4"),
        "transforms": Reader(scene, transforms(), "transforms.json", photographs),
        "photograph": Reader(scene, still, "images/1.png", _scene),
        "ply": Reader(lambda folder: read_ply(folder / "a.ply"), splats(), "a.ply"),
        "svg": Reader(lambda folder: to_svg(read_svg(folder / "a.svg")), list(SVGS), "a.svg"),
        "checkpoint": Reader(lambda folder: load_state(folder / "a"), checkpoint(), "a"),
        "vocabulary": Reader(lambda folder: Vocabulary.read(folder), vocabularies(), "vocabulary.json"),
        "index": Reader(check_folder, [json.dumps(index).encode()], "model_index.json", model),
        "region": Reader(
            lambda folder: parse(read_text(folder / "a")), [b"0.1,0.2,0.6,0.9: red", b"0-0.4: night"], "a"
        ),
    }
    for kind in ("txt", "bin"):
        found[f"cameras.{kind}"] = Reader(scene, [CAMERAS[kind]], f"cameras.{kind}", colmap(kind))
        found[f"images.{kind}"] = Reader(scene, [LISTS[kind]], f"images.{kind}", colmap(kind))
    return {name: reader for name, reader in found.items() if reader.seeds}


def _two(folder: Path) -> None:
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes(picture("PNG"))


def _scene(folder: Path) -> None:
    photographs(folder)
    (folder / "transforms.json").write_bytes(transforms()[0])


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with up to six changes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 16))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            data[at : at + length] = draw(st.binary(max_size=16))
        elif kind == 1:
            data[at:at] = draw(st.sampled_from(TOKENS))
        elif kind == 2:
            data[at : at + length] = draw(st.sampled_from(TOKENS))
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at] = data[max(0, at - 8 * length) : at]
        elif at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise after so many seconds of the processor, and each second from then on, since some callbacks swallow errors.

    Six times as many seconds of waiting raise too.
    """

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    timers = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, late) for number in timers}
    signal.setitimer(signal.ITIMER_PROF, seconds, 1)
    signal.setitimer(signal.ITIMER_REAL, 6 * seconds, 1)
    try:
        yield
    finally:
        for number, timer in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def fuzz(reader: Reader, inputs: int, seed: int) -> tuple[dict[str, int], str]:
    """Counts of what happened, and the first failure."""
    counts = {"inputs": 0, "read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as place:
        folder, beside = Path(place) / "inputs", Path(place) / "beside"
        folder.mkdir()
        beside.write_text("untouched")
        reader.prepare(folder)
        for data in reader.seeds:  # intact files are read, and what readers import late is imported now
            (folder / reader.file).write_bytes(data)
            reader.read(folder)
        untouched = set(Path(place).rglob("*"))

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=inputs,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(mutated(reader.seeds))
        def check(data: bytes) -> None:
            counts["inputs"] += 1
            (folder / reader.file).write_bytes(data)
            said = ""
            with warnings.catch_warnings(), at_most(SECONDS):
                warnings.simplefilter("ignore")
                try:
                    reader.read(folder)
                    counts["read"] += 1
                except (ValueError, MissingExtra) as error:
                    said = str(error)
                    counts["refused"] += 1
            assert "\n" not in said, f"a message of several lines: {said}"
            now = set(Path(place).rglob("*")) - {folder / reader.file}
            assert now == untouched - {folder / reader.file}, "files were written or deleted"
            assert beside.read_text() == "untouched", "a file outside was changed"

        try:
            check()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return counts, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return counts, ""


def kept(path: Path | None, seed: int) -> dict[str, dict]:
    """Results of readers in a file of the same seed, by reader."""
    if path is None or not path.exists():
        return {}
    made = json.loads(path.read_text())
    if made["seed"] != seed:
        raise SystemExit(f"{path} has results of seed {made['seed']}: choose another --out")
    return made["readers"]


def summary(results: dict[str, dict], seed: int) -> dict:
    """Totals over the readers, and their results."""
    return {
        "command": "python benchmarks/fuzz.py --out docs/results/fuzz.json",
        "date": str(date.today()),
        "seed": seed,
        **{key: sum(each[key] for each in results.values()) for key in ("inputs", "read", "refused")},
        "failed": [name for name, each in results.items() if each["failure"]],
        "readers": results,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="over all readers")
    parser.add_argument("--only", nargs="*", help="names of readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    known = {name: reader for name, reader in readers().items() if not chosen.only or name in chosen.only}
    results, each = kept(chosen.out, chosen.seed), -(-chosen.inputs // len(known))
    print("| reader | inputs | read | refused | seconds | failure |\n| --- | ---: | ---: | ---: | ---: | --- |")
    for name, reader in known.items():
        if name not in results or results[name]["failure"] or results[name]["inputs"] < each:
            start = time.perf_counter()
            counts, failure = fuzz(reader, each, chosen.seed)
            results[name] = {**counts, "seconds": round(time.perf_counter() - start), "failure": failure}
            if chosen.out is not None:
                write_json(chosen.out, summary(results, chosen.seed))
        cells = ["none" if value == "" else str(value) for value in results[name].values()]
        print(" | ".join(["| " + name, *cells]) + " |", flush=True)
    total = summary({name: results[name] for name in known}, chosen.seed)
    print(f"\n{total['inputs']} inputs, {len(total['failed'])} readers failed (seed {chosen.seed})")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
