"""What tests of pipelines share."""

import logging

import pytest


@pytest.fixture(scope="module")
def hushed():
    """Without the warnings of diffusers and transformers about tiny models."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
