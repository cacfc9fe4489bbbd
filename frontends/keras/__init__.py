"""Keras 3 on tessel: `import tessel.keras as keras` gives Keras itself, whose steps are traced.

`hook.py` loads Keras; `traced.py` and `functions/` are what its backend computes with while a step
is traced, `steps.py` compiles steps, `trainer.py` is fit, evaluate and predict.
"""
