"""Loop: a `scan` where the number of turns is known, a `while` where only the run knows it, and its
body written out where turns differ in their types.

    turns        condition      stacked       becomes
    known        stays true     any           scan; the body written out if that is little
    any          any            none          while
    at most T    any            some          while of T rows, cut to the turns that it took
    unbounded    any            some          host_loop of whiles, whose rows the host gathers

Where data decides sizes in the body, or states change theirs, it is a host_loop (`hosted.py`).

Where the node gives no condition, that of its body ends it all the same, as in ONNX Runtime (the
operator's text would have it ignored).
"""

from ....compiler.errors import ModelError, TesselError
from ....compiler.ir.builder import Tensor
from ....compiler.ir.dims import Sym
from ....compiler.ir.types import BOOL, I64, TensorType
from ..read.call import Call
from ..read.dependence import ValueDependence
from ..read.folded import FoldedValue, as_symbols
from ..read.region import Region, inline_graph
from ..read.scope import Scope, Skip, types_of
from ..read.symbolic import bind
from .hosted import chunked, general_region, hosted_loop, hosted_scan, is_hosted

UNROLLED = 64  # turns that are written out at most, where no region says what a body does
SMALL = 32  # nodes of all turns together up to which code without a loop is as fast or faster
ENDLESS = 1 << 31  # a trip count that stands for none
ROWS = 1 << 16  # turns from which on memory for all of their rows is not set apart


def loop(c: Call):
    body = c.attr("body")
    states = [c[i] for i in range(2, len(c.inputs))]
    if len(body.input) != len(states) + 2 or len(body.output) < len(states) + 1:
        raise ModelError(
            "the body of a Loop does not fit its states",
            where=c.where,
            expected=f"{len(states) + 2} inputs, {len(states) + 1} outputs or more",
            received=f"{len(body.input)} inputs, {len(body.output)} outputs",
        )
    turns, go = _trip_count(c), c.known(1)
    if (go is not None and not bool(go.reshape(()))) or (isinstance(turns, int) and turns <= 0):
        return _no_turn(c, body, states)
    starts = c[1] is None or go is not None  # whether it is known that there is a first turn
    if starts and isinstance(turns, int) and turns * len(body.node) <= SMALL and turns <= UNROLLED:
        results = _unroll(c, body, turns, states, None)
        if results is not None:
            return results
    region, problems = _region(c, body, [types_of(s) for s in states])
    if region is None:
        return _without_region(c, body, states, turns, starts, problems)
    if is_hosted(region):
        short = starts and isinstance(turns, int) and turns <= UNROLLED
        results = _unroll(c, body, turns, states, None) if short else None
        return _hosted(c, region, states, turns, starts) if results is None else results
    stacked = len(body.output) - 1 - len(states)
    always = starts and _always_true(region.results[0])
    if stacked and starts and not always and not isinstance(turns, (Sym, Tensor)):
        # A condition that follows from the turn says how many rows there are.
        results = _until_known(c, body, states, turns)
        if results is not None:
            return results
    exact = always and turns is not None
    if stacked and not exact and not (isinstance(turns, Sym) or _is_below(turns, ROWS)):
        return _gathered(c, region, states, turns)
    if always and stacked and isinstance(turns, Tensor):
        (turns,) = c.symbols(0, "M")
    if always and isinstance(turns, (int, Sym)):
        steps = c.b.emit("iota", shape=(turns,), axis=0, dtype=I64)
        return emit_scan(c, region, states, [steps], region.results[1:], len(states))
    return _while(c, region, states, turns, stacked)


def _is_below(turns, limit: int) -> bool:
    return isinstance(turns, int) and turns < limit


def _without_region(c: Call, body, states: list, turns, starts: bool, problems: list):
    """A loop whose states change their types: written out if it is short, else run by the host."""
    if isinstance(turns, Tensor):
        needed = c.value_dependence(0, "the trip count of a Loop whose states change their type")
    elif not starts:
        needed = c.value_dependence(
            1, "the first condition of a Loop whose states change their type"
        )
    else:
        needed = None
    if isinstance(needed, ValueDependence) and not needed.data:
        needed.findings += tuple(problems)
        raise needed
    results = None
    if needed is None and not isinstance(turns, Sym):
        short = turns is not None and turns <= UNROLLED
        results = _unroll(c, body, turns, states, None) if short else None
        results = _until_known(c, body, states, turns) if results is None else results
    if results is None:
        results = _hosted_by_sizes(c, body, states, turns, starts)
    if results is not None:
        return results
    if needed is not None:
        needed.findings += tuple(problems)
        raise needed
    if isinstance(turns, int) and turns <= UNROLLED:
        return _unroll(c, body, turns, states, problems)
    return _explain(c, turns, problems)


