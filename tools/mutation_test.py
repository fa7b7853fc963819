"""Mutation test: break one formula at a time in a copy of the package, and check that a test of it fails.

    python tools/mutation_test.py                       # all mutants; writes docs/results/mutation_test.json
    python tools/mutation_test.py --only three_d        # mutants whose file name contains this; writes nothing

The mutants stand in `mutants.py`. Every selected test is first run on the unchanged tree, where it must pass. Tensor
shapes are not checked meanwhile: a test has to detect a wrong formula by its numbers.

Heavy third-party packages are imported once; every run of pytest is a fork of this process, which imports the copied
package afresh. So a mutant costs its tests and not half a minute of imports. Needs a platform with `os.fork`.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[1]
HANG = 1800  # seconds after which a run of pytest is ended; a mutant that makes its tests hang counts as detected
ENDED = 124  # exit code of such a run


class Mutant(NamedTuple):
    """One change to the source.

    Attributes:
        file: the module, relative to src/scoredistill.
        right: text that stands there exactly once.
        wrong: what replaces it.
        test: test file that must detect the change, relative to tests.
        select: pytest's -k expression for the tests of that file that must.
    """

    file: str
    right: str
    wrong: str
    test: str
    select: str


class Tree:
    """A copy of the sources and tests, whose tests do not check tensor shapes."""

    def __init__(self, folder: Path):
        self.folder = folder
        ignored = shutil.ignore_patterns("*.safetensors", "__pycache__")
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        for part in ("pyproject.toml", "README.md", "docs"):  # tests compare tables with pages
            (folder / part).symlink_to(ROOT / part)
        conftest = folder / "tests" / "conftest.py"
        hook = 'shape_checks.install("scoredistill")'
        text = conftest.read_text()
        if hook not in text:
            raise SystemExit(f"tests/conftest.py has no {hook}: the shape checks cannot be switched off")
        conftest.write_text(text.replace(hook, 'shape_checks.install("none")'))
        for weights in (ROOT / "src").rglob("*.safetensors"):
            (folder / weights.relative_to(ROOT)).symlink_to(weights)

    def source(self, file: str) -> Path:
        """The path of a module."""
        return self.folder / "src/scoredistill" / file

    def run(self, test: str, select: str) -> tuple[int, str]:
        """pytest's exit code for the selected tests (1: some fail), and the first test that fails."""
        log = self.folder / "pytest.log"
        child = os.fork()
        if not child:
            self._pytest(test, select, log)
        _, status = os.waitpid(child, 0)
        code = ENDED if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        failed = [line.split(" - ")[0].split("/")[-1] for line in log.read_text().splitlines() if line[:6] == "FAILED"]
        return code, failed[0] if failed else ""

    def _pytest(self, test: str, select: str, log: Path) -> None:
        """In a forked process: run pytest, and end the process with its exit code."""
        code = 70
        try:
            signal.alarm(HANG)
            os.setsid()
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(self.folder)
            source = str(self.folder / "src")
            os.environ["PYTHONPATH"] = source  # for tests that start Python
            sys.path.insert(0, source)
            sys.argv[:] = ["pytest"]
            import pytest

            options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
            code = int(pytest.main([*options, str(self.folder / "tests" / test), *(["-k", select] if select else [])]))
            sys.stdout.flush()
        finally:
            os._exit(code)


