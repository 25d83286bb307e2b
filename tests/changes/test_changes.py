"""Each change beside a few lines of plain numpy: class counts, sizes, what tasks share, rebuilding from an index."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from lop_sweeps.benchmarks.benchmark import HELD_OUT, Split
from lop_sweeps.changes.change import Change, Pool, View
from lop_sweeps.changes.chunks import Chunks
from lop_sweeps.changes.class_pairs import ClassPairs
from lop_sweeps.changes.classes_added import ClassesAdded
from lop_sweeps.changes.hard_and_easy import HardAndEasy
from lop_sweeps.changes.inputs_permuted import InputsPermuted
from lop_sweeps.changes.label_noise import LabelNoise
from lop_sweeps.changes.labels_permuted import LabelsPermuted
from lop_sweeps.changes.labels_random import LabelsRandom
from lop_sweeps.changes.warm_start import WarmStart
from lop_sweeps.errors import ConfigError

CLASSES, EACH, TEST_EACH, PIXELS = 12, 40, 5, 9
RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat(np.arange(CLASSES), EACH))
POOL = Pool(LABELS, RNG.permutation(np.repeat(np.arange(CLASSES), TEST_EACH)), CLASSES, PIXELS)
N = len(LABELS)

CHANGES: dict[str, Change] = {
    "inputs_permuted": InputsPermuted(),
    "inputs_permuted_some": InputsPermuted(200),
    "labels_permuted": LabelsPermuted(),
    "labels_random": LabelsRandom(100),
    "labels_random_drawn": LabelsRandom(100, "drawn"),
    "classes_added": ClassesAdded(5, 30),
    "class_pairs": ClassPairs(2, 30),
    "hard_and_easy": HardAndEasy(5, 1, 30),
    "chunks": Chunks(4),
    "chunks_newest": Chunks(7, "newest", 400),
    "warm_start": WarmStart(0.1),
    "label_noise": LabelNoise(5),
    "label_noise_newest": LabelNoise(5, "newest", 301, 0.8),
}
for change in CHANGES.values():
    change.check(CLASSES, N)
EVERY = pytest.mark.parametrize("name", CHANGES)


def views(name: str, seed: int = 3, tasks: int = 4) -> list[View]:
    change = CHANGES[name]
    return [change.view(POOL, seed, index) for index in range(min(tasks, change.most_tasks(CLASSES) or tasks))]


def arrays(view: View) -> list[NDArray[np.generic]]:
    parts = [view.train.rows, view.train.labels, *((view.test.rows, view.test.labels) if view.test else ())]
    return [*parts, *(one for one in (view.pixels, view.outputs) if one is not None)]


def same(one: View, other: View) -> bool:
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(a.shape == b.shape and bool((a == b).all()) for a, b in pairs)


@EVERY
def test_a_task_is_rebuilt_from_seed_and_index_and_differs_with_both(name: str) -> None:
    change = CHANGES[name]
    for index, view in enumerate(views(name)):
        assert same(view, change.view(POOL, 3, index))
    assert not all(same(view, change.view(POOL, 4, index)) for index, view in enumerate(views(name)))
    first, held_out = change.view(POOL, 3, 0), change.view(POOL, 3, HELD_OUT)
    assert not same(first, change.view(POOL, 3, 1))
    assert len(first.train.rows) == len(held_out.train.rows)
    assert not same(first, held_out)


@EVERY
def test_sizes_are_as_said_and_labels_are_outputs(name: str) -> None:
    change = CHANGES[name]
    outputs = change.outputs(CLASSES)
    for index, view in enumerate(views(name, tasks=6)):
        assert len(view.train.rows) == len(view.train.labels) == change.images(index, N)
        assert len(np.unique(view.train.rows)) == len(view.train.rows)
        used = outputs if view.outputs is None else len(view.outputs)
        assert 0 <= view.train.labels.min() <= view.train.labels.max() < used
        assert (view.test is not None) == change.TESTED
        assert (view.outputs is not None) == change.MASKS_OUTPUTS
        if view.test is not None:
            assert set(view.test.labels.tolist()) == set(range(CLASSES) if view.outputs is None else range(used)) or (
                set(view.test.labels.tolist()) == set(view.train.labels.tolist())
            )


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if change.SAME_IMAGES])
def test_the_same_images_in_every_task(name: str) -> None:
    rows = [np.sort(view.train.rows) for view in views(name)]
    assert all((one == rows[0]).all() for one in rows)


def test_inputs_are_permuted_and_nothing_else() -> None:
    for view in views("inputs_permuted"):
        assert view.pixels is not None
        assert sorted(view.pixels.tolist()) == list(range(PIXELS))
        assert (view.train.labels == LABELS).all()


def test_labels_are_permuted_by_class_in_training_and_test_alike() -> None:
    for view in views("labels_permuted"):
        label_of = {int(c): set(view.train.labels[c == LABELS].tolist()) for c in range(CLASSES)}
        assert sorted(label for (label,) in label_of.values()) == list(range(CLASSES))
        assert view.test is not None
        assert POOL.test_labels is not None
        assert all({label} == label_of[c] for c, label in zip(POOL.test_labels.tolist(), view.test.labels, strict=True))
        assert view.pixels is None


def test_random_labels_keep_the_class_counts_or_are_uniform() -> None:
    kept = views("labels_random")
    counts = np.bincount(LABELS[kept[0].train.rows], minlength=CLASSES)
    assert all((np.bincount(view.train.labels, minlength=CLASSES) == counts).all() for view in kept)
    agree = np.mean([view.train.labels == LABELS[view.train.rows] for view in kept])
    assert agree < 0.2  # 1/12 by chance
    many = np.concatenate([CHANGES["labels_random_drawn"].view(POOL, 0, index).train.labels for index in range(60)])
    assert np.bincount(many).min() > 400  # of 500
    assert (np.sort(kept[0].train.rows) != np.sort(CHANGES["labels_random"].view(POOL, 4, 0).train.rows)).any()


def true_classes(split: Split) -> set[int]:
    return set(LABELS[split.rows].tolist())


def test_classes_are_added_and_earlier_ones_stay() -> None:
    assert CHANGES["classes_added"].most_tasks(CLASSES) == 2
    first, second = views("classes_added")
    assert len(true_classes(first.train)) == 5
    assert true_classes(first.train) < true_classes(second.train)
    for view in (first, second):
        assert view.outputs is not None
        assert (view.outputs[view.train.labels] == LABELS[view.train.rows]).all()
        assert (np.bincount(view.train.labels) == 30).all()
        assert view.test is not None
        assert len(view.test.rows) == TEST_EACH * len(view.outputs)


def test_pairs_do_not_share_classes_until_all_were_there() -> None:
    shown = [true_classes(view.train) for view in views("class_pairs", tasks=12)]
    for round_of in (shown[:6], shown[6:]):
        assert set.union(*round_of) == set(range(CLASSES))
        assert sum(len(one) for one in round_of) == CLASSES
    assert shown[:6] != shown[6:]
    view = views("class_pairs")[0]
    for label in (0, 1):
        assert len(set(LABELS[view.train.rows[view.train.labels == label]].tolist())) == 1


def test_hard_and_easy_tasks_share_no_class() -> None:
    assert CHANGES["hard_and_easy"].most_tasks(CLASSES) == 4
    shown = views("hard_and_easy")
    assert [len(true_classes(view.train)) for view in shown] == [5, 1, 5, 1]
    assert set.union(*(true_classes(view.train) for view in shown)) == set(range(CLASSES))
    assert all((view.train.labels == LABELS[view.train.rows]).all() for view in shown)


def test_chunks_are_disjoint_and_accumulate() -> None:
    full = [view.train.rows for view in views("chunks")]
    assert [len(rows) for rows in full] == [120, 240, 360, 480]
    assert all((longer[: len(rows)] == rows).all() for rows, longer in pairwise(full))
    newest = [view.train.rows for view in views("chunks_newest", tasks=7)]
    assert [len(rows) for rows in newest] == [57] * 7
    assert len(np.unique(np.concatenate(newest))) == 399
    assert all((view.train.labels == LABELS[view.train.rows]).all() for view in views("chunks"))


def test_warm_start_begins_with_a_part_of_what_follows() -> None:
    first, everything = (view.train.rows for view in views("warm_start"))
    assert (len(first), len(everything)) == (48, N)
    assert set(first.tolist()) < set(everything.tolist())


@pytest.mark.parametrize("name", ["label_noise", "label_noise_newest"])
def test_label_noise_falls_linearly_and_a_wrong_label_stays_wrong(name: str) -> None:
    change = CHANGES[name]
    assert isinstance(change, LabelNoise)
    big = Pool(np.repeat(np.arange(10), 2_000), None, 10, 4)
    wide = LabelNoise(change.chunks, change.access, None, change.first)
    shares, label_of = [], {}
    for index in range(5):
        train = wide.view(big, 1, index).train
        newest = slice(-len(big.labels) // 5, None)
        wrong = train.labels != big.labels[train.rows]
        shares.append(wrong[newest].mean())
        for row, label in zip(train.rows.tolist(), train.labels.tolist(), strict=True):
            assert label_of.setdefault(row, label) == label
    assert shares == pytest.approx([change.first * (1 - k / 4) for k in range(5)], abs=0.04)
    assert shares[-1] == 0
    others = [(label - row // 2_000) % 10 for row, label in label_of.items() if label != row // 2_000]
    assert np.bincount(others, minlength=10)[1:] == pytest.approx(len(others) / 9, rel=0.15)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (LabelsRandom(N + 1), "count"),
        (ClassesAdded(CLASSES + 1), "classes_per_task"),
        (ClassPairs(5), "classes_per_task"),
        (HardAndEasy(CLASSES + 1), "hard"),
        (Chunks(N + 1), "chunks"),
        (Chunks(2, count=N + 1), "count"),
        (WarmStart(0.5, N + 1), "count"),
    ],
)
def test_what_a_data_set_has_too_little_of_is_refused(change: Change, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        change.check(CLASSES, N)


def test_a_class_with_fewer_images_than_asked_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be at most 40"):
        ClassPairs(2, EACH + 1).view(POOL, 0, 0)
