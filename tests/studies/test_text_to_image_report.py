"""The reports of the study of images: numbers stand in their cells, verdicts follow the numbers, gaps do no harm."""

import copy
import json
import re

import numpy as np
import pytest
from PIL import Image

from scoredistill.files import slug
from scoredistill.studies.harness.claims import FAILS, HOLDS, MISSING
from scoredistill.studies.text_to_image.claims import TABLE3, claims, plus_minus
from scoredistill.studies.text_to_image.report import TRUTH, report
from scoredistill.studies.text_to_image.tables import tables as markdown

PROMPTS = ("a hamburger", "a tulip", "a bird")
FID = {"ddim": 0.1, "sds": 0.9, "sdi": 0.7, "msd": 0.4, "msd_mean": 0.41, "collaborative": 0.42, "msd_paper": 0.6}
CLIP = {"ddim": 30.0, "sds": 24.0, "sdi": 26.0, "msd": 28.0, "msd_mean": 28.1, "collaborative": 28.2, "msd_paper": 27.0}


def figures(method, images, **more):
    """Figures of a method, all different from each other."""
    pairs = {"fid": FID[method], "mmd": 100 * FID[method], "clip_sim": CLIP[method], "precision": 0.9}
    pairs |= {"recall": 0.2 if method != "collaborative" else 0.5, "coverage": 0.55, "diversity": 0.33}
    found = {name: {"mean": value, "std": 0.01 * value} for name, value in pairs.items()}
    found |= {"fid_pooled": 0.7 * FID[method], "nfe": 800.0 if method == "sds" else 48.0, "calls": 24.0, "encoded": 1.0}
    found |= {"decoded": 2.0, "seconds": 1.234, "steps": 24.0, "guidance": 7.5, "lr": 0.01, "images": images}
    return found | more


def block(image, methods, rows=None, images=3, ideal=False, name=None):
    curves = {m: {"nfe": [24, 48], "fid": [1.0, FID[m]], "clip_sim": [20.0, CLIP[m]]} for m in methods if m != "ddim"}
    reached = {"rows_to_sds": {"sds": 800.0, "msd": 96.0, "sdi": None}} if "sds" in methods else {}
    return reached | {
        "setting": {"description": f"about {image}", "image": image, "rows": rows, "images": images, "ideal": ideal},
        "methods": {m: figures(m, images) for m in methods},
        "curves": curves | {"ddim": {"nfe": [], "fid": [], "clip_sim": []}},
        "files": {m: f"{name or image}-{m}" for m in methods},
    }


@pytest.fixture
def results():
    """All parts that a study can have."""
    trio = ("ddim", "sds", "sdi", "msd")
    cells = [{"apart": 0.125, "away": 0.25}, {"apart": 0.375, "away": 0.5}]
    gradient = [{"spread": 3.5, "cosine": 0.75, "histogram": [0.25, 0.75]}]
    return {
        "setting": {
            **{"prior": "emoji", "prompts": list(PROMPTS), "methods": list(FID), "seeds": 3, "blocks": ["mlp"]},
            **{"clip": None, "quick": False, "references": 8},
        },
        "command": "scoredistill images",
        **{"date": "2026-01-02", "version": "1.2.3", "seconds": 12.5, "failed": {"mlp-vsd-3-a_bird": "nan | broken"}},
        "blocks": {
            "mlp": block("mlp", trio),
            "latents": block("latents", trio),
            "equal": block("mlp", ("msd", "msd_paper"), rows=48, name="equal"),
            "ideal": block("latents", (*trio, "msd_mean", "collaborative"), images=4, ideal=True, name="ideal"),
        },
        "bandwidths": {
            "a_bird": {
                "bandwidths": [0.5],
                "states": [0.25, 1.0],
                "cells": {"0.5": cells},
                "follows": {"0.5": 0.375},
                "image": "bandwidths.png",
            }
        },
        "gradients": {"a_tulip": {"levels": [0.5], "bins": [-1, 0, 1], "methods": {"sds": gradient, "sdi": gradient}}},
    }


