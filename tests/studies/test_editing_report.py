"""The reports of the study of edits: numbers stand in their cells, verdicts follow the numbers, gaps do no harm."""

import base64
import copy
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from scoredistill.files import slug
from scoredistill.studies.editing.claims import NOT_EQUAL, PUBLISHED, UNDECIDED, claims
from scoredistill.studies.editing.report import VIDEOS, report
from scoredistill.studies.editing.tables import tables as markdown
from scoredistill.studies.harness.claims import FAILS, HOLDS, MISSING, WITHIN

IMAGES, CLIPS, TEXTS = ("coast", "town"), ("walk",), ("make it night", "make it snowy")
NASTY = "</table><script>alert('1')</script> & \"quoted\""
IMAGE_METHODS = ("source", "truth", "csd", "uncoupled", "random_noise", "crops", "windows")
VIDEO_METHODS = ("source", "csd", "per_frame", "windows", "uncoupled")
SHARED = ("direction", "source", "truth_psnr", "consistency", "neighbor_distance", "rows", "update", "seconds")


def cell(mean, std=0.5, **more):
    return {"mean": mean, "std": std, **more}


def figures(i, *names):
    """Figures of the i-th method, all different from each other."""
    return {name: cell(100.0 + 10 * i + k, 0.25) for k, name in enumerate((*SHARED, *names))}


def paired(gain, direction=0.0):
    """csd's difference from a method: better by `gain` in everything, with a standard error of 1, on 40 images."""
    better = {"source": 1, "consistency": 1, "seam": -1, "warp_error": -1, "neighbor_distance": -1}
    return {name: cell(sign * gain, 1.0, n=80, clusters=40) for name, sign in better.items()} | {
        "direction": cell(direction, 1.0, n=80, clusters=40)
    }


@pytest.fixture
def results():
    """All parts that a study can have."""
    return {
        **{"command": "scoredistill edits --seed 0", "date": "2026-01-02", "version": "1.2.3", "seconds": 12.5},
        "failed": {"csd-coast-make_it_night": "nan | broken"},
        "setting": {
            **{"images": list(IMAGES), "instructions": list(TEXTS), "clips": list(CLIPS)},
            **{"quick": False, "rows": 900, "seeds": 1},
        },
        "images": {m: figures(i, "seam", "style") for i, m in enumerate(IMAGE_METHODS)},
        "videos": {m: figures(i, "warp_error") for i, m in enumerate(VIDEO_METHODS)},
        "tradeoff": {
            m: [{"text_scale": s, **{n: cell(s + i) for n in SHARED}} for s in (1.0, 3.0, 7.5)]
            for i, m in enumerate(("csd", "crops"))
        },
        "sweeps": {
            "kernel scale": [
                {"value": v, "label": f"{v} medians", "consistency": cell(90 + v, 0.1, n=4)} for v in (0.5, 1.0, 4.0)
            ],
            "kernel": [{"value": i, "label": name, "consistency": cell(90.0)} for i, name in enumerate(("RBF", "IMQ"))],
            "video kernel scale": [{"value": v, "consistency": cell(95 - v, 0.1, n=4)} for v in (0.5, 1.0)],
        },
        "paired": {
            "images": {m: paired(3.0) for m in ("crops", "windows", "uncoupled", "random_noise")},
            "videos": {m: paired(3.0) for m in ("per_frame", "windows", "uncoupled")},
        },
        "descriptions": {"csd": "coupled by a kernel", "crops": "separate crops"},
    }


@pytest.fixture
def folder(tmp_path):
    """Images of one color each, and videos that are no videos."""
    (tmp_path / "images").mkdir()
    for i, name in enumerate(IMAGES):
        stems = [f"source-{name}", *(f"{m}-{name}-{slug(t)}" for m in IMAGE_METHODS[1:] for t in TEXTS)]
        for j, stem in enumerate(stems):
            Image.new("RGB", (400, 200), (100 * i, 10 * j, 50)).save(tmp_path / "images" / f"{stem}.png")
    for name in CLIPS:
        stems = [f"source-{name}", *(f"{m}-{name}-{slug(t)}" for m in ("csd", "per_frame", "truth") for t in TEXTS)]
        for stem in stems:
            (tmp_path / "images" / f"{stem}.mp4").write_bytes(stem.encode())
    return tmp_path


