"""Branches and loops that the host runs, because data decides sizes in their graphs.

    If(c) {then=NonZero(x), else=k}      =>  host_if(c, x, k) {…, shapes=[_if0], symbols=[_if0]}
    Loop {body: s = Concat(s, row)}      =>  host_loop(go, s, …) {…, turn=[_turn0]}
    Loop without a bound that stacks y   =>  host_loop of `while`s of some turns each

A graph is such as soon as it binds a size or has such a node itself (`ir/hosted.py`). Results
get symbols for what only the run knows, and for what the branches do not agree on.
"""

from collections.abc import Sequence

from ....compiler.errors import TesselError
from ....compiler.ir import dims
from ....compiler.ir.builder import Tensor
from ....compiler.ir.dims import Sym
from ....compiler.ir.hosted import has_stages, inner_symbols
from ....compiler.ir.types import BOOL, I64, TensorType
from ..read.call import Call
from ..read.folded import FoldingBuilder
from ..read.region import Region
from ..read.scope import flatten, regroup, types_of
from ..read.symbolic import fresh

CHUNK = 64  # turns that compiled code takes at a time where the host gathers rows
CHUNK_BYTES = 1 << 20  # rows of so many bytes at a time, where that is known
ROUNDS = 6  # in which the symbols of a loop's states must be found


def is_hosted(region: Region) -> bool:
    return has_stages(region.builder.graph)


class _Symbols:
    """Symbols of results: the same one for what is the same in all graphs."""

    def __init__(self, c: Call, hint: str):
        self.c, self.hint, self.of = c, hint, {}

    def dim(self, key, own: set[str]):
        """The dim itself where `key` has one dim that is known outside, else a symbol for `key`."""
        if len(set(key)) == 1 and not dims.symbols(key[0]) & own:
            return key[0]
        if key not in self.of:
            self.of[key] = fresh(self.c, self.hint, 1)[0]
        return self.of[key]

    @property
    def bound(self) -> tuple:
        return tuple(self.of.values())


# -- if -------------------------------------------------------------------------------------


def hosted_if(c: Call, condition: Tensor, regions: Sequence[Region]):
    """`host_if` of two regions; None if their results differ in more than sizes."""
    flat = [flatten(r.results) for r in regions]
    if not _alike(*([types_of(v) for v in r.results] for r in regions)):
        return None
    own = inner_symbols(regions[0].builder.graph) | inner_symbols(regions[1].builder.graph)
    symbols = _Symbols(c, "if")
    shapes = [symbols.dim(key, own) for x, y in zip(*flat) for key in zip(x.shape, y.shape)]
    captured = list(dict.fromkeys(v for r in regions for v in r.scope.captured))
    graphs = [r.close(captured, values) for r, values in zip(regions, flat)]
    out = c.b.emit(
        "host_if",
        condition.reshape(()),
        *[Tensor(c.b, v) for v in captured],
        then_graph=graphs[0],
        else_graph=graphs[1],
        shapes=tuple(shapes),
        symbols=symbols.bound,
    )
    return regroup(regions[0].results, _listed(out))


