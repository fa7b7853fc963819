"""Editors that the tests of editing share."""

import pytest

import tiny_unets
from scoredistill import load_prior


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A saved random editor: 8x8 latents, 16x16 images."""
    base = tmp_path_factory.mktemp("editor")
    tiny_unets.instruct_pix2pix(base / "tokens").save_pretrained(base / "model")
    return base / "model"


@pytest.fixture(scope="module")
def prior(folder):
    return load_prior(folder)


@pytest.fixture(scope="module")
def bundled():
    """The bundled editor of emoji."""
    return load_prior("emoji-edit")