def tables(text):
    """Per heading of Markdown the lines of the first table below it, each a dictionary."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        heading, _, body = section.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("|")]
        head, _, *rows = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        found[heading] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


def verdicts(results):
    return {row["claim"]: row["verdict"] for row in claims(results)}


AT = "at equal direction"
SEAM = f"images: csd has a lower seam than crops {AT}"
ALIKE = f"images: csd has a higher consistency than uncoupled {AT}"
STEADY = f"videos: csd has a lower warp error than per_frame {AT}"
KEEPS = "images: csd has a higher source similarity than random_noise"
WIDER, WIDER_VIDEOS = (f"{part}: consistency rises with the kernel scale" for part in ("images", "videos"))
PLACES = {
    SEAM: ("images", "crops", "seam", -1),
    ALIKE: ("images", "uncoupled", "consistency", 1),
    STEADY: ("videos", "per_frame", "warp_error", -1),
    KEEPS: ("images", "random_noise", "source", 1),
}


def test_all_claims_hold_where_the_numbers_say_so(results):
    found = verdicts(results)
    assert len(found) == 3 * 2 + 3 * 2 + 1 + 2
    assert found.pop(WIDER_VIDEOS) == FAILS
    assert set(found.values()) == {HOLDS}


@pytest.mark.parametrize("claim", PLACES)
@pytest.mark.parametrize(
    ("gain", "verdict"), [(2.1, HOLDS), (1.9, WITHIN), (2.0, WITHIN), (0.0, WITHIN), (-1.9, WITHIN), (-2.1, FAILS)]
)
def test_a_verdict_needs_two_standard_errors_and_no_other_changes(results, claim, gain, verdict):
    part, method, metric, better = PLACES[claim]
    before, changed = verdicts(results), copy.deepcopy(results)
    changed["paired"][part][method][metric]["mean"] = better * gain
    after = verdicts(changed)
    assert after[claim] == verdict
    assert {key for key in before if before[key] != after[key]} <= {claim}


@pytest.mark.parametrize(
    ("gain", "direction", "verdict"),
    [
        (3.0, -2.1, NOT_EQUAL),
        (3.0, -1.9, HOLDS),
        (3.0, 5.0, HOLDS),
        (-3.0, 2.1, NOT_EQUAL),
        (-3.0, -5.0, FAILS),
        (1.0, -5.0, WITHIN),
    ],
)
def test_a_gain_that_direction_pays_for_is_no_verdict(results, gain, direction, verdict):
    results["paired"]["images"]["crops"] = paired(gain, direction)
    results["paired"]["images"]["random_noise"] = paired(3.0, -9.0)
    found = verdicts(results)
    assert found[SEAM] == verdict
    assert found[KEEPS] == HOLDS  # which does not ask for equal direction


@pytest.mark.parametrize("change", ["no part", "no method", "no figure", "no direction", "one pair", "nan", "no error"])
def test_what_was_not_measured_has_no_verdict(results, change):
    part = results["paired"]
    match change:
        case "no part":
            del part["images"]
        case "no method":
            del part["images"]["crops"]
        case "no figure":
            del part["images"]["crops"]["seam"]
        case "no direction":
            del part["images"]["crops"]["direction"]
        case "one pair":
            part["images"]["crops"]["seam"] = cell(-3.0, 0.0, n=1, clusters=1)
        case "nan":
            part["images"]["crops"]["seam"]["mean"] = float("nan")
        case "no error":
            part["images"]["crops"]["seam"]["std"] = None
    found = verdicts(results)
    assert found[SEAM] == MISSING
    assert found[STEADY] == HOLDS


def test_nothing_measured_is_said_of_every_claim():
    assert set(verdicts({}).values()) == {MISSING}


@pytest.mark.parametrize(
    ("means", "std", "verdict"),
    [
        ((90.0, 91.0, 92.0), 1.4, HOLDS),  # 2 > 2 sqrt(2) 1.4 / 2 = 1.98
        ((90.0, 91.0, 92.0), 1.42, WITHIN),  # 2.008
        ((92.0, 91.0, 90.0), 1.4, FAILS),
        ((92.0, 91.0, 90.0), 1.42, WITHIN),
        ((90.0, 95.0, 92.0), 1.4, HOLDS),
    ],
)
def test_consistency_rises_by_two_standard_errors_of_a_difference(results, means, std, verdict):
    points = [{"value": v, "consistency": cell(m, std, n=4)} for v, m in zip((0.5, 1.0, 4.0), means, strict=True)]
    results["sweeps"]["kernel scale"] = [points[2], points[0], points[1]]
    (row,) = (row for row in claims(results) if row["claim"] == WIDER)
    assert row["verdict"] == verdict
    assert "(n = 4, unpaired)" in row["ours"]
    assert ("not at every step" in row["ours"]) == (means[1] == 95.0)


def test_without_the_number_of_edits_a_sweep_gives_no_verdict(results):
    """Images times instructions would be a guess: a sweep may take fewer of them."""
    points = results["sweeps"]["kernel scale"]
    for count, verdict in ((100_000, HOLDS), (4, WITHIN), (1, MISSING)):
        for point in points:
            point["consistency"] |= {"std": 10.0, "n": count}
        assert verdicts(results)[WIDER] == verdict
    del points[0]["consistency"]["n"]
    assert verdicts(results)[WIDER] == MISSING


@pytest.mark.parametrize(("mean", "verdict"), [(2.1, HOLDS), (1.9, WITHIN), (-1.9, WITHIN), (-2.1, FAILS)])
def test_paired_differences_of_a_sweep_go_before_its_means(results, mean, verdict):
    results["paired"]["sweeps"] = {"kernel scale": {"consistency": cell(mean, 1.0, n=80, clusters=40)}}
    (row,) = (row for row in claims(results) if row["claim"] == WIDER)
    assert row["verdict"] == verdict
    assert "(n = 80 on 40 images)" in row["ours"]
    assert "unpaired" not in row["ours"]


@pytest.mark.parametrize(
    ("mean", "verdict"), [(-7.4, HOLDS), (-6.9, UNDECIDED), (0.1, UNDECIDED), (6.9, UNDECIDED), (7.4, FAILS)]
)
def test_older_results_get_upper_bounds_of_their_standard_errors(results, mean, verdict):
    """32 edits of 8 images: sqrt(31 / 7) times Student's 2.365 is 4.977, and a standard error of 1.45 needs 7.22."""
    results["setting"]["images"] = [f"image {i}" for i in range(8)]
    results["paired"]["images"]["crops"]["seam"] = cell(mean, 1.45, n=32)
    (row,) = (row for row in claims(results) if row["claim"] == SEAM)
    assert row["verdict"] == verdict
    assert "± 3.05" in row["ours"]
    assert "(n = 32 on 8 images)" in row["ours"]
    assert "upper bounds" in markdown(results)
    results["setting"]["images"] = ["image"]
    assert verdicts(results)[SEAM] == MISSING


