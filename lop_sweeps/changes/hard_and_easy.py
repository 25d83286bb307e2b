"""Hard and easy tasks by turns, of classes that have not been seen: "5+1" (Kumar et al. 2023, L2 Init)."""

from __future__ import annotations

from lop_sweeps import checks
from lop_sweeps.benchmarks.benchmark import HELD_OUT, Split
from lop_sweeps.changes.change import Change, Integers, Pool, View, class_order, of_classes
from lop_sweeps.errors import ConfigError


class HardAndEasy(Change):
    """Tasks 0, 2, ... have the next `hard` classes of the seed's order, tasks 1, 3, ... the next `easy` ones. Every
    class has an output of its own, and all outputs have a part in every loss.

    per_class: training images of each class, the first ones. `HELD_OUT` is a hard one, of another order.
    """

    def __init__(self, hard: int = 5, easy: int = 1, per_class: int = 500) -> None:
        self.hard = checks.integer("hard", hard, 1)
        self.easy = checks.integer("easy", easy, 1)
        self.per_class = checks.integer("per_class", per_class, 1)

    def most_tasks(self, classes: int) -> int | None:
        turns, left = divmod(classes, self.hard + self.easy)
        return 2 * turns + (left >= self.hard)

    def check(self, classes: int, images: int | None) -> None:
        if self.hard > classes:
            raise ConfigError("hard", self.hard, f"must be at most {classes}")

    def images(self, index: int, images: int | None) -> int | None:
        return (self.easy if index != HELD_OUT and index % 2 else self.hard) * self.per_class

    def view(self, pool: Pool, seed: int, index: int) -> View:
        held_out = index == HELD_OUT
        order: Integers = class_order(seed, pool.classes, HELD_OUT if held_out else 0)
        turn, easy = (0, 0) if held_out else divmod(index, 2)
        first = turn * (self.hard + self.easy) + easy * self.hard
        chosen = order[first : first + (self.easy if easy else self.hard)]
        train, test = (of_classes(pool.labels, chosen, self.per_class), of_classes(pool.test_labels, chosen))
        assert isinstance(train, Split)
        return View(_named(train, chosen), None if test is None else _named(test, chosen))


def _named(split: Split, chosen: Integers) -> Split:
    """Labelled by class instead of by place among the chosen."""
    return Split(split.rows, chosen[split.labels])
