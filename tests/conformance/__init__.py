"""The conformance suite of ONNX: every backend case of the installed onnx package.

    python -m tests.conformance                run it, compare with the committed list
    python -m tests.conformance --write        rewrite the list and docs/conformance.md
    python -m tests.conformance --filter pad   only these cases, each with its outcome
    python -m tests.conformance --engine tessel-dynamic    with every dim of the inputs left open

`cases.py` takes the cases from the onnx package, `pool.py` runs them in worker processes
(`worker.py`) on an engine (`engines.py`, `dynamic.py`), `compare.py` decides, `record.py` keeps
what is known of failures, `page.py` writes the page.
"""
