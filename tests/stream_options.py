"""Of every option of a stream, its data and its change: what it takes for it to matter, and another value."""

from __future__ import annotations

from tests.images import CIFAR_FILE

Row = tuple[list[str], str, str]

ONLINE = ["benchmark=stream", "benchmark/data=digits", "benchmark/change=labels_permuted"]
MOVED = ["benchmark=stream", "benchmark/data=digits", "benchmark.drift=0.5"]
EPOCHS = ["benchmark=stream", "benchmark/protocol=epochs", "benchmark/data=digits"]
CIFAR = ["benchmark=stream", "benchmark/data=cifar100", f"benchmark.data.file={CIFAR_FILE}"]
IMAGENET = [
    "benchmark=stream",
    "benchmark/protocol=epochs",
    "benchmark/data=imagenet32",
    "benchmark.data.classes=4",
    "benchmark.data.train_per_class=20",
    "benchmark.data.test_per_class=10",
    "benchmark.batch_size=20",
]


def change(name: str, *options: str) -> list[str]:
    return [*EPOCHS, f"benchmark/change={name}", *(f"benchmark.change.{option}" for option in options)]


ROWS: list[Row] = [
    (ONLINE, "benchmark.examples_per_task", "40"),
    (ONLINE, "benchmark.batch_size", "5"),
    (ONLINE, "benchmark.inputs", "minus_one_one"),
    (ONLINE, "benchmark.drift", "0.5"),
    (MOVED, "benchmark.interpolate", "true"),
    (ONLINE, "benchmark.relearn", "true"),
    (EPOCHS, "benchmark.relearn", "true"),
    ([*EPOCHS, "benchmark/change=inputs_permuted"], "benchmark.change.count", "300"),
    (EPOCHS, "benchmark.epochs", "3"),
    (EPOCHS, "benchmark.batch_size", "50"),
    (EPOCHS, "benchmark.new_heads", "true"),
    (EPOCHS, "benchmark.last_batch", "keep"),
    ([*EPOCHS, "benchmark.epochs=2"], "benchmark.evaluate_every", "2"),
    (EPOCHS, "benchmark.inputs", "standardised"),
    (change("labels_random"), "benchmark.change.count", "300"),
    (change("labels_random"), "benchmark.change.law", "drawn"),
    (change("classes_added", "per_class=100"), "benchmark.change.classes_per_task", "3"),
    (change("classes_added", "per_class=100"), "benchmark.change.per_class", "150"),
    (change("class_pairs", "per_class=100"), "benchmark.change.classes_per_task", "5"),
    (change("class_pairs", "per_class=100"), "benchmark.change.per_class", "150"),
    (change("hard_and_easy", "per_class=100"), "benchmark.change.hard", "4"),
    (change("hard_and_easy", "per_class=100"), "benchmark.change.easy", "2"),
    (change("hard_and_easy", "per_class=100"), "benchmark.change.per_class", "150"),
    (change("chunks"), "benchmark.change.chunks", "5"),
    (change("chunks"), "benchmark.change.access", "newest"),
    (change("chunks"), "benchmark.change.count", "1500"),
    (change("warm_start"), "benchmark.change.first", "0.2"),
    (change("warm_start"), "benchmark.change.count", "1000"),
    (change("label_noise"), "benchmark.change.chunks", "5"),
    (change("label_noise"), "benchmark.change.access", "newest"),
    (change("label_noise"), "benchmark.change.count", "1500"),
    (change("label_noise"), "benchmark.change.first", "0.9"),
    (CIFAR, "benchmark.data.file", "other.npz"),
    (IMAGENET, "benchmark.data.classes", "8"),
    (IMAGENET, "benchmark.data.train_per_class", "10"),
    (IMAGENET, "benchmark.data.test_per_class", "5"),
]


# The small experiment in which they are tried.
BASE = ["scale=tiny", "network=mlp", "network.hidden=[12,12]", "benchmark.num_tasks=2"]
