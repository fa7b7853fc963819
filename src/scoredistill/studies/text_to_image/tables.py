"""Tables of the text-to-image study, for the report and for tables.md."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.harness.tables import Results, Row, Section, Tables, seeds_note
from scoredistill.studies.text_to_image.claims import TABLE3, claims, plus_minus
from scoredistill.studies.text_to_image.gather import BANDWIDTH

RULE = (
    "By the means alone. Standard deviations overlap where two means differ by no more than the sum of their standard "
    "deviations."
)

Block = Mapping[str, Any]


def extent(results: Results) -> str:
    """How much was measured, and what the deviations and the FID are."""
    setting = results["setting"]
    return (
        f"Prior {setting['prior']}, {len(setting['prompts'])} prompts, {setting['seeds']} seeds{seeds_note(setting)}, "
        f"{setting['references']} DDIM samples of each prompt. ± is the standard deviation over sets of one image of "
        "each prompt; of MMD, precision, recall, coverage and diversity it is over prompts, of the distance over "
        "images. FID is in the features of CLIP, the published one in those of Inception: only the order can be "
        f"compared. {mmd_note(results)}"
    )


def mmd_note(results: Results) -> str:
    """What the MMD is, or why there is none: results of older versions have a kernel distance (KID) instead."""
    found = [method for block in results.get("blocks", {}).values() for method in block["methods"].values()]
    if any("kid" in method for method in found) and not any("mmd" in method for method in found):
        return (
            "This run has no MMD: its version measured KID, which on unit features says nothing beyond their mean and "
            "is not zero for equal distributions, so it is not shown."
        )
    return (
        f"MMD: 1000 times the unbiased squared MMD of an RBF kernel of bandwidth {BANDWIDTH:g}, in the same features, "
        "between the images and the DDIM samples of a prompt; 0 on average for equal distributions, so at times "
        "negative."
    )


def sections(results: Results) -> list[Section]:
    """The claims, then metrics and NFE to SDS's distance of each block, bandwidths and gradients."""
    made = [claims_section(results)]
    for name, block in results.get("blocks", {}).items():
        title = f"{name}: {block['setting']['description']}"
        made.append(Section(title, "", block_rows(block, published=not block["setting"]["ideal"])))
        made.append(Section("", "NFE until the FID is at or below SDS's final one:", sds_rows(block)))
    probes = {"Bandwidths": bandwidth_rows, "Gradients": gradient_rows}
    for title, rows_of in probes.items():
        found = results.get(title.lower(), {})
        made += [Section(f"{title}: {prompt}", "", rows_of(each)) for prompt, each in found.items()]
    return made


def claims_section(results: Results) -> Section:
    """The claims with our numbers and verdicts."""
    return Section("Claims", RULE, claims(results))


def block_rows(block: Block, published: bool) -> list[Row]:
    """All metrics of each method, beside the published ones if `published`."""
    made = []
    for method, found in block["methods"].items():
        row = {"method": method, **quality(found), **variety(found), **cost(found)}
        made.append(row | published_cells(method) if published else row)
    return made


def published_cells(method: str) -> Row:
    """The published metrics of a method, with their decimals; empty where there are none."""
    line = TABLE3.get(method, {})
    forms = {"fid": ("published FID", ".2f"), "clip_sim": ("published CLIP-SIM", ".1f")}
    return {title: format(line[key], form) if key in line else "" for key, (title, form) in forms.items()}


def quality(found: Mapping[str, Any]) -> Row:
    """How near the images are to the DDIM samples and to the text."""
    row: Row = {"FID": plus_minus(found, "fid"), "pooled FID": found["fid_pooled"]}
    if "kid" not in found:  # results of older versions have no MMD
        row["MMD"] = plus_minus(found, "mmd") if "mmd" in found else "–"
    for kind in ("EfficientNet", "Inception"):
        if f"fid_{kind.lower()}" in found:
            row[f"FID ({kind})"] = plus_minus(found, f"fid_{kind.lower()}")
    return row | {"CLIP-SIM": plus_minus(found, "clip_sim")}


def variety(found: Mapping[str, Any]) -> Row:
    """Fractions and distances; a dash where one image of a prompt is not enough."""
    row: Row = {}
    for name in ("precision", "recall", "coverage", "diversity"):
        single = name in ("recall", "diversity") and found["images"] < 2
        row[name] = "–" if single else plus_minus(found, name)
    return row | ({"distance": plus_minus(found, "distance")} if "distance" in found else {})


def cost(found: Mapping[str, Any]) -> Row:
    """The cost of an image."""
    return {"NFE": round(found["nfe"]), "calls": round(found["calls"]), "seconds": found["seconds"]}


def sds_rows(block: Block) -> list[Row]:
    """The NFE after which each method is at SDS's final FID, and the fraction of SDS's own NFE that this is."""
    reached = block.get("rows_to_sds", {})
    whole = block["methods"]["sds"]["nfe"] if reached else 0
    return [
        {
            "method": method,
            "NFE to SDS's FID": "never" if rows is None else f"{rows:.0f}",
            "of SDS's NFE": "" if rows is None else f"{rows / whole:.3f}",
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
    """One line per method: relative spread of a gradient, and cosine of its mean with mean shift."""
    made = []
    for method, levels in found["methods"].items():
        row: Row = {"method": method}
        for level, cell in zip(found["levels"], levels, strict=True):
            row |= {f"{name}, r {level:g}": f"{cell[name]:.3f}" for name in ("spread", "cosine")}
        if "rows" in levels[0]:
            row["batch rows"] = f"{levels[0]['rows']:g}"
        made.append(row)
    return made


tables = Tables("Tables of the text-to-image study", extent, sections)
