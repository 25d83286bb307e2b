"""C-CHAIN: its coefficient by both rules, its term for Gaussian policies, and where it is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from lop_sweeps.algorithms import c_chain
from lop_sweeps.algorithms.c_chain import CChain, PackedCChain, Rule
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner

ROUND, ROUNDS, WINDOW = 4, 6, 3
RULES = {"gym": Rule(WINDOW, 3, 1.0, False), "dmc": Rule(WINDOW, 3, 0.0, True)}  # as they are, and shorter


class Given:
    """Data, and losses of two runs at each step that are simply made up."""

    task = 0

    def __init__(self) -> None:
        self.made = torch.from_numpy(np.random.default_rng(0).normal(size=(ROUND * ROUNDS, 2)))
        self.step = 0

    def other_batch(self, step: int) -> tuple[Tensor, None]:
        self.step = step
        return torch.from_numpy(np.random.default_rng(step).normal(size=(2, 3, 5))), None

    def asked(self, output: Tensor) -> Tensor:
        return output

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        return self.made[self.step]

    def ends_round(self, step: int) -> bool:
        return (step + 1) % ROUND == 0


def expected(rule: Rule, losses: Tensor, churns: Tensor, rho: float, start: float) -> list[float]:
    """Coefficients after each round, of one run; in plain loops."""
    coefficient, found = start, []
    of_rounds: list[tuple[float, float]] = []
    for at in range(0, len(losses), ROUND):
        span = slice(at + ROUND - 1, at + ROUND) if rule.of_last else slice(at, at + ROUND)
        of_rounds.append((abs(float(losses[span].mean())), float(churns[span].mean())))
        latest = np.array(of_rounds[-rule.window :])
        if len(of_rounds) >= rule.wait:
            coefficient = max(rho * latest[:, 0].mean() / (latest[:, 1].mean() + 1e-8), rule.least)
        found.append(coefficient)
    return found


@pytest.mark.parametrize("name", RULES)
def test_coefficient_follows_the_losses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_chain, "RULES", RULES)
    options = [CChain(rule=name, coefficient=start, rho=rho, absent=2) for start, rho in ((5.0, 0.01), (2.0, 0.1))]
    learner = TorchLearner(lambda: MLP(5, 3, [4]), [SGD(0.1)] * 2, [options], [0, 1], "cross_entropy", torch.float64)
    packed, source = learner.interventions[0], Given()
    assert isinstance(packed, PackedCChain)
    learner.source = source  # type: ignore[assignment]
    churns, coefficients = [], []
    for step in range(ROUND * ROUNDS):
        learner.learn(source.other_batch(step)[0], torch.tensor([[0, 1, 2]] * 2), step)
        churns.append([packed.report(run)["output_churn"] for run in (0, 1)])
        packed.clear_report()
        if source.ends_round(step):
            coefficients.append([packed.report(run)["churn_coefficient"] for run in (0, 1)])
    assert churns[1] == [0.0, 0.0]
    assert all(churn > 0 for churn in churns[2])
    for run, one in enumerate(options):
        ours = [each[run] for each in coefficients]
        theirs = expected(
            RULES[name],
            source.made[:, run],
            torch.tensor(churns, dtype=torch.float64)[:, run],
            one.rho,
            one.coefficient,
        )
        assert ours == pytest.approx(theirs, rel=1e-12)
        assert len(set(ours)) > 3
    packed.before_task(0, 1)
    assert [packed.report(run)["churn_coefficient"] for run in (0, 1)] == [5.0, coefficients[-1][1]]
    assert not packed.losses[0].any()


def test_rules_are_the_authors() -> None:
    assert {"gym": Rule(50, 11, 1.0, False), "dmc": Rule(100, 50, 0.0, True)} == c_chain.RULES


def test_a_gaussian_policy_is_compared_as_a_distribution() -> None:
    generator = np.random.default_rng(0)
    output, before = (torch.from_numpy(generator.normal(size=(2, 6, 2 * 3 + 1))) for _ in range(2))
    policies = [Normal(one[..., :3], one[..., 3:6].exp()) for one in (before, output)]
    divergence = kl_divergence(policies[0], policies[1]).sum(2).mean(1)
    torch.testing.assert_close(c_chain.of_gaussians(output, before), divergence)
    torch.testing.assert_close(c_chain.of_means(output, before), (output - before)[..., :3].square().mean((1, 2)))


def test_a_policy_over_numbered_actions_is_compared_by_its_logits() -> None:
    """Without the value; and the rules are for such policies."""
    network = ActorCritic(5, 3, [4], discrete=True)
    generator = np.random.default_rng(0)
    output, before = (torch.from_numpy(generator.normal(size=(2, 6, 3 + 1))) for _ in range(2))
    for form in c_chain.FORMS:
        CChain(form=form, rule="gym").check(network)
    policies = [one[..., :3].softmax(-1) for one in (before, output)]
    expected = -(policies[0] * (policies[1] + 1e-8).log()).sum(2).mean(1)
    torch.testing.assert_close(c_chain._term("cross_entropy", network, lambda x: x)(output, before), expected)
    squared = c_chain._term("squared_difference", network, lambda x: x)(output, before)
    torch.testing.assert_close(squared, (output - before)[..., :3].square().mean((1, 2)))


def test_rules_for_other_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be fixed"):
        CChain(form="cross_entropy", rule="gym").check(ActorCritic(5, 2, [4]))
    CChain(form="cross_entropy", rule="gym").check(MLP(5, 2, [4]))
