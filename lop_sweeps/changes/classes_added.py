"""Classes are added: each task has all classes so far and some more (class-incremental learning)."""

from __future__ import annotations

from typing import ClassVar

from lop_sweeps import checks
from lop_sweeps.benchmarks.benchmark import HELD_OUT, Split
from lop_sweeps.changes.change import Change, Integers, Pool, View, class_order, of_classes
from lop_sweeps.errors import ConfigError


class ClassesAdded(Change):
    """Task k has the first `classes_per_task` (k + 1) classes of the seed's order. The network has an output for every
    class from the start, and those of classes to come have no part in the loss.

    per_class: training images of each class, the first ones. `HELD_OUT` is as task 0, of another order.
    """

    MASKS_OUTPUTS: ClassVar[bool] = True

    def __init__(self, classes_per_task: int = 5, per_class: int = 500) -> None:
        self.classes_per_task = checks.integer("classes_per_task", classes_per_task, 1)
        self.per_class = checks.integer("per_class", per_class, 1)

    def most_tasks(self, classes: int) -> int | None:
        return classes // self.classes_per_task

    def check(self, classes: int, images: int | None) -> None:
        if self.classes_per_task > classes:
            raise ConfigError("classes_per_task", self.classes_per_task, f"must be at most {classes}")

    def images(self, index: int, images: int | None) -> int | None:
        return (1 if index == HELD_OUT else index + 1) * self.classes_per_task * self.per_class

    def view(self, pool: Pool, seed: int, index: int) -> View:
        held_out = index == HELD_OUT
        order: Integers = class_order(seed, pool.classes, HELD_OUT if held_out else 0)
        outputs = order[: self.classes_per_task * (1 if held_out else index + 1)]
        train = of_classes(pool.labels, outputs, self.per_class)
        assert isinstance(train, Split)
        return View(train, of_classes(pool.test_labels, outputs), outputs=outputs)
