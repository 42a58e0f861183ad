"""Cases of networks other than the default, for every algorithm: its small case, with images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from tiebreak.verify.case import Case, cases_of, fixed


class Variant(NamedTuple):
    """Observations and settings of a network's case."""

    observation_shape: tuple[int, ...]
    pixels: bool
    settings: dict[str, Any]


VARIANTS = {
    "cnn": Variant((5, 4, 2), True, {"network": "cnn", "normalize_obs": False}),
    "cnn-nature": Variant((44, 36, 1), False, {"network": "cnn"}),
    "simba": Variant((2, 3), False, {"network": "simba"}),
    "norm-mlp": Variant((2, 3), False, {"network": "norm_mlp"}),
    "norm-cnn": Variant((5, 4, 2), True, {"network": "norm_cnn", "normalize_obs": False}),
}
"""Small images: height, width and channels differ, and more than one window is left of both."""
SIMBA_SIZES = (7, 7)


def of_network(algorithm: str, name: str) -> Case:
    """Return the algorithm's small case with a network and observations of VARIANTS."""
    case, variant = fixed(algorithm, cases_of(algorithm).ACTIONS[0]), VARIANTS[name]
    spec = dataclasses.replace(
        case.spec,
        observation_shape=variant.observation_shape,
        pixels=variant.pixels,
        visible=None,
    )
    settings = variant.settings
    if settings["network"] == "simba":  # its blocks are of one width
        settings = {**settings, **dict.fromkeys(_sizes(case), SIMBA_SIZES)}
    return case._replace(spec=spec).changed(**settings)


def _sizes(case: Case) -> list[str]:
    return [field.name for field in dataclasses.fields(case.config) if "sizes" in field.name]


def all_of(algorithm: str) -> Iterator[Case]:
    """Yield one case of each network."""
    for name in VARIANTS:
        yield of_network(algorithm, name)
