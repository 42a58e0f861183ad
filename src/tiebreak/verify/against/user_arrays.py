"""Map a user's arrays to ours and back: names, parts, stacks and transposed kernels.

A tree is what an agent's `weights()` returns: arrays in dictionaries and lists, nested as the user
likes. A path is the way to an array, joined by slashes, such as `actor/0.weight`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.text import quoted
from tiebreak.verify.against.rules import GRADIENT, MEAN, SQUARE, TARGET

PREFIXES = (GRADIENT, MEAN, SQUARE, TARGET)


def flatten(tree: Any, path: tuple = ()) -> dict[tuple, Any]:
    """Return the leaves of a tree by their paths, as tuples; None is left out."""
    if tree is None:
        return {}
    if isinstance(tree, Mapping):
        items = list(tree.items())
    elif isinstance(tree, (list, tuple)):
        items = list(enumerate(tree))
    else:
        return {path: tree}
    return {k: v for key, branch in items for k, v in flatten(branch, (*path, key)).items()}


def rebuild(tree: Any, leaves: Mapping[tuple, Any], path: tuple = ()) -> Any:
    """Return a tree of the same form with other leaves."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: rebuild(branch, leaves, (*path, key)) for key, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [rebuild(branch, leaves, (*path, i)) for i, branch in enumerate(tree)]
    return leaves[path]


def joined(path: tuple) -> str:
    """Return a path as a string."""
    return "/".join(map(str, path))


def to_array(value: Any, path: str) -> np.ndarray:
    """Return a copy of an array or tensor of any library as a NumPy array of its own type."""
    if hasattr(value, "detach"):  # a tensor of torch, perhaps with a gradient
        value = value.detach().cpu().numpy()
    array = np.array(value)
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{quoted(path)} is no array of numbers but {quoted(value)}")
    return array


