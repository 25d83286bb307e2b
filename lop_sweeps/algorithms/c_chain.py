"""C-CHAIN: what an update changes of the outputs elsewhere, the churn, is kept small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.agents.ppo import parts
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.optimizer import per_run

FORMS = ("cross_entropy", "squared_difference")


class Rule(NamedTuple):
    """How the coefficient follows the losses; they are looked at when a round, of an epoch or a rollout, is over.

    window: rounds that are averaged. wait: rounds of a task before the first change. least: the smallest coefficient.
    of_last: whether a round's losses are those of its last mini-batch, or the means over all of them.
    """

    window: int
    wait: int
    least: float
    of_last: bool


RULES = {"gym": Rule(50, 11, 1.0, False), "dmc": Rule(100, 50, 0.0, True)}


@dataclass(frozen=True)
class CChain(Intervention):
    """Adds to the loss how far the outputs on other examples have moved from those before the previous update.

    g <- g + coefficient grad churn(x'; theta, theta_before), x' an independent mini-batch of the same data and
    theta_before the parameters before the previous update; without dropout. Source: Tang et al. 2025, arXiv
    2506.00592; bluecontra/C-CHAIN.

    form: cross_entropy = the mean of -sum_a p_before(a) log(p(a) + 1e-8), as in their classic control; p is the softmax
        of the outputs. squared_difference = the mean of (f - f_before)^2 over examples and outputs, as in their DMC.
        In control both are of the policy alone: of its logits, where actions are numbered. Of a Gaussian policy it is
        the difference of the means, or the cross-entropy of the two Gaussians, less the entropy of the former, so that
        it is 0 where nothing has changed.
    absent: mini-batches at the start that go without the term, there being nothing to compare with.
    coefficient: of the term; with a rule, at the start of each task.
    rule: fixed; or gym, dmc = rho mean |loss| / mean churn of the latest rounds; a round is all updates on a rollout,
        or an epoch. The loss is the policy's with its entropy; in supervised learning, the mean loss. gym: 50 rounds,
        of each the means over its mini-batches, from a task's 11th round on, at least 1. dmc: 100 rounds, of each the
        last mini-batch, from the 50th on; mini-batches go without the term at the start of each task, too.
    rho: their target relative scale, 1e4 in gym, 0.05 in dmc.
    The log has the mean of the churn in each task and the latest coefficient.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"coefficient", "rho"})
    needs: ClassVar[frozenset[str]] = frozenset({"other_batch"})

    form: str = "squared_difference"
    coefficient: float = 100.0
    rule: str = "dmc"
    rho: float = 0.05
    absent: int = 2

    def __post_init__(self) -> None:
        checks.choice("form", self.form, FORMS)
        checks.number("coefficient", self.coefficient, 0.0)
        checks.choice("rule", self.rule, ("fixed", *RULES))
        checks.number("rho", self.rho, 0.0)
        checks.integer("absent", self.absent, 1)

    def check(self, network: Network) -> None:
        gaussian = isinstance(network, ActorCritic) and not network.discrete
        if gaussian and self.form == "cross_entropy" and self.rule != "fixed":
            allowed = "must be fixed where a Gaussian policy has form: cross_entropy; the rules are for other sizes"
            raise ConfigError("rule", self.rule, allowed)

    def pack(self, peers: Sequence[CChain], learner: Learner) -> PackedCChain:
        return PackedCChain(peers, learner)


