"""Edit a 360-degree panorama consistently: two instructions, overlapping windows, a seam that closes.

    python examples/4_edit_panorama.py [SWEEPS] [PANORAMA]    # 8 sweeps of a drawn landscape by default; about a minute

The editor sees windows of 64 pixels; the windows of a sweep are the particles of CSD-Edit, and `wrap` lets them cross
the seam.
"""

import math
import sys

from PIL import Image, ImageDraw

from scoredistill import load_prior, tasks
from scoredistill.media.images import grid


def landscape(width: int = 512, height: int = 128) -> Image.Image:
    """Sky, sun, hills and trees, periodic in x."""
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for y in range(height):
        draw.line((0, y, width, y), fill=(110 + y, 170 + y // 2, 235))
    draw.ellipse((90, 12, 118, 40), fill=(255, 240, 170))
    for layer, color in enumerate([(120, 160, 130), (90, 150, 80), (60, 125, 55)]):
        for x in range(width):
            a = 2 * math.pi * x / width
            top = 62 + 18 * layer + 10 * math.sin((layer + 2) * a + layer) + 5 * math.sin((2 * layer + 5) * a)
            draw.line((x, top, x, height), fill=color)
    for x in range(20, width, 47):
        draw.rectangle((x - 2, 88, x + 2, 108), fill=(95, 65, 40))
        draw.ellipse((x - 12, 62, x + 12, 96), fill=(40, 100 + x % 60, 45))
    return image


sweeps = int(sys.argv[1]) if len(sys.argv) > 1 else 8
source = Image.open(sys.argv[2]).convert("RGB") if len(sys.argv) > 2 else landscape()
editor = load_prior("emoji-edit")

night = tasks.edit_image(source, "make it night", editor, wrap=True, size=64, sweeps=sweeps, seed=0)
regions = ("0-0.5: make it snowy", "0.5-1: make it sunset")
both = tasks.edit_image(source, "", editor, regions=regions, wrap=True, size=64, sweeps=sweeps, seed=0)

for result in (night, both):
    print(f"{result.image.width} x {result.image.height} pixels, {result.counts['rows']} network evaluations")
grid([source, night.image, both.image], columns=1, labels=["source", "night", "snow and sunset"]).save("panorama.png")
print("panorama.png")