def preload() -> None:
    """Import what most tests need, apart from scoredistill, before forking."""
    os.environ |= {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    sys.dont_write_bytecode = True  # two mutants of a file may be of one size and one second
    import diffusers
    import torch
    import transformers

    torch.set_num_threads(1)
    for package, names in (
        (diffusers, ("StableDiffusionPipeline", "UNet2DConditionModel", "AutoencoderKL", "FluxPipeline")),
        (transformers, ("CLIPModel", "CLIPTokenizer", "CLIPTextModel", "T5EncoderModel")),
    ):
        for name in names:
            getattr(package, name)


def check_applies(tree: Tree, mutants: Iterable[Mutant]) -> None:
    """SystemExit unless every mutant's text stands in its file exactly once."""
    wrong = []
    for mutant in mutants:
        path = tree.source(mutant.file)
        count = path.read_text().count(mutant.right) if path.is_file() else 0
        if count != 1:
            wrong.append(f"{mutant.file}: {mutant.right!r} stands there {count} times")
        if not (tree.folder / "tests" / mutant.test).is_file():
            wrong.append(f"{mutant.file}: there is no {mutant.test}")
    if wrong:
        raise SystemExit("\n".join([*wrong, f"{len(wrong)} mutants do not apply once"]))


def selections(mutants: Iterable[Mutant]) -> list[tuple[str, str]]:
    """(test file, -k expression) of all tests that the mutants select, one per test file."""
    chosen: dict[str, set[str]] = {}
    for mutant in mutants:
        chosen.setdefault(mutant.test, set()).add(mutant.select)
    return [(test, "" if "" in parts else " or ".join(sorted(parts))) for test, parts in sorted(chosen.items())]


def detect(tree: Tree, mutant: Mutant) -> tuple[int, str]:
    """Run a mutant's tests on the tree with the mutant in it."""
    path = tree.source(mutant.file)
    source = path.read_text()
    path.write_text(source.replace(mutant.right, mutant.wrong))
    try:
        return tree.run(mutant.test, mutant.select)
    finally:
        path.write_text(source)


def in_trees(trees: Sequence[Tree], function, work: Sequence) -> Iterator[tuple]:  # type: ignore[no-untyped-def]
    """(item, function(tree, item)) for all of the work, in order; each tree runs one at a time."""
    free: SimpleQueue[Tree] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(item):  # type: ignore[no-untyped-def]
        tree = free.get()
        try:
            return function(tree, item)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        yield from zip(work, pool.map(one, work), strict=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/mutation_test.json")
    parser.add_argument("--only", default="", help="mutate only files whose name contains this, and write nothing")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="mutants tested at the same time")
    parser.add_argument("--check", action="store_true", help="check only that every mutant applies")
    options = parser.parse_args()
    mutants = [mutant for mutant in map(Mutant._make, MUTANTS) if options.only in mutant.file]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trees = [Tree(Path(folder) / str(k)) for k in range(1 if options.check else options.workers)]
        check_applies(trees[0], mutants)
        if options.check:
            print(f"all {len(mutants)} mutants apply")
            return
        preload()
        rows = measure(trees, mutants)
    if not options.only:
        write(options.out, rows, time.monotonic() - started)
    detected = sum(row["detected"] for row in rows)
    print(f"{detected} of {len(rows)} mutants were detected")
    if detected < len(rows):
        raise SystemExit("some mutants survived")


def measure(trees: Sequence[Tree], mutants: Sequence[Mutant]) -> list[dict[str, str | bool]]:
    """One row per mutant, in order; SystemExit if a test fails on the unchanged tree."""
    for (test, _), (code, by) in in_trees(trees, lambda tree, item: tree.run(*item), selections(mutants)):
        if code:
            raise SystemExit(f"{test} does not pass on the unchanged tree ({by or code})")
        print(f"passes    {test}", flush=True)
    rows: list[dict[str, str | bool]] = []
    for mutant, (code, by) in in_trees(trees, detect, mutants):
        detected = code in (1, ENDED)
        rows.append({"file": mutant.file, "right": mutant.right, "wrong": mutant.wrong, "detected": detected, "by": by})
        word = "detected" if detected else "SURVIVED"
        print(f"{word}  {mutant.file}: {mutant.right}  ->  {mutant.wrong}  ({by or code})", flush=True)
    return rows


def write(path: Path, rows: Sequence[dict[str, str | bool]], seconds: float) -> None:
    """Write what a complete run found."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT)
    report = {
        "command": "python tools/mutation_test.py",
        "commit": git.stdout.strip(),
        "date": str(date.today()),
        "seconds": round(seconds),
        "detected": sum(bool(row["detected"]) for row in rows),
        "mutants": rows,
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
