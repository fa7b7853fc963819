"""CPU time of every test, for the hooks of pytest: what is slow is named at the end, and what is far too slow fails.

CPU time, of the process and of those that it waited for, because wall time measures what else the machine does.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

NAMED = 5.0  # seconds, from which a test is named in the summary
FAILS = 60.0  # seconds, from which it fails: no load of the machine makes that of a quick test
_PROPERTY = "cpu_seconds"  # of reports, which also come from workers


def used() -> float:
    """CPU time of this process and of its finished children, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def measured(properties: list[tuple[str, object]], limit: float = FAILS) -> Iterator[None]:
    """Append the CPU time of the body to the properties of a test.

    Raises:
        AssertionError: if it is above the limit and the body has not failed.
    """
    before = used()
    try:
        yield
    finally:
        seconds = used() - before
        properties.append((_PROPERTY, seconds))
    assert seconds <= limit, (
        f"the test took {seconds:.0f} s of CPU time: make it smaller, at most {limit:g} s are given"
    )


def slow(reports: Iterable[Any], limit: float = NAMED) -> list[str]:
    """A line for each test above the limit, the slowest first."""
    found = {
        report.nodeid: seconds
        for report in reports
        for name, seconds in report.user_properties
        if name == _PROPERTY and seconds > limit
    }
    return [f"{seconds:6.1f} s {name}" for name, seconds in sorted(found.items(), key=lambda item: -item[1])]
