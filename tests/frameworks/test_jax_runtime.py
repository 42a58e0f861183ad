"""JAX's draws, which Linen, NNX and Equinox share: distributions, independence, seeds."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
import pytest

from tiebreak import registry
from tiebreak.core.noise import Draw
from tiebreak.frameworks.jax import runtime as runtimes
from tiebreak.frameworks.jax.runtime import draw_tree

SIZE = 40_000


class Inner(NamedTuple):
    order: Draw
    index: Draw


class Draws(NamedTuple):
    normal: Draw
    gumbel: Draw
    uniform: Draw
    again: Draw
    inner: Inner


DRAWS = Draws(
    Draw("normal", (100, 400)),
    Draw("gumbel", (100, 400)),
    Draw("uniform", (100, 400)),
    Draw("uniform", (100, 400)),
    Inner(Draw("permutation", (2, 3, 2000)), Draw("integers", (SIZE,))),
)


@pytest.fixture(scope="module")
def runtime():
    return registry.make_runtime("linen", "jit")


@pytest.fixture(scope="module")
def drawn(runtime):
    return runtime.to_numpy(runtime.draw(DRAWS, 3, 5))


def test_draws_have_the_distributions_they_are_named_after(drawn):
    """By quantiles: of Gumbel's, −log(−log q), a normal with the same mean and std has others."""
    for q in (0.01, 0.25, 0.5, 0.75, 0.99):
        share = 5 * np.sqrt(q * (1 - q) / SIZE)
        assert np.mean(drawn.uniform < q) == pytest.approx(q, abs=share)
        assert np.mean(drawn.gumbel < -np.log(-np.log(q))) == pytest.approx(q, abs=share)
    for z, q in ((-2.0, 0.02275), (-1.0, 0.15866), (0.0, 0.5), (1.0, 0.84134), (2.0, 0.97725)):
        assert np.mean(drawn.normal < z) == pytest.approx(q, abs=5 * np.sqrt(q * (1 - q) / SIZE))
    assert {x.dtype for x in drawn[:4]} == {np.dtype(np.float32)}


def test_leaves_are_independent(drawn):
    """A uniform number is the distribution's own share of a normal or Gumbel draw of its key."""
    leaves = [x.ravel() for x in drawn[:4]]
    correlated = np.corrcoef([np.argsort(np.argsort(x)) for x in leaves])
    assert np.abs(correlated - np.eye(4)).max() < 5 / np.sqrt(SIZE)
    bits = drawn.inner.index / 2.0**31
    assert abs(np.corrcoef(bits, leaves[2])[0, 1]) < 5 / np.sqrt(SIZE)


def test_integers_fill_their_range(drawn):
    index = drawn.inner.index
    assert index.dtype == np.int32
    assert index.min() >= 0
    counts = np.histogram(index, bins=16, range=(0, 2**31))[0]
    assert abs(counts - SIZE / 16).max() < 5 * np.sqrt(SIZE / 16)
    odd = np.mean(index % 2)
    assert odd == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(SIZE))  # of a remainder by a small size


def test_each_epoch_has_a_permutation_of_its_own(drawn):
    order = drawn.inner.order
    assert order.dtype == np.int32
    np.testing.assert_array_equal(
        np.sort(order, axis=-1), np.broadcast_to(np.arange(2000), order.shape)
    )
    rows = order.reshape(6, 2000)
    same = [(rows[a] == rows[b]).sum() for a in range(6) for b in range(a)]
    assert max(same) < 10  # one entry in a row, on average


def test_every_permutation_is_equally_likely(runtime):
    rows = runtime.to_numpy(runtime.draw((Draw("permutation", (3, 2000, 4)),), 0, 0))[0]
    counts = np.unique(rows.reshape(-1, 4), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert abs(counts - 250).max() < 80  # five standard deviations


@pytest.mark.parametrize("size", [1, 2, 5, 64, 4097])
@pytest.mark.parametrize("max_index_bits", [20, 0])  # single numbers are sorted, and pairs
def test_permutations_have_every_index_once(monkeypatch, size, max_index_bits):
    monkeypatch.setattr(runtimes, "MAX_INDEX_BITS", max_index_bits)
    order = np.asarray(runtimes.permutations(jax.random.key(0), 3, size))
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(size), (3, 1)))


def test_each_part_of_a_long_row_is_spread_evenly_over_minibatches():
    """Fourteen bits are random, so that sixteen indices share a number and stay together."""
    rows, size, parts = 8, 1 << 18, 8
    order = np.asarray(runtimes.permutations(jax.random.key(1), rows, size))
    minibatch = np.tile(np.arange(size) * parts // size, rows)
    part = order.reshape(-1) * parts // size
    counts = np.bincount(part * parts + minibatch, minlength=parts**2)
    expected = rows * size / parts**2
    assert abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_draws_depend_on_seed_and_index_alone(runtime, drawn):
    again = runtime.to_numpy(runtime.draw(DRAWS, 3, 5))
    for one, two in zip(jax.tree.leaves(drawn), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)
    for seed, index in ((3, 6), (4, 5)):
        other = runtime.to_numpy(runtime.draw(DRAWS, seed, index))
        for one, two in zip(jax.tree.leaves(drawn), jax.tree.leaves(other), strict=True):
            assert np.mean(one != two) > 0.9


def test_fused_loops_draw_what_host_loops_do(drawn):
    key = jax.random.fold_in(jax.random.key(3), np.uint32(5))
    for one, two in zip(
        jax.tree.leaves(drawn), jax.tree.leaves(draw_tree(DRAWS, key)), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-6)
