"""Cases of networks other than the default: an algorithm's small case, with images or a memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from tiebreak import registry
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
MEMORY = {"network": "gru", "num_envs": 4}
WITH_MEMORY = {
    "gru": Variant((2, 3), False, {**MEMORY, "hidden_sizes": (7, 5)}),
    "gru-alone": Variant(
        (3,), False, {**MEMORY, "hidden_sizes": (6,), "activation": "relu", "normalize_obs": True}
    ),
}
"""For algorithms with a place for a memory: with and without a dense layer before it."""
SIMBA_SIZES = (7, 7)


def of_network(algorithm: str, name: str) -> Case:
    """Return the algorithm's small case with a network and observations of these tables."""
    case = fixed(algorithm, cases_of(algorithm).ACTIONS[0])
    variant = {**VARIANTS, **WITH_MEMORY}[name]
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
    """Yield one case of each network that the algorithm takes."""
    has_memory = hasattr(registry.data_module(algorithm), "with_memory")
    for name in (*VARIANTS, *WITH_MEMORY) if has_memory else VARIANTS:
        yield of_network(algorithm, name)
