"""Nothing in the loop reads a value or mixes devices: networks and particles on PyTorch's `meta` device.

Tensors there have shapes and no values. It is to the CPU what a GPU is (an operation on tensors of both raises), and
every read of a value, which on a GPU makes the host wait, raises as well.
"""

import pytest
import torch

import tiny
import tiny_flow
import tiny_recorded
import tiny_unets
import tiny_videos
from scoredistill import distill, load_prior
from scoredistill.estimators import (
    Averaged,
    Batch,
    Inverted,
    LowPass,
    OdeTarget,
    Predicted,
    Random,
    Residual,
    Stein,
    methods,
)
from scoredistill.estimators.methods import (
    CSD,
    DDS,
    ESD,
    ISM,
    MSD,
    PDS,
    PFD,
    SDI,
    SDS,
    UCM,
    VSD,
    CollaborativeMSD,
    CSDEdit,
    FixedNoise,
)
from scoredistill.generators import CoordinateMLP, Encoded, Latents, Pixels, Windows
from scoredistill.kernels import RBF, InverseMultiquadric
from scoredistill.priors import Empirical, GaussianMixture, Guided, ImageGuided, Prior
from scoredistill.priors.network import Denoiser, NetworkConfig, NetworkPrior
from scoredistill.priors.pipelines.argument_trees import leaves, replaced
from scoredistill.priors.pipelines.recorded import recorded
from scoredistill.schedule import Flow, Tabulated, per_sample

META = torch.device("meta")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
PIPELINES = {
    "Stable Diffusion": tiny.stable_diffusion,
    "InstructPix2Pix": tiny_unets.instruct_pix2pix,
    "Stable Diffusion XL": tiny_unets.stable_diffusion_xl,
    "SDXL refiner": tiny_unets.refiner,
    "InstructPix2Pix XL": tiny_unets.instruct_pix2pix_xl,
    "DeepFloyd IF": tiny_unets.deepfloyd,
    "Stable Diffusion 3": tiny_flow.stable_diffusion_3,
    "FLUX": tiny_flow.flux,
    "Kontext": tiny_flow.kontext,
}
NAMED = {  # every published method, with as few evaluations as show all of its steps
    **{name: getattr(methods, name) for name in methods.__all__},
    "SDI": lambda: SDI(steps=2),
    "ISM": lambda: ISM(steps=1),
    "UCM": lambda: UCM(steps=1),
    "PFD": lambda: PFD(steps=2, inversion_steps=1),
}
OPTIONS = {
    "FixedNoise, refreshed": lambda: FixedNoise(0.5),
    "PDS as released": lambda: PDS(tick=1 / 999),
    "CSD as released": lambda: CSD(RBF("paper"), normalize="paper"),
    "CSD of means": lambda: Stein(SDS(), RBF(features=lambda x: x.flatten(1)[:, :2]), "row", repulsion=1.0),
    "CSD with a heavy tail": lambda: CSD(InverseMultiquadric()),
    "CSDEdit as released": lambda: CSDEdit(normalize="paper"),
    "CSDEdit, uncoupled": lambda: CSDEdit(coupled=False),
    "MSD, constant bandwidth": lambda: MSD(0.5),
    "MSD, product": lambda: MSD(sampler="product", steps=2, samples=2, antithetic=True),
    "MSD, product, the prior's levels": lambda: MSD(sampler="product", steps=2, levels="prior"),
    "MSD, ancestral": lambda: MSD(sampler="ancestral", steps=2),
    "MSD, paper": lambda: MSD(sampler="paper", steps=2),
    "MSD, paper, inverted": lambda: MSD(sampler="paper", steps=2, anchor="inverted", dt="index", interval=(0.2, 0.8)),
    "CollaborativeMSD, denoised": lambda: CollaborativeMSD(0.5, denoised=True),
    "CollaborativeMSD, Gaussian": lambda: CollaborativeMSD(density="gaussian"),
    "CollaborativeMSD, features": lambda: CollaborativeMSD(kernel=RBF(features=lambda x: x.flatten(1)[:, :2])),
    "CollaborativeMSD, constant width": lambda: CollaborativeMSD(kernel=RBF(0.3)),
    "Averaged": lambda: Averaged(Residual(noise=Random(antithetic=True))),
    "shared noise": lambda: Residual(noise=Random(shared=True)),
    "predicted noise": lambda: Residual(noise=Predicted(2)),
    "fresh noise in the inversion": lambda: OdeTarget(Inverted(2, eta=0.5), 2),
}
STUDENTS = ("VSD", "ESD")
ONE_OF_EACH_KIND = ("ISM", "SDI", "DDS", "PDS", "CSD", "CSDEdit", "UCM", "CollaborativeMSD", "MSD, paper, inverted")


