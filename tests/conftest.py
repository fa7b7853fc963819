"""Under pytest every annotated tensor shape of the package is checked (jaxtyping with beartype)."""

import gc
import os

gc.set_threshold(100_000, 50, 100)  # by default it walks millions of objects again and again, a third of all imports

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also of the programs that tests start: workers share the cores

import shape_checks

shape_checks.install("scoredistill")

import pytest
import torch

import cpu_seconds
from scoredistill import cli
from scoredistill.priors import GaussianMixture
from scoredistill.schedule import VP

torch.set_num_threads(1)  # the tensors of tests are small: threads would only wait for each other


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector need not walk it again in every test."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Measure CPU time; see `cpu_seconds`."""
    with cpu_seconds.measured(item.user_properties):
        return (yield)


def pytest_terminal_summary(terminalreporter) -> None:
    """Name the slow tests."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    if lines := cpu_seconds.slow(reports):
        terminalreporter.section(f"tests above {cpu_seconds.NAMED:g} s of CPU time")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def mixture() -> GaussianMixture:
    """Five anisotropic components in two dimensions, float64, in two classes."""
    g = torch.Generator().manual_seed(7)
    means = torch.randn(5, 2, generator=g, dtype=torch.float64)
    roots = 0.4 * torch.randn(5, 2, 2, generator=g, dtype=torch.float64)
    covs = roots @ roots.mT + 0.02 * torch.eye(2, dtype=torch.float64)
    weights = torch.rand(5, generator=g, dtype=torch.float64) + 0.2
    return GaussianMixture(means, covs, weights, VP(), labels=[0, 0, 1, 1, 1])


@pytest.fixture
def refused(capsys):
    """A function that runs a command which must end with one sentence and exit code 2, and returns the sentence."""

    def run(*line, code=2):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(part) for part in line])
        said = capsys.readouterr().err
        assert stop.value.code == code
        assert said.startswith("scoredistill: ")
        assert said.count("\n") == 1
        return said

    return run
