"""The training loop: budgets, rates, resuming, averages, interruption."""

import json
import signal
import time

import pytest
import torch

from scoredistill.training.loop import Plan, Run, train


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, 8), torch.nn.Linear(8, 1))


def loss(network, rng):
    x = torch.randn(16, 4, generator=rng)
    return (network(x)[:, 0] - x.square().sum(1)).square().mean()


def nothing(network, path):
    pass


def test_the_learning_rate_warms_up_and_ends_at_zero():
    plan = Plan(batch=1, lr=1.0, steps=100, warmup=10)
    rates = [plan.rate(step, plan.progress(step, 0.0)) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1, abs=0.05)
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)


def test_a_cooldown_leaves_the_rate_constant_before():
    plan = Plan(batch=1, lr=1.0, steps=100, warmup=1, cooldown=0.2)
    rates = [plan.rate(step, plan.progress(step, 0.0)) for step in range(101)]
    assert rates[80] == 1.0
    assert rates[90] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert Plan(batch=1, lr=1.0, warmup=1, cooldown=0.0).rate(5, 1.0) == 1.0


def test_progress_is_counted_in_steps_minutes_or_cpu_minutes():
    counts = (30, 60.0, 120.0)  # steps, seconds, CPU seconds
    assert Plan(batch=1, lr=1.0, steps=100).progress(*counts) == 0.3
    assert Plan(batch=1, lr=1.0, steps=100, minutes=2.0).progress(*counts) == 0.5
    assert Plan(batch=1, lr=1.0, cpu_minutes=8.0).progress(*counts) == 0.25
    assert Plan(batch=1, lr=1.0, minutes=0.0).progress(*counts) == 1.0


def test_waiting_costs_minutes_but_no_cpu_minutes(tmp_path):
    def slow(network, rng):
        time.sleep(0.05)
        return loss(network, rng)

    run = Run(network(), Plan(batch=16, lr=1e-3, steps=3), tmp_path)
    for _ in range(3):
        run.update(slow)
    assert run.seconds > 0.15
    assert run.cpu_seconds < 0.1
    assert run.images == 48


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_an_uninterrupted_one_exactly(optimizer, tmp_path):
    plan = Plan(batch=16, lr=1e-2, steps=20, warmup=2, optimizer=optimizer, slow="0.", slow_factor=0.5)
    whole = Run(network(), plan, tmp_path / "whole")
    losses = [whole.update(loss) for _ in range(20)]
    first = Run(network(), plan, tmp_path / "halves")
    for _ in range(9):
        first.update(loss)
    first.save()
    second = Run(network(1), plan, tmp_path / "halves")
    assert (second.step, second.images) == (9, 144)
    assert [second.update(loss) for _ in range(11)] == losses[9:]
    for one, other in ((whole.network, second.network), (whole.average, second.average)):
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    assert not any(torch.equal(a, b) for a, b in zip(network().parameters(), second.network.parameters(), strict=True))


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path):
    run = Run(network(), Plan(batch=1, lr=1e-3, steps=2), tmp_path)
    run.save()
    with pytest.raises(ValueError, match="another optimizer, network"):
        Run(network(), Plan(batch=1, lr=1e-3, steps=2, optimizer="muon"), tmp_path)


def test_frozen_parameters_stay_and_slow_ones_are_slower(tmp_path):
    net = network()
    net[2].requires_grad_(False)
    before = [p.detach().clone() for p in net.parameters()]
    plan = Plan(batch=1, lr=1e-3, steps=10, warmup=1, slow="0.", slow_factor=0.1, weight_decay=0.0)
    Run(net, plan, tmp_path).update(loss)
    moved = [float((p.detach() - q).abs().max()) for p, q in zip(net.parameters(), before, strict=True)]
    assert moved[:2] == pytest.approx([1e-4, 1e-4], rel=0.01)  # the first step of Adam is the learning rate
    assert moved[2:4] == [0.0, 0.0]
    assert moved[4:] == pytest.approx([1e-3, 1e-3], rel=0.01)


def test_the_log_holds_time_images_and_losses_and_snapshots_come_at_their_number(tmp_path):
    run = Run(network(), Plan(batch=4, lr=1e-3, steps=12, parts=2, snapshots=3), tmp_path)
    drawn = []
    train(run, loss, lambda network, path: drawn.append(path.name), "test", measure=lambda network: 0.25)
    lines = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["images"]) for line in lines] == [(4, 32), (8, 64), (12, 96)]
    assert all(line["held_out"] == 0.25 and {"seconds", "cpu_seconds", "loss"} < set(line) for line in lines)
    assert drawn == ["samples.png"] * 3
    steps = sorted({path.name.split("-")[0] for path in (tmp_path / "snapshots").iterdir()})
    assert steps == ["00000004", "00000008", "00000012"]


def test_checkpoints_between_snapshots_measure_nothing(tmp_path):
    run = Run(network(), Plan(batch=4, lr=1e-3, steps=4, snapshots=2, save_minutes=0.0), tmp_path)
    drawn = []
    train(run, loss, lambda network, path: drawn.append(run.step), "test", measure=lambda network: 0.25)
    lines = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line.get("held_out") for line in lines] == [None, 0.25, None, 0.25]
    assert drawn == [2, 4]


def test_an_interrupted_training_saves_and_says_how_far_it_came(tmp_path):
    run = Run(torch.nn.Linear(1, 1), Plan(batch=1, lr=0.1, steps=10), tmp_path)

    def interrupted(network, rng):
        if run.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return network.weight.square().sum()

    with pytest.raises(SystemExit, match="stopped at 40%"):
        train(run, interrupted, nothing, "test")
    assert Run(torch.nn.Linear(1, 1), run.plan, tmp_path).step == 4
