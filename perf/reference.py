"""The plain per-step PyTorch loop that perf/online.py measures against: nn.Sequential, autograd, torch.optim.

python perf/reference.py --data DIR --steps N [--seed S]

trains one run of backprop, 784-100-100-100-10, on Online Permuted MNIST and prints its steps. Correct, and written as
one would normally write it: nothing is compiled, fused or made lazy. If the environment variable LOP_REFERENCE names a
checkout of the authors' repository (shibhansh/loss-of-plasticity), their learner classes do the learning instead,
imported from there.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = Sequence[tuple[Tensor, Tensor]]  # weight (outputs, inputs) and bias of each layer
MATURITY_THRESHOLD, DECAY_RATE = 100, 0.99


@dataclass(frozen=True)
class Method:
    """A learning algorithm, as both sides get it. With replacement_rate > 0 it is continual backprop.

    l2_init: the strength of L2 Init. kappa: of weight clipping. resets: which of the resets below acts. layer_norm:
    before every activation. activation: relu or crelu.
    """

    step_size: float
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    noise_std: float = 0.0
    replacement_rate: float = 0.0
    l2_init: float = 0.0
    kappa: float = 0.0
    resets: str = ""
    layer_norm: bool = False
    activation: str = "relu"


class Learner(Protocol):
    def learn(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """One update from a mini-batch; loss and outputs before it (their regression learner gives no outputs)."""


def make_learner(weights: Weights, method: Method, loss: str) -> Learner:
    """The plain learner, or the authors'. loss: cross_entropy or squared_error."""
    checkout = os.environ.get("LOP_REFERENCE")
    return AuthorsLearner(checkout, weights, method, loss) if checkout else PlainLearner(weights, method, loss)


def learn_all(learner: Learner, xs: Tensor, ys: Tensor) -> tuple[list[float], list[bool]]:
    """One update for each example; the loss before each and, for labels, whether it was classified correctly."""
    losses, correct = [], []
    for i in range(len(xs)):
        x, y = xs[i : i + 1], ys[i : i + 1]
        loss, output = learner.learn(x, y)
        losses.append(loss.item())
        if output is not None and y.dim() == 1:
            correct.append(bool(output.argmax(1) == y))
    return losses, correct


class UPGD(torch.optim.Optimizer):
    """UPGD (arXiv 2404.00781) with global gates, along the gradient, or along Adam's direction (AdaUPGD).

    Gates are relative to the largest utility; AdaUPGD's step is doubled, as in the release that recommends it.
    """

    BETA_UTILITY, BETA1, BETA2, EPS = 0.999, 0.9, 0.999, 1e-5

    def __init__(self, parameters: Iterable[nn.Parameter], method: Method) -> None:
        super().__init__(parameters, {})
        self.method, self.steps = method, 0
        self.adam = method.optimizer == "adaupgd"
        self.all = [p for group in self.param_groups for p in group["params"]]
        self.utility, self.first, self.second = ([torch.zeros_like(p) for p in self.all] for _ in range(3))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.steps += 1
        most = -torch.inf
        for p, utility in zip(self.all, self.utility, strict=True):
            utility.mul_(self.BETA_UTILITY).add_(-p.grad * p, alpha=1 - self.BETA_UTILITY)
            most = max(most, float(utility.max()))
        correction = 1 - self.BETA_UTILITY**self.steps
        size, factor = self.method.step_size, 2.0 if self.adam else 1.0
        for p, utility, first, second in zip(self.all, self.utility, self.first, self.second, strict=True):
            direction = p.grad
            if self.adam:
                first.mul_(self.BETA1).add_(p.grad, alpha=1 - self.BETA1)
                second.mul_(self.BETA2).addcmul_(p.grad, p.grad, value=1 - self.BETA2)
                root = (second / (1 - self.BETA2**self.steps)).sqrt_().add_(self.EPS)
                direction = first / (1 - self.BETA1**self.steps) / root
            noise = torch.randn_like(p) * self.method.noise_std
            gate = 1 - torch.sigmoid(utility / correction / most)
            p.mul_(1 - size * self.method.weight_decay).add_((direction + noise) * gate, alpha=-factor * size)


