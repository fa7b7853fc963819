"""Write constraints.txt: the exact version of every package that scoredistill and its extras install.

    make constraints                                     # versions that are listed stay, new dependencies are added
    .venv/bin/python tools/constraints.py --upgrade      # the newest versions of all packages but torch

pip resolves the dependencies without installing anything; the file gets names and versions only. A release that needs a
newer Python than the oldest one supported carries a marker, so that older Pythons install the newest release they can.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST = (3, 10)
PINNED = "torch"  # upgraded on purpose only: results depend on it
EXCLUDED = re.compile(
    r"scoredistill|pip|setuptools|wheel|triton|nvidia-.*|cuda-.*"
)  # torch pins its CUDA packages itself
HEADER = """\
# Exact versions, for `pip install -c constraints.txt`; written by `make constraints`, tested on Python 3.11. Where a
# release needs a newer Python, an older Python takes the newest release that it can.
"""


def canonical(name: str) -> str:
    """The form in which names of packages are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(constraints: str) -> list[dict[str, Any]]:
    """Metadata of every package that an installation with all extras would install."""
    with tempfile.TemporaryDirectory() as folder:
        pins, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        pins.write_text(constraints)
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--quiet",
            "-c",
            str(pins),
        ]
        subprocess.run([*command, "--report", str(report), f"{ROOT}[{','.join(extras())}]"], check=True)
        return [package["metadata"] for package in json.loads(report.read_text())["install"]]


def extras() -> list[str]:
    """Names of the extras in pyproject.toml."""
    section = (
        (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2].partition("\n\n")[0]
    )
    return re.findall(r"^(\w+) =", section, re.MULTILINE)


def line(package: dict[str, Any]) -> str:
    """`name==version`, with a marker if the release does not support the oldest Python."""
    lowest = re.search(r">=\s*3\.(\d+)", package.get("requires_python") or "")
    marker = f' ; python_version >= "3.{lowest[1]}"' if lowest and (3, int(lowest[1])) > OLDEST else ""
    return f"{package['name']}=={package['version'].partition('+')[0]}{marker}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help=f"take the newest version of all packages but {PINNED}")
    upgrade = parser.parse_args().upgrade
    listed = [entry for entry in CONSTRAINTS.read_text().splitlines() if entry and not entry.startswith("#")]
    known = {entry.partition(";")[0].strip(): entry for entry in listed}
    kept = [entry for entry in listed if not upgrade or entry.startswith(f"{PINNED}==")]
    lines = [
        line(package) for package in resolve("\n".join(kept)) if not EXCLUDED.fullmatch(canonical(package["name"]))
    ]
    lines = [
        known.get(entry.partition(";")[0].strip(), entry) for entry in lines
    ]  # unchanged versions keep their marker
    CONSTRAINTS.write_text(HEADER + "\n".join(sorted(lines, key=str.lower)) + "\n")


if __name__ == "__main__":
    main()
