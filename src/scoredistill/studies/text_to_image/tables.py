"""The tables of the study of images, for both reports: as rows, and as Markdown where a page cannot be opened."""

from collections.abc import Mapping, Sequence
from typing import Any

from scoredistill.studies.harness.statistics import digits
from scoredistill.studies.text_to_image.claims import TABLE3, claims, plus_minus

Row = dict[str, object]
SAYS = {True: "holds", False: "does not hold", None: "not measured"}


def markdown(results: Mapping[str, Any]) -> str:
    """The claims, then figures and rows to SDS's distance of each block, bandwidths, gradients and failures."""
    setting = results["setting"]
    parts = [
        "# Tables of the study of images",
        f"`{results['command']}`, {results['date']}, version {results['version']}, prior {setting['prior']}, "
        f"{len(setting['prompts'])} prompts, {setting['seeds']} seeds, {setting['references']} DDIM samples of each "
        "prompt. ± is the standard deviation over sets of one image of each prompt; of precision, recall, coverage "
        "and diversity it is over prompts, of the distance over images. FID is in the judge's features, the "
        "paper's in Inception's: only the order can be compared.",
    ]
    parts += ["## Claims", _table(claim_rows(results))]
    for name, block in results.get("blocks", {}).items():
        parts += [f"## {name}: {block['setting']['says']}", _table(block_rows(block, not block["setting"]["ideal"]))]
        if rows := sds_rows(block):
            parts += ["Network rows until the FID is at or below SDS's final one:", _table(rows)]
    for prompt, found in results.get("bandwidths", {}).items():
        parts += [f"## Bandwidths: {prompt}", _table(bandwidth_rows(found))]
    for prompt, found in results.get("gradients", {}).items():
        parts += [f"## Gradients: {prompt}", _table(gradient_rows(found))]
    if results.get("failed"):
        parts += ["## What broke down", _table(failure_rows(results))]
    return "\n\n".join(parts) + "\n"


def claim_rows(results: Mapping[str, Any]) -> list[Row]:
    """All claims with our numbers and verdicts."""
    return [{"claim": c["claim"], "ours": c["ours"], "verdict": SAYS[c["holds"]]} for c in claims(results)]


def block_rows(block: Mapping[str, Any], paper: bool) -> list[Row]:
    """All figures of each method, beside the paper's if asked for."""
    made = []
    for method, found in block["methods"].items():
        row = {"method": method, **quality(found), **variety(found), **cost(found)}
        made.append(row | printed(method) if paper else row)
    return made


def printed(method: str) -> Row:
    """The paper's figures of a method as it prints them, empty where it has none."""
    line = TABLE3.get(method, {})
    forms = {"fid": ("paper FID", ".2f"), "clip_sim": ("paper CLIP-SIM", ".1f")}
    return {title: format(line[key], form) if key in line else "" for key, (title, form) in forms.items()}


def quality(found: Mapping[str, Any]) -> Row:
    """How near the images are to the DDIM samples and to the text."""
    row: Row = {"FID": plus_minus(found, "fid"), "pooled FID": found["fid_pooled"]}
    row["KID"] = plus_minus(found, "kid")
    for kind in ("EfficientNet", "Inception"):
        if f"fid_{kind.lower()}" in found:
            row[f"FID ({kind})"] = plus_minus(found, f"fid_{kind.lower()}")
    return row | {"CLIP-SIM": plus_minus(found, "clip_sim")}


def variety(found: Mapping[str, Any]) -> Row:
    """Shares and distances; a dash where one image of a prompt cannot tell."""
    row: Row = {}
    for name in ("precision", "recall", "coverage", "diversity"):
        alone = name in ("recall", "diversity") and found["images"] < 2
        row[name] = "–" if alone else plus_minus(found, name)
    return row | ({"distance": plus_minus(found, "distance")} if "distance" in found else {})


def cost(found: Mapping[str, Any]) -> Row:
    """What an image cost."""
    return {"NFE": round(found["nfe"]), "calls": round(found["calls"]), "seconds": found["seconds"]}


def sds_rows(block: Mapping[str, Any]) -> list[Row]:
    """Network rows after which each method is at SDS's final FID, and the share of SDS's own that this is."""
    reached = block.get("rows_to_sds", {})
    whole = block["methods"]["sds"]["nfe"] if reached else 0
    return [
        {
            "method": method,
            "rows to SDS's FID": "never" if rows is None else f"{rows:.0f}",
            "of SDS's rows": "" if rows is None else f"{rows / whole:.3f}",
        }
        for method, rows in reached.items()
    ]


def bandwidth_rows(found: Mapping[str, Any]) -> list[Row]:
    """One line per bandwidth: how far apart the drawn y are, and how far from x, at each state of the run."""
    made = []
    for bandwidth in found["bandwidths"]:
        row: Row = {"bandwidth": f"{bandwidth:g}"}
        for state, cell in zip(found["states"], found["cells"][f"{bandwidth:g}"], strict=True):
            row |= {f"{name.replace('_', ' ')}, {state:.0%}": f"{value:.3f}" for name, value in cell.items()}
        if "follows" in found:
            row["follows x"] = f"{found['follows'][f'{bandwidth:g}']:.3f}"
        made.append(row)
    return made


def gradient_rows(found: Mapping[str, Any]) -> list[Row]:
    """One line per method: relative spread of a gradient, cosine of its mean with mean shift, rows of a draw."""
    made = []
    for method, levels in found["methods"].items():
        row: Row = {"method": method}
        for level, cell in zip(found["levels"], levels, strict=True):
            row |= {f"{name}, r {level:g}": f"{cell[name]:.3f}" for name in ("spread", "cosine")}
        if "rows" in levels[0]:
            row["rows"] = f"{levels[0]['rows']:g}"
        made.append(row)
    return made


def failure_rows(results: Mapping[str, Any]) -> list[Row]:
    """What went wrong, by job."""
    return [{"job": job, "error": said} for job, said in results["failed"].items()]


def _table(rows: Sequence[Row]) -> str:
    """Columns in the order of first appearance; a missing cell stays empty."""
    head = list(dict.fromkeys(key for row in rows for key in row))
    lines = [head, ["---"] * len(head), *[[_cell(row.get(key, "")) for key in head] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    """A cell's text, which must hold neither a bar nor the end of a line."""
    text = digits(value) if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
