"""What tests of tasks share: small random editors, the bundled editor, runs that are stopped, and refused commands."""

import importlib

import pytest

import tiny_unets
from scoredistill import cli, load_prior


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


@pytest.fixture
def refused(capsys):
    """A function that runs a command which must end with exit code 2 and one sentence, and returns the sentence."""

    def run(*line):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(part) for part in line])
        said = capsys.readouterr().err
        assert stop.value.code == 2
        assert said.startswith("scoredistill: ")
        assert len(said.strip().splitlines()) == 1
        return said

    return run


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