def _hosted_by_sizes(c: Call, body, states: list, turns, starts: bool):
    """The loop as a `host_loop` whose states may change their sizes; None if that is not enough."""
    if any(not isinstance(s, Tensor) for s in states):
        return None

    def read(types: list):
        region, problems = _region(c, body, types, once=True)
        if region is None:
            return problems[0] if problems else c.unsupported("the body cannot be read")
        if not all(isinstance(r, Tensor) for r in region.results):
            return c.unsupported("the body gives something that is not a tensor")
        return region

    found = general_region(c, read, states)
    return (
        None
        if isinstance(found, TesselError)
        else _hosted(c, found[0], states, turns, starts, found[1])
    )


def _hosted(c: Call, region: Region, states: list, turns, starts: bool, turn: tuple = ()):
    """A `host_loop` of the body; `turn` are the symbols of its states' sizes."""
    exact = starts and _always_true(region.results[0]) and isinstance(turns, (int, Sym))
    go, zero, results = _counted(c, region, len(states), turns)
    out = hosted_loop(
        c, region, [*states, zero], go, results, turn=turn, turns=turns if exact else None
    )
    del out[len(states)]
    return out


def _gathered(c: Call, region: Region, states: list, turns):
    """A `host_loop` that takes some turns at a time and gathers their rows."""
    go, zero, results = _counted(c, region, len(states), turns)
    region, results = chunked(c, region, [*states, zero], results)
    out = hosted_loop(c, region, [*states, zero], go, results, pieces=True)
    del out[len(states)]
    return out


def _trip_count(c: Call):
    """An int or dim, a scalar tensor where only the run knows it, None where there is none."""
    if c[0] is None:
        return None
    array = c.known(0)
    if array is None:
        return c.x(0).cast(I64).reshape(())
    (turns,) = as_symbols(array)
    return None if isinstance(turns, int) and turns >= ENDLESS else turns


def _region(c: Call, body, types, once=False) -> tuple[Region | None, list[TesselError]]:
    """The body as a region whose condition is true, for states of these types; none, and why, if it
    cannot be one.

    `once`: for a single turn, whose states may become others.
    """
    if any(isinstance(t, list) or t is None for t in types):
        return None, [c.unsupported("a state is a sequence or an optional")]
    names = [i.name for i in body.input]
    inputs = list(zip(names[2:], types))
    inputs.append((names[0], TensorType(I64, ())))
    mark = len(c.reader.findings.errors)
    try:
        region = Region(_with_condition(c, names[1]), body, "body", inputs)
    except Skip:
        return None, c.reader.findings.take_since(mark)
    for i, (type, result) in enumerate(zip(types, region.results[1:])):
        if type != types_of(result) and not once:
            problem = f"state {i} changes its type from one iteration to the next"
            return None, [c.unsupported(problem, expected=type, received=types_of(result))]
    if not all(isinstance(r, Tensor) for r in region.results):
        return None, [c.unsupported("the body gives something that is not a tensor")]
    return region, []


def _explain(c: Call, turns, problems: list[TesselError]):
    """Raise what would help a loop that must be written out."""
    if isinstance(turns, Sym):
        raise c.size_dependence(
            "a Loop over a symbolic size whose states change their type", findings=problems
        )
    raise c.unsupported(
        "a Loop that can only be written out",
        expected=f"at most {UNROLLED} iterations",
        received="no trip count" if turns is None else turns,
        findings=problems,
    )


def _with_condition(c: Call, name: str) -> Call:
    """The node in a scope where the condition is true: a turn that is taken sees no other."""
    scope = Scope(
        c.scope.builder,
        c.scope.opsets,
        parent=c.scope,
        attributes=c.scope.attributes,
        prefix=c.scope.prefix,
    )
    scope.values[name] = c.b.constant(True)
    return Call(
        c.b,
        c.op_type,
        c.domain,
        c.version,
        c.where,
        c.inputs,
        c.attrs,
        c.outputs,
        c.reader,
        scope,
        c.proto,
    )


def _always_true(value) -> bool:
    return isinstance(value, FoldedValue) and bool(value.array.reshape(()))


def _until_known(c: Call, body, states: list, turns: int | None):
    """The body, written out until its condition is known to be false; None if it is not soon."""
    if turns is not None and turns <= UNROLLED:
        return _unroll(c, body, turns, states, None)
    return _unroll(c, body, UNROLLED, states, None, ends=True)


