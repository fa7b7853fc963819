"""Cluster the standard errors of results that were measured before studies did so, and write their tables again.

    python tools/clustered_errors.py

The results of the studies of objects and scenes hold the mean of every method for every prompt, or scene. With equally
many cases in every cluster, the clustered standard error of a difference depends on these alone:

    SE^2 = sum_g (d_g - d)^2 / (G (G - 1)),    d_g = mean of the method in cluster g - mean of the other one
"""

import json
import math
import statistics
from pathlib import Path
from typing import Any

from scoredistill.files import write_json, write_text
from scoredistill.studies.harness.statistics import is_number
from scoredistill.studies.harness.tables import Tables
from scoredistill.studies.scene_editing.tables import tables as scenes
from scoredistill.studies.text_to_3d.tables import tables as objects

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
STUDIES: dict[str, tuple[str, Tables]] = {"objects": ("by_prompt", objects), "scenes": ("by_scene", scenes)}


def clustered(results: dict[str, Any], by: str) -> dict[str, Any]:
    """The paired differences with standard errors clustered by prompt or scene.

    Raises:
        ValueError: if the clusters do not give the differences of the results, as where a job failed.
    """
    made: dict[str, Any] = {}
    for pair, cells in results["paired"].items():
        a, b = pair.split(" - ")
        made[pair] = {}
        for metric, cell in cells.items():
            each = [found[a][metric]["mean"] - found[b][metric]["mean"] for found in results[by].values()]
            mean, groups = statistics.fmean(each), len(each)
            if not all(map(is_number, each)) or not math.isclose(mean, cell["mean"], rel_tol=1e-6, abs_tol=1e-9):
                raise ValueError(f"{pair}, {metric}: the means of the clusters are not those of all cases")
            made[pair][metric] = {**cell, "std": statistics.stdev(each) / math.sqrt(groups), "clusters": groups}
    return made


if __name__ == "__main__":
    for name, (by, tables) in STUDIES.items():
        folder = RESULTS / name
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        results["paired"] = clustered(results, by)
        write_json(folder / "results.json", results)
        write_text(folder / "tables.md", tables(results))
