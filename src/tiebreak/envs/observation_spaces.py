"""Observations as agents take them: flat vectors, or images [height, width, channels]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from tiebreak.core.networks import NATURE_SIDE, SMALL_SIDE


class Observation(NamedTuple):
    """Shape of an agent's observation, and how it is made of the environment's."""

    shape: tuple[int, ...]
    pixels: bool = False
    """True for images of bytes, 0 to 255."""
    convert: Callable[[Any], np.ndarray] | None = None
    """Turns one observation of the environment into the agent's; None: it is taken as it is."""


def describe(space: gymnasium.Space) -> Observation | None:
    """Return the observation that agents take for a space of Gymnasium; None if they take none.

    A Dict or a Tuple is flattened by Gymnasium's `flatten`: a Dict in the order of its keys, which
    Gymnasium sorts, and without its texts. Images inside one are flattened, too, if they are
    small: MiniGrid's symbols. Others are not supported.
    """
    if isinstance(space, spaces.Box):
        return of_box(space)
    if isinstance(space, spaces.Dict) and any(map(_is_text, space.spaces.values())):
        return _without_texts(space)
    if not isinstance(space, spaces.Dict | spaces.Tuple) or not _can_flatten(space):
        return None
    return Observation((spaces.flatdim(space),), convert=lambda row: spaces.flatten(space, row))


def _without_texts(space: spaces.Dict) -> Observation | None:
    """Return the observation of what is left of a Dict; None if agents do not take that."""
    rest = spaces.Dict({key: part for key, part in space.spaces.items() if not _is_text(part)})
    observation = describe(rest) if rest.spaces else None
    if observation is None or observation.convert is None:
        return None
    convert = observation.convert
    return observation._replace(convert=lambda row: convert({key: row[key] for key in rest.spaces}))


def of_box(space: spaces.Box) -> Observation:
    """Return the observation of a Box; images with the channels first are transposed.

    The channels' axis is the smallest one: the last if it is, else the first if that is.
    """
    shape = tuple(space.shape)
    if not _is_image(shape):
        return Observation(shape)
    pixels = space.dtype == np.uint8 and bool((space.low == 0).all() and (space.high == 255).all())
    if not _is_channels_first(shape):
        return Observation(shape, pixels)
    return Observation((*shape[1:], shape[0]), pixels, channels_last)


def channels_last(images: np.ndarray) -> np.ndarray:
    """Return images […, channels, height, width] as […, height, width, channels]."""
    return np.moveaxis(images, -3, -1)


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and sorted(shape)[1] >= SMALL_SIDE


def _is_channels_first(shape: tuple[int, ...]) -> bool:
    return shape[0] < min(shape[1:])


def _is_text(space: gymnasium.Space) -> bool:
    """Return True for a space of strings, such as a mission of MiniGrid."""
    return space.dtype is not None and space.dtype.kind == "U"


def _can_flatten(space: gymnasium.Space) -> bool:
    """Return True unless a space holds graphs, sequences, texts, or large images."""
    if isinstance(space, spaces.Dict):
        return all(_can_flatten(part) for part in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return all(_can_flatten(part) for part in space.spaces)
    if isinstance(space, spaces.Box):
        return not _is_image(tuple(space.shape)) or min(space.shape[:2]) < NATURE_SIDE
    return isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
