"""The harness of all studies: statistics, verdicts, printed numbers, refusals, and workers of a killed study."""

import importlib
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from scoredistill.studies.harness import jobs
from scoredistill.studies.harness.claims import FAILS, HOLDS, MISSING, WITHIN, ordered_claim, verdict
from scoredistill.studies.harness.jobs import Job, StudyDirectory, place
from scoredistill.studies.harness.statistics import (
    Metric,
    differences,
    digits,
    flat_mean_and_std,
    over_seeds,
    plus_minus,
)

STUDIES = ("editing", "scene_editing", "text_to_3d", "text_to_image", "toy2d")
METRICS = {"clip_sim": Metric("CLIP-SIM", 1, "similarity")}
KEYS = [("a tulip", 0), ("a castle", 0), ("a tulip", 1)]


def figures(*values, name="clip_sim"):
    return {key: {name: value} for key, value in zip(KEYS, values, strict=False)}


def test_differences_are_of_the_same_case_and_divide_by_the_root_of_their_number():
    found = differences(figures(5.0, 7.0, 8.0), figures(4.0, 4.0, 1.0))["clip_sim"]
    assert found["mean"] == pytest.approx(11 / 3)
    assert found["std"] == pytest.approx(statistics.stdev([1.0, 3.0, 7.0]) / math.sqrt(3))
    fewer = differences(figures(5.0, 7.0, 8.0), figures(4.0, 4.0))["clip_sim"]
    assert fewer == {"mean": pytest.approx(2.0), "std": pytest.approx(1.0), "n": 2}


def test_differences_pair_cases_by_name_whatever_their_order():
    ours = {("a", 0): {"x": 5.0}, ("b", 0): {"x": 7.0}}
    theirs = {("b", 0): {"x": 1.0}, ("c", 0): {"x": 9.0}, ("a", 0): {"x": 4.0}}
    assert differences(ours, theirs)["x"] == {"mean": pytest.approx(3.5), "std": pytest.approx(2.5), "n": 2}


def test_deviation_over_seeds_is_of_means_over_prompts():
    found = {("a", 0): {"x": 1.0}, ("b", 0): {"x": 5.0}, ("a", 1): {"x": 2.0}, ("b", 1): {"x": 6.0}}
    cell = over_seeds(found)["x"]
    assert cell == {"mean": pytest.approx(3.5), "std": pytest.approx(statistics.stdev([3.0, 4.0]))}
    assert over_seeds({("a", 0): {"x": 1.0}, ("b", 0): {"x": 5.0}})["x"] == {"mean": pytest.approx(3.0)}


@pytest.mark.parametrize(
    ("mean", "std", "better", "says"),
    [
        (1.0, 0.4, 1, HOLDS),
        (1.0, 0.6, 1, WITHIN),
        (-1.0, 0.4, 1, FAILS),
        (-1.0, 0.4, -1, HOLDS),
        (-1.0, 0.6, -1, WITHIN),
    ],
)
def test_a_claim_holds_beyond_two_standard_errors(mean, std, better, says):
    assert verdict({"mean": mean, "std": std, "n": 5}, better) == says
    assert verdict({"mean": mean, "std": std, "n": 1}, better) == MISSING


def test_the_worst_link_of_a_chain_decides():
    cell = lambda mean: {"clip_sim": {"mean": mean, "std": 1.0, "n": 15}}
    paired = {"msd - sdi": cell(5.0), "sdi - sds": cell(1.0), "csd - sds": cell(-3.0)}
    decide = lambda *methods: ordered_claim(paired, methods, "clip_sim", METRICS)["verdict"]
    assert decide("msd", "sdi") == HOLDS
    assert decide("msd", "sdi", "sds") == WITHIN
    assert decide("csd", "sds") == FAILS
    assert decide("sds", "csd") == HOLDS  # the same pair, turned
    assert decide("msd", "vsd") == MISSING


def test_averages_over_seeds():
    found = flat_mean_and_std([{"nll": 1.0, "nfe": 20.0}, {"nll": 3.0, "nfe": 20.0}])
    assert (found["nll"], found["seeds"]) == (2.0, 2)
    assert found["std"] == {"nll": pytest.approx(2**0.5), "nfe": 0.0}


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ({"mean": 1.5, "std": 0.25}, "1.50 ± 0.25"),
        ({"mean": 97.25, "std": 0.03125}, "97.25 ± 0.03"),
        ({"mean": 900.0, "std": 0.0}, "900 ± 0"),
        ({"mean": 0.012, "std": 15.1}, "0.0 ± 15.1"),
        ({"mean": 1.5, "std": None}, "1.50"),
        ({"mean": 1.5}, "1.50"),
        ({"mean": float("inf"), "std": float("nan")}, "inf"),
        ({"mean": None, "std": 1.0}, ""),
        (None, ""),
    ],
)
def test_plus_minus(found, shown):
    assert plus_minus(found) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(198.9, "199"), (0.04321, "0.0432"), (1234.5, "1234"), (0.0, "0"), (-2.5, "-2.50"), (float("nan"), "nan")],
)
def test_numbers_have_three_digits(value, shown):
    assert digits(value) == shown