@pytest.fixture
def out(tmp_path):
    """Images of one color each: the truth is green, methods are red."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, prompt in enumerate(PROMPTS):
        for stem in ("reference", *(f"{name}-{m}" for name in ("mlp", "latents", "equal", "ideal") for m in FID)):
            pixels = np.zeros((2, 16, 16, 3), np.uint8)
            pixels[0, ..., int(stem == "reference")] = 100 + i
            np.savez(folder / f"{stem}-{slug(prompt)}.npz", pixels=pixels, clip=rng.normal(size=(2, 4)))
    Image.new("RGB", (200, 50), "blue").save(folder / "bandwidths.png")
    return tmp_path


def tables(text):
    """Per heading of Markdown the lines of the first table below it, each a dictionary."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        heading, _, body = section.partition("\n")
        first = next(part for part in body.strip().split("\n\n") if part.startswith("|")).splitlines()
        head, _, *lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in first]
        found[heading] = [dict(zip(head, line, strict=True)) for line in lines]
    return found


def verdicts(results):
    return {claim["claim"]: claim["verdict"] for claim in claims(results)}


FID_ORDER, CLIP_ORDER = "FID: sds > sdi > msd", "CLIP-SIM: msd > sdi > sds"
EQUAL = "FID at equal NFE: msd < msd_paper"
SOONER = "msd on mlp reaches SDS's final FID in 1/3 of its NFE"
MUCH_SOONER = "msd on latents reaches SDS's final FID in 1/8 of its NFE"
VARIED = "collaborative has at least twice the recall of msd_mean and at most 0.05 less precision"


def test_markdown_has_every_number_in_its_cell(results):
    results["blocks"]["mlp"]["methods"]["sdi"]["fid_efficientnet"] = {"mean": 12.5, "std": 0.25}
    results["blocks"]["ideal"]["methods"]["msd"]["distance"] = {"mean": 0.0625, "std": 0.0312}
    found = tables(markdown(results))
    sds, sdi = (next(row for row in found["mlp: about mlp"] if row["method"] == m) for m in ("sds", "sdi"))
    assert sds == {
        **{"method": "sds", "FID": "0.900 ± 0.009", "pooled FID": "0.630", "MMD": "90.0 ± 0.9"},
        **{"CLIP-SIM": "24.0 ± 0.2", "precision": "0.900 ± 0.009", "recall": "0.200 ± 0.002"},
        **{"coverage": "0.550 ± 0.006", "diversity": "0.330 ± 0.003", "NFE": "800", "calls": "24"},
        **{"seconds": "1.23", "published FID": "198.90", "published CLIP-SIM": "27.7", "FID (EfficientNet)": ""},
    }
    assert (sdi["FID (EfficientNet)"], sdi["published FID"]) == ("12.5 ± 0.2", "166.16")
    ideal = {row["method"]: row for row in found["ideal: about latents"]}
    assert ideal["msd"]["distance"] == "0.0625 ± 0.0312"
    assert ideal["sds"]["distance"] == ""
    assert "published FID" not in ideal["sds"]
    assert found["Bandwidths: a_bird"] == [
        {
            "bandwidth": "0.5",
            "apart, 25%": "0.125",
            "away, 25%": "0.250",
            "apart, 100%": "0.375",
            "away, 100%": "0.500",
            "follows x": "0.375",
        }
    ]
    assert found["Gradients: a_tulip"][0] == {"method": "sds", "spread, r 0.5": "3.500", "cosine, r 0.5": "0.750"}
    assert found["Failed jobs"] == [{"job": "mlp-vsd-3-a_bird", "error": "nan \\| broken"}]


def test_results_of_older_versions_are_shown_without_their_kernel_distance(results):
    for methods in (each["methods"] for each in results["blocks"].values()):
        for found in methods.values():
            found["kid"] = found.pop("mmd")
    text = markdown(results)
    assert "This run has no MMD" in text
    assert not {"MMD", "KID"} & set(tables(text)["mlp: about mlp"][0])