def _unroll(
    c: Call, body, turns: int, states: list, problems: list[TesselError] | None, ends=False
):
    """The body, `turns` times. Where a condition turns out to be computed: None, or an error.

    `ends`: the condition must end it before; None if it does not.
    """
    names = [i.name for i in body.input]
    stacked: list[list] = [[] for _ in range(len(body.output) - 1 - len(states))]
    for turn in range(turns):
        values = {names[0]: c.b.constant(turn, "i64"), names[1]: c.b.constant(True)}
        values |= dict(zip(names[2:], states))
        go_on, *results = inline_graph(c, body, "body", values)
        if not isinstance(go_on, FoldedValue) and (ends or turn < turns - 1):
            if problems is None:
                return None  # nobody reads what was written out so far
            raise c.unsupported(
                "a Loop whose condition is computed while it runs",
                findings=problems,
                expected="states of one type, or a condition that follows from shapes",
            )
        states = results[: len(states)]
        for items, value in zip(stacked, results[len(states) :]):
            items.append(value)
        if isinstance(go_on, FoldedValue) and not bool(go_on.array.reshape(())):
            break
    else:
        if ends:
            return None
    return [*states, *(_stack(c, items) for items in stacked)]


def _stack(c: Call, items: list) -> Tensor:
    if not all(isinstance(x, Tensor) for x in items):
        raise c.unsupported("a Loop that stacks something that is not a tensor")
    rows = [c.b.emit("reshape", x, shape=(1, *x.shape)) for x in items]
    return rows[0] if len(rows) == 1 else c.b.emit("concat", *rows, axis=0)


def _no_turn(c: Call, body, states: list):
    """The states as they are, and stacks without rows."""
    count = len(body.output) - 1 - len(states)
    if not count:
        return states
    region, problems = _region(c, body, [types_of(s) for s in states], once=True)
    if region is None:
        raise c.unsupported(
            "a Loop without iterations whose stacked outputs have no known type", findings=problems
        )
    empty = []
    for value in region.results[-count:]:
        zero = c.b.emit("cast", c.b.constant(0, "i64"), dtype=value.dtype)
        empty.append(c.b.emit("expand", zero, shape=(0, *value.shape)))
    return [*states, *empty]


def _while(c: Call, region: Region, states: list, turns, stacked: int):
    """A `while` whose states are the model's and the number of the turn."""
    b = c.b
    limit = turns if isinstance(turns, Tensor) else None
    go, zero, results = _counted(c, region, len(states), limit)
    captured = list(region.scope.captured)
    graph = region.close(captured, results)
    out = b.emit(
        "while",
        go,
        *states,
        zero,
        *[Tensor(b, v) for v in captured],
        body=graph,
        states=len(states) + 1,
        trips=() if turns is None or isinstance(turns, Tensor) else (turns,),
    )
    out = list(out) if isinstance(out, tuple) else [out]
    count = out.pop(len(states))
    return out[: len(states)] + [_cut(c, y, count) for y in out[len(states) :]]


def _counted(c: Call, region: Region, count: int, limit):
    """Whether there is a first turn, its number, and a turn's results: whether it goes on, its
    `count` states and the number of the next, its rows. At most `limit` turns, if there is one."""
    b, inner = c.b, region.builder
    go = b.constant(True) if c[1] is None else c.x(1).cast(BOOL).reshape(())
    zero = b.constant(0, "i64")
    following = inner.emit("add", region.own[-1], inner.constant(1, "i64"))
    go_on = region.results[0].cast(BOOL).reshape(())
    if limit is not None:
        # The limit is one more captured value; the first turn is as conditional as any other.
        limit = limit if isinstance(limit, Tensor) else b.dims([limit]).reshape(())
        go = b.emit("and", go, b.emit("less", zero, limit))
        go_on = inner.emit("and", go_on, inner.emit("less", following, region.scope.take(limit)))
    states, rows = region.results[1 : 1 + count], region.results[1 + count :]
    return go, zero, [go_on, *states, following, *rows]


def _cut(c: Call, rows: Tensor, count: Tensor) -> Tensor:
    """The first `count` rows."""
    sizes = bind(c, [count], "turns")
    return c.b.emit("slice", rows, axes=(0,), starts=(0,), steps=(1,), sizes=tuple(sizes))


# -- scan -----------------------------------------------------------------------------------


def emit_scan(c: Call, region: Region, states, arrays, results, count: int) -> list[Tensor]:
    """A `scan` of a region; `results` are its states and what is stacked."""
    if is_hosted(region):
        return hosted_scan(c, region, states, arrays, results)
    for i, (state, result) in enumerate(zip(states, results)):
        if state.type != result.type:
            raise c.unsupported(
                f"state {i} changes its type from one iteration to the next",
                expected=state.type,
                received=result.type,
            )
    captured = list(region.scope.captured)
    graph = region.close(captured, results)
    out = c.b.emit(
        "scan",
        *states,
        *arrays,
        *[Tensor(c.b, v) for v in captured],
        body=graph,
        states=count,
        scans=len(arrays),
    )
    return list(out) if isinstance(out, tuple) else [out]
