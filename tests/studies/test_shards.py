"""Studies over machines: shards, the executors of submitit, and the script for Slurm."""

import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from scoredistill.cli import main
from scoredistill.optional import MissingExtra
from scoredistill.studies.harness import cluster as clusters
from scoredistill.studies.harness.cluster import Cluster
from scoredistill.studies.harness.jobs import Job, StudyDirectory
from scoredistill.studies.harness.shards import Shard
from scoredistill.studies.harness.study import Study
from scoredistill.tasks.lock import Busy

SCRIPT = Path(__file__).parents[2] / "examples" / "study.slurm"


@dataclass(frozen=True)
class Setting:
    """Seven numbers, whose squares are measured after a number that all need."""

    def complete(self):
        return self


def square(number, out):
    if number == 3:
        raise FloatingPointError("three diverges")
    (out / f"{number}.txt").write_text("seen")
    return {"square": number**2}


def gather(setting, directory):
    return {"setting": {}, "found": directory.results()}


def report(results, out):
    (out / "report.html").write_text(json.dumps(results["found"]))
    return out / "report.html"


study = Study(
    key=lambda setting: {"study": "squares"},
    first=lambda setting: [Job("first", partial(square, 10), required=True)],
    plan=lambda setting: [Job(f"n{k}", partial(square, k), cost=float(k)) for k in range(1, 8)],
    gather=gather,
    tables=lambda results: "",
    report=report,
)


def run(out, **where):
    return study(Setting(), out, **{"workers": 1, "progress": False, **where})


def names(out):
    return sorted(path.stem for path in (out / "parts").glob("*.json"))


def results(out):
    found = json.loads((out / "results.json").read_text())
    return {name: found[name] for name in ("found", "failed", "setting")}


