"""The harness of all studies: statistics, verdicts, printed numbers, refusals, and workers of a killed study."""

import dataclasses
import importlib
import json
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
import torch

from scoredistill import Recipe, optional
from scoredistill.cli import main
from scoredistill.estimators import SDS
from scoredistill.recipe import named
from scoredistill.studies.harness import jobs
from scoredistill.studies.harness.claims import FAILS, FEW, HOLDS, MISSING, WITHIN, ordered_claim, verdict
from scoredistill.studies.harness.jobs import Job, StudyDirectory, place
from scoredistill.studies.harness.setting import check_methods
from scoredistill.studies.harness.statistics import (
    STUDENT,
    Metric,
    bounded_error,
    clustered_error,
    differences,
    digits,
    flat_mean_and_std,
    over_seeds,
    plus_minus,
)
from scoredistill.studies.scene_editing import study as scenes
from scoredistill.tasks.request import PriorOptions, loading

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


def test_a_clustered_error_by_hand():
    """Sums of deviations from 3.25 are -3.75 and 3.75; of clusters of one size, it is the error of their means."""
    assert clustered_error([1.0, 2.0, 7.0, 3.0], "aaba") == pytest.approx(math.sqrt(2 * 2 * 3.75**2) / 4)
    assert clustered_error([1.0, 3.0, 5.0, 9.0, 0.0, 2.0], "aabbcc") == pytest.approx(
        statistics.stdev([2.0, 7.0, 1.0]) / math.sqrt(3)
    )
    assert clustered_error([1.0, 3.0, 7.0], "abc") == pytest.approx(statistics.stdev([1.0, 3.0, 7.0]) / math.sqrt(3))
    assert clustered_error([1.0, 3.0], "aa") is None


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_a_clustered_error_knows_the_correlation_within_clusters(correlation):
    """Its square is on average v (1 + (m - 1) rho) / n, the variance of the mean, which the usual one misses."""
    g, m, repeats, rng = 8, 4, 2000, torch.Generator().manual_seed(0)
    own, shared = (torch.randn(repeats, g, k, generator=rng) for k in (m, 1))
    values = (math.sqrt(1 - correlation) * own + math.sqrt(correlation) * shared).flatten(1)
    names = [i // m for i in range(g * m)]
    squares = torch.tensor([clustered_error(row, names) for row in values.tolist()]).square()
    truth = (1 + (m - 1) * correlation) / (g * m)
    assert squares.mean().item() == pytest.approx(truth, abs=4 * squares.std().item() / math.sqrt(repeats))
    assert values.mean(1).var().item() == pytest.approx(truth, rel=0.15)


def test_a_bound_of_the_clustered_error_is_reached_and_never_exceeded():
    rng, names = torch.Generator().manual_seed(0), [i // 4 for i in range(20)]
    usual = lambda values: statistics.stdev(values) / math.sqrt(len(values))
    for values in torch.randn(50, 20, generator=rng).tolist():
        assert clustered_error(values, names) < bounded_error(usual(values), 20, 5)
    equal = [float(name**2) for name in names]
    assert clustered_error(equal, names) == pytest.approx(bounded_error(usual(equal), 20, 5))


def test_differences_are_clustered_by_what_is_asked():
    found = differences(figures(5.0, 7.0, 8.0), figures(4.0, 4.0, 1.0), lambda key: key[0])["clip_sim"]
    error = clustered_error([1.0, 3.0, 7.0], ["a tulip", "a castle", "a tulip"])
    assert found == {"mean": pytest.approx(11 / 3), "std": pytest.approx(error), "n": 3, "clusters": 2}
    single = differences(figures(5.0), figures(4.0), lambda key: key[0])["clip_sim"]
    assert single == {"mean": 1.0, "n": 1, "clusters": 1}
    assert verdict(single, 1) == MISSING


def test_quantiles_are_those_of_student():
    """The density of t with k degrees of freedom, integrated from 0 to the quantile, is .475."""
    for k, quantile in enumerate(STUDENT, start=1):
        t = torch.linspace(0, quantile, 4001, dtype=torch.float64)
        scale = math.gamma((k + 1) / 2) / math.gamma(k / 2) / math.sqrt(math.pi * k)
        assert float(torch.trapezoid(scale * (1 + t**2 / k) ** (-(k + 1) / 2), t)) == pytest.approx(0.475, abs=4e-5)


@pytest.mark.parametrize(("clusters", "says"), [(3, FEW), (8, FEW), (9, HOLDS), (40, HOLDS), (None, HOLDS)])
def test_few_clusters_need_more_than_two_standard_errors(clusters, says):
    """2.35 standard errors: Student's quantile is 2.365 with 7 degrees of freedom, 2.306 with 8."""
    cell = {"mean": -2.35, "std": 1.0, "n": 80} | ({} if clusters is None else {"clusters": clusters})
    assert verdict(cell, -1) == says
    assert verdict(cell, 1) == (FEW if says == FEW else FAILS)
    assert verdict({**cell, "mean": 1.9}, 1) == WITHIN


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
        ({"seed": -1}, "the first seed must be from 0 to 99999[0-9] for [0-9] seeds?, not -1"),
        ({"seed": 10**6}, "the first seed must be from 0 to 99999[0-9]"),
    ],
)
def test_every_study_refuses_impossible_methods_and_seeds(name, asked, says, refused_study):
    module = importlib.import_module(f"scoredistill.studies.{name}.study")
    refused_study(module.study, module.Setting(**asked), says)


