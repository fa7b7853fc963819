"""Training of the CLIP in half precision."""

import numpy as np

from scoredistill.datasets.emoji import Emoji
from scoredistill.training import clip
from scoredistill.training.loop import Plan


def test_images_of_all_edits_are_made_in_single_precision(tmp_path, monkeypatch):
    rgba = np.zeros((8, 64, 64, 4), np.uint8)
    rgba[:, 16:48, 16:48] = np.array([[200, 30 * k, 40, 255] for k in range(8)], np.uint8)[:, None, None]
    names = tuple(f"{n} box" for n in ("red", "green"))
    emoji = Emoji(rgba, np.arange(8) % 2, np.arange(8) // 2, names, (("flat",),) * 2, ("a", "b", "c", "d"))
    for name, value in {"CAPTIONS": 50, "CROPS": 4, "EDITED": 1.0}.items():
        monkeypatch.setattr(clip, name, value)
    seen, batch = [], clip.batch

    def recorded(*args):
        made = batch(*args)
        seen.append((args[2], made[0].dtype))
        return made

    monkeypatch.setattr(clip, "batch", recorded)
    clip.train_clip(emoji, Plan(batch=64, lr=1e-3, steps=1, bfloat16=True), tmp_path)
    assert [(size, str(dtype)) for size, dtype in seen] == [(64, "torch.float32")]
