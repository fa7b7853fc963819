"""SVG: what is read is what resvg draws, what is written is read again, and every refusal is one sentence."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill.generators import VectorGraphics
from scoredistill.media.svg import Contour, Drawing, Path, from_svg, read_svg, to_svg
from scoredistill.media.svg.drawing import ellipse, line
from scoredistill.media.svg.path_data import contours_of
from scoredistill.optional import require


def svg(body, box="0 0 64 64", more=""):
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {more}>{body}</svg>'


def error(text, size=64):
    """Mean difference of our rendering and resvg's."""
    raw = require("resvg_py", "train", "the test").svg_to_bytes(
        svg_string=text.replace("<svg ", f'<svg width="{size}" height="{size}" ', 1), skip_system_fonts=True
    )
    image = Image.open(io.BytesIO(bytes(raw))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    reference = torch.from_numpy(np.array(white.convert("RGB"))).permute(2, 0, 1) / 255
    ours = VectorGraphics([from_svg(text)], (size, size))(torch.arange(1))[0].detach()
    assert reference.std() > 0.05  # there is something to compare
    return float((ours - reference).abs().mean())


READ = {
    "lines": '<path d="M8 8h40v20H20V50l-9-4z"/>',
    "repeated numbers, no spaces": '<path d="M8 8 50 9 30.5.5.5 30-.5-9zm20 20l9 9-18-.5e1"/>',
    "smooth cubics": '<path d="M4 40C10 4 20 4 26 40S44 60 60 20s-4-9-9-9" fill="#a00"/>',
    "smooth quadratics": '<path d="M4 40Q16 4 26 40T50 40t9-20L4 60" fill="#0a0"/>',
    "smooth after another kind": '<path d="M4 40L20 20S40 20 40 60T60 20Z"/>',
    "arcs": '<path d="M10 30A20 12 30 1 0 50 20A9 9 0 0 1 40 50a3,3 0 1120,10a1 1 0 00-40-9" fill="#a5c"/>',
    **{
        f"arcs that are {size} and {way}": f'<path d="M14 24A22 15 20 {large} {sweep} 44 36Z"/>'
        for large, size in ((0, "small"), (1, "large"))
        for sweep, way in ((0, "left"), (1, "right"))
    },
    "an arc that is too small": '<path d="M10 30A4 2 20 0 1 50 40Z"/>',
    "arcs without radius": '<path d="M10 30A0 2 0 0 1 50 40L4 60Z"/>',
    "shapes": '<rect x="4" y="4" width="20" height="12" rx="4"/><circle cx="44" cy="14" r="9" fill="red"/>'
    '<ellipse cx="20" cy="40" rx="12" ry="6" fill="blue"/><polygon points="40,30 60,32 50 50" fill="lime"/>',
    "outlines": '<g fill="none" stroke="#333" stroke-width="3" stroke-linejoin="round">'
    '<line x1="4" y1="9" x2="50" y2="20"/>'
    '<polyline points="5,30 20,50 40,30 60,55"/></g>',
    "transforms": '<g transform="translate(6 4) rotate(20 32 32)">'
    '<rect width="30" height="20" transform="matrix(1 .2 -.3 .9 4 9)"/>'
    '<rect width="9" height="9" fill="red" transform="skewX(20),scale(1.5) skewY(-10)"/></g>',
    "style attributes": '<g style="fill:#0a0;stroke:none"><rect width="30" height="30" style="fill-opacity:50%"/>'
    '<circle cx="40" cy="40" r="15" fill="rgb(10,20,200)" opacity=".5"/></g>',
    "colors": '<g color="teal"><rect width="20" height="20" fill="currentColor"/>'
    '<rect x="30" width="20" height="20" fill="#f80c"/>'
    '<rect y="30" width="20" height="20" fill="hsl(300,80%,40%)"/></g>',
    "hidden": '<rect width="30" height="30"/><rect width="60" height="60" display="none" fill="red"/>'
    '<g visibility="hidden"><rect width="60" height="60" fill="red"/></g><title>a box</title>'
    '<defs><rect width="64" height="64"/></defs>',
}


@pytest.mark.parametrize("case", READ)
def test_what_is_read_is_what_resvg_draws(case):
    text = svg(READ[case])
    assert error(text) < 3e-3
    assert error(to_svg(from_svg(text))) < 3e-3


def test_the_view_box_moves_and_scales_the_drawing():
    body = '<rect x="-10" y="-10" width="20" height="20" fill="#08f"/><circle cx="5" cy="4" r="4"/>'
    assert error(svg(body, "-20 -15 40 30")) < 3e-3
    assert from_svg(
        '<svg xmlns="http://www.w3.org/2000/svg" width="30px" height="20"><rect width="9" height="9"/></svg>'
    ).size == (30, 20)


def test_a_written_file_is_short_and_reads_the_same():
    paths = (
        Path((Contour(line((0.0, 0.0), (30.0, 0.0), (10.12345, 20.0), (0.0, 0.0))),), (1.0, 0.5, 0.0)),
        Path((Contour(ellipse((9.0, 9.0), (3.0, 3.0))),), (0.0, 0.0, 0.0), fill_opacity=0.003),
        Path((Contour(ellipse((90.0, 9.0), (3.0, 3.0))),), (0.0, 0.0, 0.0)),
        Path((Contour(line((1.0, 2.0), (9.0, 9.0)), closed=False),), None, (0.0, 0.0, 1.0), 2.0, stroke_opacity=0.25),
    )
    text = to_svg(Drawing((32.0, 32.0), paths), 'a "sail" & mast')
    assert text == (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">\n<title>a "sail" &amp; mast</title>\n'
        '<path d="M0 0C10 0 20 0 30 0C23.37 6.67 16.75 13.33 10.12 20C6.75 13.33 3.37 6.67 0 0Z" fill="#ff8000"/>\n'
        '<path d="M1 2C3.67 4.33 6.33 6.67 9 9" fill="none" stroke="#0000ff" stroke-width="2" stroke-linejoin="round" '
        'stroke-linecap="round" stroke-opacity="0.25"/>\n</svg>\n'
    )
    assert to_svg(from_svg(text), 'a "sail" & mast') == text


def test_a_closed_contour_ends_where_it_begins():
    (contour,) = contours_of("M1 2L5 2L5 9Z")
    assert contour.closed
    np.testing.assert_array_equal(contour.points[0], contour.points[-1])
    assert [c.closed for c in contours_of("M1 2L5 2M1 1L2 2Z")] == [False, True]


BOX = '<rect width="9" height="9"/>'


@pytest.mark.parametrize("radius", ["1e200", "1e-320"])
def test_arcs_of_radii_beyond_reason_are_lines(radius):
    (contour,) = contours_of(f"M0 0A{radius} {radius} 0 0 1 3 0")
    np.testing.assert_allclose(contour.points, [[0, 0], [1, 0], [2, 0], [3, 0]])


def test_a_canvas_in_millimeters_is_one_in_pixels():
    text = f'<svg xmlns="http://www.w3.org/2000/svg" width="25.4mm" height="72pt">{BOX}</svg>'
    assert from_svg(text).size == pytest.approx((96, 96))


def test_what_programs_write_is_read():
    body = '<clipPath id="a"><text/></clipPath><rect x="50%" width="50%" height="100%" transform="none" style="'
    (path,) = from_svg(svg(body + 'FILL: rgba(255, 0, 0, 0.5) ! important"/>')).paths
    assert path.fill == (1.0, 0.0, 0.0)
    assert path.fill_opacity == 0.5
    np.testing.assert_allclose(path.contours[0].points.min(0), [32, 0])
    np.testing.assert_allclose(path.contours[0].points.max(0), [64, 64])
    (path,) = from_svg(svg('<path d="M0 0h9v9" fill="#ff0000 icc-color(p, 1, 2)"/>')).paths
    assert path.fill == (1.0, 0.0, 0.0)
    assert path.fill_opacity == 1


REFUSED = {
    "not well-formed": ("<svg", "not well-formed"),
    "an unknown encoding": (b'<?xml version="1.0" encoding="UTF-88"?><svg/>', "not well-formed"),
    "another root": ("<html/>", "not <html>"),
    "entities": ('<!DOCTYPE svg [<!ENTITY a "aaa">]>' + svg("&a;"), "entities"),
    "entities in another encoding": (
        ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE s [<!ENTITY a "b">]>' + svg("")).encode("utf-16"),
        "entities",
    ),
    "an external entity": ('<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + svg("&a;"), "entities"),
    "nesting": (svg("<g>" * 70 + "</g>" * 70), "nested"),
    "nothing": (svg(""), "no paths"),
    "no size": ('<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="9"><rect/></svg>', "viewBox"),
    "an empty canvas": (svg("<rect/>", "0 0 0 9"), "canvas is empty"),
    "text": (svg("<text>a</text>"), "<text>"),
    "an image": (svg('<image href="a.png"/>'), "<image>"),
    "a use": (svg('<use href="#a"/>'), "<use>"),
    "a style sheet": (svg("<style>path{fill:red}</style>"), "<style>"),
    "a gradient": (svg('<rect width="9" height="9" fill="url(#a)"/>'), "'url(#a)'"),
    "a mask": (svg('<g mask="url(#m)"><rect width="9" height="9"/></g>'), "mask"),
    "dashes": (svg('<line x2="9" stroke="red" stroke-dasharray="2"/>'), "stroke-dasharray"),
    "a unit": (svg('<circle r="2mm"/>'), "'2mm'"),
    "a transform": (svg('<rect width="9" height="9" transform="spin(4)"/>'), "'spin(4)'"),
    "a stretched stroke": (svg('<line x2="9" y2="9" stroke="red" transform="scale(2 1)"/>'), "stretches"),
    "square ends": (svg('<line x2="9" stroke="red" stroke-linecap="square"/>'), "square"),
    "a transparent group": (
        svg('<g opacity=".5"><rect width="9" height="9"/><rect width="5" height="5"/></g>'),
        "group of 2",
    ),
    "path data": (svg('<path d="L4 4"/>'), "begins with M"),
    "a word in path data": (svg('<path d="M4 4 L nine"/>'), "' nine'"),
    "missing numbers": (svg('<path d="M4 4 C 1 2 3"/>'), "C lacks numbers"),
    "missing numbers before a command": (svg('<path d="M4 4 C 1 2 3 L 4 4"/>'), "C lacks numbers"),
    "numbers behind Z": (svg('<path d="M4 4L5 5Z 4"/>'), "behind Z"),
    "a far point": (svg('<path d="M4 4L1e9 5Z"/>'), "canvas sizes"),
    "infinity": (svg('<path d="M4 4L1e999 5Z"/>'), "the number 1e999 is too large"),
    "an infinite transform": (svg('<circle r="4" transform="scale(1e999)"/>'), "too large"),
    "a style sheet in defs": (svg("<defs><style>.a{fill:red}</style></defs>" + BOX), "<style>"),
    "a linked style sheet": ('<?xml-stylesheet href="a.css"?>' + svg(BOX), "xml-stylesheet"),
    "a placed svg": (svg(f'<svg x="9">{BOX}</svg>'), "<svg> within"),
    "a marker": (svg('<path d="M0 0h9" style="MARKER:url(#a)"/>'), "marker"),
    "a vector effect": (svg('<path d="M0 0h9" vector-effect="non-scaling-stroke"/>'), "vector-effect"),
    "an origin": (svg('<path d="M0 0h9" transform-origin="center"/>'), "transform-origin"),
    "a unit in a transform": (svg('<g transform="translate(1cm 2)"/>' + BOX), "'1cm 2'"),
    "a word in points": (svg('<polygon points="1,2 x 3,4 5,6"/>'), "no list of numbers"),
    "overflowing transforms": (svg(f'<g transform="scale(1e200) scale(1e200)">{BOX}</g>'), "too large"),
    "a wide stroke": (svg('<path d="M0 0h9" stroke="red" stroke-width="1e9"/>'), "1e+09 wide"),
    "a large canvas": (svg(BOX, "0 0 1e9 9"), "canvas is"),
    "too much": (svg(f'<path d="M4 4{"h1" * 20001}"/>'), "20001 curves"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_paths_cannot_draw_is_refused_in_one_sentence(case):
    text, said = REFUSED[case]
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        from_svg(text)
    assert said in str(refusal.value)


def test_files_are_named_in_refusals(tmp_path):
    path = tmp_path / "a.svg"
    with pytest.raises(ValueError, match=r"there is no file .*a\.svg"):
        read_svg(path)
    path.write_text(svg("<text/>"))
    with pytest.raises(ValueError, match=r"a\.svg: it has a <text>"):
        read_svg(path)
    path.write_text(svg("<rect width='9' height='9'/>") + " " * 5_000_001)
    with pytest.raises(ValueError, match="more than 5 MB"):
        read_svg(path)


def test_a_doctype_without_entities_is_read():
    doctype = '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">'
    assert len(from_svg(doctype + svg('<rect width="9" height="9"/>')).paths) == 1
