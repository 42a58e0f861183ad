"""Learning studies: is it shown that the frameworks learn alike?

What will be trained, compared and expected is written down first, in a study file that is committed
(learning.toml). Each training is then an ordinary run, one after the other, and each seed one
number.

study.py             a study file: programs, controls, published returns
registration.py      the commit by which a study was written down
alterations.py       mistakes that controls put into a training (commands/altered_train.py)
queue.py             run the trainings, one after the other, and go on where that stopped
seeds.py             records: one number for each seed
verdicts.py          same, different, or not shown
"""