def test_shards_are_of_equal_cost_and_hold_every_job_once():
    jobs = [Job(str(k), partial(square, k), cost=float(k)) for k in (5, 1, 1, 1, 2)]
    shares = [[job.name for job in Shard(i, 2).of(jobs)] for i in (1, 2)]
    assert shares == [["5"], ["1", "1", "1", "2"]]
    free = [Job(str(k), partial(square, k), cost=0.0) for k in range(9)]
    assert [len(Shard(i, 3).of(free)) for i in (1, 2, 3)] == [3, 3, 3]
    many = [Shard(i, 9).of(jobs) for i in range(1, 10)]
    assert sorted(len(share) for share in many) == [0, 0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1.5/3"])
def test_a_shard_that_does_not_exist_is_refused(text, refused, tmp_path):
    says = refused("bench", "collaboration", "--quick", "--shard", text, "--out", tmp_path / "new")
    assert "shard" in says
    assert not (tmp_path / "new").exists()


def test_three_shards_equal_the_whole_study(tmp_path):
    run(tmp_path / "whole")
    for number in (3, 1):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert run(tmp_path / "parts", shard=Shard(number, 3)) == tmp_path / "parts" / "parts"
        told = [str(each.message) for each in said]
        assert told == (["n3 failed, and is tried again without --shard: FloatingPointError: three diverges"] * ("n3" in
            [job.name for job in Shard(number, 3).of(study.plan(Setting()))]))  # fmt: skip
    assert not (tmp_path / "parts" / "results.json").exists()
    own = [[job.name for job in Shard(i, 3).of(study.plan(Setting()))] for i in (1, 2, 3)]
    assert sorted(name for each in own for name in each) == [f"n{k}" for k in range(1, 8)]
    assert names(tmp_path / "parts") == sorted({"first", *own[0], *own[2]} - {"n3"})
    assert run(tmp_path / "parts") == tmp_path / "parts" / "report.html"  # measures the second shard too
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    assert results(tmp_path / "whole")["failed"] == {"n3": "FloatingPointError: three diverges"}
    assert not list((tmp_path / "parts" / "parts").glob(".shard-*"))


def test_shards_share_a_directory_which_is_then_no_ones_alone(tmp_path):
    key = {"study": "squares"}
    one, two = StudyDirectory(tmp_path, key, Shard(1, 2)), StudyDirectory(tmp_path, key, Shard(2, 2))
    with pytest.raises(Busy, match=r"\.shard-1-of-2 is in use by process"):
        StudyDirectory(tmp_path, key, Shard(1, 2))
    with pytest.raises(Busy, match=r"\.shard-[12]-of-2 is in use by process"):
        StudyDirectory(tmp_path, key)
    one.release()
    two.release()
    whole = StudyDirectory(tmp_path, key)
    with pytest.raises(Busy, match="is in use by process"):
        StudyDirectory(tmp_path, key, Shard(1, 2))
    whole.release()
    with pytest.raises(ValueError, match="another study"):
        StudyDirectory(tmp_path, {"study": "cubes"}, Shard(1, 2))


def test_a_shard_that_starts_again_on_another_machine_goes_on(tmp_path):
    first = StudyDirectory(tmp_path, {}, Shard(1, 2))
    lock = tmp_path / "parts" / ".shard-1-of-2" / ".lock"
    said = json.loads(lock.read_text())
    first.release()
    lock.write_text(json.dumps({**said, "host": "elsewhere", "system": "another"}))
    with pytest.raises(Busy, match="on elsewhere"):
        StudyDirectory(tmp_path, {})
    again = StudyDirectory(tmp_path, {}, Shard(1, 2))
    assert json.loads(lock.read_text())["host"] == said["host"]
    again.release()


def test_a_shard_that_lives_is_refused_whatever_its_lock_says(tmp_path):
    first = StudyDirectory(tmp_path, {}, Shard(1, 2))
    (tmp_path / "parts" / ".shard-1-of-2" / ".lock").write_text("")
    with pytest.raises(Busy, match="in use"):
        StudyDirectory(tmp_path, {}, Shard(1, 2))
    first.release()


def test_drafts_of_other_shards_stay(tmp_path):
    StudyDirectory(tmp_path, {}, Shard(1, 2)).release()
    draft = tmp_path / "parts" / ".draft-1-n1.json"
    draft.touch()
    StudyDirectory(tmp_path, {}, Shard(2, 2)).release()
    assert draft.exists()
    StudyDirectory(tmp_path, {}).release()
    assert not draft.exists()


# Executors


def test_the_debug_executor_measures_in_this_process(tmp_path):
    pytest.importorskip("submitit")
    run(tmp_path / "whole")
    run(tmp_path / "other", workers=3, cluster=Cluster("debug"))
    assert results(tmp_path / "other") == results(tmp_path / "whole")
    with pytest.raises(ValueError, match="a shard or an executor, not both"):
        run(tmp_path / "new", shard=Shard(1, 2), cluster=Cluster("debug"))
    assert not (tmp_path / "new").exists()


def by_value():
    """Functions of this module are sent to other processes, which cannot import it."""
    pytest.importorskip("submitit")
    pytest.importorskip("cloudpickle").register_pickle_by_value(sys.modules[__name__])


def end(out):
    os._exit(7)


def test_the_local_executor_measures_in_processes_and_a_dead_one_fails_its_jobs_alone(tmp_path):
    by_value()
    directory = StudyDirectory(tmp_path, {})
    jobs = [Job("a", partial(square, 2)), Job("dead", end), Job("b", partial(square, 5), cost=2.0)]
    failed = directory.run(jobs, 2, progress=False, cluster=Cluster("local", ("timeout_min=5",)))
    assert set(failed) == {"dead"}
    assert failed["dead"].startswith("Died: its task ended: ")
    assert directory.results() == {"a": {"square": 4}, "b": {"square": 25}}
    directory.release()


class Running:
    """A task that does not end."""

    canceled = False

    def done(self):
        return False

    def cancel(self, check):
        self.canceled = True


def test_an_interrupted_command_cancels_its_tasks_and_keeps_what_is_measured(tmp_path, monkeypatch):
    """The first job is finished on the cluster; the command is interrupted before the second is."""
    pytest.importorskip("submitit")
    tasks = [Running(), Running()]

    class Executor:
        def map_array(self, task, shares):
            task.parts.joinpath("n1.json").write_text('{"square": 1}')
            return tasks[: len(shares)]

    monkeypatch.setattr(Cluster, "executor", lambda self, folder: Executor())
    directory = StudyDirectory(tmp_path, {})

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        directory.run(study.plan(None)[:2], 2, progress=False, after=interrupt, cluster=Cluster("slurm"))
    assert [task.canceled for task in tasks] == [True, True]
    assert directory.results() == {"n1": {"square": 1}}
    directory.release()


def test_a_preempted_task_is_queued_again_and_measures_the_rest(tmp_path):
    submitit = pytest.importorskip("submitit")
    task = clusters.Task(lambda job, images: (job.name, job.function(out=images)), tmp_path, tmp_path)
    (tmp_path / "n1.json").write_text('{"square": -1}')
    again = task.checkpoint(study.plan(None)[:2])
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.result() == {"n1": {"square": -1}, "n2": {"square": 4}}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--executor", "lsf"], "unknown executor 'lsf': use one of slurm, local, debug"),
        (["--executor", "debug", "--executor-options", "timeout_min"], "NAME=VALUE, such as timeout_min=60"),
        (["--executor-options", "timeout_min=3"], "--executor-options belong to --executor"),
        (["--executor", "debug", "--shard", "1/2"], "a shard or an executor, not both"),
        (["--executor", "debug", "--executor-options", "nosuch=3"], "cannot start an executor 'debug'"),
        (["--executor", "slurm"], "cannot start an executor 'slurm'"),
    ],
)
def test_executors_that_do_not_run_are_one_sentence(options, says, refused, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))  # without Slurm
    assert says in refused("bench", "collaboration", "--quick", "--out", tmp_path / "out", *options)
    assert not list((tmp_path / "out").glob("parts/*.json"))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        MissingExtra, match=r"needs submitit, which is not installed: pip install 'scoredistill\[cluster"
    ):
        Cluster("debug")


