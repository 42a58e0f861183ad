"""Environment steps per second in this process and in two, in turns: `python rates.py > rates.json`."""

import json
import time

import numpy as np

from tiebreak import make_env

CASES = (
    ("gymnasium/CartPole-v1", 64, 100),
    ("gymnasium/HalfCheetah-v4", 16, 100),
    ("gymnasium/HalfCheetah-v4", 64, 25),
    ("dm_control/humanoid-run", 16, 12),
)
TURNS = 40


def actions_for(env, steps):
    rng, spec = np.random.default_rng(0), env.spec
    if spec.discrete:
        return rng.integers(spec.action_size, size=(steps, env.num_envs), dtype=np.int32)
    return rng.uniform(*spec.bounds, (steps, env.num_envs, spec.action_size)).astype(np.float32)


def rate(env, actions):
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return actions.shape[0] * actions.shape[1] / (time.perf_counter() - start)


def main():
    found = []
    for task, num_envs, steps in CASES:
        envs = {processes: make_env(task, num_envs, 0, processes) for processes in (1, 2)}
        actions = actions_for(envs[1], steps)
        for env in envs.values():
            env.reset()
            rate(env, actions)
        turns = [{p: rate(env, actions) for p, env in envs.items()} for _ in range(TURNS)]
        for env in envs.values():
            env.close()
        ratios = [turn[2] / turn[1] for turn in turns]
        quartiles = np.percentile(ratios, [25, 50, 75]).round(3).tolist()
        about = {"task": task, "num_envs": num_envs, "steps_per_turn": steps}
        found.append({**about, "ratio_quartiles": quartiles, "steps_per_s": turns})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
