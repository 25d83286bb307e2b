"""Colours: one per method in every sweep, told apart by everyone, none twice in a figure."""

import colorsys
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.style import METHODS, PALETTE, SIZES, StyleName, context, logarithmic, looks, method
from lop_sweeps.analysis.names.label import ordered
from lop_sweeps.analysis.names.naming import Naming

OKABE_ITO = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]

# Machado, Oliveira & Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency",
# IEEE TVCG 15(6), severity 1.0, on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
# Linear sRGB to CIE XYZ, and the white of D65 (IEC 61966-2-1).
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def lab(colour: str, sight: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(3,): CIELAB of the colour as somebody sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(np.asarray(sight) @ linear, 0, 1) / WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def closest(colours: list[str], sight: str) -> float:
    """Smallest Euclidean distance in CIELAB."""
    seen = [lab(colour, SIGHTS[sight]) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


@pytest.mark.parametrize("sight", SIGHTS)
def test_methods_are_told_apart_as_well_as_the_colours_of_okabe_and_ito(sight: str) -> None:
    colours = [colour for _, colour in METHODS.values()]
    assert len(colours) == 13
    least = min(closest(OKABE_ITO, each) for each in SIGHTS)
    assert closest(colours, sight) >= least > 17


@pytest.mark.parametrize(
    "names",
    [
        ["backprop", "L2", "shrink and perturb", "continual backprop", "retrained network"],
        ["standard", "proper Adam", "L2", "continual backprop + L2", "ReDo + L2"],
        ["backprop", "L2", "shrink and perturb", "dropout 0.1", "online norm", "Adam", "continual backprop"],
    ],
)
def test_methods_that_are_drawn_together_are_farther_apart(names: list[str]) -> None:
    colours = [look.colour for look in looks(names).values()]
    assert min(closest(colours, sight) for sight in SIGHTS) > 20


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("backprop", "backprop"),
        ("backprop 0.003", "backprop"),
        ("standard", "backprop"),
        ("backprop, optimizer=sgd, step_size=0.01", "backprop"),
        ("backprop, optimizer=adam, step_size=0.01", "adam"),
        ("backprop, optimizer=adamw", "adam"),
        ("proper Adam", "adam"),
        ("backprop, network=linear", "linear"),
        ("continual_backprop, replacement_rate=1e-05", "continual backprop"),
        ("l2+continual_backprop", "continual backprop"),
        ("tanh, continual backprop", "continual backprop"),
        ("L2", "l2"),
        ("l2, optimizer=adam", "l2"),
        ("ReDo + L2", "redo"),
        ("shrink_and_perturb, noise_std=0.001", "shrink and perturb"),
        ("batch_norm", "batch norm"),
        ("backprop, dropout=0", "backprop"),
        ("l2_or_not, l2=1", None),
        ("L2 Init", None),
        ("backprop + L2 Init", None),
        ("soft L2, coefficient=0.1", None),
        ("L2 (1e-4)", "l2"),
        ("only 1", None),
        ("MLP, activation=relu", None),
    ],
)
def test_label_names_its_method(label: str, name: str | None) -> None:
    assert method(label) == name


def test_method_keeps_its_colour_across_sweeps() -> None:
    first = looks(["backprop", "l2", "continual_backprop"])
    second = looks(["tuned", "all layers", "redo", "ReDo + L2", "Backprop", "continual backprop + L2", "L2", "dropout"])
    assert first["backprop"] == second["Backprop"]
    assert first["backprop"].colour == "#D55E00"  # red, as in the paper
    assert first["l2"] == second["L2"]
    assert first["continual_backprop"] == second["continual backprop + L2"]
    assert {look.dashes for look in first.values()} == {"-"}


def test_settings_of_a_method_are_shades_of_its_colour_with_other_dashes() -> None:
    labels = [f"backprop, step_size={size}" for size in (0.001, 0.003, 0.01)]
    found = looks([*labels, "l2"])
    shades = [found[label] for label in labels]
    assert shades[1].colour == METHODS["backprop"][1]
    assert len({str(look.dashes) for look in shades}) == 3
    hues = [colorsys.rgb_to_hls(*to_rgb(look.colour)) for look in shades]
    assert np.ptp([hue for hue, _, _ in hues]) < 0.02
    assert [lightness for _, lightness, _ in hues] == sorted(lightness for _, lightness, _ in hues)  # as their values