def test_clustered_results_have_no_remark_on_bounds(results, folder):
    assert "upper bounds" not in markdown(results)
    assert "upper bounds" not in report(results, folder).read_text()


def test_a_single_point_is_no_sweep(results):
    del results["sweeps"]["kernel scale"][1:]
    assert verdicts(results)[WIDER] == MISSING


def test_markdown_has_every_number_in_its_cell(results):
    results["paired"]["images"]["crops"]["seam"] = cell(-0.125, 0.05, n=80, clusters=40)
    found = tables(markdown(results))
    first, second, csd = found["Images"][:3]
    assert first["method"] == "source (unchanged)"
    assert second["PSNR to truth, dB ↑"] == "112.0 ± 0.2"
    assert csd == {
        **{"method": "csd", "direction ↑": "120.0 ± 0.2", "source similarity ↑": "121.0 ± 0.2"},
        **{"PSNR to truth, dB ↑": "122.0 ± 0.2", "seam ↓": "128.0 ± 0.2", "consistency ↑": "123.0 ± 0.2"},
        **{"neighbor distance ↓": "124.0 ± 0.2", "style ↓": "129.0 ± 0.2"},
    }
    (crops,) = (row for row in found["Images: csd minus a method"] if row["csd minus"] == "crops")
    assert crops["seam ↓"] == "-0.125 ± 0.050 better"
    assert crops["direction ↑"] == "0.00 ± 1.00"
    assert crops["consistency ↑"] == "+3.00 ± 1.00 better"
    assert (crops["n"], crops["clusters"]) == ("80", "40")
    assert found["Videos"][1]["warp error ↓"] == "118.0 ± 0.2"
    assert found["Trade-off"][2]["text scale"] == "7.5"
    assert found["Trade-off"][2]["consistency ↑"] == "7.50 ± 0.50"
    assert [row["value"] for row in found["Sweep: kernel"]] == ["RBF", "IMQ"]
    assert found["Sweep: video kernel scale"][0] == {"value": "0.5", "consistency ↑": "94.5 ± 0.1"}
    spent = found["Cost: images"][2]
    assert spent == {"method": "csd", "NFE": "125.0 ± 0.2", "update": "126.0 ± 0.2", "seconds": "127.0 ± 0.2"}
    assert found["Failed jobs"] == [{"job": "csd-coast-make_it_night", "error": "nan \\| broken"}]
    assert "NFE (images) from 125 (csd) to 165 (windows), update (images) from 126" in markdown(results)


