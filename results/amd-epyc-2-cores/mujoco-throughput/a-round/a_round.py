"""Where a round of acting and stepping goes, and what two halves in threads would change.

    python a_round.py FRAMEWORK MODE TASK NUM_ENVS > FILE

A line of JSON per repetition, in µs a round of all environments: `together`, a rollout as the loop
makes it; `alone`, the environments under uniform actions; `halves`, one half acting while the other
steps in a thread; and, within `together`, `act` (dispatch), `read` (wait and fetch), `step`, `row`.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tiebreak.bench.probes import make_subject
from tiebreak.runtimes.base import numpy_stack

STEPS, REPEATS = 32, 30


def make_loop(framework, mode, task, num_envs):
    config = {"num_steps": STEPS, "num_minibatches": 8, "num_epochs": 4}
    cell = {
        "algorithm": "ppo", "framework": framework, "mode": mode, "task": task, "loop": "host",
        "probe": "", "precision": "float32", "size": "s", "num_envs": num_envs, "device": "cpu",
        "cache": "warm", "label": "", "config": config,
    }  # fmt: skip
    subject = make_subject({"cells": [cell], "seed": 3, "threads": 2})
    subject.load()
    subject.build()
    return subject.loop


def act(loop, noise, t):
    return loop.runtime.to_numpy(loop._actor(loop.state, loop._obs, noise, t))


def keep(loop, chosen, outcome):
    row = loop._transition(loop._obs, chosen, outcome)
    loop._obs = outcome.obs
    return row


def in_parts(loop, seed):
    """One rollout, its parts timed."""
    noise = loop.runtime.draw(loop._draws, 5, seed).act
    parts = dict.fromkeys(("act", "read", "step", "row"), 0.0)
    for t in range(STEPS):
        at = [time.perf_counter()]
        chosen = loop._actor(loop.state, loop._obs, noise, t)
        at.append(time.perf_counter())
        chosen = loop.runtime.to_numpy(chosen)
        at.append(time.perf_counter())
        outcome = loop.env.step(chosen.action)
        at.append(time.perf_counter())
        keep(loop, chosen, outcome)
        at.append(time.perf_counter())
        for name, spent in zip(parts, np.diff(at), strict=True):
            parts[name] += spent
    return parts


def halves(one, two, pool, seed):
    """A rollout of two groups: while one steps, the other acts."""
    noise = [loop.runtime.draw(loop._draws, 5, seed).act for loop in (one, two)]
    rows, under_way = [], None
    for t in range(STEPS):
        for loop, drawn in zip((one, two), noise, strict=True):
            chosen = act(loop, drawn, t)
            if under_way:
                other, theirs, outcome = under_way
                rows.append(keep(other, theirs, outcome.result()))
            under_way = loop, chosen, pool.submit(loop.env.step, chosen.action)
    other, theirs, outcome = under_way
    rows.append(keep(other, theirs, outcome.result()))
    return numpy_stack(rows)


def main(framework, mode, task, num_envs):
    num_envs = int(num_envs)
    loop, *pair = (make_loop(framework, mode, task, n) for n in (num_envs, *[num_envs // 2] * 2))
    size = (STEPS, num_envs, loop.spec.action_size)
    actions = np.random.default_rng(0).uniform(-1, 1, size).astype(np.float32)
    pool = ThreadPoolExecutor(1)
    ways = {
        "together": lambda i: loop.collect(),
        "alone": lambda i: [loop.env.step(action) for action in actions],
        "halves": lambda i: halves(*pair, pool, i),
    }
    for repeat in range(-4, REPEATS):
        line = {}
        for name, way in ways.items():
            began = time.perf_counter()
            way(repeat % 1000)
            line[name] = time.perf_counter() - began
        line |= in_parts(loop, repeat % 1000)
        if repeat >= 0:
            print(json.dumps({name: round(1e6 * spent / STEPS, 1) for name, spent in line.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