class CReLU(nn.Module):
    """Two features of each unit."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat((z.relu(), (-z).relu()), 1)


class PlainLearner:
    """Stochastic gradient descent or Adam, then noise on every parameter or continual backprop if asked for."""

    def __init__(self, weights: Weights, method: Method, loss: str) -> None:
        layers: list[nn.Module] = []
        for weight, bias in weights:
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
            layers.append(linear)
            if weight is not weights[-1][0]:
                layers += [nn.LayerNorm(weight.shape[0])] if method.layer_norm else []
                layers.append(CReLU() if method.activation == "crelu" else nn.ReLU())
        self.network = nn.Sequential(*layers)
        parameters = self.network.parameters()
        self.optimizer: torch.optim.Optimizer
        if method.optimizer == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=method.step_size, weight_decay=method.weight_decay)
        elif method.optimizer in ("upgd", "adaupgd"):
            self.optimizer = UPGD(parameters, method)
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=method.step_size, weight_decay=method.weight_decay)
        self.loss_function = F.cross_entropy if loss == "cross_entropy" else F.mse_loss
        self.noise_std, self.l2_init = method.noise_std if method.optimizer == "sgd" else 0.0, method.l2_init
        self.initial = [parameter.detach().clone() for parameter in self.network.parameters()]
        self.bounds = [method.kappa / weight.shape[1] ** 0.5 for weight, bias in weights for _ in (weight, bias)]
        self.replacement: Replacement | None = None
        if method.replacement_rate:
            self.replacement = Replacement(self.network, method.replacement_rate)
        elif method.resets:
            self.replacement = RESETS[method.resets](self.network)

    def learn(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.replacement:
            output, features = self.forward_with_features(x)
            if self.replacement.wants_gradients():
                for feature in features:
                    feature.retain_grad()
        else:
            output = self.network(x)
        loss = self.loss_function(output, y)
        whole = loss
        if self.l2_init:
            pairs = zip(self.network.parameters(), self.initial, strict=True)
            whole = loss + 0.5 * self.l2_init * sum((weight - initial).square().sum() for weight, initial in pairs)
        self.optimizer.zero_grad()
        whole.backward()
        self.optimizer.step()
        if self.bounds[0]:
            with torch.no_grad():
                for parameter, bound in zip(self.network.parameters(), self.bounds, strict=True):
                    parameter.clamp_(-bound, bound)
        if self.noise_std:
            with torch.no_grad():
                for parameter in self.network.parameters():
                    parameter.add_(torch.randn_like(parameter) * self.noise_std)
        if self.replacement:
            self.replacement.step(features)
        return loss.detach(), output.detach()

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.network:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                features.append(x)
        return x, features


class Replacement:
    """Continual backprop's generate-and-test (Nature 632, Algorithm 1), utility `adaptable_contribution`."""

    def __init__(self, network: nn.Sequential, replacement_rate: float = 0.0) -> None:
        self.linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        self.rate = replacement_rate
        units = [layer.out_features for layer in self.linears[:-1]]
        self.utility = [torch.zeros(n) for n in units]
        self.mean = [torch.zeros(n) for n in units]
        self.age = [torch.zeros(n) for n in units]
        self.accumulated = [0.0 for _ in units]

    def wants_gradients(self) -> bool:
        """Of the features, in this step."""
        return False

    @torch.no_grad()
    def step(self, features: Sequence[Tensor]) -> None:
        chosen = []
        for i, h in enumerate(features):
            h = h.detach()
            self.age[i] += 1
            filled = 1 - DECAY_RATE ** self.age[i]
            self.mean[i] = DECAY_RATE * self.mean[i] + (1 - DECAY_RATE) * h.mean(0)
            deviation = (h - self.mean[i] / filled).abs().mean(0)
            incoming = self.linears[i].weight.abs().mean(1)
            outgoing = self.linears[i + 1].weight.abs().mean(0)
            now = deviation * outgoing / incoming
            self.utility[i] = DECAY_RATE * self.utility[i] + (1 - DECAY_RATE) * now
            mature = self.age[i] > MATURITY_THRESHOLD
            self.accumulated[i] += self.rate * int(mature.sum())
            number = int(self.accumulated[i])
            if number:
                self.accumulated[i] -= number
                candidates = torch.where(mature, self.utility[i] / filled, torch.inf)
                chosen.append((i, torch.topk(candidates, number, largest=False).indices))
        for i, units in chosen:
            self.replace(i, units)

    def replace(self, i: int, units: Tensor) -> None:
        layer, reader = self.linears[i], self.linears[i + 1]
        bound = (6 / layer.in_features) ** 0.5  # Kaiming's, for ReLU
        layer.weight[units] = torch.empty(len(units), layer.in_features).uniform_(-bound, bound)
        layer.bias[units] = 0
        reader.weight[:, units] = 0
        self.utility[i][units] = 0
        self.mean[i][units] = 0
        self.age[i][units] = 0


class SilenceResets(Replacement):
    """Self-normalised resets (arXiv 2410.20098): units silent for longer than their threshold are made new.

    Thresholds would be refreshed from the histograms of silences between tasks; here they are still the initial ones.
    """

    LONGEST, INITIAL = 20_000, 10_000

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__(network)
        units = [layer.out_features for layer in self.linears[:-1]]
        self.rows = [torch.arange(n) for n in units]
        self.silent = [torch.zeros(n, dtype=torch.int64) for n in units]
        self.thresholds = [torch.full((n,), self.INITIAL) for n in units]
        self.histograms = [torch.zeros(n, self.LONGEST + 1, dtype=torch.int64) for n in units]

    @torch.no_grad()
    def step(self, features: Sequence[Tensor]) -> None:
        for i, h in enumerate(features):
            fires = (h > 0).any(0)
            ended = fires & (self.silent[i] <= self.LONGEST)
            self.histograms[i][self.rows[i][ended], self.silent[i][ended]] += 1
            self.silent[i] = torch.where(fires, 0, self.silent[i] + len(h))
            late = self.silent[i] >= self.thresholds[i]
            if late.any():
                self.replace(i, late.nonzero()[:, 0])
                self.silent[i][late] = 0