@pytest.fixture(scope="module")
def priors(tmp_path_factory):
    """A function that returns a pipeline's prior on the meta device, and the condition of its prompts and source."""
    made = {}

    def get(name, dtype):
        if name not in made:
            prior = load_prior(PIPELINES[name](tmp_path_factory.mktemp("tiny")))
            cond = prior.encode_text(tiny.PROMPTS)
            prior.encode_text([""])  # kept: text encoders stay where they are
            for part in prior.pipeline.components.values():
                if isinstance(part, torch.nn.Module):
                    part.to(META)
            made[name] = prior, cond
        prior, cond = made[name]
        for part in (prior.network, getattr(prior.codec, "vae", None)):
            if part is not None:
                part.to(dtype)
        cond = {key: value.to(META) for key, value in cond.items()}
        if hasattr(type(prior), "takes_zeros"):
            height, width = prior.image_size
            cond |= prior.encode_source(torch.empty(2, 3, height, width, device=META, dtype=dtype))
        return prior, cond

    return get


def guided(prior):
    """The prior with the guidance that it is used with."""
    return ImageGuided(prior, 7.5, 1.5) if getattr(prior, "needs_source", False) else Guided(prior, 7.5)


class Conditional(Prior):
    """A prior that predicts noise like its input and has a null condition."""

    def __init__(self, schedule):
        self.schedule = schedule

    def eps(self, x_t, t, cond=None):
        return torch.empty_like(x_t) + per_sample(t, x_t)

    def null(self, cond):
        return {name: torch.zeros_like(value) for name, value in cond.items()}


def tiny_table():
    return Tabulated(torch.linspace(0.99, 0.01, 20))


class Network:
    """In the place of a network's `forward`, so that a matrix of methods is quick: it checks all that it is given."""

    def __init__(self, network):
        self.config, self.dtype = network.config, network.dtype

    def __call__(self, x, *inputs, **options):
        for value in [x, *inputs, *options.values(), *(options.get("added_cond_kwargs") or {}).values()]:
            assert not isinstance(value, torch.Tensor) or value.device == META
        assert x.dtype == self.dtype
        channels = x.shape[1] if x.ndim == 3 else self.config.out_channels
        return (x.new_empty(len(x), channels, *x.shape[2:]),)


