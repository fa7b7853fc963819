"""Imports only point upwards: each module uses what stands before it in this list."""

import ast
from pathlib import Path

import scoredistill

LAYERS = [
    "schedule",
    "clock",
    "camera",
    "volume",
    "edits",
    "layout",
    "priors",
    "sampling",
    "kernels",
    "encodings",
    "splat",
    "estimators",
    "generators",
    "loop",
    "chart",
    "pictures",
]
LAYERS += ["photograph", "capture", "studio", "mesh", "video", "turntable", "viewer", "motion"]
LAYERS += ["checkpoint", "embed", "report", "metrics", "fitting", "tasks", "cli"]
ROOT = Path(scoredistill.__file__).parent


def test_imports_point_upwards():
    wrong = []
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).with_suffix("").parts[0]
        if own == "__init__" or "train" in path.parts or "evaluate" in path.parts:  # training is a program, not a layer
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
