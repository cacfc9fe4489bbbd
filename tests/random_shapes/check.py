"""Whether tessel gives what ONNX Runtime gives, and which part of a model it does not give."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import tessel
from tessel.compiler.errors import TesselError
from tessel.compiler.ir.interpret import interpret
from tessel.runtime.execution.empty import graph_for

from .draw import Drawn, open_session, run_session

GOOD = ("same", "both refuse", "only tessel", "known")

# What tessel refuses though ONNX Runtime takes it: words of the refusal, and why.
KNOWN = {
    "a sequence of symbolic length": "sequences dissolve while a model is read",
    "elements of an operand that decides a shape is not known": "ranks are known while compiling",
    "this input decides shapes, and is too large for it": "each of its values needs other code",
}


@dataclass(frozen=True)
class Outcome:
    """What came of a combination of sizes."""

    kind: str  # one of GOOD, or "wrong", "refused", "error"
    message: str = ""


def outcomes(drawn: Drawn, engine: str = "cpu") -> list[Outcome]:
    """The model is compiled once and run with each of the feeds. The "interpreter" compiles
    nothing: it runs the graph of which code would be made."""
    session = open_session(drawn.model)
    wanted = [None if session is None else run_session(session, f) for f in drawn.feeds]
    if all(w is None for w in wanted):
        return [Outcome("both refuse")]
    target, run = ("cpu", _run) if engine == "cpu" else ("numpy", _interpret)
    try:
        exe = tessel.compile(drawn.model, target=target, cache=False, reuse=False, threads=1)
    except TesselError as error:
        return [_refused(error)]
    except Exception as error:
        return [Outcome("error", f"{type(error).__name__}: {error}")]
    return [_outcome(exe, run, feeds, want) for feeds, want in zip(drawn.feeds, wanted)]


def _run(exe, feeds: dict) -> list:
    return list(exe.run(feeds).values())


def _interpret(exe, feeds: dict) -> list:
    arrays, binding = exe.signature.check(feeds)
    if exe.specialize is None:
        graph = graph_for(exe, binding)
    else:
        graph = exe.specialize(binding, dict(zip(exe.signature.names, arrays)))
    return interpret(exe.session.optimize(graph), arrays)


def _refused(error: TesselError) -> Outcome:
    text = " ".join(str(error).split())
    known = any(words in text for words in KNOWN)
    return Outcome("known" if known else "refused", text)


def _outcome(exe, run: Callable, feeds: dict, want: list | None) -> Outcome:
    try:
        got = run(exe, feeds)
    except TesselError as error:
        return Outcome("both refuse") if want is None else _refused(error)
    except Exception as error:
        return Outcome("error", f"{type(error).__name__}: {error}")
    if want is None:
        return Outcome("only tessel")
    for name, g, w in zip((o.name for o in exe.outputs), got, want):
        if (g.dtype, g.shape) != (w.dtype, w.shape):
            return Outcome("wrong", f"{name}: {g.dtype}{g.shape}, not {w.dtype}{w.shape}")
        if not np.allclose(g, w, rtol=1e-4, atol=1e-4, equal_nan=True):
            return Outcome("wrong", f"{name}: {g.ravel()[:6]}, not {w.ravel()[:6]} of {g.shape}")
    return Outcome("same")


def is_failure(outcome: Outcome) -> bool:
    return outcome.kind not in GOOD


# -- the part that fails --------------------------------------------------------------------


def smallest(drawn: Drawn, engine: str = "cpu") -> Drawn:
    """The first value, in the order of the nodes, of which tessel gives another, with what it
    follows from."""
    for node in drawn.model.graph.node:
        for name in filter(None, node.output):
            part = _part(drawn, name)
            if any(map(is_failure, outcomes(part, engine))):
                return part
    return drawn


def _part(drawn: Drawn, name: str) -> Drawn:
    model = onnx.ModelProto()
    model.CopyFrom(drawn.model)
    graph, wanted, kept = model.graph, {name}, []
    for node in reversed(drawn.model.graph.node):
        if wanted & set(node.output):
            wanted |= _reads(node)
            kept.append(node)
    del graph.node[:], graph.output[:]
    graph.node.extend(kept[::-1])
    graph.output.append(onnx.ValueInfoProto(name=name))
    for field in (graph.input, graph.initializer):
        for item in [i for i in field if i.name not in wanted]:
            field.remove(item)
    inputs = {i.name for i in graph.input}
    return Drawn(
        drawn.seed, model, [{k: v for k, v in f.items() if k in inputs} for f in drawn.feeds]
    )


def _reads(node) -> set[str]:
    inner = (n for a in node.attribute if a.HasField("g") for n in a.g.node)
    return set(node.input).union(*map(_reads, inner))
