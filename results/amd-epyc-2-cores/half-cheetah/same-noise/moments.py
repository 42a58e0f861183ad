"""Moments, correlations and indices of the random numbers of SAC's iterations 100 to 399, of two seeds."""

import numpy as np, torch
from tiebreak import registry
from tiebreak.envs.base import make_env
from tiebreak.loops.base import off_policy_draws_of
from tiebreak.core.seeding import derive
c=registry.reference_config("sac",make_env("gymnasium/HalfCheetah-v4").spec)
d=off_policy_draws_of("sac",make_env("gymnasium/HalfCheetah-v4").spec,c)
for fw in ("torch","nnx"):
    rt=registry.make_runtime(fw,"eager" if fw=="torch" else None,"float32","cpu")
    for s in (0,1):
        seed=derive(s,"noise"); A=[];I=[];S=[]
        for i in range(100,400):
            x=rt.to_numpy(rt.draw(d,seed,i)); A.append(np.array(x.act).reshape(-1,6)); I.append(np.array(x.index)[:,0,:]); S.append([np.array(y).reshape(-1) for y in x.step])
        A=np.concatenate(A); n=len(A)
        print(fw,s,"act mean*sqrt n",(A.mean(0)*n**.5).round(2),"std",(A.std(0)).round(4),"kurt",((A**4).mean(0)).round(3),"lag",[ (round(float((A[k:]*A[:-k]).mean()*(6*n)**.5),2)) for k in (1,2,5,50)], "max",abs(A).max())
        P=np.stack([y for x in S for y in x[:1]]).ravel(); print("  step", P.mean()*len(P)**.5, P.std(), (P**4).mean(), [float((P[k:]*P[:-k]).mean()*len(P)**.5) for k in (1,6,8,16,1536)])
        I=np.concatenate(I).astype(np.int64); u=(I%5000)/5000; print("  idx",(u.mean()-.5)*(12*u.size)**.5, np.histogram(u,10,(0,1))[0]/u.size*10, "dups/row",np.mean([256-len(np.unique(r)) for r in (I%5000)]))
