"""Colours: texts can be read, and states are told apart, also by those who see fewer colours.

Contrast is that of WCAG 2.2; distance is CIEDE2000 (Sharma, Wu and Dalal 2005) after the simulation of Machado,
Oliveira and Fernandes (2009) at full severity.
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest

import headframe.console

STATIC = Path(headframe.console.__file__).parent / "static"
TOKENS = (STATIC / "tokens.css").read_text()
# The matrices of Machado et al. for linear RGB, severity 1.
SEEN = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
STATES = ("ok", "info", "warn", "bad")
LEAST = {  # the smallest distance between two states, by theme and way of seeing
    "dark": {"normal": 37, "protan": 25, "deutan": 24, "tritan": 19},
    "light": {"normal": 27, "protan": 19, "deutan": 14, "tritan": 14},
}
LEAST_SERIES = {
    "dark": {"normal": 21, "protan": 12, "deutan": 15, "tritan": 13},
    "light": {"normal": 24, "protan": 17, "deutan": 20, "tritan": 14},
}
Triple = tuple[float, float, float]


def block(selector: str) -> dict[str, str]:
    """The colours that a rule sets, by name."""
    found = re.search(re.escape(selector) + r"\s*\{([^}]*)\}", TOKENS)
    assert found, selector
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})\b", found[1]))


THEMES = {"dark": block(':root[data-theme="dark"]'), "light": block(':root[data-theme="light"]')}


def linear(colour: str) -> Triple:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def luminance(colour: str) -> float:
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(colour: str, way: str) -> Triple:
    """CIE L*a*b* (D65) of a colour as it is seen."""
    rgb = linear(colour)
    red, green, blue = (
        min(1.0, max(0.0, sum(part * value for part, value in zip(row, rgb, strict=True)))) for row in SEEN[way]
    )
    xyz = (
        (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047,
        0.2126729 * red + 0.7151522 * green + 0.0721750 * blue,
        (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883,
    )
    x, y, z = (part ** (1 / 3) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116 for part in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(one: Triple, other: Triple) -> float:
    """How different two colours look."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean**7 / (mean**7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = math.degrees(math.atan2(b1, a1)) % 360, math.degrees(math.atan2(b2, a2)) % 360
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    dl, dc, dh = l2 - l1, c2 - c1, 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn) / 2)
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    hm = h1 + h2 if c1 * c2 == 0 else (h1 + turn / 2) % 360
    t = (
        1 - 0.17 * math.cos(math.radians(hm - 30)) + 0.24 * math.cos(math.radians(2 * hm))
        + 0.32 * math.cos(math.radians(3 * hm + 6)) - 0.2 * math.cos(math.radians(4 * hm - 63))
    )  # fmt: skip
    sl = 1 + 0.015 * (lm - 50) ** 2 / math.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    spread = 30 * math.exp(-(((hm - 275) / 25) ** 2))
    rotation = -2 * math.sqrt(cm**7 / (cm**7 + 25**7)) * math.sin(math.radians(2 * spread))
    return math.sqrt((dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rotation * (dc / sc) * (dh / sh))


@pytest.mark.parametrize(
    ("one", "other", "distance"),  # out of the table of Sharma et al.
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ],
)
def test_the_distance_is_that_of_the_paper(one: Triple, other: Triple, distance: float):
    assert ciede2000(one, other) == pytest.approx(distance, abs=1e-4)


@pytest.mark.parametrize("theme", THEMES)
def test_texts_and_states_can_be_read_everywhere(theme: str):
    tokens = THEMES[theme]
    for name in ("text", "text-2", "text-3", "accent", *STATES):
        for ground in ("bg", "surface", "raised"):
            assert contrast(tokens[name], tokens[ground]) >= 4.5, (theme, name, ground)
    assert contrast(tokens["on-accent"], tokens["accent"]) >= 4.5
    for number in range(1, 7):
        assert contrast(tokens[f"series-{number}"], tokens["surface"]) >= 3, (theme, number)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("way", SEEN)
def test_states_and_series_are_told_apart(theme: str, way: str):
    tokens = THEMES[theme]
    for names, least in ((STATES, LEAST), ([f"series-{number}" for number in range(1, 7)], LEAST_SERIES)):
        found = {
            (one, other): ciede2000(lab(tokens[one], way), lab(tokens[other], way))
            for one, other in itertools.combinations(names, 2)
        }
        pair = min(found, key=lambda each: found[each])
        assert found[pair] >= least[theme][way] - 0.5, (theme, way, pair, found[pair])


@pytest.mark.parametrize("theme", THEMES)
def test_more_heat_is_always_further_along(theme: str):
    steps = [luminance(THEMES[theme][f"heat-{number}"]) for number in range(1, 7)]
    assert steps == sorted(steps, reverse=theme == "light")
    assert len(set(steps)) == 6


def test_the_themes_have_the_same_names_and_the_system_is_light_as_light_is():
    assert set(THEMES["dark"]) == set(THEMES["light"])
    assert block(':root[data-theme="system"]') == THEMES["light"]


def test_colours_are_set_in_one_place():
    """All others name them, so that a theme changes everything."""
    for path in sorted(STATIC.rglob("*.css")):
        if path.name != "tokens.css":
            text = re.sub(r"@media print\s*\{.*", "", path.read_text(), flags=re.DOTALL)
            assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;,\s)])", text), path.name