def check(estimator, prior, cond, shape, dtype, rows=2, group=None, times=(0.5,)):
    """The estimator returns a gradient like the particles, at a second time from its own state."""
    x = torch.empty(rows, *shape, dtype=dtype, device=META)
    batch = Batch(x, cond, torch.empty_like(x), cond, group)
    for t in times:
        at = torch.full((rows,), t, device=META)
        grad = estimator(prior, batch, at, torch.Generator().manual_seed(0)).grad
        assert (grad.device, grad.dtype, grad.shape) == (META, dtype, x.shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_read_nothing(priors, name, dtype, monkeypatch):
    """With the network itself; in bfloat16, a method of each kind around a stand-in of the network as well."""
    prior, cond = priors(name, dtype)
    check(DDS(), guided(prior), cond, prior.latent_shape, dtype)
    if dtype == torch.bfloat16:
        monkeypatch.setattr(prior.network, "forward", Network(prior.network))
        for method in ONE_OF_EACH_KIND:
            check((NAMED | OPTIONS)[method](), guided(prior), cond, prior.latent_shape, dtype)


RECORDED = {  # a video, a sound, an editor, a flow, and a network that predicts the noise
    "Wan": (3, 3.0),
    "Stable Audio": (2, 3.0),
    "FLUX.1 Kontext": (2, 3.0),
    "Z-Image": (2, 3.0),
    "PixArt-Sigma": (2, 3.0),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_pipelines_read_nothing(name):
    """Once their arguments are recorded."""
    rows, scale = RECORDED[name]
    kind = (tiny_recorded.KINDS | tiny_videos.KINDS)[name]
    prior = recorded(tiny_recorded.make(kind), call=kind.call)
    cond = prior.encode_text(tiny.PROMPTS[0])
    if name == "FLUX.1 Kontext":
        cond |= prior.encode_source(torch.rand(1, 3, 32, 32))
    Guided(prior, scale).eps(torch.randn(rows, *prior.latent_shape), torch.full((rows,), 0.5), cond)
    for shape in prior._shapes.values():
        for request, known in shape.recordings.items():
            tensors = {path: leaf.to(META) for path, leaf in leaves(known.arguments).items() if hasattr(leaf, "to")}
            shape.recordings[request] = known._replace(arguments=replaced(known.arguments, tensors))
    prior.network.to(META)
    for method in (SDS, MSD, CSD):
        check(method(), Guided(prior, scale), cond, prior.latent_shape, torch.float32, rows)


@pytest.mark.parametrize("name", ["Stable Diffusion", "FLUX"])
def test_students_of_networks_read_nothing(priors, name):
    """A trained copy of a network in half precision, also where the whole network is on this device."""
    prior, cond = priors(name, torch.float16)
    check(VSD(), guided(prior), cond, prior.latent_shape, torch.float32)


@pytest.mark.parametrize(
    ("schedule", "dtype"),
    zip([tiny_table(), Flow(), tiny_table()], DTYPES, strict=True),
    ids=["table-float32", "flow-float16", "table-bfloat16"],
)
def test_estimators_read_nothing(schedule, dtype):
    """Every published method and option, in any floating-point type."""
    prior, cond = Conditional(schedule), {"text": torch.empty(1, 3, device=META)}
    for method, make in (NAMED | OPTIONS).items():
        if method not in STUDENTS:
            check(make(), Guided(prior, 7.5), cond, (4, 2), dtype, times=(0.5, 0.4) if "Noise" in method else (0.5,))
    student = NetworkPrior(Denoiser(NetworkConfig(dim=2, width=8, depth=1)).to(META), schedule)
    for make in (VSD, ESD):
        check(make(student), prior, None, (2,), dtype)
    groups = torch.tensor([0, 1, 1])
    check(Stein(DDS(), share=LowPass()), prior, cond, (4, 2, 2), dtype, 3, groups)
    check(Averaged(Stein(SDS())), Guided(prior, 7.5), cond, (4, 2, 2), dtype, 3, groups)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_closed_form_and_small_priors_read_nothing(dtype):
    mixture = GaussianMixture(torch.eye(2), 0.1 * torch.ones(2, 2, 2) + torch.eye(2), labels=[0, 1])
    for name, value in vars(mixture).items():
        if isinstance(value, torch.Tensor):
            setattr(mixture, name, value.to(META, dtype if value.is_floating_point() else None))
        elif isinstance(value, list):
            setattr(mixture, name, [each.to(META, dtype) for each in value])
    network = NetworkPrior(Denoiser(NetworkConfig(width=8, depth=1, classes=2)).to(META, dtype))
    label = {"label": torch.zeros(1, dtype=torch.long, device=META)}
    for prior in (mixture, network):
        for method in ("SDS", "ISM", "CSD", "CollaborativeMSD", "MSD, paper"):
            check((NAMED | OPTIONS)[method](), Guided(prior, 7.5), label, (2,), dtype)
    check(DDS(), Empirical(torch.empty(3, 2, device=META, dtype=dtype)), None, (2,), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda: Latents(2, (4, 8, 8)),
        lambda: Encoded(Pixels(2, (16, 16)), Conditional(Flow())),
        lambda: CoordinateMLP(2, (8, 8), width=4, features=2),
        lambda: Windows(torch.zeros(2, 4, 12, 16), (8, 8), scales=(1,), maps=torch.rand(2, 12, 16)),
        lambda: Windows(torch.zeros(1, 4, 16, 16), (8, 8), wrap=True, scales=(1, 2)),
    ],
    ids=["latents", "encoded pixels", "coordinates", "windows of regions", "windows of two scales"],
)
def test_loops_read_nothing(make, dtype):
    """Two steps from parameters to parameters."""
    generator = make().to(META, dtype)
    steps = list(distill(generator, Conditional(Flow()), SDS(), steps=2, particles=2))
    assert all(step.grad_norm.device == META for step in steps)
