"""Noise levels of schedulers: sampling equals the pipeline whatever its scheduler, or a refusal says what to do."""

import diffusers
import pytest
import torch

import tiny
import tiny_flow
from scoredistill import load_prior
from scoredistill.priors import Guided
from scoredistill.priors.pipelines.noise_levels import levels_of
from scoredistill.sampling import ddim
from scoredistill.schedule import Flow

TABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
ZERO = {**TABLE, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
PROMPTS = ["a red hamburger", "an owl"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("tokens"))


def apart(pipeline, scheduler, steps=3, scale=4.0, floor=False):
    """Largest difference of latents between the pipeline and our sampler, relative to the largest latent."""
    pipeline.scheduler = scheduler
    x_T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    theirs = pipeline(
        PROMPTS, guidance_scale=scale, num_inference_steps=steps, latents=x_T.clone(), output_type="latent"
    ).images
    prior = load_prior(pipeline)
    if floor:  # these schedulers tell the network integer time steps
        exact = prior.levels.step
        prior.levels.step = lambda t: (exact(t) + 1e-3).floor()
    ours = ddim(Guided(prior, scale), x_T, steps, prior.encode_text(PROMPTS))
    return float((ours - theirs).abs().max() / max(1, theirs.abs().max()))


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_zero_terminal_snr_equals_the_pipeline(pipeline, prediction):
    assert apart(pipeline, diffusers.DDIMScheduler(prediction_type=prediction, **ZERO)) < 2e-5
    prior = load_prior(pipeline)
    alpha, sigma = prior.schedule(torch.linspace(0, 1, 1000, dtype=torch.float64))
    assert (alpha**2 - pipeline.scheduler.alphas_cumprod.double()).abs().max() < 1e-7
    assert (alpha[-1], sigma[-1]) == (0, 1)
    other = levels_of(diffusers.DDIMScheduler(**{**ZERO, "rescale_betas_zero_snr": False}))
    assert (other.schedule.ratio(torch.tensor([0.9])) - prior.schedule.ratio(torch.tensor([0.9]))).abs() > 0.5


def test_noise_predictors_see_noise_to_just_before_zero_terminal_snr(pipeline):
    """At alpha = 0 the noise does not determine the sample; diffusers' other schedulers use 2^-24, too."""
    ddim_table = diffusers.DDIMScheduler(**ZERO)
    for scheduler in (ddim_table, diffusers.EulerDiscreteScheduler.from_config(ddim_table.config)):
        pipeline.scheduler = scheduler
        prior = load_prior(pipeline)
        assert float(prior.schedule(torch.ones(1, dtype=torch.float64))[0]) == pytest.approx(2.0**-12)
        assert prior.denoise(torch.ones(1, 4, 8, 8), torch.ones(1)).isfinite().all()


@pytest.mark.parametrize(
    ("prediction", "spacing", "data"), [("epsilon", "karras", 0.5), ("v_prediction", "exponential", 1.0)]
)
def test_edm_equals_the_pipeline(pipeline, prediction, spacing, data):
    """Playground 2.5 has sigma_data .5 and epsilon, CosXL 1 and v_prediction."""
    options = {"prediction_type": prediction, "sigma_schedule": spacing, "sigma_data": data, "sigma_max": 120.0}
    assert apart(pipeline, diffusers.EDMEulerScheduler(**options)) < 1e-4
    whole, solver = load_prior(pipeline), levels_of(diffusers.EDMDPMSolverMultistepScheduler(**options))
    assert torch.equal(solver.times(5), whole.times(5))
    assert solver.schedule == whole.schedule
    cut = levels_of(diffusers.EDMEulerScheduler(final_sigmas_type="sigma_min", **options))
    assert cut.times(5)[-1].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert whole.times(5)[-1].tolist() == pytest.approx([0, -1], abs=1e-6)


def test_edm_by_hand(pipeline):
    """D(z; r) = d^2 z / (r^2 + d^2) + r d F / sqrt(r^2 + d^2) at r = 2, d = .5; the network is told log(2) / 4."""
    pipeline.scheduler = diffusers.EDMEulerScheduler(sigma_data=0.5)
    prior, seen = load_prior(pipeline), {}

    def network(x, step, *_, **__):
        seen.update(x=x, step=step)
        return (torch.full_like(x, 3.0),)

    r = torch.tensor([2.0])
    z = torch.full((1, 4, 8, 8), 5.0)
    t = prior.schedule.time_of(r)
    x0, eps = prior.predict(network, z / 5**0.5, t)
    assert seen["step"].item() == pytest.approx(torch.tensor(2.0).log().item() / 4, abs=1e-5)
    assert seen["x"].flatten()[0].item() == pytest.approx(5 / 4.25**0.5, abs=1e-5)
    assert x0.flatten()[0].item() == pytest.approx(0.25 * 5 / 4.25 + 3 / 4.25**0.5, abs=1e-5)
    assert (x0 + 2 * eps - z).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"])
def test_solvers_of_flows_equal_the_pipeline(pipeline, name):
    correct = {"disable_corrector": list(range(9))} if name.startswith("UniPC") else {}
    scheduler = getattr(diffusers, name)(solver_order=1, **FLOW, **correct)
    assert apart(pipeline, scheduler, floor=True) < 1e-4
    assert isinstance(load_prior(pipeline).schedule, Flow)


def test_transformers_take_solvers_of_flows(tmp_path):
    pipeline, x = tiny_flow.stable_diffusion_3(tmp_path), tiny_flow.noise(tiny_flow.SQUARE)
    pipeline.scheduler = diffusers.DPMSolverMultistepScheduler(solver_order=1, **FLOW)
    theirs = pipeline(
        PROMPTS, guidance_scale=4.0, latents=x.clone(), height=32, width=32, num_inference_steps=4, output_type="latent"
    ).images
    prior = load_prior(pipeline)
    prior.step = lambda t: (1000 * t + 1e-3).floor()
    assert tiny_flow.relative(tiny_flow.ours(prior, x, 4, 4.0), theirs) < 1e-5
    assert pipeline.scheduler.num_inference_steps == 4


def test_the_refused_scheduler_of_continuous_time_steps_has_the_advised_one_as_its_equal(pipeline):
    continuous = diffusers.EulerDiscreteScheduler(
        timestep_type="continuous", prediction_type="v_prediction", sigma_min=0.002, sigma_max=700.0,
        use_karras_sigmas=True, timestep_spacing="trailing",
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=r"EDMEulerScheduler\(sigma_min=0.002, sigma_max=700, sigma_data=1.0, "
    ) as told:
        levels_of(continuous)
    advice = "EDMEulerScheduler" + str(told.value).partition("EDMEulerScheduler")[2]
    advised = eval(advice, {"EDMEulerScheduler": diffusers.EDMEulerScheduler})
    continuous.set_timesteps(7)
    advised.set_timesteps(7)
    assert (advised.sigmas - continuous.sigmas).abs().max() < 1e-3
    assert (advised.timesteps - continuous.timesteps).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("scheduler", "advice"),
    [
        (diffusers.IPNDMScheduler(), "give the pipeline the scheduler that the model was trained with"),
        (diffusers.ScoreSdeVeScheduler(), "Prior.from_callable"),
        (diffusers.HeliosScheduler(), "the scheduler that the model was trained with"),
        (diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "Prior.from_callable"),
        (
            diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True),
            "'epsilon' with use_flow_sigmas is not",
        ),
        (diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction"), "flow_prediction with use_flow_sigmas"),
        (diffusers.EDMEulerScheduler(prediction_type="sample"), "use one of epsilon, v_prediction"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_other_schedulers_are_refused_with_advice(scheduler, advice):
    with pytest.raises(ValueError, match=advice) as told:
        levels_of(scheduler)
    assert "DDIM" not in str(told.value)


def test_spacing_and_solver_do_not_change_the_prior(pipeline):
    plain, t = diffusers.DDIMScheduler(**TABLE), torch.linspace(0, 1, 50)
    for other in (
        diffusers.EulerDiscreteScheduler.from_config(plain.config, use_karras_sigmas=True, sigma_max=3.0),
        diffusers.DPMSolverMultistepScheduler.from_config(plain.config, use_exponential_sigmas=True),
        diffusers.LCMScheduler.from_config(plain.config, original_inference_steps=20),
        diffusers.DDPMScheduler.from_config(plain.config, timestep_spacing="linspace"),
    ):
        assert torch.equal(levels_of(other).schedule.ratio(t), levels_of(plain).schedule.ratio(t))


def test_betas_that_ddim_does_not_know_have_times():
    levels = levels_of(diffusers.DDPMScheduler(beta_schedule="sigmoid", beta_end=0.02, timestep_spacing="trailing"))
    assert levels.times(4)[:, 0].tolist() == pytest.approx([1.0, 749 / 999, 499 / 999, 249 / 999])