def test_settings_of_a_method_that_is_not_here_are_one_family() -> None:
    """Section 6: "L2 Init" got L2's family."""
    labels = [f"L2 Init, coefficient={value}" for value in (0.1, 0.2, 0.3)]
    found = looks([*labels, "L2", "backprop"])
    shades = [colorsys.rgb_to_hls(*to_rgb(found[label].colour)) for label in labels]
    assert np.ptp([hue for hue, _, _ in shades]) < 0.02
    assert found[labels[1]].colour not in {METHODS["l2"][1], METHODS["backprop"][1]}
    assert found["L2"].colour == METHODS["l2"][1]


def test_order_texts_and_colours_are_the_users() -> None:
    naming = Naming(["l2", "redo"], {"l2": r"L2 $\lambda$"}, {"backprop": "#010203", "redo": "black"})
    found = looks(["backprop", "l2, weight_decay=0.1", "redo, a=1", "redo, a=2"], naming)
    assert list(found) == ["l2, weight_decay=0.1", "redo, a=1", "redo, a=2", "backprop"]
    assert found.text("l2, weight_decay=0.1") == r"L2 $\lambda$"
    assert found.text("redo, a=1") == "redo, a=1"
    assert found["backprop"].colour == "#010203"
    assert found["redo, a=1"].colour == "#000000" != found["redo, a=2"].colour


@pytest.mark.parametrize(
    ("naming", "message"),
    [
        (Naming(colours={"l2": "greenish"}), "greenish"),
        (Naming(texts={"l2": r"$\nosuch$"}), "nosuch"),
        (Naming(texts={"l2": "$x^$"}), "formula"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(naming: Naming, message: str) -> None:
    with pytest.raises(AnalysisError, match=message) as caught:
        looks(["l2"], naming)
    assert "\n" not in str(caught.value)


def test_labels_without_a_method_leave_the_colours_of_methods_alone() -> None:
    names = ["all layers", "only 1", "only 2", "only 3", "layers 2-5"]
    found = looks([*names, "none", "continual backprop"])
    taken = {found["none"].colour, found["continual backprop"].colour}
    assert not taken & {found[name].colour for name in names}
    assert len({found[name].colour for name in names}) == 5
    assert "#D55E00" not in {look.colour for look in looks(names).values()}  # red is the baseline's


@pytest.mark.parametrize(
    "labels",
    [
        [*METHODS, *map(str, range(60))],
        [f"{name}, a={value}" for name in METHODS for value in range(6)],
        [f"backprop, a={value}" for value in range(50)],
        [*[f"l2, a={value}" for value in range(20)], *[f"redo, a={value}" for value in range(20)], "backprop", "x"],
        list(map(str, range(200))),
    ],
)
def test_no_two_labels_look_the_same(labels: list[str]) -> None:
    found = looks(labels)
    assert list(found) == ordered(labels)
    assert len({(look.colour, str(look.dashes)) for look in found.values()}) == len(labels)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.001, "0.001"), (0.02, "0.02"), (1, "1"), (1000, "1000"), (1e4, "10⁴"), (1e-12, "10⁻¹²"), (3e6, "3·10⁶")],
)
def test_powers_are_written_in_letters(value: float, text: str) -> None:
    with context("paper"):
        ax = Figure().subplots()
        ax.set_ylim(0.5 * value, 2 * value)
        logarithmic(ax)
        assert ax.yaxis.get_major_formatter().format_ticks([value]) == [text]


def test_minor_ticks_are_labelled_where_a_decade_has_no_room_for_major_ones() -> None:
    ax = Figure().subplots()
    logarithmic(ax)
    ax.set_ylim(2, 8)
    assert "3" in ax.yaxis.get_minor_formatter().format_ticks(list(range(2, 9)))
    ax.set_ylim(1, 1e6)
    assert not any(ax.yaxis.get_minor_formatter().format_ticks([20, 30, 40]))


def test_palette_holds_every_colour_once() -> None:
    assert sorted(PALETTE) == sorted(colour for _, colour in METHODS.values())


def test_a_talk_is_read_from_farther_away_than_a_paper() -> None:
    """Relative to the width of what it is shown on, letters and lines are larger."""
    styles: list[StyleName] = ["paper", "notebook", "talk"]
    assert list(SIZES) == styles
    paper, talk = SIZES["paper"], SIZES["talk"]
    assert talk.font / talk.width > 1.2 * paper.font / paper.width
    assert talk.line / talk.width > 1.2 * paper.line / paper.width
    assert talk.width <= 13.3
    for style in styles:
        with context(style):
            pass
