"""Imports only point upwards: each module uses what stands before it in this list."""

import ast
from pathlib import Path

import scoredistill

LAYERS = [
    "schedule",
    "rng",
    "files",
    "optional",
    "pretrained",
    "kernels",
    "window_grid",
    "times",
    "checkpoint",
    "media",
    "reports",
    "priors",
    "metrics",
    "sampling",
    "estimators",
    "generators",
    "loop",
    "three_d",
    "datasets",
    "training",
    "tasks",
    "studies",
    "cli",
]
ROOT = Path(scoredistill.__file__).parent


def test_imports_point_upwards():
    wrong = []
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if modules == ["scoredistill"]:
                modules = [f"scoredistill.{alias.name}" for alias in node.names if alias.name != "__version__"]
            for used in (module.split(".")[1] for module in modules if module.startswith("scoredistill.")):
                if LAYERS.index(used) > LAYERS.index(own):
                    wrong.append(f"{path.relative_to(ROOT)} imports {used}")
    assert wrong == []
