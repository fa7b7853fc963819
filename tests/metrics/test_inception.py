"""Inception features through torch-fidelity, replaced by a network with its interface."""

import sys
import types

import pytest
import torch

from scoredistill.metrics import ImageFeatures, inception
from scoredistill.metrics.inception import Inception
from scoredistill.optional import MissingExtra


def network(pixels):
    """Like that of torch-fidelity: accepts bytes only, and returns a tuple of one tensor [b, 2048]."""
    assert pixels.dtype == torch.uint8
    return (pixels.double().mean((2, 3)).repeat(1, 683)[:, :2048],)


def test_images_enter_as_bytes_and_leave_as_features():
    images = torch.tensor([0.0, 0.5, 1.0, 2.0])[:, None, None, None].expand(4, 3, 5, 5)
    features = Inception(network).image_features(images)
    assert features.shape == (4, 2048)
    assert features.dtype == torch.float32
    assert features[:, 0].tolist() == [0, 128, 255, 255]
    assert isinstance(Inception(network), ImageFeatures)


def test_it_is_constructed_as_torch_fidelity_requires(monkeypatch):
    made = []
    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = lambda name, features: made.append((name, features)) or network
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    inception.cache_clear()
    assert inception().network is network
    assert made == [("inception-v3-compat", ["2048"])]
    inception.cache_clear()


def test_without_it_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    inception.cache_clear()
    with pytest.raises(MissingExtra, match="pip install torch-fidelity"):
        inception()
