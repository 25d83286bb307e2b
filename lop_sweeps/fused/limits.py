"""What the fused engine cannot do, and where the torch engine is faster."""

from __future__ import annotations

from collections.abc import Sequence

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.intervention import Intervention, next_step
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.fused import activations
from lop_sweeps.fused.methods import part_of
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.adam import Adam, AdamW
from lop_sweeps.optimizers.adaupgd import AdaUPGD
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.optimizers.upgd import UPGD

FEW = range(3)  # who acts at all of these steps acts at every step
# One example after another is faster than PyTorch's matrix products up to about here (perf/online.py --batch,
# perf/epochs.py). In epochs, the torch engine shares out among a pack's runs what a step costs beside its products.
LARGEST_BATCH, LARGEST_BATCH_IN_EPOCHS = 128, 64
LARGE, LARGEST_BATCH_OF_LARGE = 1_000_000, 32  # LARGE: parameters


def is_compiled(intervention: Intervention) -> bool:
    """Whether it has a part in the compiled loop; others act between compiled steps."""
    kind: type = type(intervention)  # a user's subclass may do something else
    if part_of(intervention) is not None:
        return True
    return kind is ContinualBackprop or (kind is ShrinkAndPerturb and bool(getattr(intervention, "compiled", False)))


def obstacle(network: Network, optimizer: Optimizer, interventions: Sequence[Intervention]) -> str | None:
    """Why the fused engine cannot train this, in words that follow "because"; None if it can."""
    if not isinstance(network, MLP) or type(network) not in (MLP, Linear):
        return f"{type(network).__name__} is not a fully connected network that it knows"
    if network.norms and (network.norm != "layer" or network.norm_after):
        after = " after activations" if network.norm_after else ""
        return f"it has no {network.norm} normalisation{after}"
    if network.injection is not None:
        return "it has no frozen heads"
    if unknown := activations.obstacle(network.kind):
        return unknown
    rule: type = type(optimizer)
    if rule not in (SGD, Adam, AdamW, UPGD, AdaUPGD):
        return f"it does not know the optimizer {rule.__name__}"
    if isinstance(optimizer, UPGD) and optimizer.scope != "global":
        return f"it knows {rule.__name__} with scope=global only"
    if isinstance(optimizer, SGD) and optimizer.step_size * optimizer.weight_decay > 0.5:
        return "each step shrinks the weights to less than half"
    kinds: list[type] = [type(one) for one in interventions if is_compiled(one)]
    for kind in kinds:
        if kinds.count(kind) > 1:
            return f"it takes one intervention of a kind, and here are {kinds.count(kind)} {kind.__name__}"
    for one in interventions:
        if isinstance(one, ContinualBackprop) and (one.rate_of, one.averaging) != ("mature", "running"):
            return "it knows continual backprop with rate_of=mature and averaging=running only"
        if isinstance(one, ContinualBackprop) and not one.reset_optimizer:
            return "it resets the optimizer's state of new units"
        if is_compiled(one) and one.resets_units and network.kind.features > 1:
            return f"{type(one).__name__} resets units of one feature there, and those of {network.activation} have two"
        own = any(layer.norm for layer in network.unit_graph())
        if isinstance(one, ShrinkAndPerturb) and is_compiled(one) and one.normalisation and own:
            return "it has no noise on the parameters of normalisations and activations"
    within = [one for one in interventions if not is_compiled(one) and next_step(one, 0) is not None]
    for one in within:
        if all(next_step(one, step) == step for step in FEW):
            return f"{type(one).__name__} acts at every step, and has no compiled part"
    if why := _apart(optimizer, interventions, within):
        return why
    lazy = any(isinstance(one, ShrinkAndPerturb) and one.noise == "lazy" for one in interventions)
    if lazy and ContinualBackprop in kinds:
        return "continual backprop needs the weights of every step, and lazy noise comes later"
    if lazy and not (isinstance(optimizer, SGD) and optimizer.momentum == 0):
        return "lazy noise goes with plain SGD, since other optimizers read every weight at every step"
    if lazy and within:
        return f"{type(within[0]).__name__} acts within tasks and must see all weights, and lazy noise comes later"
    return None


def _apart(optimizer: Optimizer, interventions: Sequence[Intervention], within: Sequence[Intervention]) -> str | None:
    """Why methods that are compiled apart from the loop cannot act here."""
    parts = [(one, module) for one in interventions if (module := part_of(one)) is not None]
    for one, module in parts:
        if hasattr(module, "obstacle") and (why := module.obstacle(one, optimizer)):
            return str(why)
    others = [*within, *(one for one in interventions if is_compiled(one) and part_of(one) is None)]
    if parts and others:
        name, other = type(parts[0][0]).__name__, type(others[0]).__name__
        if any(hasattr(module, what) for _, module in parts for what in ("before_rows", "before_update", "ALONE")):
            return f"it has {name} without {other} only"
        if any(isinstance(each, ShrinkAndPerturb) and each.noise == "lazy" for each in others):
            return f"{name} must see all weights, and lazy noise comes later"
        order = list(interventions)
        if max(order.index(each) for each, _ in parts) > min(order.index(each) for each in others):
            return f"{name} acts with the optimizer, so it must come before {other}"
    for number, (one, module) in enumerate(parts):
        before = [each for each, other in parts[:number] if hasattr(other, "before_update")]
        if before and getattr(module, "MEASURES_GRADIENT", False):
            return f"{type(one).__name__} would have to see what {type(before[0]).__name__} adds to the gradient"
    plain = isinstance(optimizer, SGD) and optimizer.momentum == 0
    lazy = [one for one, module in parts if plain and hasattr(module, "before_rows")]
    if lazy and len(parts) > 1:
        second = next(one for one, _ in parts if one is not lazy[0])
        return f"{type(lazy[0]).__name__} puts off what {type(second).__name__} would have to see"
    return None


def slower(parameters: int, batch_size: int, protocol: str = "online") -> str | None:
    """Why the torch engine is the faster one, in words that follow "because"; None if it is not."""
    most = LARGEST_BATCH if protocol == "online" else LARGEST_BATCH_IN_EPOCHS
    most = most if parameters <= LARGE else LARGEST_BATCH_OF_LARGE
    return f"torch is faster with mini-batches of more than {most}" if batch_size > most else None