class GradientResets(Replacement):
    """ReGraMa (arXiv 2505.24061): every 1,000 steps, units that the gradient does not reach are made new."""

    PERIOD, THRESHOLD = 1_000, 0.01

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__(network)
        self.steps = 0

    def wants_gradients(self) -> bool:
        return self.steps > 0 and self.steps % self.PERIOD == 0

    @torch.no_grad()
    def step(self, features: Sequence[Tensor]) -> None:
        if self.wants_gradients():
            for i, h in enumerate(features):
                assert h.grad is not None
                score = h.grad.abs().mean(0)
                mean = score.mean()
                if mean > 0:
                    self.replace(i, (score / (mean + 1e-8) <= self.THRESHOLD).nonzero()[:, 0])
        self.steps += 1


class WeightResets(Replacement):
    """Selective weight reinitialisation (arXiv 2508.00212): every 2,048 steps the least useful weights are made new."""

    PERIOD, FACTOR = 2_048, 1e-5

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__(network)
        self.steps = 0

    @torch.no_grad()
    def step(self, features: Sequence[Tensor]) -> None:
        self.steps += 1
        if self.steps % self.PERIOD:
            return
        for linear in self.linears:
            bound = ((3 if linear is self.linears[-1] else 6) / linear.in_features) ** 0.5
            for weight, law in ((linear.weight, bound), (linear.bias, 0.0)):
                assert weight.grad is not None
                utility = (weight * weight.grad).abs()
                least = utility <= self.FACTOR * utility.mean()
                weight[least] = torch.empty(int(least.sum())).uniform_(-law, law)


RESETS: dict[str, type[Replacement]] = {
    "self_normalized_resets": SilenceResets,
    "regrama": GradientResets,
    "selective_weight_reinitialization": WeightResets,
}


class AuthorsLearner:
    """The authors' networks and learners, with our initial weights."""

    def __init__(self, checkout: str, weights: Weights, method: Method, loss: str) -> None:
        if checkout not in sys.path:
            sys.path.insert(0, checkout)
        classes = ("lop.algos.bp", "lop.algos.cbp", "lop.nets.deep_ffnn", "lop.nets.ffnn")
        bp, cbp, deep_ffnn, ffnn = (importlib.import_module(name) for name in classes)
        inputs, units, outputs = weights[0][0].shape[1], weights[0][0].shape[0], weights[-1][0].shape[0]
        if loss == "cross_entropy":
            network = deep_ffnn.DeepFFNN(inputs, units, outputs, num_hidden_layers=len(weights) - 1)
        else:
            network = ffnn.FFNN(inputs, units, outputs)
        with torch.no_grad():
            for layer, (weight, bias) in zip(network.layers[::2], weights, strict=True):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
        options: dict[str, Any] = {"step_size": method.step_size, "opt": method.optimizer}
        options |= {"weight_decay": method.weight_decay, "loss": "nll" if loss == "cross_entropy" else "mse"}
        if method.replacement_rate:
            self.learner = cbp.ContinualBackprop(
                network,
                replacement_rate=method.replacement_rate,
                decay_rate=DECAY_RATE,
                maturity_threshold=MATURITY_THRESHOLD,
                util_type="adaptable_contribution",
                accumulate=True,
                **options,
            )
        else:
            noise = {"to_perturb": method.noise_std > 0, "perturb_scale": method.noise_std}
            self.learner = bp.Backprop(network, **noise, **options)

    def learn(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        learned = self.learner.learn(x=x, target=y)
        return learned if isinstance(learned, tuple) else (learned, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with MNIST/raw")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from torchvision.datasets import MNIST  # slow to import, and not needed by perf/online.py

    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    draw = np.random.default_rng(options.seed)
    data = MNIST(str(Path(options.data)), train=True, download=False)
    images, labels = data.data.view(-1, 784).float() / 255, data.targets
    weights = []
    for inputs, outputs in pairwise((784, 100, 100, 100, 10)):
        bound = ((3 if outputs == 10 else 6) / inputs) ** 0.5
        weights.append((torch.empty(outputs, inputs).uniform_(-bound, bound), torch.zeros(outputs)))
    learner = make_learner(weights, Method(0.003), "cross_entropy")
    correct: list[bool] = []
    while len(correct) < options.steps:
        pixels, order = draw.permutation(784), draw.permutation(len(images))[: options.steps - len(correct)]
        correct += learn_all(learner, images[order][:, pixels], labels[order])[1]
    print(f"{len(correct)} steps, accuracy {np.mean(correct):.4f}")


if __name__ == "__main__":
    main()
