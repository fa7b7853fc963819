"""Tests that take much CPU time are named, and those that take far too much fail."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import cpu_seconds


def busy(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_cpu_time_is_measured_and_sleep_is_not():
    properties = []
    with cpu_seconds.measured(properties):
        busy(0.05)
    with cpu_seconds.measured(properties):
        time.sleep(0.2)
    (name, worked), (_, slept) = properties
    assert name == "cpu_seconds"
    assert slept < 0.05 <= worked + 0.02  # clocks tick in hundredths


def test_the_time_of_programs_counts():
    properties = []
    with cpu_seconds.measured(properties):
        subprocess.run([sys.executable, "-S", "-c", "for _ in range(4_000_000): pass"], check=True)
    assert properties[0][1] > 0.02


def test_far_too_much_fails_and_a_failure_stays_what_it_is():
    properties = []

    def run(limit, error=None):
        with cpu_seconds.measured(properties, limit):
            busy(0.05)
            if error is not None:
                raise error

    run(60.0)
    with pytest.raises(AssertionError, match=r"took 0 s of CPU time: make it smaller, at most 0\.01 s"):
        run(0.01)
    with pytest.raises(KeyError):
        run(0.01, KeyError())
    assert len(properties) == 3


def test_slow_tests_are_named_once_the_slowest_first():
    report = lambda name, seconds: SimpleNamespace(nodeid=name, user_properties=[("cpu_seconds", seconds), ("n", 99)])
    reports = [report("a", 6.0), report("b", 0.2), report("c", 12.3), report("a", 6.0)]
    assert cpu_seconds.slow(reports, 5.0) == ["  12.3 s c", "   6.0 s a"]
