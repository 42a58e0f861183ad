"""Colors of the frameworks: seen on both backgrounds, told apart in every kind of color vision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tiebreak.registry import FRAMEWORKS

BACKGROUNDS = {"color": "#ffffff", "color_dark": "#181b21"}
"""Field of a framework's row -> background of the page that it is for."""

VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""What is seen of linear RGB (Machado et al. 2009)."""

XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
LEAST_DIFFERENCE = 11.0
"""Distance in CIELAB; about 2 can just be seen where colors touch."""


def linear(color):
    """Return linear RGB in [0, 1]."""
    value = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Return CIELAB of linear RGB."""
    x = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("field", BACKGROUNDS)
def test_every_framework_is_seen_on_the_page(field):
    behind = XYZ[1] @ linear(BACKGROUNDS[field])
    for name, row in FRAMEWORKS.items():
        low, high = sorted((behind, XYZ[1] @ linear(getattr(row, field))))
        assert (high + 0.05) / (low + 0.05) >= 3, name


@pytest.mark.parametrize("field", BACKGROUNDS)
@pytest.mark.parametrize("vision", VISION)
def test_frameworks_are_told_apart(vision, field):
    seen = {
        name: lab(VISION[vision] @ linear(getattr(row, field))) for name, row in FRAMEWORKS.items()
    }
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > LEAST_DIFFERENCE, (a, b)