def test_nfe_to_sds_and_its_fraction(results):
    text = markdown(results)
    assert "| msd | 96 | 0.120 |" in text
    assert "| sdi | never |  |" in text


def test_one_set_has_no_deviation_and_one_image_no_recall(results):
    results["blocks"] = {"mlp": block("mlp", ("ddim", "sds"), images=1)}
    row = tables(markdown(results))["mlp: about mlp"][1]
    assert [row[name] for name in ("FID", "CLIP-SIM", "recall", "diversity")] == ["0.900", "24.0", "–", "–"]
    assert row["precision"] == "0.900 ± 0.009"  # over prompts


def test_all_claims_hold_where_the_numbers_say_so(results):
    assert verdicts(results) == {
        **{f"{claim} ({name})": HOLDS for claim in (FID_ORDER, CLIP_ORDER) for name in ("mlp", "latents")},
        **{
            f"{EQUAL} (equal)": HOLDS,
            f"{SOONER} (mlp)": HOLDS,
            f"{MUCH_SOONER} (latents)": HOLDS,
            f"{MUCH_SOONER} (ideal)": HOLDS,
        },
        f"{VARIED} (ideal)": HOLDS,
    }


@pytest.mark.parametrize(
    ("claim", "name", "path", "value"),
    [
        (FID_ORDER, "mlp", ("methods", "sdi", "fid", "mean"), 0.95),
        (FID_ORDER, "latents", ("methods", "msd", "fid", "mean"), 0.71),
        (CLIP_ORDER, "mlp", ("methods", "msd", "clip_sim", "mean"), 25.9),
        (CLIP_ORDER, "latents", ("methods", "sds", "clip_sim", "mean"), 26.1),
        (EQUAL, "equal", ("methods", "msd_paper", "fid", "mean"), 0.39),
        (SOONER, "mlp", ("rows_to_sds", "msd"), 267.0),
        (SOONER, "mlp", ("rows_to_sds", "msd"), None),
        (MUCH_SOONER, "latents", ("rows_to_sds", "msd"), 101.0),
        (VARIED, "ideal", ("methods", "collaborative", "recall", "mean"), 0.39),
        (VARIED, "ideal", ("methods", "collaborative", "precision", "mean"), 0.84),
    ],
)
def test_a_verdict_flips_with_its_number_and_no_other_does(results, claim, name, path, value):
    before, changed = verdicts(results), copy.deepcopy(results)
    *way, last = path
    cell = changed["blocks"][name]
    for key in way:
        cell = cell[key]
    cell[last] = value
    after = verdicts(changed)
    assert {key for key in before if before[key] != after[key]} == {f"{claim} ({name})"}
    assert after[f"{claim} ({name})"] == FAILS


def test_limits_of_claims_are_inclusive(results):
    """A third of 800 rows is 266.7, an eighth is 100; recall .4 is twice .2, precision .85 is .05 below .9."""
    blocks = results["blocks"]
    blocks["mlp"]["rows_to_sds"]["msd"], blocks["latents"]["rows_to_sds"]["msd"] = 266.0, 100.0
    united = blocks["ideal"]["methods"]["collaborative"]
    united["recall"]["mean"], united["precision"]["mean"] = 0.4, 0.85
    assert set(verdicts(results).values()) == {HOLDS}


def test_no_recall_at_all_is_not_twice_as_much(results):
    for method in ("collaborative", "msd_mean"):
        results["blocks"]["ideal"]["methods"][method]["recall"]["mean"] = 0.0
    assert verdicts(results)[f"{VARIED} (ideal)"] == FAILS


