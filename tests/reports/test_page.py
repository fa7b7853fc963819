"""Reports: they show what was given, charts accept any data, and files are self-contained."""

import ast
import base64
import io
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoredistill.media.images import save_gif
from scoredistill.reports import chart, embed
from scoredistill.reports import page as report
from scoredistill.reports.chart import ticks
from scoredistill.reports.page import Card, Page, color_of

NASTY = "</title><script>alert('1')</script> & \"quoted\""


class Reader(HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    VOID = ("meta", "img", "line", "path", "circle", "input")

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.stack = [], [], []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def images_of(page):
    for attrs in Reader(page.html()).all("img"):
        kind, data = re.fullmatch(r"data:(image/\w+);base64,(.+)", attrs["src"]).groups()
        yield kind, Image.open(io.BytesIO(base64.b64decode(data)))


def cells_of(page):
    rows = re.findall(r"<tr>(.*?)</tr>", page.html())
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def path_points(svg):
    """For each series the list of its strokes, each a list of points."""
    found = []
    for path in re.findall(r'<path d="([^"]*)"', svg):
        strokes = [stroke.split("L") for stroke in path.split("M")[1:]]
        found.append([[tuple(map(float, point.split(","))) for point in stroke] for stroke in strokes])
    return found


def test_everything_is_escaped_and_well_formed(tmp_path):
    image = Image.new("RGB", (4, 4))
    page = Page(NASTY, NASTY).heading(NASTY).text(NASTY).command(NASTY).key_values({NASTY: NASTY})
    page.table([{NASTY: NASTY}], NASTY).image_grid({NASTY: [image]}, [NASTY], NASTY).figure(image, NASTY)
    page.curves({NASTY: [1, 2], "b": [2, 1]}, NASTY, NASTY, NASTY).slider(image, image, NASTY, (NASTY, NASTY))
    video = tmp_path / "a.mp4"
    video.write_bytes(b"video")
    page.videos({NASTY: video}, NASTY)
    reader = Reader(page.html())
    assert len(reader.all("script")) == 1
    assert reader.texts.count(NASTY) >= 15
    assert "alert('1')" not in page.html()


def test_a_command_can_be_copied_exactly():
    command = "scoredistill toy --out 'runs/a b' \\\n  --seed 0 -v  a-b --x=<1>"
    html = Page("t").command(command).html()
    assert "".join(Reader(re.search(r"<code>.*</code>", html, re.S)[0]).texts) == command


def test_a_report_loads_nothing_and_is_reproducible():
    pages = [Page("t").curves({"a": [1, 2]}).figure(Image.new("RGB", (4, 4))).html() for _ in range(2)]
    assert pages[0] == pages[1]
    assert not re.search(r"https?://|<link|@import|src=\"(?!data:)", pages[0])


@pytest.mark.parametrize("module", [report, chart, embed])
def test_report_needs_only_numpy_and_pillow(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "numpy", "PIL", "scoredistill"}
    assert {name for name in names if name.startswith("scoredistill")} <= {
        "scoredistill.files",
        "scoredistill.reports.chart",
        "scoredistill.reports.embed",
    }


def test_table_columns_are_the_union_and_numbers_are_right_aligned():
    page = Page("t").table([{"name": "a", "loss": 0.5}, {"name": "b", "seed": 3, "loss": np.float32(0.123)}])
    head, first, second = cells_of(page)
    assert head == ["name", "loss", "seed"]
    assert first == ["a", "0.500", ""]
    assert second == ["b", "0.123", "3"]
    assert page.html().count('<th class="number">') == 2
    assert page.html().count('<td class="number">') == 4


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ([0.8123456, 0.79, 0.9], ["0.8123", "0.7900", "0.9000"]),
        ([12.31, 14, 88.1], ["12.31", "14.00", "88.10"]),
        ([float("nan"), 1.5, None], ["nan", "1.5", "–"]),
        ([1e-7, 1.0], ["1e-07", "1"]),
        ([123456, 7], ["123,456", "7"]),
        ([123456.7, 0.0], ["123,457", "0"]),
        ([-0.001234, 0.5], ["-0.0012", "0.5000"]),
        ([True, False], ["yes", "no"]),
        (["a", 0.25], ["a", "0.25"]),
    ],
)
def test_numbers_are_rounded_sensibly(column, shown):
    cells = cells_of(Page("t").table([{"x": value} for value in column]))
    assert [cell for (cell,) in cells[1:]] == shown


