"""Editing of videos: frames, times and sound, groups and cuts, output directory, resuming, and wrong input.

Most tests edit with a random editor of 8x8 latents and 16x16 images; frame i of a test video has its number in a bar.
"""

import errno
import json
import re
import subprocess
import sys
import textwrap
import wave
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from scoredistill import cli
from scoredistill.estimators import CSDEdit
from scoredistill.media.video import Video, VideoWriter, open_video
from scoredistill.optional import MissingExtra
from scoredistill.priors import GaussianMixture
from scoredistill.tasks import edit_video
from scoredistill.tasks.video_editing.groups import Group
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES
from scoredistill.tasks.video_editing.run import VideoEdit

av = pytest.importorskip("av")

UNEVEN = (0.0, 0.040, 0.100, 0.333, 0.350, 1.0)


def frame(i, height=20, width=28, tone=90):
    """A dim image with a bar of i bright columns."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([tone + 2 * x, tone + 40 * np.sin(y / 3), 140 - 3 * y + 0 * x], -1).clip(0, 255).astype(np.uint8)
    pixels[-4:, : i % width] = 230
    return pixels


def video(n, **options):
    return [Image.fromarray(frame(i, **options)) for i in range(n)]


def small(video, prior, method="csd", instruction="make it night", **settings):
    known = isinstance(method, str) and method in VIDEO_RECIPES
    flow = {} if known and "flow" in VIDEO_RECIPES[method].unused else {"flow": 0}
    return edit_video(video, instruction, prior, method, **{"size": 16, "sweeps": 2, **flow, **settings})


def arrays(frames):
    return [np.asarray(f).astype(int) for f in frames]


def same(first, second):
    return [np.array_equal(a, b) for a, b in zip(arrays(first), arrays(second), strict=True)]


def written(path, times, n=None):
    with VideoWriter(path, 20, 28, times=times) as out:
        for i in range(len(times) if n is None else n):
            out.write(frame(i))
    return path


def with_sound(path, n=10):
    with av.open(str(path), "w") as out:
        video, tone = out.add_stream("libx264", rate=10), out.add_stream("aac", rate=48000, layout="mono")
        video.width, video.height, video.pix_fmt = 28, 20, "yuv420p"
        for i in range(n):
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame(i), format="rgb24")))
        out.mux(video.encode(None))
        wavy = (8000 * np.sin(2 * np.pi * 440 * np.arange(48000 * n // 10) / 48000)).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(wavy[None], format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 48000, 0, Fraction(1, 48000)
        out.mux(tone.encode(sound))
        out.mux(tone.encode(None))
    return path


def silence(path):
    """A WAV file: sound without images."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    return path


# In and out


def test_frames_in_memory_come_back_in_memory(prior):
    frames = video(5)
    result = small(frames, prior)
    assert result.path is None
    assert [f.size for f in result.frames] == [(28, 20)] * 5
    assert not any(same(result.frames, frames))
    assert result.groups == (Group(0, 5, 0),)
    assert result.cuts == ()
    assert result.update > 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (33, 70)])
def test_frames_of_any_size(prior, height, width):
    result = small(video(2, height=height, width=width), prior, sweeps=1)
    assert [f.size for f in result.frames] == [(width, height)] * 2


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("flow", [0, 1])
def test_videos_of_one_and_two_frames(prior, tmp_path, n, flow):
    result = small(video(n), prior, flow=flow, out=tmp_path)
    assert len(open_video(result.path)) == n
    assert result.groups == (Group(0, n, 0),)


def test_times_survive(prior, tmp_path):
    source = open_video(written(tmp_path / "a.mp4", UNEVEN))
    result = small(tmp_path / "a.mp4", prior, out=tmp_path / "run")
    assert result.path == tmp_path / "run" / "edited.mp4"
    assert result.frames == []
    made = open_video(result.path)
    assert (len(made), made.height, made.width) == (6, 20, 28)
    np.testing.assert_allclose(made.times, source.times, atol=1e-3)
    assert made.duration == pytest.approx(source.duration, rel=0.05)