def test_what_was_not_measured_has_no_verdict(results):
    quick = copy.deepcopy(results)
    quick["blocks"] = {"mlp": block("mlp", ("ddim", "sds", "msd"))}
    del quick["blocks"]["mlp"]["rows_to_sds"]
    assert verdicts(quick) == dict.fromkeys(
        [f"{FID_ORDER} (mlp)", f"{CLIP_ORDER} (mlp)", EQUAL, f"{SOONER} (mlp)", MUCH_SOONER, VARIED], MISSING
    )
    assert claims(quick)[0]["ours"] == "no sdi"
    assert set(verdicts({**results, "blocks": {}}).values()) == {MISSING}
    rows = tables(markdown(quick))["Claims"]
    assert [row["verdict"] for row in rows] == ["not measured"] * 6


def test_overlapping_bars_are_told(results):
    assert "overlap" not in claims(results)[0]["ours"]
    results["blocks"]["mlp"]["methods"]["sdi"]["fid"]["std"] = 0.3
    assert "(standard deviations of sds and sdi, sdi and msd overlap)" in claims(results)[0]["ours"]
    for found in results["blocks"]["mlp"]["methods"].values():
        found["images"] = 1  # one set of images has no standard deviation
    assert "overlap" not in claims(results)[0]["ours"]


def test_a_mean_shares_the_decimals_of_a_larger_deviation():
    assert plus_minus({"mmd": {"mean": 0.012, "std": 15.1}, "images": 3}, "mmd") == "0.0 ± 15.1"


def test_the_page_shows_claims_first_and_the_papers_numbers_once(results, out):
    html = report(json.loads(json.dumps(results)), out).read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings[:3] == ["Claims", "mlp: about mlp", "latents: about latents"]
    assert headings[-4:] == ["Bandwidths", "Gradients", "Failed jobs", "Setting"]
    assert [html.count(f">{TABLE3[m]['fid']:.2f}<") for m in ("sds", "sdi", "msd")] == [1, 1, 1]
    assert html.count("ddim (level)") >= 2
    assert html.count("<svg class=") == 2 * 4 + 1  # two charts a block, one of gradients
    assert html.count(f"<th>{TRUTH}</th>") == 4
    assert html.count("<img") == 3 * (5 + 5 + 3 + 7) + 1  # the image grids with the truth, and the bandwidths


def test_ddim_is_a_level_from_end_to_end(results, out):
    results["blocks"] = {"mlp": block("mlp", ("ddim", "sds"))}
    html = report(results, out).read_text()
    series = re.findall(r'<title>(.*?)</title><path d="M([\d.]+),([\d.]+)L([\d.]+),([\d.]+)"', html)
    sds, ddim = (next(line for line in series if line[0] == name) for name in ("sds", "ddim (level)"))
    assert ddim[1::2] == sds[1::2]  # the same first and last place
    assert ddim[2] == ddim[4] != sds[4]


def test_the_image_grid_is_enlarged_and_starts_with_the_truth(results, out):
    report(results, out)
    with Image.open(out / "image_grid.png") as image_grid:
        assert image_grid.size == (3 * (32 + 4) + 4, 5 * (32 + 16 + 4) + 4)
        assert [image_grid.getpixel((20 + 36 * i, 20)) for i in range(3)] == [(0, 100 + i, 0) for i in range(3)]
        assert [image_grid.getpixel((20 + 36 * i, 20 + 52)) for i in range(3)] == [(100 + i, 0, 0) for i in range(3)]


@pytest.mark.parametrize("part", ["blocks", "bandwidths", "gradients", "failed"])
def test_a_missing_part_does_no_harm(results, out, part):
    whole = report(results, out).read_text()
    del results[part]
    assert len(report(results, out).read_text()) < len(whole)
    assert markdown(results).startswith("# Tables")


def test_missing_images_leave_a_gap(results, out):
    for file in (out / "images").glob("mlp-sdi-*"):
        file.unlink()
    (out / "images" / "mlp-sds-a_tulip.npz").unlink()
    (out / "images" / "bandwidths.png").unlink()
    results["blocks"] = {"mlp": results["blocks"]["mlp"]}
    html = report(results, out).read_text()
    assert html.count("<img") == 3 * 4
    with Image.open(out / "image_grid.png") as image_grid:
        assert image_grid.size[1] > 4 * 52