def test_empty_table_and_empty_image_grid():
    html = Page("t").table([]).image_grid({}, []).image_grid({"a": []}, ["x"]).key_values({}).html()
    Reader(html)  # raises where tags do not match
    assert "<img" not in html


def test_ragged_image_grids_have_rectangular_rows():
    image = Image.new("RGB", (4, 4), "red")
    page = Page("t").image_grid({"long": [image] * 3, "short": [image], "none": []}, ["one", "two"])
    rows = cells_of(page)
    assert [len(row) for row in rows] == [4, 4, 4, 4]
    assert rows[0] == ["", "one", "two", ""]
    assert [row[0] for row in rows[1:]] == ["long", "short", "none"]
    assert [sum("<img" in cell for cell in row) for row in rows[1:]] == [3, 1, 0]


SIZES = [((64, 32), (192, 96)), ((300, 200), (300, 200)), ((1024, 512), (512, 256))]


@pytest.mark.parametrize(("size", "shown"), SIZES)
def test_image_grids_enlarge_small_images_and_reduce_large_ones(tmp_path, size, shown):
    small = Image.new("RGB", size, "red")
    small.save(tmp_path / "a.png")
    for kind, image in images_of(Page("t").image_grid({"": [small, tmp_path / "a.png"]}, [])):
        assert (kind, image.size) == ("image/png", shown)
        assert image.convert("RGB").getpixel((1, 1)) == (255, 0, 0)


def test_videos_keep_their_frames(tmp_path):
    frames = [Image.new("RGB", (8, 8), (30 * i, 0, 0)) for i in range(7)]
    path = save_gif(frames, tmp_path / "a.gif", size=64)
    path.write_bytes(path.read_bytes() + b"a tail that no encoder writes")
    page = Page("t").figure(path).image_grid({"a": [path]}, [])
    assert page.html().count(base64.b64encode(path.read_bytes()).decode()) == 2  # a file is not encoded anew
    with Image.open(path) as opened:
        page.figure(opened)
    embedded = list(images_of(page))
    assert [(kind, image.n_frames) for kind, image in embedded] == [("image/gif", 7)] * 3


def test_a_slider_superimposes_two_images(tmp_path):
    before, after = Image.new("RGB", (300, 100), "red"), Image.new("RGB", (300, 100), "blue")
    after.save(tmp_path / "after.png")
    page = Page("t").slider(before, tmp_path / "after.png", "sea", ("source", "edit"))
    (_, left), (_, right) = images_of(page)
    assert (left.getpixel((0, 0)), right.getpixel((0, 0))) == ((255, 0, 0), (0, 0, 255))
    reader = Reader(page.html())
    assert reader.all("input") == [
        {
            **{"type": "range", "min": "0", "max": "100", "step": "0.5", "value": "50"},
            "aria-label": "divider between source and edit",
        }
    ]
    assert [text for text in reader.texts if text in ("source", "edit", "sea")] == ["source", "edit", "sea"]
    style = re.search(r"<style>(.*?)</style>", page.html(), re.S)[1]
    assert re.search(r"\.live \.before \{[^}]*clip-path: inset\(0 calc\(100% - var\(--at\)\) 0 0\)", style)
    assert re.search(r"^\.slider input \{ display: none; \}", style, re.M)  # without JavaScript: two images


def test_images_of_two_sizes_are_not_compared():
    with pytest.raises(ValueError, match="must have one size, not 300x100 and 100x300 pixels"):
        Page("t").slider(Image.new("RGB", (300, 100)), Image.new("RGB", (100, 300)))


def test_videos_are_embedded_unchanged_side_by_side(tmp_path):
    files = {name: tmp_path / name for name in ("a.mp4", "b.webm", "c.GIF")}
    for name, path in files.items():
        path.write_bytes(f"the video {name}".encode())
    page = Page("t").videos(files, "three")
    reader = Reader(page.html())
    sources = [attrs["src"].partition(",") for attrs in reader.all("video") + reader.all("img")]
    assert [kind for kind, _, _ in sources] == [
        f"data:{kind};base64" for kind in ("video/mp4", "video/webm", "image/gif")
    ]
    assert [base64.b64decode(data).decode() for _, _, data in sources] == [f"the video {name}" for name in files]
    for attrs in reader.all("video"):
        assert {"muted", "loop", "playsinline", "controls"} <= attrs.keys()
    assert [text for text in reader.texts if text in (*files, "three", "Play")] == [*files, "Play", "three"]