def test_sound_survives(prior, tmp_path):
    with_sound(tmp_path / "a.mp4")
    result = small(tmp_path / "a.mp4", prior, out=tmp_path / "run", sweeps=1)
    made = open_video(result.path)
    assert made.sound
    assert len(made) == 10
    with av.open(str(result.path)) as file:
        wavy = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
    assert np.abs(np.fft.rfft(wavy)).argmax() * 48000 / len(wavy) == pytest.approx(440, abs=2)
    assert len(wavy) / 48000 == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("file", ["edited.gif", "edited.webm", "frames"])
def test_other_kinds_of_video(prior, tmp_path, file):
    frames = video(4)
    memory = small(frames, prior, sweeps=1)
    result = small(frames, prior, sweeps=1, out=tmp_path, file=file)
    assert result.path == tmp_path / file
    made = open_video(result.path)
    assert len(made) == 4
    np.testing.assert_allclose(made.times, [i / 24 for i in range(4)], atol=0.006)
    if file == "frames":
        assert all(same(list(made.frames()), memory.frames))
    again = small(frames, prior, sweeps=1, out=tmp_path, file=file, overwrite=True)  # replaces its own
    assert len(open_video(again.path)) == 4


def test_a_directory_of_frames_and_a_gif_are_videos(prior, tmp_path):
    frames = video(3)
    (tmp_path / "in").mkdir()
    for i, one in enumerate(frames):
        one.save(tmp_path / "in" / f"{i}.png")
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[100, 300, 200])
    expected = small(frames, prior, sweeps=1)
    assert all(same(small(tmp_path / "in", prior, sweeps=1).frames, expected.frames))
    made = small(tmp_path / "a.gif", prior, sweeps=1)
    assert len(made.frames) == 3
    assert made.source.times == pytest.approx((0, 0.1, 0.4))


# Methods


