"""Imports only point upwards: each module uses what stands before it in this list."""

import ast
from pathlib import Path

import scoredistill

LAYERS = ["schedule", "clock", "priors", "sampling", "kernels", "estimators", "generators", "loop", "chart", "pictures"]
LAYERS += ["checkpoint", "report", "metrics", "tasks", "cli"]
ROOT = Path(scoredistill.__file__).parent


def test_imports_point_upwards():
    wrong = []
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).with_suffix("").parts[0]
        if own == "__init__" or "train" in path.parts or path.stem == "evaluate":  # training is a program, not a layer
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scoredistill."):
                used = node.module.split(".")[1]
                if LAYERS.index(used) > LAYERS.index(own):
                    wrong.append(f"{path.relative_to(ROOT)} imports {used}")
    assert wrong == []
