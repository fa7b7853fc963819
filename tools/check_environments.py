"""Run the tests of security and of priors with the oldest and the newest dependencies that pyproject.toml admits.

    python tools/check_environments.py                              # both; writes docs/results/environments.json
    python tools/check_environments.py --only oldest                # one of them; the other's results stay
    python tools/check_environments.py --torch 2.4.0                # with another torch, which is downloaded

Each environment is a new venv in --folder. The oldest has the lower bounds of all dependencies and of the extras video
and nerf's viewer, the newest has no bounds; packages of the tests themselves are the newest. Unless --torch names a
version, torch is that of this Python, by links, since it takes a gigabyte.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import venv
from datetime import date
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "environments.json"
TESTS = (
    "tests/priors/pipelines/test_trusted.py", "tests/priors/pipelines/test_weight_files.py", "tests/test_security.py",
    "tests/media/test_limits.py", "tests/media/test_metadata.py", "tests/media/test_image_files.py",
    "tests/media/test_color_tags.py", "tests/three_d/test_viewer.py", "tests/three_d/test_capture_outside.py",
    "tests/priors/pipelines/test_seams.py", "tests/priors/pipelines/test_load.py",
)  # fmt: skip
"""Hostile model folders, images, captures and messages of the viewer; and what of diffusers the priors rely on."""
SHARED = ("torch", "torchgen", "functorch", "torch-*.dist-info")
OPTIONAL = ("av", "viser")  # of the extras, what these tests need
SHOWN = ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "safetensors", "pillow", "numpy", "av")
PLAIN = ("-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib")
COUNTED = ("passed", "failed", "error", "errors", "skipped")
OF_TESTS = ("pytest", "pytest-timeout", "hypothesis", "beartype", "websockets", "plyfile")
OF_TORCH = ("filelock", "fsspec", "jinja2", "networkx", "sympy", "typing_extensions", "setuptools")


def requirements(oldest: bool, torch: str | None) -> list[str]:
    """What is installed: the lower bounds of the dependencies, or their names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"]]
    named += [each for extra in ("video", "nerf") for each in project["optional-dependencies"][extra]]
    made: list[str] = []
    for each in dict.fromkeys(named):
        name, _, bound = each.partition(">=")
        if name == "torch":
            made += [] if torch is None else [f"torch=={torch}"]
        elif each in project["dependencies"] or name in OPTIONAL:
            made.append(f"{name}=={bound}" if oldest and bound else name)
    return [*made, *OF_TESTS, *(OF_TORCH if torch is None else ())]


def created(folder: Path, oldest: bool, torch: str | None) -> Path:
    """A new venv; returns its Python.

    Raises:
        RuntimeError: with the last words of pip, if the versions cannot be installed together.
    """
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    place = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    if torch is None:
        for pattern in SHARED:
            for each in Path(sysconfig.get_path("purelib")).glob(pattern):
                (place / each.name).symlink_to(each)
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements(oldest, torch)]
    ended = subprocess.run(install, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError("; ".join(line for line in ended.stderr.splitlines() if line.startswith("ERROR")))
    return python


def tested(python: Path, tests: list[str]) -> dict[str, Any]:
    """Versions, and the number of tests that passed, failed and were skipped."""
    ask = "import json, sys; from importlib.metadata import version; "
    ask += "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    found: dict[str, Any] = {"versions": json.loads(subprocess.check_output([python, "-c", ask, *SHOWN], text=True))}
    run = [python, "-m", "pytest", "-q", "-rfE", "--continue-on-collection-errors", *PLAIN, *tests]
    clean = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.defpath, "OMP_NUM_THREADS": "1", "HOME": str(python.parent)}
    started = time.perf_counter()
    ended = subprocess.run(run, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", ended.stdout)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    if not counts:
        found["said"] = (ended.stdout + ended.stderr)[-1500:]
    return {**found, **counts, "failing": failed, "seconds": round(time.perf_counter() - started)}


def main() -> None:
    """Check the environments, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("oldest", "newest"), help="one environment")
    parser.add_argument("--torch", help="version of torch to install; that of this Python by default")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "environments", help="where the venvs are made")
    parser.add_argument("--keep", action="store_true", help="use venvs that are in --folder again")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--tests", nargs="+", default=list(TESTS))
    asked = parser.parse_args()
    results: dict[str, Any] = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.is_file() else {}
    for name in ("oldest", "newest") if asked.only is None else (asked.only,):
        key = name if asked.torch is None else f"{name}, torch {asked.torch}"
        try:
            folder = asked.folder / name
            there = asked.keep and folder.is_dir()
            python = folder / "bin" / "python" if there else created(folder, name == "oldest", asked.torch)
            found = tested(python, asked.tests)
        except RuntimeError as error:
            found = {"not installed": str(error)}
        version = ".".join(map(str, sys.version_info[:3]))
        results[key] = {"date": str(date.today()), "python": version, "tests": asked.tests, **found}
        asked.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        versions = ", ".join(f"{each} {version}" for each, version in found.get("versions", {}).items())
        counts = ", ".join(f"{found[kind]} {kind}" for kind in COUNTED if kind in found)
        print(f"{key}: {counts or found.get('not installed') or found.get('said')}\n  {versions}")
        for each in found.get("failing", ()):
            print(f"  {each}")


if __name__ == "__main__":
    main()