class PackedCChain(PackedIntervention[CChain]):
    """C-CHAIN on a pack. All counts are tensors (runs, 1): what is not yet to be used counts as nothing."""

    def __init__(self, runs: Sequence[CChain], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.absent, self.rule = int(runs[0].absent), RULES.get(runs[0].rule)
        self.term = _term(runs[0].form, learner.network, learner.asked)
        self.previous = torch.zeros_like(learner.parameters)
        zeros = learner.parameters.new_zeros(len(runs), 1, dtype=torch.float64)
        self.start, self.rho = (per_run([getattr(run, name) for run in runs], zeros) for name in ("coefficient", "rho"))
        self.seen, self.coefficient = zeros.clone(), self.start.clone()
        self.loss, self.churn = zeros.clone(), zeros.clone()  # of the round
        self.updates, self.rounds = zeros.clone(), zeros.clone()
        window = self.rule.window if self.rule else 0
        self.losses, self.churns = (zeros.expand(-1, window).clone() for _ in range(2))
        self.logged, self.logged_updates = zeros.clone(), zeros.clone()  # since the last report

    def before_update(self, gradient: Tensor, step: int) -> None:
        learner = self.learner
        x, _ = learner.other_batch(step)
        before = learner.outputs_of(x, self.previous)
        values, slope = learner.differentiate(lambda output: self.term(output, before), x)
        there = (self.seen >= self.absent).double()
        gradient += (there * self.coefficient).to(gradient.dtype) * slope
        self.previous.copy_(learner.parameters)
        self.seen += 1
        churn = values.double().unsqueeze(1) * there
        self.logged += churn
        self.logged_updates += 1
        if self.rule:
            self._follow(self.rule, churn, learner.ends_round(step))

    def _follow(self, rule: Rule, churn: Tensor, over: bool) -> None:
        """Let the coefficient follow the losses; over: whether the round is."""
        loss = self.learner.step_losses().double().unsqueeze(1)
        if rule.of_last:
            self.loss.copy_(loss)
            self.churn.copy_(churn)
            self.updates.fill_(1.0)
        else:
            self.loss += loss
            self.churn += churn
            self.updates += 1
        if not over:
            return
        at = (self.rounds % rule.window).long()
        self.losses.scatter_(1, at, (self.loss / self.updates).abs())
        self.churns.scatter_(1, at, self.churn / self.updates)
        self.rounds += 1
        count = self.rounds.clamp(max=rule.window)
        loss, churn = (ring.sum(1, keepdim=True) / count for ring in (self.losses, self.churns))
        followed = (self.rho * loss / (churn + 1e-8)).clamp(min=rule.least)
        self.coefficient.copy_(torch.where(self.rounds >= rule.wait, followed, self.coefficient))
        for total in (self.loss, self.churn, self.updates):
            total.zero_()

    def before_task(self, run: int, task: int) -> None:
        if not self.rule:
            return
        self.coefficient[run] = self.start[run]
        for value in (self.loss, self.churn, self.updates, self.rounds, self.losses, self.churns):
            value[run] = 0
        if self.rule.of_last:
            self.seen[run] = 0

    def state(self) -> dict[str, Tensor]:
        kept = ("previous", "seen", "coefficient", "loss", "churn", "updates", "rounds", "losses", "churns")
        return {name: getattr(self, name) for name in (*kept, "logged", "logged_updates")}

    def report(self, run: int) -> dict[str, float]:
        mean = self.logged[run] / self.logged_updates[run].clamp(min=1)
        return {"output_churn": float(mean), "churn_coefficient": float(self.coefficient[run])}

    def clear_report(self) -> None:
        self.logged.zero_()
        self.logged_updates.zero_()


def _term(form: str, network: Network, asked: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """What makes numbers (runs,) of outputs (runs, batch, outputs) and those of before."""
    if isinstance(network, ActorCritic):
        if not network.discrete:
            return of_means if form == "squared_difference" else of_gaussians
        asked = _logits
    term = of_outputs if form == "squared_difference" else of_classes
    return partial(_of_asked, term, asked)


def _of_asked(
    term: Callable[[Tensor, Tensor], Tensor], asked: Callable[[Tensor], Tensor], output: Tensor, before: Tensor
) -> Tensor:
    return term(asked(output), asked(before))


def _logits(output: Tensor) -> Tensor:
    """Of an actor-critic network's outputs, those of a policy over numbered actions."""
    return output[..., :-1]


def of_outputs(output: Tensor, before: Tensor) -> Tensor:
    """Mean squared difference (runs,) of outputs (runs, batch, outputs)."""
    return (output - before).square().mean((1, 2))


def of_classes(output: Tensor, before: Tensor) -> Tensor:
    """Mean cross-entropy (runs,) of softmax probabilities, with those before as targets."""
    return -(before.softmax(2) * torch.log(output.softmax(2) + 1e-8)).sum(2).mean(1)


def of_means(output: Tensor, before: Tensor) -> Tensor:
    """Mean squared difference (runs,) of the policies' means."""
    return of_outputs(parts(output)[0], parts(before)[0])


def of_gaussians(output: Tensor, before: Tensor) -> Tensor:
    """Mean divergence (runs,) of Gaussian policies from those before: the cross-entropy less their entropy."""
    (mean, log_std, _), (old_mean, old_log_std, _) = parts(output), parts(before)
    spread = (2.0 * old_log_std).exp() + (mean - old_mean).square()
    return (log_std - old_log_std + 0.5 * (spread * (-2.0 * log_std).exp() - 1.0)).sum(2).mean(1)