REFERENCES = ("source-", "truth-")  # jobs that have no seed: references, fits, ordinary samples
UNSEEDED = (*REFERENCES, *(f"{kind}-{name}" for kind in ("image", "video") for name in REFERENCES))
UNSEEDED += ("reference-", "fit-", "ddim-")


@pytest.mark.parametrize("name", STUDIES)
def test_every_job_of_every_study_has_the_first_seed(name):
    """Only references have the same name with another first seed, so that nothing else is taken from another run."""
    module = importlib.import_module(f"scoredistill.studies.{name}.study")
    planned = []
    for first in (0, 7):
        setting = module.Setting(seed=first).complete()
        jobs = [*module.study.first(setting), *module.study.plan(setting)]
        assert len({job.name for job in jobs}) == len(jobs)
        assert dataclasses.asdict(setting)["seed"] == first
        planned.append({job.name for job in jobs})
    assert len(planned[0]) == len(planned[1])
    assert all(job.startswith(UNSEEDED) for job in planned[0] & planned[1])
    assert module.study.key(module.Setting().complete()) == module.study.key(module.Setting(seed=7).complete())


@pytest.mark.parametrize("name", [*STUDIES[:3], "toy2d"])
def test_repetitions_have_the_seeds_that_follow(name):
    """What a run with first seed 1 needs beyond its figures is what one with first seed 0 has made."""
    module = importlib.import_module(f"scoredistill.studies.{name}.study")
    wide, narrow = (module.Setting(seeds=n, seed=s, methods=("csd",)).complete() for n, s in ((4, 0), (2, 1)))
    jobs = [{job.name for job in module.study.plan(setting)} for setting in (wide, narrow)]
    missing = jobs[1] - jobs[0]
    assert len(jobs[1]) < len(jobs[0])
    assert all(job.endswith("-1-first") for job in missing)


