"""Training runs: one folder each, from `config.json` to the evaluated policy.

A training passes through these modules, in this order:

- train.py: `tiebreak.train`, the public function.
- request.py: everything that was asked for, checked and resolved. initial_policy.py: another run's
  weights to begin with.
- executors.py: who starts the training: this process, or a job for each agent (agents.py).
- launchers.py: where jobs run: here, in SLURM (launch_submitit.py) or in Ray (launch_ray.py).
  jobs.py: what runs there. search.py: settings that a sampler draws.
- session.py, population.py: one run of one or of many agents, and every way in which it can end.
- train_loop.py: a loop run to its number of steps, as a generator.
- trackers.py: who hears of metrics, evaluations and the end: metrics_log.py and display.py in every
  run, track_*.py where they are asked for, a user's callback.
- checkpoints.py: what a run resumes from. policy_files.py: the trained policy on disk.
- run_logs.py: what a run has logged, read back.
- evaluate.py: `tiebreak.evaluate`, a stored policy run greedily in any framework. policy.py: the
  same policy, to act in Python.
- result.py: what `tiebreak.train` returns, with its curves (curves.py).

Importing these imports no framework.
"""