def test_worse_is_told_by_the_direction_that_is_better(results):
    results["paired"]["images"]["crops"] = paired(-3.0, 2.5)
    (crops,) = (r for r in tables(markdown(results))["Images: csd minus a method"] if r["csd minus"] == "crops")
    assert crops["seam ↓"] == "+3.00 ± 1.00 worse"
    assert crops["consistency ↑"] == "-3.00 ± 1.00 worse"
    assert crops["direction ↑"] == "+2.50 ± 1.00 better"


def test_the_papers_numbers_stand_beside_ours_in_the_same_units(results):
    results["videos"]["csd"] |= {"direction": cell(12.5), "consistency": cell(97.0), "neighbor_distance": cell(0.25)}
    rows = {row["method"]: row for row in tables(markdown(results))["Published numbers for video"]}
    assert rows["csd"] == {
        **{"method": "csd", "from": "ours", "direction": "0.125", "consistency": "0.970"},
        **{"distance of neighbors": "0.250"},
    }
    assert rows["CSD-Edit"]["direction"] == "0.320"
    assert rows["CSD-Edit"]["from"] == "publication"
    assert "source" not in rows
    assert PUBLISHED["FateZero"] == (0.314, 0.948, 0.267)
    assert PUBLISHED["Pix2Video"] == (0.230, 0.949, 0.283)


def headings(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_edits_of_equal_length_have_their_own_claims_and_tables(results, folder):
    before = verdicts(results)
    results["paired_equal_update"] = copy.deepcopy(results["paired"])
    results["paired_equal_update"]["images"]["crops"] = paired(-3.0)
    results["paired_equal_update"]["images"]["random_noise"] = paired(-3.0)
    results["images_equal_update"] = {"csd": {"direction": cell(77.25, 0.5), "seam": cell(1.75, 0.25)}}
    after = verdicts(results)
    assert {claim: after[claim] for claim in before} == before
    new = {claim: verdict for claim, verdict in after.items() if claim not in before}
    assert len(new) == 13
    assert new[f"{SEAM} and update"] == new[f"{KEEPS} at equal update"] == FAILS
    assert new[f"{STEADY} and update"] == HOLDS
    found = tables(markdown(results))
    assert found["Images at equal update"] == [{"method": "csd", "direction ↑": "77.2 ± 0.5", "seam ↓": "1.75 ± 0.25"}]
    assert found["Images at equal update: csd minus a method"][2]["seam ↓"] == "+3.00 ± 1.00 worse"
    html = report(results, folder).read_text()
    assert headings(html)[3:5] == ["Images", "Images at equal update"]
    assert "77.2\u00a0±\u00a00.5" in html
    assert html.count("scaled to the length of the reference edit") == 2  # videos have differences


def test_the_page_has_all_parts_in_order(results, folder):
    html = report(json.loads(json.dumps(results)), folder).read_text()
    assert headings(html) == [
        *("Claims", "Methods", "Metrics", "Images", "Trade-off", "Sweeps", "Before and after"),
        *("Images by instruction", "Videos", "Videos by instruction", "Published numbers for video", "Cost"),
        *("Failed jobs", "Setting"),
    ]
    assert html.count("<svg class=") == 3 + 2  # three trade-offs; the kernel's name has no place on an axis
    assert html.count('class="slider"') == 3
    assert html.count('class="image-grid"') == len(TEXTS)
    image_grid = re.findall(r'<table class="image-grid">.*?</table>', html)
    assert [image_grid.count("<img") for image_grid in image_grid] == [len(IMAGES) * len(IMAGE_METHODS)] * 2
    assert [re.findall(r"<tr><th>([^<]+)</th>", image_grid)[:3] for image_grid in image_grid] == [
        ["source", "truth", "csd"]
    ] * 2
    assert html.count('class="videos"') == len(TEXTS)
    assert html.count("<video") == 4 * len(TEXTS)
    labels = re.findall(r'aria-label="([^"]*)" muted', html)
    assert labels == ["source", "csd", "per_frame", "truth"] * 2
    assert "cannot be compared" in html
    assert "scoredistill edits" in html


def test_sliders_and_videos_begin_with_different_instructions(results, folder):
    html = report(results, folder).read_text()
    said = re.findall(r"<figcaption>((?:coast|town): make it \w+)</figcaption>", html)
    assert said == ["coast: make it night", "town: make it snowy", "coast: make it snowy"]


def test_image_grid_hold_small_images_of_few_colors(results, folder):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)  # 512 colors
    Image.fromarray(pixels).resize((1280, 640), Image.Resampling.NEAREST).save(folder / "large.png", compress_level=1)
    for path in (folder / "images").glob("*-coast*.png"):
        path.write_bytes((folder / "large.png").read_bytes())
    html = report(results, folder).read_text()
    (first, *_) = re.findall(r'<table class="image-grid">.*?</table>', html)
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', first)
    shown = [decoded(source) for source in sources]
    assert {image.size for image in shown} == {(320, 160)}
    assert {image.mode for image in shown} == {"P"}
    (before, after) = re.findall(r'src="data:image/png;base64,([^"]+)"', html.partition('class="slider"')[2])[:2]
    assert decoded(before).size == decoded(after).size == (1024, 512)


