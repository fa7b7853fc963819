"""Images and clips inside packages: several sources, none of them seen in training, stills as in their videos."""

from collections import Counter

import pytest
import torch

from scoredistill.datasets import packaged_media as data
from scoredistill.datasets import photographs
from scoredistill.media.video import open_video


def test_images_come_from_several_packages_and_were_not_trained_on():
    packages = Counter(package for package, _ in data.IMAGES.values())
    assert len(packages) >= 4
    assert max(packages.values()) <= len(data.IMAGES) / 2
    assert not {file.rpartition("/")[2] for _, file in data.IMAGES.values()} & set(photographs.TRAIN)
    assert set(data.PANORAMAS) <= set(data.IMAGES)


def test_stills_are_far_from_the_clips_of_their_videos():
    for name, frame in data.STILLS.items():
        firsts = [first for package, file, first in data.CLIPS.values() if (package, file) == data.IMAGES[name]]
        assert all(abs(frame - first) > 40 for first in firsts)


def test_a_still_is_that_frame_of_its_video():
    path = data.path_of(*data.IMAGES["phone_still"])
    with_frame = list(open_video(path).frames(98, 102))
    found = data.image("phone_still", 144)
    assert found.shape[2:] == with_frame[0].shape[:2]
    distance = [float((torch.tensor(frame).permute(2, 0, 1) / 255 - found[0]).abs().mean()) for frame in with_frame]
    assert distance[2] < 1e-6 < min(distance[:2] + distance[3:])


@pytest.mark.parametrize("name", ["venice", "coins", "tissue"])
def test_images_have_the_height_that_is_asked_and_a_width_of_whole_latents(name):
    found = data.image(name, 64)
    assert found.shape[:3] == (1, 3, 64)
    assert found.shape[3] % 8 == 0
    assert 0 <= found.min() < found.max() <= 1