def test_a_killed_study_leaves_no_worker_behind(tmp_path):
    """The parent is killed while both of its workers sleep in a job; they tell who they are by files."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\nfrom pathlib import Path\nfrom functools import partial\n"
        "from scoredistill.studies.harness.jobs import Job, StudyDirectory\n"
        "def sleep(name, out):\n    (out / name).write_text(str(os.getpid()))\n    time.sleep(3600)\n    return {}\n"
        "if __name__ == '__main__':\n"
        f"    directory = StudyDirectory(Path({str(tmp_path / 'out')!r}), {{}})\n"
        "    directory.run([Job(n, partial(sleep, n)) for n in 'ab'], workers=2, progress=False)\n"
    )
    study = subprocess.Popen([sys.executable, str(script)])
    files = [tmp_path / "out" / "images" / name for name in "ab"]
    wait_for(lambda: all(file.is_file() and file.read_text() for file in files), 600)
    study.kill()
    study.wait()
    workers = [int(file.read_text()) for file in files]
    try:
        wait_for(lambda: not any(alive(worker) for worker in workers), 90)
    finally:
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)


def wait_for(condition, seconds):
    """Sleep until a condition holds; fail after more seconds than a busy machine needs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.1)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"methods": ("magic",)}, "unknown method magic"),
        ({"methods": ("csd", "csd")}, "a method is named twice"),
        ({"seeds": 0}, "seeds must be at least 1"),
    ],
)
def test_every_study_refuses_impossible_methods_and_seeds(name, asked, says, refused_study):
    module = importlib.import_module(f"scoredistill.studies.{name}.study")
    refused_study(module.study, module.Setting(**asked), says)


# What was measured is kept


def measured(out, key):
    directory = StudyDirectory(out, key)
    directory.run([Job("a", partial(number, 1))], progress=False)
    directory.release()


def number(value, out):
    return {"value": value}


@pytest.mark.parametrize(
    ("key", "version", "says"),
    [
        ({"quick": True, "setup": {"prompts": ["owl"]}}, None, "another quick: give another directory"),
        ({"quick": False, "setup": {"prompts": ["cat"]}}, None, "another prompts:"),
        ({"quick": False, "setup": {"prompts": ["owl"]}}, "99.0", "another version:"),
    ],
)
def test_other_settings_and_versions_never_remove_what_was_measured(key, version, says, tmp_path, monkeypatch):
    out = tmp_path / "study"
    measured(out, {"quick": False, "setup": {"prompts": ["owl"]}})
    if version:
        monkeypatch.setattr(jobs, "__version__", version)
    with pytest.raises(ValueError, match=says):
        StudyDirectory(out, key)
    assert (out / "parts" / "a.json").is_file()
    assert place(out, key) == tmp_path / "study-2"
    assert not (tmp_path / "study-2").exists()


def test_a_study_without_out_continues_where_its_settings_lie(tmp_path):
    for name, quick in (("toy", True), ("toy-2", False)):
        measured(tmp_path / name, {"quick": quick})
    (tmp_path / "toy-3").mkdir()
    (tmp_path / "toy-3" / "mine.txt").touch()
    assert place(tmp_path / "toy", {"quick": True}) == tmp_path / "toy"
    assert place(tmp_path / "toy", {"quick": False}) == tmp_path / "toy-2"
    assert place(tmp_path / "toy", {"quick": None}) == tmp_path / "toy-4"


def test_a_full_disk_or_a_damaged_marker_costs_no_part(tmp_path, monkeypatch):
    measured(tmp_path, {})
    marker = tmp_path / "parts" / "setting"

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        StudyDirectory(tmp_path, {}).release()
    assert marker.read_text() != ""
    marker.write_text("")
    with pytest.raises(ValueError, match="setting is damaged"):
        StudyDirectory(tmp_path, {})
    assert (tmp_path / "parts" / "a.json").is_file()


def test_a_study_killed_before_it_began_and_links_and_two_at_once(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".draft-1-setting").touch()
    (tmp_path / ".lock").touch()
    first = StudyDirectory(tmp_path, {})
    assert not (tmp_path / "parts" / ".draft-1-setting").exists()
    with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
        StudyDirectory(tmp_path, {})
    first.release()
    (tmp_path / "images").rmdir()
    (tmp_path / "images").symlink_to(tmp_path.parent)
    with pytest.raises(ValueError, match="images is a symbolic link"):
        StudyDirectory(tmp_path, {})


def test_a_worker_that_dies_fails_its_job_alone(tmp_path):
    directory = StudyDirectory(tmp_path, {})
    failed = directory.run(
        [Job("dead", partial(die)), *(Job(n, partial(number, 3)) for n in "abc")], workers=2, progress=False
    )
    assert list(failed) == ["dead"]
    assert "ended with exit code 9" in failed["dead"]
    assert directory.results() == {n: {"value": 3} for n in "abc"}


def die(out):
    os._exit(9)


def test_an_interrupted_study_ends_at_once_and_leaves_no_worker(tmp_path):
    """Its workers sleep for an hour; an interrupt comes while the first results are awaited."""
    directory = StudyDirectory(tmp_path, {})

    def interrupt():
        wait_for(lambda: (tmp_path / "images" / "asleep").is_file(), 600)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        directory.run([Job("a", partial(number, 1)), Job("b", sleep)], workers=2, progress=False, after=interrupt)
    worker = int((tmp_path / "images" / "asleep").read_text())
    assert not alive(worker)
    assert directory.results() == {"a": {"value": 1}}


def sleep(out):
    (out / "draft").write_text(str(os.getpid()))
    (out / "draft").rename(out / "asleep")
    time.sleep(3600)
