"""Generated machine code never leaves its arrays: a fuzz test with guard pages.

    make fuzz                               20,000 cases; SEED=1 COUNT=50000 JOBS=4 say others
    python -m tests.guards ops/conv.3/17    one case, in this process: a failure's reproducer

Inputs, outputs, weights, the arena's slots and scratch memory each lie between pages that nobody
may touch (`memory.py`), once so that they end at one and once so that they begin at one. Cases are
samples of op records (`records.py`), ONNX's backend cases (`standard.py`) and networks that reach
every schedule (`schedules.py`), all with sizes and values as nobody planned them (`perturb.py`).
`worker.py` runs a case in a child process, `pool.py` gives cases to several and says what came.
"""