def decoded(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_videos_are_few(results, folder):
    results["setting"]["instructions"] = texts = [f"make it {i}" for i in range(9)]
    for text in texts:
        for method in ("csd", "windows"):
            (folder / "images" / f"{method}-walk-{slug(text)}.mp4").write_bytes(b"video")
    html = report(results, folder).read_text()
    assert html.count("<video") == 12 == VIDEOS
    assert html.count('class="videos"') == 4


def test_the_same_results_give_the_same_page(results, folder):
    first = report(results, folder).read_bytes()
    assert report(results, folder).read_bytes() == first
    assert not re.search(rb'https?://|<link|@import|src="(?!data:)', first)


@pytest.mark.parametrize(
    "part",
    [
        *("command", "date", "version", "seconds", "failed", "setting", "images", "videos", "tradeoff", "sweeps"),
        *("paired", "descriptions"),
    ],
)
def test_a_missing_part_does_no_harm(results, folder, part):
    whole = report(results, folder).read_text()
    del results[part]
    assert len(report(results, folder).read_text()) < len(whole)
    assert len(tables(markdown(results))["Claims"]) == 15


def test_no_results_at_all_make_a_page(tmp_path):
    html = report({}, tmp_path).read_text()
    assert html.count(MISSING) == 2 * 15  # ours and verdict
    assert headings(html) == ["Claims", "Metrics", "Published numbers for video", "Setting"]
    assert len(tables(markdown({}))["Claims"]) == 15


def test_missing_files_are_left_out(results, folder):
    for path in (folder / "images").glob("csd-*"):
        path.unlink()
    (folder / "images" / "truth-coast-make_it_night.png").unlink()
    html = report(results, folder).read_text()
    assert "Before and after" not in headings(html)
    image_grid = re.findall(r'<table class="image-grid">.*?</table>', html)
    assert [re.findall(r"<tr><th>([^<]+)</th>", image_grid)[:3] for image_grid in image_grid] == [
        ["source", "truth", "uncoupled"]
    ] * 2
    assert re.findall(r'aria-label="([^"]*)" muted', html) == ["source", "per_frame", "truth"] * 2
    for path in (folder / "images").iterdir():
        path.unlink()
    html = report(results, folder).read_text()
    assert not {"Videos by instruction", "Images by instruction", "Before and after"} & set(headings(html))


def test_an_edit_of_another_size_is_told(results, folder):
    Image.new("RGB", (300, 200)).save(folder / "images" / "csd-coast-make_it_night.png")
    html = report(results, folder).read_text()
    assert "coast: make it night. The edit and its source differ in size" in html
    assert html.count('class="slider"') == 2


def test_text_is_escaped(results, folder):
    results |= {"command": NASTY, "descriptions": {NASTY: NASTY}, "failed": {NASTY: NASTY}}
    results["images"][NASTY] = figures(1)
    results["paired"]["images"][NASTY] = paired(1.0)
    results["tradeoff"][NASTY] = results["tradeoff"]["csd"]
    results["sweeps"][NASTY] = results["sweeps"]["kernel scale"]
    results["sweeps"]["kernel"][0]["label"] = NASTY
    results["setting"]["remark"] = NASTY
    html = report(results, folder).read_text()
    assert html.count("<script>") == 1
    assert "alert('1')" not in html
    assert html.count("alert(&#x27;1&#x27;)") >= 12


def test_a_quick_run_says_so(results, folder):
    assert "quick run" not in report(results, folder).read_text()
    results["setting"]["quick"] = True
    assert "quick run" in report(results, folder).read_text()
    assert "This was a quick run" in markdown(results)