def test_videos_that_cannot_be_shown_are_refused(tmp_path):
    (tmp_path / "a.avi").write_bytes(b"video")
    with pytest.raises(ValueError, match=r"a.avi is not a video that browsers play: use .mp4, .webm or .gif"):
        Page("t").videos({"a": tmp_path / "a.avi"})
    with pytest.raises(FileNotFoundError, match=r"there is no video .*b.mp4"):
        Page("t").videos({"b": tmp_path / "b.mp4"})


def test_scripts_are_there_once_and_only_where_used(tmp_path):
    image, video, gif = Image.new("RGB", (200, 100)), tmp_path / "a.mp4", tmp_path / "a.gif"
    video.write_bytes(b"video")
    gif.write_bytes(b"video")
    plain = Page("t").figure(image).videos({"a": gif}).videos({}).html()
    assert [plain.count(script) for script in (report.COPY, report.SLIDE, report.PLAY)] == [1, 0, 0]
    page = Page("t").slider(image, image).slider(image, image).videos({"a": video}).videos({"b": video})
    assert [page.html().count(script) for script in (report.COPY, report.SLIDE, report.PLAY)] == [1, 1, 1]
    assert len(Reader(page.html()).all("button")) == 2
    assert page.html() == page.html()


def test_images_of_few_colors_stay_so():
    palette = Image.fromarray(np.arange(300 * 40, dtype=np.uint8).reshape(40, 300)).quantize(64)
    ((kind, image),) = images_of(Page("t").figure(palette))
    assert (kind, image.mode) == ("image/png", "P")
    np.testing.assert_array_equal(image.convert("RGB"), palette.convert("RGB"))


def test_figures_of_any_mode():
    for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "F"):
        ((kind, image),) = images_of(Page("t").figure(Image.new(mode, (200, 10))))
        assert (kind, image.size) == ("image/png", (200, 10))


def test_save_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "new" / "page.html"
    assert Page("first").save(path) == path
    assert path.stat().st_mode & 0o444 == (tmp_path / "new").stat().st_mode & 0o444
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        Page("second").save(path)
    assert "first" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_a_line_goes_where_its_values_are():
    svg = chart.line_chart({"a": ([0, 5, 10], [1.0, 3.0, 2.0])})
    (((x0, y0), (x1, y1), (x2, y2)),) = path_points(svg)[0]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y2 < y0  # up is smaller in pixels
    assert y0 - y2 == pytest.approx((y0 - y1) / 2, abs=0.2)


def test_decades_are_equally_far_apart_on_a_log_axis():
    ((stroke,),) = path_points(chart.line_chart({"a": [1e-3, 1e-1, 1e1]}, log_y=True))
    (_, y0), (_, y1), (_, y2) = stroke
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)


def test_powers_of_two_are_equally_far_apart_on_a_log_x_axis():
    page = Page("t").curves({"a": ([10, 20, 40, 80], [1, 2, 3, 4])}, log_x=True)
    ((stroke,),) = path_points(re.search(r'<svg class="chart".*?</svg>', page.html())[0])
    xs, ys = zip(*stroke, strict=True)
    np.testing.assert_allclose(np.diff(xs), np.diff(xs)[0], atol=0.2)
    np.testing.assert_allclose(np.diff(ys), np.diff(ys)[0], atol=0.2)


def test_places_at_or_below_zero_break_a_line_on_a_log_x_axis():
    svg = chart.line_chart({"a": ([-1, 1, 2, 0, 4, 8], [1, 2, 3, 4, 5, 6])}, log_x=True)
    assert [len(stroke) for stroke in path_points(svg)[0]] == [2, 2]
    assert "nan" not in svg


