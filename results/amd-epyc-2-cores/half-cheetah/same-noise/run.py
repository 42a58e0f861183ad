"""A whole run of SAC on NNX's random numbers: python run.py torch 400 writes torch.npz, its replay
after the 5000 random steps and 400 more. What two frameworks did differently is told by comparing.
"""

import dataclasses
import sys

import jax
import numpy as np

from tiebreak import registry
from tiebreak.loops.base import make_loop
from tiebreak.envs.base import make_env
fw, extra = sys.argv[1], int(sys.argv[2])
config=dataclasses.replace(registry.reference_config("sac",make_env("gymnasium/HalfCheetah-v4").spec),total_steps=20000)
loop=make_loop("sac",fw,"gymnasium/HalfCheetah-v4",config=config,seed=0)
src=registry.make_runtime("nnx",None,"float32","cpu")
rt=loop.runtime
def draw(draws,seed,index):
    return jax.tree.map(rt.asarray, src.to_numpy(src.draw(draws,seed,index)))
rt.draw=draw
while loop.steps<5000+extra: loop.run()
d=loop.ring.dump()
np.savez(f"{fw}.npz",**{k:v for k,v in d.items()})
