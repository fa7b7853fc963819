"""What a prior and a generator say of themselves."""

import pytest
import torch

import tiny
import tiny_unets
from scoredistill import load_prior
from scoredistill.generators import CoordinateMLP, Encoded, Latents, Pixels, Windows
from scoredistill.priors import Counted, Empirical, GaussianMixture, Guided, ImageGuided, Prior
from scoredistill.schedule import VP


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return load_prior(tiny_unets.instruct_pix2pix(tmp_path_factory.mktemp("editor")))


def test_pipelines_say_name_shapes_parameterization_conditions_and_place(editor, tmp_path):
    prior = load_prior(tiny.stable_diffusion(tmp_path, "v", "trailing"))
    prior.name = "owls"
    assert repr(prior) == (
        "StableDiffusionPrior(name=owls, sample=(4, 8, 8), image=(16, 16), predicts=v, conditions=('text',), "
        "dtype=float32, device=cpu)"
    )
    assert "predicts=eps" in repr(load_prior(tiny.stable_diffusion(tmp_path, "eps", "leading")))
    assert "conditions=('text', 'image')" in repr(editor)
    guided = repr(ImageGuided(Counted(editor), 7.5, 1.5))
    assert guided.startswith("ImageGuided(prior=Counted(prior=InstructPix2PixPrior(name=")
    assert guided.endswith("rows=0, calls=0, encoded=0, decoded=0), text_scale=7.5, image_scale=1.5)")


def test_closed_forms_and_functions():
    mixture = GaussianMixture(torch.zeros(3, 2), torch.ones(3), labels=[0, 1, 1])
    said = (
        "GaussianMixture(components=3, sample=(2,), conditions=('label',), schedule=VP(beta_min=0.1, beta_max=20.0), "
    )
    assert repr(mixture) == said + "dtype=float32, device=cpu)"
    assert repr(Guided(mixture, 4.0, interval=(0.1, 0.9))).endswith(", scale=4.0, interval=(0.1, 0.9))")
    assert repr(Empirical(torch.zeros(5, 3, 8, 8))).startswith("Empirical(data=5, sample=(3, 8, 8), conditions=()")

    def network(x, t, cond):
        return x

    assert repr(Prior.from_callable(network, VP(), "v")).startswith("FunctionPrior(fn=network, predicts=v, schedule=VP")
    assert "object at" in repr(Guided.__new__(Guided))


def test_generators_say_what_they_make(editor):
    assert repr(Latents(2, (4, 8, 8))) == "Latents(n=2, sample=(4, 8, 8), parameters=512, dtype=float32, device=cpu)"
    assert repr(Pixels(1, (4, 6))).startswith("Pixels(n=1, sample=(3, 4, 6), parameters=72")
    assert repr(CoordinateMLP(1, (4, 6))).startswith("CoordinateMLP(n=1, sample=(3, 4, 6), parameters=")
    assert repr(Windows(torch.zeros(1, 4, 16, 16), (8, 8))).startswith("Windows(canvas=(1, 4, 16, 16), window=(8, 8)")
    assert repr(Encoded(Pixels(1, (16, 16)), editor)).startswith("Encoded(generator=Pixels(n=1, sample=(3, 16, 16)")