def test_gaps_break_the_line():
    nan, inf = float("nan"), float("inf")
    svg = chart.line_chart({"a": [1, 2, nan, 3, inf, 4, 5, 6]})
    (strokes,) = path_points(svg)
    assert [len(stroke) for stroke in strokes] == [2, 3]
    assert svg.count("<circle") == 1  # the 3 between two gaps
    assert "nan" not in svg


def test_zeros_and_negative_values_break_a_line_on_a_log_axis():
    svg = chart.line_chart({"a": [1, 2, 0, 3, 4, -1, float("nan"), 5, 6]}, log_y=True)
    assert [len(stroke) for stroke in path_points(svg)[0]] == [2, 2, 2]
    assert "nan" not in svg
    assert "inf" not in svg


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        [], [1.0], [0.0], [-2.0], [float("nan")], [5.0] * 9, [0, 0], [1e-320, 1], [1e308, -1e308, 3], [1e38, 1e-38],
        [1e9, 1e9 + 1e-7], [0.31, 0.32], ([], []), ([1], [2]), ([3, 3], [1, 2]), ([float("nan"), 1], [1, 2]),
    ],
)  # fmt: skip
def test_no_data_crashes_a_chart(values, log_y, log_x):
    svg = chart.line_chart({"a": values}, log_y=log_y, log_x=log_x)
    drawn = svg.partition(">")[2]
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<title>.*?</title>", "", drawn))
    Reader(svg)


def test_an_empty_chart_says_so():
    assert "no finite values" in chart.line_chart({})
    assert "no finite values" in chart.line_chart({"a": [0.0, -1.0]}, log_y=True)
    assert "no finite values" not in chart.line_chart({"a": [0.0]})


def test_xs_and_ys_must_match():
    with pytest.raises(ValueError, match="'a' has 2 xs but 3 ys"):
        chart.line_chart({"a": ([1, 2], [1, 2, 3])})


def test_a_pair_of_numbers_is_a_series_of_two_values():
    assert len(path_points(chart.line_chart({"a": (1.0, 2.0)}))[0][0]) == 2


def test_thinning_keeps_spikes_gaps_and_ends():
    ys = np.sin(np.arange(100_000) / 5000)
    ys[[12_345, 54_321]] = 50, -40
    ys[77_777] = np.nan
    xs, thinned = chart.thin(np.arange(100_000.0), ys)
    assert len(xs) <= 400
    assert (np.diff(xs) > 0).all()
    assert {0, 12_345, 54_321, 77_777, 99_999} <= set(xs)
    assert (ys[xs.astype(int)] == thinned)[np.isfinite(thinned)].all()


@pytest.mark.parametrize("span", [(0, 1), (-3, 17), (0, 4999), (0.0312, 0.0317), (-1e-9, 1e-9), (0, 3e7), (-5e12, 1)])
def test_ticks_are_few_even_inside_and_named_apart(span):
    values, labels = zip(*ticks(*map(float, span)), strict=True)
    assert 3 <= len(values) <= 8
    assert min(values) >= span[0] - 1e-9 * (span[1] - span[0])
    assert max(values) <= span[1] + 1e-9 * (span[1] - span[0])
    np.testing.assert_allclose(np.diff(values), np.diff(values)[0], rtol=1e-6)
    assert len(set(labels)) == len(labels)
    np.testing.assert_allclose([float(label.replace(",", "")) for label in labels], values, rtol=1e-5, atol=1e-15)


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        ((1e-3, 10), ["10⁻³", "0.01", "0.1", "1", "10"]),
        ((0.9, 60), ["1", "2", "5", "10", "20", "50"]),
        ((0.3, 0.4), ["0.30", "0.32", "0.34", "0.36", "0.38", "0.40"]),
    ],
)
def test_log_ticks(span, labels):
    assert [label for _, label in ticks(*map(float, span), log=True)] == labels


def test_log_ticks_stay_few_over_many_decades():
    assert 3 <= len(ticks(1e-38, 1e38, log=True)) <= 8


def test_series_of_one_color_differ_in_their_dash():
    looks = [(color_of(i), chart.dash_of(i)) for i in range(28)]
    assert len(set(looks)) == 28
    assert len({color for color, _ in looks[:7]}) == 7


# What moves, sorts and leads to files


def stills(count, size=(40, 20)):
    return [Image.new("RGB", size, (20 * i, 0, 0)) for i in range(count)]


