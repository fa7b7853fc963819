"""What tests of tasks share: small random editors, the bundled editor, and runs that are stopped."""

import importlib

import pytest

import tiny_unets
from scoredistill import load_prior


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Directory of a saved random editor with 8x8 latents and 16x16 images."""
    base = tmp_path_factory.mktemp("editor")
    tiny_unets.instruct_pix2pix(base / "tokens").save_pretrained(base / "model")
    return base / "model"


@pytest.fixture(scope="module")
def prior(model):
    """The random editor."""
    return load_prior(model)


@pytest.fixture(scope="module")
def bundled():
    """The bundled editor."""
    return load_prior("emoji-edit")


@pytest.fixture
def no_model(monkeypatch):
    """No model may be loaded."""

    def loaded(*_, **__):
        raise AssertionError("the model was loaded before the input was checked")

    monkeypatch.setattr(importlib.import_module("scoredistill.tasks.session"), "load_prior", loaded)


@pytest.fixture
def every_step(monkeypatch):
    """Checkpoints after every step."""
    monkeypatch.setattr("scoredistill.tasks.run_directory.CHECKPOINT_SECONDS", -1.0)


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def killed():
    """(exception, function): the function makes callbacks that raise the exception after the step of an index."""

    def after(index):
        def callback(step, *_):
            if step.index == index:
                raise Killed

        return callback

    return Killed, after
