"""The loss for training loops of one's own: its gradient is the estimator's, and its state continues."""

import pytest
import torch

from scoredistill import DistillationLoss, distill, load_prior
from scoredistill.estimators import CSD, MSD, SDS, Batch
from scoredistill.generators import Latents
from scoredistill.priors import Guided, Prior
from scoredistill.schedule import Flow
from scoredistill.times import Bandwidth, Linear


@pytest.fixture(scope="module")
def emoji_prior():
    return load_prior()


ESTIMATORS = {"SDS": SDS, "MSD": MSD, "CSD": CSD}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_gradient_is_the_estimators(name, mixture):
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    criterion = DistillationLoss(mixture, ESTIMATORS[name](), steps=10, times=Linear(0.9, 0.1), encode=False)
    loss = criterion(x)
    (grad,) = torch.autograd.grad(loss, x)
    t = torch.full((6,), 0.9, dtype=torch.float64)
    wanted = ESTIMATORS[name]()(mixture, Batch(x.detach()), t, torch.Generator().manual_seed(0)).grad
    torch.testing.assert_close(grad, wanted, rtol=0, atol=0)
    assert float(loss.detach()) == pytest.approx(0.5 * float(wanted.square().sum()))


def test_a_loop_with_the_loss_is_distill(mixture):
    schedule = Bandwidth(mixture.schedule, 2.0, 0.02)

    def start():
        return Latents(8, (2,), rng=torch.Generator().manual_seed(1)).double()

    theirs = start()
    for _ in distill(theirs, mixture, MSD(), steps=5, times=schedule, optimizer=lambda p: torch.optim.SGD(p, 0.5)):
        pass
    ours = start()
    optimizer = torch.optim.SGD(ours.parameters(), 0.5)
    criterion = DistillationLoss(mixture, MSD(), steps=5, times=schedule, encode=False)
    for _ in range(5):
        optimizer.zero_grad()
        criterion(ours(ours.views())).backward()
        optimizer.step()
    torch.testing.assert_close(ours.values, theirs.values, rtol=1e-12, atol=1e-12)


def test_gradients_pass_through_the_encoder_and_prompts_are_guided(emoji_prior):
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    prompts = ["a hamburger", "an owl"]
    criterion = DistillationLoss(emoji_prior, SDS(), prompts, guidance=5.0, times=lambda i, n: 0.5)
    criterion(images).backward()
    again = images.detach().clone().requires_grad_()
    x = emoji_prior.encode_image(again)
    batch = Batch(x.detach(), emoji_prior.encode_text(prompts))
    estimate = SDS()(Guided(emoji_prior, 5.0), batch, torch.full((2,), 0.5), torch.Generator().manual_seed(0))
    x.backward(estimate.grad)
    torch.testing.assert_close(images.grad, again.grad, rtol=1e-5, atol=1e-8)
    assert criterion.estimate is not None
    assert criterion.calls == 1


def test_accumulated_calls_share_a_time_and_half_precision_keeps_its_dtype():
    times = []

    def noted(index, steps):
        times.append(index)
        return 0.5

    prior = Prior.from_callable(lambda x, t, cond: x, Flow())
    criterion = DistillationLoss(prior, SDS(), steps=2, times=noted, accumulate=3, encode=False)
    for _ in range(6):
        x = torch.randn(2, 2, dtype=torch.bfloat16, requires_grad=True)
        criterion(x).backward()
        assert x.grad.dtype == torch.bfloat16
        assert x.grad.abs().max() > 0
    assert times == [0, 0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="the 2 steps of this loss are over"):
        criterion(torch.randn(2, 2, requires_grad=True))


def test_the_state_continues(mixture):
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def gradient(criterion):
        return torch.autograd.grad(criterion(x), x)[0]

    first = DistillationLoss(mixture, SDS(), encode=False)
    gradient(first)
    state = first.state_dict()
    second = DistillationLoss(mixture, SDS(), encode=False)
    second.load_state_dict(state)
    assert torch.equal(gradient(first), gradient(second))


def test_wrong_arguments_are_refused(mixture, emoji_prior):
    for wrong in ({"steps": 0}, {"accumulate": 0}):
        with pytest.raises(ValueError, match="must be at least 1, not 0"):
            DistillationLoss(mixture, SDS(), **wrong)
    for guidance in (float("nan"), -1.0):
        with pytest.raises(ValueError, match="guidance must be a number of at least 0"):
            DistillationLoss(mixture, SDS(), guidance=guidance)
    with pytest.raises(ValueError, match="takes no text"):
        DistillationLoss(mixture, SDS(), "an owl")
    with pytest.raises(ValueError, match="not both"):
        DistillationLoss(emoji_prior, SDS(), "an owl", cond={})
    with pytest.raises(ValueError, match="needs a prompt"):
        DistillationLoss(emoji_prior, SDS(), negative_prompt="blurry")
    with pytest.raises(ValueError, match="do not depend on parameters"):
        DistillationLoss(mixture, SDS(), encode=False)(torch.randn(2, 2))
    with pytest.raises(ValueError, match="no images in the batch"):
        DistillationLoss(mixture, SDS(), encode=False)(torch.randn(0, 2, requires_grad=True))
    with pytest.raises(ValueError, match=r"shape \[b, 3, h, w\], not \[1, 1, 64, 64\]"):
        DistillationLoss(emoji_prior, SDS(), "an owl")(torch.rand(1, 1, 64, 64, requires_grad=True))
    state = DistillationLoss(mixture, SDS(), steps=2).state_dict()
    with pytest.raises(ValueError, match="a loss with steps 2, not 7"):
        DistillationLoss(mixture, SDS(), steps=7).load_state_dict(state)
    with pytest.raises(ValueError, match="a loss with steps None"):
        DistillationLoss(mixture, SDS()).load_state_dict({})
