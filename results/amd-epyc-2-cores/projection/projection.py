"""Milliseconds of one projection at batch 4096, 101 atoms: by pairs and scattered, each compiled.

    python projection.py jax|tensorflow|torch > FRAMEWORK.json
"""

import json
import sys
import time

import numpy as np

LOW, HIGH, ATOMS, BATCH, TURNS = -10.0, 10.0, 101, 4096, 30
rng = np.random.default_rng(0)
probs = rng.dirichlet(np.ones(ATOMS), size=BATCH).astype(np.float32)
values = rng.normal(size=(BATCH, 1)) + 0.97 * np.linspace(LOW, HIGH, ATOMS)
place = ((np.clip(values, LOW, HIGH) - LOW) * ((ATOMS - 1) / (HIGH - LOW))).astype(np.float32)
values = (LOW + place * (HIGH - LOW) / (ATOMS - 1)).astype(np.float32)

if sys.argv[1] == "jax":
    import jax

    from tiebreak.ops import jax_ops as ops

    forms = {"pairs": jax.jit(ops._by_pairs), "scattered": jax.jit(ops._scattered)}
    given, done = tuple(map(jax.numpy.asarray, (probs, place))), jax.block_until_ready
elif sys.argv[1] == "tensorflow":
    import tensorflow as tf

    from tiebreak.ops import tensorflow_ops as ops

    def by_pairs(probs, values):  # as it was until c9ea0d7
        at = (values - LOW) * ((ATOMS - 1) / (HIGH - LOW))
        near = tf.maximum(1.0 - tf.abs(at[:, :, None] - tf.range(ATOMS, dtype=tf.float32)), 0.0)
        return tf.reduce_sum(probs[:, :, None] * near, axis=1)

    scattered = lambda p, v: ops.project(p, v, LOW, HIGH)  # noqa: E731
    forms = {"pairs": tf.function(by_pairs, jit_compile=True)}
    forms["scattered"] = tf.function(scattered, jit_compile=True)
    given, done = tuple(map(tf.constant, (probs, values))), lambda x: x.numpy()
else:
    import torch

    from tiebreak.ops import torch_ops as ops

    torch.set_num_threads(2)
    forms = {"pairs": torch.compile(ops._by_pairs), "scattered": torch.compile(ops._scattered)}
    given, done = tuple(map(torch.tensor, (probs, place))), lambda x: x

found = {name: [] for name in forms}
for turn in range(TURNS + 3):
    for name, form in forms.items():
        start = time.perf_counter()
        done(form(*given))
        if turn >= 3:
            found[name].append(round(1e3 * (time.perf_counter() - start), 3))
medians = {f"{name}_median_ms": float(np.median(ms)) for name, ms in found.items()}
print(json.dumps({**medians, "samples_ms": found}))
