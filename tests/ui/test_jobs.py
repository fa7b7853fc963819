"""The queue: runs in order, stops at once, survives what commands do, and says what they said."""

import time
from pathlib import Path

import pytest

import fake_command
from scoredistill.ui.calls import IMAGE, Call
from scoredistill.ui.jobs import ENDED, Job, Queue, State

LONGEST = 20.0  # seconds that a test waits


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    made = Queue(fake_command.command, fake_command.nothing, tmp_path_factory.mktemp("logs"))
    yield made
    made.close()


def call(prompt, out):
    return Call(IMAGE, {"prompt": prompt}, out)


def until(condition):
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(*jobs):
    until(lambda: all(job.state in ENDED for job in jobs))
    return [job.state for job in jobs]


def test_a_job_runs_its_command(queue, tmp_path):
    asked = call("a cat", tmp_path / "run")
    job = queue.submit(asked)
    assert ended(job) == [State.FINISHED]
    assert (tmp_path / "run" / "arguments").read_text().split("\n") == ["scoredistill", *asked.arguments()]
    assert job.seconds == pytest.approx(job.ended - job.begun)
    assert job.messages() == []


def test_a_failure_is_what_the_command_said_last(queue, tmp_path):
    job = queue.submit(call("fail", tmp_path))
    assert ended(job) == [State.FAILED]
    assert job.messages() == ["emoji was not trained on it", "the disk is full: free some"]


def test_a_bug_and_a_death_are_failures_after_which_jobs_run(queue, tmp_path):
    jobs = [queue.submit(call(what, tmp_path / what)) for what in ("break", "die", "a cat")]
    assert ended(*jobs) == [State.FAILED, State.FAILED, State.FINISHED]
    assert jobs[0].messages() == ["this should not have happened (RuntimeError: a bug in two lines)"]


@pytest.mark.parametrize("what", ["wait", "compute"])
def test_stop_ends_a_job_within_a_step_and_the_next_one_runs(queue, tmp_path, what):
    running, waiting = queue.submit(call(what, tmp_path / "1")), queue.submit(call("a cat", tmp_path / "2"))
    until((tmp_path / "1" / "begun").exists)
    assert queue.latest() is running
    assert (queue.ahead(running), queue.ahead(waiting)) == (0, 1)
    if what == "wait":
        progress = running.progress()
        assert (progress.what, progress.done, progress.of, progress.fraction) == ("msd", 1, 4, 0.25)
        assert 30 - LONGEST < progress.left <= 30
    queue.stop(running)
    assert running.state is State.STOPPED
    assert ended(running, waiting) == [State.STOPPED, State.FINISHED]
    assert queue.latest() is waiting


def test_a_waiting_job_can_be_stopped_and_an_ended_one_stays(queue, tmp_path):
    first, second = queue.submit(call("wait", tmp_path / "1")), queue.submit(call("a cat", tmp_path / "2"))
    until((tmp_path / "1" / "begun").exists)
    queue.stop(second)
    queue.stop(first)
    last = queue.submit(call("a cat", tmp_path / "3"))
    assert ended(first, second, last) == [State.STOPPED, State.STOPPED, State.FINISHED]
    assert not (tmp_path / "2").exists()
    queue.stop(last)
    assert last.state is State.FINISHED


def test_no_progress_without_a_bar_and_no_time_left_before_it_is_known(tmp_path):
    job = Job(call("a", tmp_path), tmp_path / "log")
    assert job.progress() is None
    job.log.write_bytes(b"scoredistill: it costs: 50% | more\nmsd:   0%|   | 0/12 [00:00<?, ?step/s]\r")
    assert (job.progress().done, job.progress().of, job.progress().left) == (0, 12, None)
    job.log.write_bytes(job.log.read_bytes() + b"writing:  10%|#  | 1/10 [00:02<1:00:18,  2.0s/frame]\r")
    progress = job.progress()
    assert (progress.what, progress.done, progress.of) == ("writing", 1, 10)
    assert 3600 < progress.left <= 3618


def test_closing_stops_what_runs(tmp_path):
    queue = Queue(fake_command.command, fake_command.nothing, tmp_path)
    job = queue.submit(call("wait", Path(tmp_path / "run")))
    until((tmp_path / "run" / "begun").exists)
    queue.close()
    assert job.state is State.STOPPED


class Broken(Call):
    """A call whose arguments cannot be made."""

    def arguments(self):
        raise RuntimeError("a bug")


def test_a_call_that_fails_leaves_the_device_to_the_next_job(queue, tmp_path):
    jobs = [queue.submit(Broken(IMAGE, {}, tmp_path / "1")), queue.submit(call("a cat", tmp_path / "2"))]
    assert ended(*jobs) == [State.FAILED, State.FINISHED]
    assert jobs[0].messages() == ["this run cannot be started (RuntimeError: a bug)"]


def test_a_worker_that_cannot_be_started_fails_its_job_alone(tmp_path, monkeypatch):
    class NoWorker:
        def __init__(self, *_):
            raise OSError("no memory")

    monkeypatch.setattr("scoredistill.ui.jobs.Worker", NoWorker)
    own = Queue(fake_command.command, fake_command.nothing, tmp_path)
    jobs = [own.submit(call("a cat", tmp_path / name)) for name in "ab"]
    assert ended(*jobs) == [State.FAILED, State.FAILED]
    assert jobs[1].messages() == ["this run cannot be started (OSError: no memory)"]
    own.close()
