"""Every name of the public contract can be imported and takes the arguments that callers outside of the package use."""

import importlib
import inspect

import pytest
import torch

import scoredistill
from scoredistill import estimators, kernels, priors, sampling, schedule, tasks
from scoredistill.estimators import CSD, SDS, Batch, CSDEdit, Stein
from scoredistill.kernels import RBF

NAMES = {
    "scoredistill": ["DistillationLoss", "Recipe", "Step", "__version__", "distill", "load_prior", "metrics", "tasks"],
    "scoredistill.schedule": ["VE", "VP", "Flow", "Schedule", "Tabulated"],
    "scoredistill.priors": ["Empirical", "GaussianMixture", "Coupled", "Guided", "ImageGuided", "Prior"],
    "scoredistill.estimators": [
        *["Batch", "CSD", "CSDEdit", "CollaborativeMSD", "DDS", "Estimate", "MSD", "SDI", "SDS", "Stein", "VSD"],
        *estimators.methods.__all__,
    ],
    "scoredistill.kernels": ["RBF"],
    "scoredistill.sampling": ["ddim", "ddim_invert"],
    "scoredistill.times": [
        "Bandwidth",
        "Linear",
        "PriorWeighted",
        "Sqrt",
        "Ticks",
        "Times",
        "Uniform",
        "Weighted",
        "Window",
    ],
    "scoredistill.clock": ["Bandwidth", "Clock", "Linear", "PriorWeighted", "Sqrt", "Ticks", "Uniform", "Window"],
    "scoredistill.generators": ["CoordinateMLP", "Encoded", "Generator", "Latents", "Pixels", "Windows"],
    "scoredistill.tasks": ["edit_image", "edit_scene", "edit_video", "text_to_3d", "text_to_image"],
}
ARGUMENTS = [
    (priors.Prior.eps, ["x_t", "t", "cond"]),
    (priors.Prior.denoise, ["x_t", "t", "cond"]),
    (priors.GaussianMixture, ["means", "covs", "weights", "schedule"]),
    (priors.GaussianMixture.log_prob, ["x"]),
    (priors.GaussianMixture.sample, ["n", "rng"]),
    (priors.Empirical, ["data", "labels", "schedule"]),
    (priors.Guided, ["prior", "scale", "interval", "uncond"]),
    (priors.ImageGuided, ["prior", "text_scale", "image_scale"]),
    (schedule.Schedule.time_of, ["ratio"]),
    (sampling.ddim, ["prior", "x_T", "steps", "cond", "eta", "rng"]),
    (sampling.ddim_invert, ["prior", "x_0", "steps", "cond"]),
    (estimators.Batch, ["x", "cond", "source"]),
    (estimators.Estimate, ["grad", "loss", "info"]),
    (estimators.Estimator.__call__, ["prior", "batch", "t", "rng"]),
    (estimators.SDS, ["weight"]),
    (estimators.MSD, ["bandwidth", "sampler", "steps", "samples", "antithetic"]),
    (estimators.Stein, ["base", "kernel", "normalize", "normalise"]),
    (estimators.CSD, ["normalize", "normalise"]),
    (estimators.CSDEdit, ["normalize", "normalise"]),
    (estimators.CollaborativeMSD, ["beta"]),
    (kernels.RBF, ["bandwidth", "scale", "features"]),
    (
        scoredistill.distill,
        ["generator", "prior", "estimator", "cond", "steps", "particles", "times", "optimizer", "rng", "state"],
    ),
    (tasks.text_to_image, ["prompt", "prior", "method"]),
    (tasks.edit_image, ["image", "instruction", "prior", "method"]),
]


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_name_exists(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("function", "names"), ARGUMENTS, ids=lambda value: getattr(value, "__qualname__", ""))
def test_arguments_keep_their_names_and_order(function, names):
    found = [name for name in inspect.signature(function).parameters if name in names]
    assert set(found) == set(names)
    if not {"normalise", "state"} & set(names):  # keywords, wherever they stand
        assert found == names


@pytest.mark.parametrize("name", ["encode_text", "encode_image", "decode", "schedule"])
def test_loaded_priors_encode_and_decode(name):
    prior = scoredistill.load_prior("emoji")
    assert hasattr(prior, name)
    assert isinstance(prior.schedule, schedule.Tabulated)


@pytest.mark.parametrize("name", ["index", "t", "grad_norm", "images", "state_dict"])
def test_a_step_tells_what_happened(name):
    assert name in scoredistill.Step.__annotations__ or hasattr(scoredistill.Step, name)


def test_the_package_lists_its_modules():
    listed = dir(scoredistill)
    for name in ("schedule", "times", "clock", "priors", "estimators", "generators", "kernels", "sampling", "three_d"):
        assert name in listed
        assert getattr(scoredistill, name) is importlib.import_module(f"scoredistill.{name}")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = scoredistill.nothing


def test_clock_is_times():
    from scoredistill import clock, times

    assert clock.Clock is times.Times
    assert clock.Uniform is times.Uniform
    assert clock.seed_of(3, 4) == scoredistill.rng.seed_of(3, 4)


class TestNormalize:
    """`normalise=` is an alias of `normalize=`."""

    @pytest.mark.parametrize("value", ["row", "paper"])
    def test_normalise_is_an_alias(self, value, mixture):
        x, t = torch.randn(5, 2, dtype=torch.float64), torch.full((5,), 0.4, dtype=torch.float64)
        for make in (lambda **named: Stein(SDS(), RBF(), **named), CSD):
            ours, alias = make(normalize=value), make(normalise=value)
            assert ours.normalize == alias.normalize == value
            a, b = (e(mixture, Batch(x), t, torch.Generator().manual_seed(0)).grad for e in (ours, alias))
            assert torch.equal(a, b)
        assert CSDEdit(normalise=value).normalize == CSDEdit(normalize=value).normalize == value

    def test_an_unknown_value_is_refused(self):
        with pytest.raises(ValueError, match="unknown normalize 'column'"):
            Stein(SDS(), normalise="column")

    def test_law_is_the_former_name_of_density(self):
        assert estimators.CollaborativeMSD(law="gaussian").density == "gaussian"
