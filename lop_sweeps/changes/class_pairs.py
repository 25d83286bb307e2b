"""Pairs of classes, one after another: the network tells apart the next two (Nature 632, Fig. 1)."""

from __future__ import annotations

from lop_sweeps import checks
from lop_sweeps.benchmarks.benchmark import Split
from lop_sweeps.changes.change import Change, Pool, View, class_order, of_classes
from lop_sweeps.errors import ConfigError


class ClassPairs(Change):
    """Each task takes the next `classes_per_task` classes of one shuffle of all classes after another; the network has
    so many outputs, which every task uses again.

    per_class: training images of each class, the first ones.
    """

    def __init__(self, classes_per_task: int = 2, per_class: int = 500) -> None:
        self.classes_per_task = checks.integer("classes_per_task", classes_per_task, 2)
        self.per_class = checks.integer("per_class", per_class, 1)

    def outputs(self, classes: int) -> int:
        return self.classes_per_task

    def check(self, classes: int, images: int | None) -> None:
        if classes % self.classes_per_task:
            raise ConfigError("classes_per_task", self.classes_per_task, f"must divide the {classes} classes")

    def images(self, index: int, images: int | None) -> int | None:
        return self.classes_per_task * self.per_class

    def view(self, pool: Pool, seed: int, index: int) -> View:
        shuffle, place = divmod(index * self.classes_per_task, pool.classes)
        chosen = class_order(seed, pool.classes, shuffle)[place : place + self.classes_per_task]
        train = of_classes(pool.labels, chosen, self.per_class)
        assert isinstance(train, Split)
        return View(train, of_classes(pool.test_labels, chosen))
