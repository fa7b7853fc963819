"""Several runs in one directory: the grid has a row per prompt and a column per seed, also if a run has no image."""

import numpy as np
from PIL import Image

from scoredistill.files import write_json
from scoredistill.media.images import save_image
from scoredistill.tasks.batch import BatchDirectory, BatchRequest


def test_a_run_without_an_image_leaves_its_place_blank(tmp_path):
    pairs = [("a cat", seed) for seed in range(3)]
    request = BatchRequest.of(pairs, {"prompt": "a cat", "seed": 0})
    batch = BatchDirectory(tmp_path / "set", request, False, False)
    batch.open(request)
    runs = [batch.path / batch.name(*pair) for pair in pairs]
    for seed, run in enumerate(runs):
        run.mkdir()
        write_json(run / "config.json", {"request": {"prompt": "a cat", "seed": seed}, "version": "1"})
        if seed:
            save_image(Image.new("RGB", (64, 64), (0, 0, 100 + 50 * seed)), run / "image_00.png")
    batch.finish(runs)
    batch.release()
    tiles = np.array_split(np.asarray(Image.open(batch.path / "grid.png", formats=("PNG",)).convert("RGB")), 3, 1)
    middles = [tuple(int(value) for value in tile[tile.shape[0] // 3, tile.shape[1] // 2]) for tile in tiles]
    assert middles == [(255, 255, 255), (0, 0, 150), (0, 0, 200)]