@pytest.mark.parametrize("method", VIDEO_RECIPES)
def test_every_method_edits_videos_at_the_rows_of_its_recipe(prior, method):
    frames = video(3, height=16, width=16)
    result = small(frames, prior, method, text_scale=7.5, image_scale=1.5)
    assert len(result.frames) == 3
    assert not any(same(result.frames, frames))
    assert result.counts["rows"] == 3 * 2 * VIDEO_RECIPES[method].rows
    together = VIDEO_RECIPES[method].particles or 3
    assert result.counts["calls"] == 2 * -(-3 // min(3, together))
    plain = small(frames, prior, method, text_scale=1.0, image_scale=1.0)
    assert plain.counts["rows"] == 3 * 2 * (2 if VIDEO_RECIPES[method].rows == 5 else 1)


def test_the_seed_decides(prior):
    frames = video(3)
    first, again, other = (small(frames, prior, seed=seed).frames for seed in (1, 1, 2))
    assert all(same(first, again))
    assert not any(same(first, other))


def test_frames_are_sampled_from_one_noise_or_each_from_its_own(prior):
    still = video(1) * 3
    shared = small(still, prior, "windows").frames
    own = small(still, prior, "per_frame").frames
    assert all(same(shared[1:], shared[:2]))
    assert not any(same(own[1:], own[:2]))


def test_a_still_video_stays_still(bundled):
    """Frames of a still video differ by less than a tenth of what the edit changes."""
    still = video(1, height=64, width=64) * 4
    for flow in (0, 2):
        made = arrays(edit_video(still, "make it night", bundled, size=64, sweeps=3, flow=flow).frames)
        changed = abs(made[0] - arrays(still)[0]).mean()
        assert changed > 20
        assert max(abs(a - b).mean() for a, b in pairwise(made)) < 0.1 * changed


def test_exchange_along_the_flow_brings_frames_together(prior):
    """Uncoupled frames of a still video have noise of their own; what they share over time lies closer together."""
    still = video(1) * 4
    spread = {}
    for flow in (0, 3):
        made = np.stack(arrays(small(still, prior, "uncoupled", flow=flow, detail=0.0).frames))
        spread[flow] = made.std(0).mean()
    assert spread[3] < 0.7 * spread[0]


def test_regions_of_videos(prior):
    frames = video(3, width=60)
    result = small(frames, prior, instruction="", regions=("0-0.3: x",), feather=0.1)
    for before, after in zip(arrays(frames), arrays(result.frames), strict=True):
        assert np.array_equal(before[:, 24:], after[:, 24:])
        assert not np.array_equal(before[:, :14], after[:, :14])
    whole = small(frames, prior)
    assert result.counts["rows"] < whole.counts["rows"]


# Groups and cuts


def test_groups_follow_each_other_and_the_first_knows_nothing_of_the_second(prior):
    frames = video(13)
    joined = small(frames, prior, group=8, overlap=3)
    assert joined.groups == (Group(0, 8, 0), Group(5, 13, 8))
    assert len(joined.frames) == 13
    alone = small(frames[:8], prior, group=8, overlap=3)
    assert same(joined.frames[:8], alone.frames) == [True] * 5 + [False] * 3


def test_overlapping_frames_fade_from_group_to_group(prior, tmp_path, monkeypatch):
    seen = {}
    faded = VideoEdit._faded

    def spied(self):
        for index in range(len(self.groups)):
            seen[index] = load_file(self.kept / f"{index:05d}.safetensors")["latents"]
        for start, latents in faded(self):
            for k, one in enumerate(latents):
                seen["final", start + k] = one
            yield start, latents

    monkeypatch.setattr(VideoEdit, "_faded", spied)
    small(video(9), prior, group=5, overlap=3)  # groups 0-5, 2-7, 4-9: frame 4 is in all of them
    final = torch.stack([seen["final", k] for k in range(9)])
    first, second, third = seen[0], seen[1], seen[2]
    assert torch.equal(final[:2], first[:2])
    fades = torch.stack([first[2 + k] + (k + 1) / 4 * (second[k] - first[2 + k]) for k in range(3)])
    assert torch.allclose(final[2:4], fades[:2], atol=1e-6)
    assert torch.allclose(final[4], fades[2] + 1 / 4 * (third[0] - fades[2]), atol=1e-6)
    assert torch.equal(final[7:], third[3:])


def scenes(n=5):
    """Two scenes of n frames: dim with a bar, and bright with none of it."""
    dark = video(n, tone=20)
    bright = [Image.fromarray(255 - frame(0, tone=20)[::-1] // 3)] * n
    return dark, bright


def test_a_cut_splits_and_nothing_leaks_across_it(prior):
    dark, bright = scenes()
    joined = small(dark + bright, prior)
    assert joined.cuts == (5,)
    assert joined.groups == (Group(0, 5, 0), Group(5, 10, 5))
    assert all(same(joined.frames[:5], small(dark, prior).frames))
    by_noise = [small(f, prior, "windows").frames for f in (dark + bright, dark, bright)]
    assert all(same(by_noise[0], by_noise[1] + by_noise[2]))
    other = small(dark + video(5, tone=230), prior)
    if other.cuts == (5,):
        assert all(same(joined.frames[:5], other.frames[:5]))


# Output directory, resuming


def test_the_output_directory_is_complete(prior, tmp_path):
    result = small(video(5), prior, out=tmp_path / "run", group=4, overlap=1)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "edited.mp4", "preview.png", "report.html", "result.json"}
    report = (tmp_path / "run" / "report.html").read_text()
    assert "make it night" in report
    assert report.count("<video") == 2
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (summary["frames"], summary["groups"], summary["scenes"]) == (5, 2, 1)
    assert summary["rows"] == result.counts["rows"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["frames"] == 5


class Killed(Exception):
    """Stands for the end of the process."""


def killed_before(monkeypatch, index):
    """Editing stops before group `index`; returns the groups that were begun."""
    begun, edited = [], VideoEdit._edited

    def edit(self, k, group, preview):
        if k == index:
            raise Killed
        begun.append(k)
        return edited(self, k, group, preview)

    monkeypatch.setattr(VideoEdit, "_edited", edit)
    return begun


def test_a_killed_run_resumes_with_its_finished_groups(prior, tmp_path, monkeypatch):
    frames, settings = video(14), {"group": 6, "overlap": 2, "file": "frames"}
    whole = small(frames, prior, **settings, out=tmp_path / "whole")
    assert len(whole.groups) == 3
    with monkeypatch.context() as patch:
        killed_before(patch, 2)
        with pytest.raises(Killed):
            small(frames, prior, **settings, out=tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run" / ".groups").iterdir()) == [
        "00000.safetensors",
        "00001.safetensors",
    ]
    for wrong, message in (({"seed": 4}, "another seed"), ({"group": 7}, "another group")):
        with pytest.raises(ValueError, match=message):
            small(frames, prior, **{**settings, **wrong}, out=tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="edits another video"):
        small(frames[:12], prior, **settings, out=tmp_path / "run", resume=True)
    begun = killed_before(monkeypatch, 99)
    resumed = small(frames, prior, **settings, out=tmp_path / "run", resume=True)
    assert begun == [2]
    assert all(same(list(open_video(resumed.path).frames()), list(open_video(whole.path).frames())))
    assert not (tmp_path / "run" / ".groups").exists()
    with pytest.raises(ValueError, match="already finished"):
        small(frames, prior, **settings, out=tmp_path / "run", resume=True)


def test_a_run_killed_while_it_writes_resumes(prior, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(VideoEdit, "_composed", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            small(video(4), prior, out=tmp_path)
    assert not (tmp_path / "edited.mp4").exists()
    begun = killed_before(monkeypatch, 99)
    result = small(video(4), prior, out=tmp_path, resume=True)
    assert begun == []
    assert len(open_video(result.path)) == 4


def test_a_disk_that_is_full_while_the_video_is_written_loses_nothing(model, tmp_path, monkeypatch, refused):
    """One sentence, the exit code of errors of the disk, and --resume writes the video without editing again."""
    written(tmp_path / "a.mp4", (0.0, 0.1, 0.25))
    line = ["edit", str(tmp_path / "a.mp4"), "make it night", "--prior", str(model), "--out", str(tmp_path / "run")]
    line += ["--size", "16", "--sweeps", "1", "--no-progress"]

    def full(sink, frame, i):
        raise OSError(errno.ENOSPC, "No space left on device", ".draft-1/edited.mp4")

    with monkeypatch.context() as broken:
        broken.setattr("scoredistill.media.video.writing._Video.write", full)
        said = refused(*line, code=1)
    assert said.startswith(f"scoredistill: cannot write to {tmp_path / 'run'}: No space left on device; free space")
    assert said.endswith("then --resume continues\n")
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith((".draft", "edited"))]
    monkeypatch.setattr("scoredistill.tasks.video_editing.run.edited", None)  # no group is edited again
    cli.main([*line, "--resume"])
    assert len(open_video(tmp_path / "run" / "edited.mp4")) == 3


def test_a_run_killed_in_its_report_resumes(prior, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("scoredistill.tasks.video_editing.output.small", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            small(video(4), prior, out=tmp_path, file="frames")
    result = small(video(4), prior, out=tmp_path, file="frames", resume=True)
    assert len(open_video(result.path)) == 4


def test_a_damaged_group_is_named_and_the_finished_video_stays(prior, tmp_path, monkeypatch):
    """Without the damaged file the run continues; the preview is then that of an undisturbed run, too."""
    settings = {"group": 2, "overlap": 0}
    whole = small(video(4), prior, **settings, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("scoredistill.tasks.video_editing.output.small", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            small(video(4), prior, **settings, out=tmp_path / "run")
    damaged = tmp_path / "run" / ".groups" / "00000.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(ValueError, match=r"00000.safetensors is not a checkpoint .* delete it"):
        small(video(4), prior, **settings, out=tmp_path / "run", resume=True)
    written = (tmp_path / "run" / "edited.mp4").read_bytes()
    assert written == whole.path.read_bytes()
    damaged.unlink()
    small(video(4), prior, **settings, out=tmp_path / "run", resume=True)
    for name in ("edited.mp4", "preview.png"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_resumed_run_counts_all_of_its_cost(prior, tmp_path, monkeypatch):
    frames, settings = video(10), {"group": 6, "overlap": 2}
    whole = small(frames, prior, **settings)
    with monkeypatch.context() as patch:
        killed_before(patch, 1)
        with pytest.raises(Killed):
            small(frames, prior, **settings, out=tmp_path)
    resumed = small(frames, prior, **settings, out=tmp_path, resume=True)
    assert resumed.counts == whole.counts
    assert resumed.update == pytest.approx(whole.update)


def test_a_new_run_takes_nothing_from_an_interrupted_one(prior, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_before(patch, 1)
        with pytest.raises(Killed):
            small(video(10), prior, group=6, overlap=2, out=tmp_path)
    frames = [Image.fromarray(255 - frame(i)) for i in range(10)]
    fresh = small(frames, prior, group=6, overlap=2)
    result = small(frames, prior, group=6, overlap=2, out=tmp_path, file="frames", overwrite=True)
    assert all(same(list(open_video(result.path).frames()), fresh.frames))


@pytest.mark.parametrize("file", ["", ".."])
def test_a_video_must_have_a_name(prior, tmp_path, file):
    out = tmp_path / "around" / "run"
    small(video(2), prior, sweeps=1, out=out)
    for kept in (out / "notes.txt", out.parent / "holiday.jpg"):
        kept.write_text("mine")
    with pytest.raises(ValueError, match="name"):
        small(video(2), prior, sweeps=1, out=out, file=file)
    assert (out / "notes.txt").exists()
    assert (out.parent / "holiday.jpg").exists()


def test_a_directory_of_the_user_is_not_replaced(prior, tmp_path):
    small(video(2), prior, sweeps=1, out=tmp_path)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "mine.psd").write_text("mine")
    with pytest.raises(ValueError, match="frames is not a video of this run"):
        small(video(2), prior, sweeps=1, out=tmp_path, file="frames", overwrite=True)
    assert (tmp_path / "frames" / "mine.psd").exists()


def test_names_of_videos_that_cannot_be(prior, tmp_path):
    for file, message in (
        ("a/b.mp4", "without a directory"),
        ("a.avi", "cannot write .avi"),
        ("report.html", "cannot write"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            small(video(2), prior, out=tmp_path / "run", file=file)
        assert not (tmp_path / "run").exists()


def test_directories_of_others_are_not_touched(prior, tmp_path):
    (tmp_path / "holiday.mp4").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        small(video(2), prior, out=tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        small(video(2), prior, out=tmp_path / "holiday.mp4")
    with pytest.raises(ValueError, match="no run to resume"):
        small(video(2), prior, out=tmp_path / "new", resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.mp4"]


# Wrong input


def test_bad_videos_are_one_sentence_before_any_work(tmp_path, refused, no_model):
    silence(tmp_path / "a.wav")
    (tmp_path / "broken.mp4").write_bytes(b"nothing at all")
    (tmp_path / "empty").mkdir()
    written(tmp_path / "good.mp4", (0.0, 0.1))
    good = str(tmp_path / "good.mp4")
    for line, message in (
        ([str(tmp_path / "a.wav"), "x"], "no video stream"),
        ([str(tmp_path / "broken.mp4"), "x"], "is not a video"),
        ([str(tmp_path / "empty"), "x"], "has no frames"),
        ([str(tmp_path / "none.mp4"), "x"], "there is no file"),
        ([good, " "], "instruction is empty"),
        ([good, "x", "--group", "1"], "group must be a whole number of at least 2"),
        ([good, "x", "--overlap", "24"], "overlap must be less than the group"),
        ([good, "x", "--flow", "-1"], "flow must be a whole number of at least 0"),
        ([good, "x", "--text-scale", "nan"], "text_scale must be a finite number"),
        ([good, "x", "--file", "a.avi"], "cannot write .avi"),
        ([good, "x", "--prior", "nope"], "no prior 'nope'"),
    ):
        assert message in refused("edit", *line, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="no frames"):
        edit_video([], "x")
    with pytest.raises(ValueError, match="one size"):
        edit_video([*video(1), *video(1, height=8)], "x")


def test_priors_that_edit_nothing_are_refused():
    mixture = GaussianMixture(torch.zeros(1, 2), torch.ones(1))
    with pytest.raises(ValueError, match="follows no instructions"):
        edit_video(video(2), "make it night", mixture)


def test_flow_of_a_video_of_one_pixel(prior):
    frames = [Image.new("RGB", (1, 1), color) for color in ((90, 90, 90), (99, 99, 99))]
    assert len(small(frames, prior, flow=1).frames) == 2


def test_the_command_edits_a_video(model, tmp_path, capsys):
    written(tmp_path / "a.mp4", (0.0, 0.1, 0.25))
    line = ["edit", str(tmp_path / "a.mp4"), "make it night", "--prior", str(model), "--out", str(tmp_path / "run")]
    cli.main([*line, "--size", "16", "--sweeps", "2", "--flow", "1", "--file", "night.gif"])
    assert re.search(r"3 frames, \d+ network evaluations \(NFE\)", capsys.readouterr().out)
    assert len(open_video(tmp_path / "run" / "night.gif")) == 3


# Long videos


def test_memory_does_not_grow_with_the_video(model, tmp_path):
    """18 more frames of 256 x 256 are 13.5 MiB as floats; they need less than 10 MiB."""
    code = """
        import resource, sys
        import numpy as np, torch
        from scoredistill import load_prior
        from scoredistill.tasks import edit_video
        from scoredistill.media.video import Video

        torch.set_num_threads(1)
        prior = load_prior(sys.argv[1])
        base = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8).repeat(32, 0).repeat(32, 1)

        def peak(n):
            read = lambda start, stop: (np.roll(base, i, 1) for i in range(start, stop))
            video = Video("long", 256, 256, tuple(i / 24 for i in range(n)), n / 24, read)
            out = f"{sys.argv[2]}/{n}"
            made = edit_video(video, "x", prior, out=out, size=16, sweeps=1, flow=0, group=12, overlap=2)
            assert len(made.source) == n
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

        print(peak(24), peak(42))
    """
    call = [sys.executable, "-c", textwrap.dedent(code), str(model), str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    few, many = map(float, done.stdout.split())
    assert many - few < 10
    assert isinstance(open_video(tmp_path / "42" / "edited.mp4"), Video)
    assert len(open_video(tmp_path / "42" / "edited.mp4")) == 42


def test_a_method_of_ones_own_edits_like_the_others(prior):
    own = lambda: CSDEdit(weight=lambda alpha, sigma: sigma / alpha, coupled=False)
    frames = video(3)
    assert all(same(small(frames, prior, own).frames, small(frames, prior, "uncoupled").frames))


def test_a_missing_package_is_said_before_the_prior_is_loaded(monkeypatch, no_model):
    monkeypatch.setitem(sys.modules, "skimage.registration", None)
    with pytest.raises(MissingExtra, match=r"optical flow needs skimage, .*scoredistill\[video\]"):
        edit_video(video(2), "make it night", "emoji-edit", flow=1)