def arrays_of(tree: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a tree by path."""
    return {joined(path): to_array(leaf, joined(path)) for path, leaf in flatten(tree).items()}


LEAVES = {"weight": "kernel", "kernel": "kernel", "bias": "bias", "scale": "scale"}
"""What arrays of a layer are called in libraries -> by us."""


def expand(names: Mapping[str, Any], paths: Iterable[str], ours: Iterable[str]) -> dict[str, Any]:
    """Replace layers in `names` by their arrays: `actor/fc1` by `actor/fc1.weight` and `.bias`."""
    paths, ours, out = list(paths), set(ours), {}
    for path, name in names.items():
        layer = {p[len(path) + 1 :]: p for p in paths if p.startswith((f"{path}.", f"{path}/"))}
        if path in paths or not set(layer) & set(LEAVES):
            out[path] = name
            continue
        for leaf in set(layer) & set(LEAVES):
            kind = LEAVES[leaf]
            if f"{name}/kernel" not in ours and isinstance(name, str) and kind == "kernel":
                kind = "scale"  # torch calls it a weight in a LayerNorm, too
            out[layer[leaf]] = (
                f"{name}/{kind}" if isinstance(name, str) else [f"{n}/{kind}" for n in name]
            )
    return out


class Link(NamedTuple):
    """Arrays of a user that hold arrays of ours."""

    paths: Sequence[str]
    """One array, or the parts of ours along the last axis."""
    names: Sequence[str]
    """One of ours, or those that are stacked along the first axis of the user's."""


class ArrayMap:
    """Converts between a user's arrays and ours, as `names` of the agent says."""

    def __init__(
        self, tree: Any, names: Mapping[str, Any] | None, ours: Mapping[str, np.ndarray]
    ) -> None:
        """Find what belongs together, from a tree of the user's arrays and our weights.

        Raises UsageError where a name, a shape or a network that is needed is missing.
        """
        self._tree = tree
        self._theirs = arrays_of(tree)
        self._ours = ours
        self._explicit = names is not None
        bases = list(dict.fromkeys(self._base(path)[1] for path in self._theirs))
        given = {path: path for path in self._theirs}
        if names is not None:
            given = expand(names, bases, ours)
        self._links = self._make_links(given)
        self._covered = {path for link in self._links for path in link.paths}
        self._require_networks()
        self.transposed = self._find_transposed()

    @property
    def ignored(self) -> list[str]:
        """Arrays of the user's that `names` does not mention."""
        return [p for p in self._theirs if self._base(p)[1] not in self._covered]

    def load(self) -> Any:
        """Return the user's tree with our weights in it."""
        leaves = {}
        for path, leaf in flatten(self._tree).items():
            leaves[path] = to_array(leaf, joined(path))
        values = dict(self._theirs)
        for link, prefix in itertools.product(self._links, ("", *PREFIXES)):
            paths = [prefix + path for path in link.paths]
            names = [prefix + name for name in link.names]
            if all(p in values for p in paths) and all(name in self._ours for name in names):
                values.update(zip(paths, self._split(link, prefix), strict=True))
        dtype = next(v.dtype for v in self._ours.values() if v.dtype.kind == "f")
        for path, leaf in leaves.items():
            value = values[joined(path)]
            if value.size != leaf.size:
                raise UsageError(
                    f"{joined(path)} of the agent has the shape {leaf.shape}; ours is {value.shape}"
                )
            value = value.reshape(leaf.shape)
            leaves[path] = value.astype(dtype) if value.dtype.kind == "f" else value
        return rebuild(self._tree, leaves)

    def canonical(self, tree: Any) -> dict[str, np.ndarray]:
        """Return the arrays of a tree that have a counterpart, by our names."""
        arrays = arrays_of(tree)
        out = {}
        for link, prefix in itertools.product(self._links, ("", *PREFIXES)):
            paths = [prefix + path for path in link.paths]
            if all(path in arrays for path in paths):
                out.update(self._join(link, prefix, [arrays[path] for path in paths]))
        for path, array in arrays.items():
            if path.startswith("adam/") and path in self._ours:
                out.setdefault(path, array)
        return out

    def _make_links(self, given: Mapping[str, Any]) -> list[Link]:
        links: list[Link] = []
        parts: dict[str, list[str]] = {}
        valid = list(self._ours)
        for path, ours in given.items():
            names = [ours] if isinstance(ours, str) else list(ours)
            for name in names or [""]:
                if name not in self._ours:
                    hint = "" if self._explicit else "Give the agent a mapping, `names`."
                    raise unknown("array", str(name), valid, hint)
            if self._base(path)[1] not in {self._base(p)[1] for p in self._theirs}:
                raise unknown("array of the agent in `names`", path, self._theirs)
            if len(names) > 1:
                links.append(Link((path,), tuple(names)))
            else:
                parts.setdefault(names[0], []).append(path)
        return links + [Link(tuple(paths), (name,)) for name, paths in parts.items()]

    def _base(self, path: str) -> tuple[str, str]:
        """Return prefix and rest of a user's path, if it has one of ours before it."""
        for prefix in PREFIXES:
            if path.startswith(prefix):
                return prefix, path.removeprefix(prefix)
        return "", path

    def _require_networks(self) -> None:
        """Raise UsageError unless every network has a place in the user's arrays."""
        reached = set()
        for link in self._links:
            for prefix in ("", TARGET):
                if all(prefix + path in self._theirs for path in link.paths):
                    reached |= {prefix + name for name in link.names}
        needed = [name for name in self._ours if not name.startswith("adam/")]
        missing = [name for name in needed if name not in reached]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise UsageError(
                f"weights() of the agent has nothing for {', '.join(missing[:3])}{more}; it has "
                f"{quoted(', '.join(self._theirs))}"
            )

    def _find_transposed(self) -> bool:
        """Return True if the user's kernels are [out, in]; square ones go with the others."""
        votes = set()
        for link in self._links:
            shapes = [self._shape(path) for path in link.paths]
            if len(link.names) > 1:
                shapes = [shape[1:] for shape in shapes]
            if any(len(shape) != 2 for shape in shapes):
                continue
            ours = self._ours[link.names[0]].shape
            fits = {
                transposed
                for transposed in (False, True)
                if _concatenated(shapes, transposed) == ours
            }
            if not fits:
                raise UsageError(
                    f"{', '.join(link.paths)} has the shape {shapes[0]}; {link.names[0]} is {ours} "
                    "[in, out] or its transpose (sizes of networks are settings: "
                    "settings = {'hidden_sizes': (…)})"
                )
            if len(fits) == 1:
                votes |= fits
        if len(votes) == 2:
            raise UsageError(
                "some kernels of the agent are [in, out] and some are [out, in]; return all of "
                "them in one way"
            )
        return votes.pop() if votes else any(p.endswith("weight") for p in self._theirs)

    def _shape(self, path: str) -> tuple[int, ...]:
        array = self._theirs.get(path)
        return array.shape if array is not None else self._theirs[TARGET + path].shape

    def _split(self, link: Link, prefix: str) -> list[np.ndarray]:
        """Return our arrays as the user's, one for each path of a link."""
        ours = [self._ours[prefix + name] for name in link.names]
        if len(ours) > 1:
            return [np.stack([self._turn(array) for array in ours])]
        if len(link.paths) == 1:
            return [self._turn(ours[0])]
        shapes = [self._shape(path) for path in link.paths]
        widths = [shape[0] if self.transposed else shape[-1] for shape in shapes]
        pieces = np.split(ours[0], np.cumsum(widths)[:-1], axis=-1)
        return [self._turn(piece) for piece in pieces]

    def _join(self, link: Link, prefix: str, arrays: Sequence[np.ndarray]) -> dict:
        """Return the user's arrays of one link as ours, with shapes that fit where they can."""
        if len(link.names) > 1:
            pieces = [self._turn(piece) for piece in arrays[0]]
        else:
            turned = [self._turn(array) for array in arrays]
            pieces = [turned[0] if len(turned) == 1 else np.concatenate(turned, axis=-1)]
        out = {}
        for name, piece in zip(link.names, pieces, strict=False):
            shape = self._ours[name].shape
            fits = piece.size == np.prod(shape, dtype=int)
            is_kernel = piece.ndim == len(shape) == 2
            out[prefix + name] = piece.reshape(shape) if fits and not is_kernel else piece
        return out

    def _turn(self, array: np.ndarray) -> np.ndarray:
        return array.T if self.transposed and array.ndim == 2 else array


def _concatenated(shapes: Sequence[tuple[int, ...]], transposed: bool) -> tuple[int, ...]:
    """Return the shape of parts side by side along the last axis of ours."""
    turned = [shape[::-1] if transposed else shape for shape in shapes]
    return turned[0][0], sum(shape[1] for shape in turned)