def _alike(one, other) -> bool:
    """Whether types are the same but for sizes."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if not (isinstance(one, TensorType) and isinstance(other, TensorType)):
        return one is None and other is None
    return one.dtype == other.dtype and one.rank == other.rank


def _listed(out) -> list[Tensor]:
    return list(out) if isinstance(out, tuple) else [out]


# -- loops ----------------------------------------------------------------------------------


def general_region(c: Call, read, states: list) -> "tuple[Region, tuple] | TesselError":
    """A loop's body for states whose sizes change, and the symbols of these sizes; or why not.

    `read(types)` is the region for states of these types. A size that the body gives otherwise than
    it got it becomes a symbol; states that begin and change alike share theirs.
    """
    types = [s.type for s in states]
    symbols: tuple = ()
    for _ in range(ROUNDS):
        region = read(types)
        if isinstance(region, TesselError):
            return region
        results = region.results[1 : 1 + len(states)]
        given = [types_of(r) for r in results]
        if not _alike(types, given):
            return c.unsupported(
                "a state changes its dtype or rank from one iteration to the next",
                expected=types,
                received=given,
            )
        own = inner_symbols(region.builder.graph)
        groups = _Symbols(c, "turn")
        following = [
            t.with_shape(_turned(groups, own, key) for key in zip(s.shape, t.shape, r.shape))
            for s, t, r in zip(states, types, results)
        ]
        if _partition(types, symbols) == _partition(following, groups.bound):
            return region, symbols
        types, symbols = following, groups.bound
    return c.unsupported(
        "no rule was found for how a state changes its shape from one iteration to the next"
    )


def _turned(groups: _Symbols, own: set[str], key: tuple):
    """The dim of a state: as it began, if it stays so."""
    start, before, after = key
    if before == start and after == start and not dims.symbols(after) & own:
        return start
    return groups.dim(("changes", *key), own)


def _partition(types: Sequence[TensorType], symbols: tuple) -> list:
    """Which dims are symbols of turns, and which of those are the same."""
    found = [d for t in types for d in t.shape]
    number = {d: i for i, d in enumerate(dict.fromkeys(d for d in found if d in symbols))}
    return [number.get(d) if isinstance(d, Sym) else None for d in found]


def hosted_loop(
    c: Call,
    region: Region,
    states: list,
    go: Tensor,
    results: list,
    *,
    turn: tuple = (),
    turns: int | Sym | None = None,
    pieces: bool = False,
) -> list[Tensor]:
    """`host_loop` of a region. `results` are its condition, next states and rows; `turns` how many
    rows there will be, if that is known."""
    own = inner_symbols(region.builder.graph) | {str(d) for d in turn}
    symbols = _Symbols(c, "loop")
    next_states, rows = results[1 : 1 + len(states)], results[1 + len(states) :]
    shapes = []
    for i, (state, result) in enumerate(zip(states, next_states)):
        shapes += [
            symbols.dim((d,) if d == s == r else ("state", d, s, r), own)
            for d, s, r in zip(region.own[i].shape, state.shape, result.shape)
        ]
    count = turns if turns is not None else symbols.dim(("turns", None), own)
    for y in rows:
        shapes.append(count)
        shapes += [symbols.dim((d,), own) for d in y.shape[pieces:]]
    captured = list(region.scope.captured)
    graph = region.close(captured, results)
    return _listed(
        c.b.emit(
            "host_loop",
            go,
            *states,
            *[Tensor(c.b, v) for v in captured],
            body=graph,
            states=len(states),
            shapes=tuple(shapes),
            symbols=symbols.bound,
            turn=turn,
            pieces=pieces,
        )
    )


def chunked(c: Call, region: Region, states: list, results: list) -> tuple[Region, list]:
    """A body that takes some turns of `region`: a `while` of at most `CHUNK`, of whose rows those
    that came are given.

    `results` are the region's condition, next states (the last is the number of the turn), rows.
    """
    go_on, rows = results[0], results[1 + len(states) :]
    captured = list(region.scope.captured)
    graph = region.close(captured, [go_on, *results[1 : 1 + len(states)], go_on, *rows])
    # The condition is carried as a state, behind the others.
    carried = region.builder.input("go", go_on.type).value
    graph.inputs.remove(carried)
    graph.inputs.insert(len(states), carried)
    outer = _Turns(c, region, captured)
    b = outer.builder
    inner = [b.value(t) for t in (*outer.own, outer.go, *outer.captured)]
    most = _chunk(rows)
    *found, go_on = (
        rest := _listed(
            b.emit(
                "while",
                b.constant(True),
                *[Tensor(b, v) for v in inner],
                body=graph,
                states=len(states) + 1,
                trips=(most,),
            )
        )
    )[: len(states) + 1]
    count = b.emit("sub", found[-1], outer.own[-1]).reshape((1,))
    (symbol,) = fresh(c, "turns", 1)
    b.emit("bind_dims", count, symbols=(symbol,))
    cut = [
        b.emit("slice", y, axes=(0,), starts=(0,), steps=(1,), sizes=(symbol,))
        for y in rest[len(states) + 1 :]
    ]
    return outer, [go_on, *found, *cut]


def _chunk(rows: Sequence[Tensor]) -> int:
    sizes = [y.type.nbytes for y in rows if all(isinstance(d, int) for d in y.shape)]
    if len(sizes) < len(rows):
        return CHUNK
    return max(1, min(4 * CHUNK, CHUNK_BYTES // max(1, sum(sizes))))


class _Scope:
    """What `hosted_loop` asks of a region's scope."""

    def __init__(self, captured: dict):
        self.captured = captured


class _Turns:
    """The graph around a `while`: it takes what the while's body takes, and looks like a region."""

    def __init__(self, c: Call, region: Region, captured: list):
        self.builder = FoldingBuilder(name=f"{region.builder.graph.name}_turns")
        self.own = [self.builder.input(t.value.name, t.type) for t in region.own]
        inner = [self.builder.input(region.scope.captured[v].value.name, v.type) for v in captured]
        self.go = self.builder.constant(True)
        self.captured = inner
        self.scope = _Scope(dict(zip(captured, inner)))

    def close(self, captured: list, results: list):
        for i, value in enumerate(results):
            self.builder.output(f"output_{i}", value)
        return self.builder.graph


# -- scan -----------------------------------------------------------------------------------


def hosted_scan(c: Call, region: Region, states: list, arrays: list, results: list) -> list[Tensor]:
    """The scan of a hosted region: a loop whose body takes its slices of the arrays by the turn."""
    b, inner = c.b, region.builder
    trips = arrays[0].shape[0]
    own = region.own[: len(states)]
    slices = region.own[len(states) : len(states) + len(arrays)]
    turn = inner.input("turn", TensorType(I64, ()))
    taken = [inner.emit("gather", region.scope.take(x), turn, axis=0) for x in arrays]
    _replace(inner.graph, {s.value: t.value for s, t in zip(slices, taken)}, results)
    region.own = [*own, turn]
    following = inner.emit("add", turn, inner.constant(1, "i64"))
    limit = inner.dims([trips]).reshape(())
    swap = {s.value: t for s, t in zip(slices, taken)}
    results = [swap.get(inner.value(r), r) for r in results]
    go_on = inner.emit("less", following, limit)
    go = b.emit("less", b.constant(0, "i64"), b.dims([trips]).reshape(()))
    out = hosted_loop(
        c,
        region,
        [*states, b.constant(0, "i64")],
        go.cast(BOOL),
        [go_on, *results[: len(states)], following, *results[len(states) :]],
        turns=trips,
    )
    del out[len(states)]
    return out


def _replace(graph, mapping: dict, results: list) -> None:
    """Let the nodes that read slices read what takes their place, which is moved to the front."""
    made = [v.node for v in mapping.values()]
    needed: list = []

    def add(node) -> None:
        if node is not None and node not in needed:
            for v in node.inputs:
                if v is not None:
                    add(v.node)
            needed.append(node)

    for node in made:
        add(node)
    for node in graph.nodes:
        if node not in needed:
            node.inputs = [mapping.get(v, v) for v in node.inputs]
    graph.nodes[:] = needed + [n for n in graph.nodes if n not in needed]
