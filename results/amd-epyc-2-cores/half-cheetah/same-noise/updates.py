"""SAC's updates on one fixed replay, in one framework, with the random numbers of another.

    python updates.py torch compile nnx 50     # torch learns, NNX draws, 50 iterations of 50 updates

The replay is 5000 random steps of HalfCheetah. A line for every 500 updates: means of the last 50.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

from tiebreak import registry
from tiebreak.core.off_policy import Transition
from tiebreak.core.seeding import derive
from tiebreak.envs.base import make_env
from tiebreak.loops.base import off_policy_draws_of, random_act
from tiebreak.replay.base import Ring

framework, mode, source, iterations = *sys.argv[1:4], int(sys.argv[4])
env = make_env("gymnasium/HalfCheetah-v4", 1, 0)
config = dataclasses.replace(registry.reference_config("sac", env.spec), total_steps=20000)
runtime = registry.make_runtime(framework, mode)
agent = registry.make_raw_agent("sac", env.spec, config, runtime)
ring = Ring(runtime, env.spec, config)
learn = ring.learner(agent)
state = runtime.agent(agent).init(derive(0, "weights"))

rng, obs = np.random.default_rng(7), env.reset()
for _ in range(5000):
    act = random_act(env.spec, rng.random((1, 6), dtype=np.float32), np)
    out = env.step(act.action)
    row = obs, act.raw_action, out.reward, out.terminated, out.truncated, out.final_obs
    ring.add(Transition(*(np.array(x)[None] for x in row)))
    obs = np.array(out.obs)

draws = off_policy_draws_of("sac", env.spec, config)
drawing = registry.make_runtime(source, "eager" if source == "torch" else None)
for i in range(100, 100 + iterations):
    noise = drawing.to_numpy(drawing.draw(draws, derive(0, "noise"), i))
    noise, seen = jax.tree.map(runtime.asarray, noise), []
    for r in range(config.num_rounds):
        state, metrics = learn(state, ring.arrays, noise, r)
        seen.append(metrics)
    if i % 10 == 9:
        means = {k: float(np.mean(v)) for k, v in runtime.to_numpy(runtime.stack(seen))._asdict().items()}
        print(json.dumps({"updates": (i - 99) * config.num_rounds, **means}))