def test_a_scrubber_holds_all_frames_in_one_small_image(tmp_path):
    frames = stills(5, (400, 200))
    frames[0].save(tmp_path / "video.gif", save_all=True, append_images=frames[1:])
    html = Page("t").scrubber(tmp_path / "video.gif", frames, [f'step "{i}"' for i in range(5)], "The run.").html()
    assert "step &quot;4&quot;" in html.replace("\\&quot;", "&quot;")
    assert 'max="4"' in html
    strip = base64.b64decode(re.search(r"url\(data:image/jpeg;base64,([^)]+)\)", html)[1])
    with Image.open(io.BytesIO(strip)) as image:
        assert image.size == (5 * 192, 96)
        reds = [image.getpixel((192 * i + 96, 48))[0] for i in range(5)]
    assert all(abs(red - 20 * i) < 6 for i, red in enumerate(reds))
    assert "--ratio: 2.0000" in html
    assert 'alt="The run."' in html
    with pytest.raises(ValueError, match="2 names for 5 frames: give one per frame"):
        Page("t").scrubber(tmp_path / "video.gif", frames, ["a", "b"])


def test_cards_and_files_are_relative_links_and_escaped():
    card = Card("<b>", "a & b", "x", "a%20b/report.html", "a%20b/i.png")
    html = Page("t", generator="g").cards([card]).files(["a b.png", "#1.png", "<.png"]).html()
    assert '<a href="a%20b/report.html"><div><img src="a%20b/i.png" alt="&lt;b&gt;" loading="lazy"></div>' in html
    assert re.findall(r'href="([^"]+)"', html)[1:] == ["a%20b.png", "%231.png", "%3C.png"]
    assert '<meta name="generator" content="g">' in html
    assert "<img" not in Page("t").cards([Card("a", "", "", "a")]).html()


def test_images_of_a_grid_have_text_alternatives():
    html = Page("t").image_grid({"": stills(1)}, ["72.1"], alt="an owl").html()
    assert 'alt="an owl 72.1"' in html
    assert 'class="image-grid one"' in html
    assert 'class="image-grid"' in Page("t").image_grid({"": stills(2)}, []).html()


def test_tables_can_be_sorted_and_other_pages_have_no_script_for_it():
    assert "localeCompare" in Page("t").table([{"a": 1}]).html()
    assert "localeCompare" not in Page("t").text("x").html()


def test_in_a_browser_the_pointer_moves_the_divider_columns_sort_and_the_slider_stops_the_animation(tmp_path):
    """Skipped where no Chromium is installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    playwright = pytest.importorskip("playwright.sync_api")
    if browser is None:
        pytest.skip("no Chromium is installed")
    frames = stills(5)
    frames[0].save(tmp_path / "video.gif", save_all=True, append_images=frames[1:])
    made = Page("t").scrubber(tmp_path / "video.gif", frames, [f"step {i}" for i in range(5)])
    made.slider(Image.new("RGB", (300, 100)), Image.new("RGB", (300, 100), "red"))
    made.table([{"a": "x", "b": 10_000}, {"a": "z", "b": -2.5}, {"a": "y", "b": 30}]).save(tmp_path / "page.html")
    off = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=off)
        view = chromium.new_page(viewport={"width": 390, "height": 844})
        faults = []
        view.on("pageerror", lambda error: faults.append(str(error)))
        view.goto((tmp_path / "page.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") == 390  # nothing is wider than a phone
        assert view.locator("output").inner_text() == "step 4"  # the result comes first
        assert not view.locator(".scrubber img").is_visible()
        view.locator(".scrubber input").fill("2")
        assert view.locator("output").inner_text() == "step 2"
        assert not view.locator(".scrubber img").is_visible()
        view.locator(".scrubber button").click()
        assert view.locator(".scrubber img").is_visible()
        view.locator(".slider").hover(position={"x": 30, "y": 20})
        assert float(view.locator(".slider input").input_value()) < 20
        column = lambda: [view.locator("tbody tr td:first-child").nth(i).inner_text() for i in range(3)]
        orders = []
        for head in (1, 1, 0):
            view.locator("th button").nth(head).click()
            orders.append("".join(column()))
        assert orders == ["zyx", "xyz", "xyz"]
        chromium.close()
    assert faults == []
