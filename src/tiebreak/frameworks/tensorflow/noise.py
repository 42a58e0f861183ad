"""Random numbers in TensorFlow: every kind of `Draw`, from counters instead of hidden state."""

from __future__ import annotations

import numpy as np

from tiebreak.core.noise import Draw
from tiebreak.core.types import Array, Tree
from tiebreak.frameworks.tensorflow.quiet_import import tf

TINY = float(np.finfo(np.float32).tiny)


def _draw(draw: Draw, seed: Array) -> Array:
    if draw.kind == "permutation":
        rows = int(np.prod(draw.shape[:-1], dtype=int))
        return tf.reshape(permutations(seed, rows, draw.shape[-1]), draw.shape)
    if draw.kind == "integers":
        bits = tf.random.stateless_uniform(draw.shape, seed, None, None, tf.int32)
        return tf.bitwise.bitwise_and(bits, 2**31 - 1)
    if draw.kind == "normal":
        return tf.random.stateless_normal(draw.shape, seed)
    uniform = tf.random.stateless_uniform(draw.shape, seed)
    if draw.kind == "gumbel":
        return -tf.math.log(-tf.math.log(tf.maximum(uniform, TINY)))
    return uniform


def permutations(seed: Array, rows: int, n: int) -> Array:
    """[rows, n] int32, each row an independent uniform permutation of range(n).

    A shuffle per row takes a third of the time of one argsort of random keys on the CPU.
    """
    seeds = [tf.random.experimental.stateless_fold_in(seed, row) for row in range(rows)]
    shuffle = tf.random.experimental.stateless_shuffle
    return tf.stack([shuffle(tf.range(n), row_seed) for row_seed in seeds])


def draw_tree(draws: Tree, seed: Array) -> Tree:
    """Draw every leaf of a tree of `Draw`, each from its own fold of `seed` [2].

    Meant for plain tf.function in every mode: on the CPU, XLA's sort and its Philox take 2 to 15
    times as long as TensorFlow's own kernels, and it has no kernel for the shuffle.
    """
    if isinstance(draws, Draw):
        return _draw(draws, seed)
    seeds = [tf.random.experimental.stateless_fold_in(seed, i) for i in range(len(draws))]
    return type(draws)(*(draw_tree(d, s) for d, s in zip(draws, seeds, strict=True)))