COMMANDS = {
    "toy2d": ["toy"],
    "text_to_image": ["bench", "images"],
    "editing": ["bench", "edits"],
    "text_to_3d": ["bench", "objects"],
    "scene_editing": ["bench", "scenes"],
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_command_passes_the_first_seed_on(name, monkeypatch, tmp_path):
    asked = []
    module = importlib.import_module(f"scoredistill.studies.{name}.study")
    monkeypatch.setattr(module, "study", lambda setting, out, workers, *rest: asked.append(setting) or out)
    main([*COMMANDS[name], "--seed", "100", "--seeds", "2", "--out", str(tmp_path)])
    assert (asked[0].seed, asked[0].seeds) == (100, 2)


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


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xb6", b"7", b"[1]"])
def test_a_damaged_part_is_named(damaged, tmp_path):
    measured(tmp_path, {})
    part = tmp_path / "parts" / "a.json"
    part.write_bytes(damaged)
    (tmp_path / "parts" / "seconds").write_text("")
    directory = StudyDirectory(tmp_path, {})
    assert directory.seconds == 0
    with pytest.raises(ValueError, match=r"a.json is damaged: delete it, and the same command measures it again"):
        directory.results()
    directory.release()


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


def test_methods_whose_files_would_have_the_same_name_are_refused():
    own = named(Recipe(SDS, name="SDS"))
    with pytest.raises(ValueError, match="files of the methods SDS and sds would have the same name"):
        check_methods(("sds", own), ("sds", "msd"))


LOADING = {"dtype": "float16", "variant": "fp16", "revision": "main", "config": "folder", "window": 64}
SAVING = {"device": "cpu", "offload": "model", "max_rows": 2}


@pytest.mark.parametrize("name", ["text_to_image", "text_to_3d", "editing", "scene_editing"])
def test_a_study_loads_its_prior_as_it_is_told(name, monkeypatch, tmp_path):
    """Every job gets the options; those that decide on results are part of the key, those that save memory are not."""
    module = importlib.import_module(f"scoredistill.studies.{name}.study")
    jobs = importlib.import_module(f"scoredistill.studies.{name}.jobs")

    class Loaded(Exception):
        pass

    def loaded(prior, load):
        raise Loaded(loading(load))

    monkeypatch.setattr(jobs, "loaded", loaded)
    monkeypatch.setattr(jobs, "_kept", lambda folder: (None, None), raising=False)
    asked = module.Setting(quick=True, load=PriorOptions(**{**LOADING, **SAVING, "dtype": torch.float16})).complete()
    json.dumps(dataclasses.asdict(asked))  # as results.json holds it
    planned = [
        job
        for job in [*module.study.first(asked), *module.study.plan(asked)]
        if not job.name.startswith(("fit-", "source-"))
    ]
    for job in (planned[0], planned[-1]):
        with pytest.raises(Loaded) as said:
            job.function(out=tmp_path)
        assert said.value.args[0] == {**LOADING, **SAVING}, job.name
    key = lambda **load: module.study.key(module.Setting(quick=True, load=PriorOptions(**load)).complete())
    assert key(**SAVING) == key()
    for option, value in LOADING.items():
        assert key(**{option: value}) != key(), option


def test_options_of_loading_reach_the_studies_and_are_refused_where_there_is_no_prior(refused, tmp_path):
    for what in ("images", "edits", "objects", "scenes"):
        out = tmp_path / what
        assert "unknown dtype 'float61'" in refused("bench", what, "--dtype", "float61", "--quick", "--out", out)
        assert "offload keeps weights" in refused("bench", what, "--offload", "model", "--device", "cpu", "--out", out)
        assert not out.exists()
    said = refused("bench", "collaboration", "--dtype", "float16", "--max-rows", "2")
    assert "bench collaboration, whose editors are its own, has no --dtype, --max-rows: leave them out" in said


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        (("images", "--methods", "ddim", "vsd"), "peft", "lora"),
        (("objects", "--methods", "vsd"), "peft", "lora"),
        (("edits", "--quick"), "av", "bench"),
        (("edits", "--quick"), "skimage", "bench"),
        (("edits", "--quick"), "skvideo", "bench"),
        (("scenes", "--quick"), "pybullet", "scenes"),
    ],
)
def test_a_missing_package_is_said_before_a_study_begins(command, missing, extra, monkeypatch, tmp_path, refused):
    real, spec = optional.import_module, optional.find_spec
    here = lambda name: name.partition(".")[0] != missing

    def imported(name):
        if not here(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name)

    monkeypatch.setattr(optional, "import_module", imported)
    for module in (optional, scenes):
        monkeypatch.setattr(module, "find_spec", lambda name: spec(name) if here(name) else None)
    said = refused("bench", *command, "--out", tmp_path / "out", code=1)
    assert missing in said
    assert f"pip install 'scoredistill[{extra}]'" in said
    assert not (tmp_path / "out").exists()