def test_options_are_numbers_where_they_can_be():
    pytest.importorskip("submitit")
    asked = Cluster("slurm", ("timeout_min=60", "mem_gb=2.5", "slurm_partition=gpu=a", "cpus_per_task=4")).parameters
    assert asked == {
        "name": "scoredistill", "timeout_min": 60, "mem_gb": 2.5, "slurm_partition": "gpu=a", "cpus_per_task": 4,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["007", "1_0", "nan", "inf", "1e3", " 5", "+5", "2.50"])
def test_other_options_keep_their_text(text):
    pytest.importorskip("submitit")
    assert Cluster("slurm", (f"slurm_account={text}",)).parameters["slurm_account"] == text


def test_a_task_gives_the_threads_back(tmp_path):
    before = torch.get_num_threads()
    clusters.Task(end, tmp_path, tmp_path, before + 1)([])
    assert torch.get_num_threads() == before


def test_the_script_for_slurm_is_true(monkeypatch, tmp_path):
    """It is a shell script, its array is that of its shards, and its commands are understood."""
    text = SCRIPT.read_text()
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    first, last = map(int, re.search(r"#SBATCH --array=(\d+)-(\d+)\n", text).groups())
    assert re.search(r"\$SLURM_ARRAY_TASK_ID/(\d+)", text)[1] == str(last)
    assert first == 1
    (tmp_path / "srun").write_text('#!/bin/bash\nshift\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    asked = []
    module = __import__("scoredistill.studies.text_to_image.study", fromlist=["study"])
    monkeypatch.setattr(
        module, "study", lambda setting, out, workers, progress, **where: asked.append((out, workers, where)) or out
    )
    for number in (0, 1, 8):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(number)}
        words = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=True).stdout
        main(words.split("\n")[:-1])
    out = Path("runs/bench-images")
    assert asked == [(out, 1, {}), (out, 1, {"shard": Shard(1, 8)}), (out, 1, {"shard": Shard(8, 8)})]
