"""Cut a graph where sizes become known that only data decides (`ops/control/bind_dims.py`).

    %p, %n = …x…                                  stage 0:  x -> p, n
    %b = bind_dims(%n) {symbols=[_n0]}            _n0 is read from n
    %q = slice(%p) {…, sizes=[_n0]}         =>    stage 1:  q = p[:_n0], x -> y
    %y = gather(%x, %q)

A node belongs to the first stage in which its operands exist and the symbols of its attributes and
types are known. Every stage is a graph like any other, whose inputs are what it needs of the
model's inputs and of earlier stages; constants are repeated in each stage that reads them.

What the host runs (`host_if`, `host_loop`, `host_image`) stands between stages: those have even
levels here, and such nodes the odd ones.
"""

from dataclasses import field

from ..classes import dataclass
from ..errors import GraphError
from ..ir import dims
from ..ir.graph import Graph, Node, Value
from ..ir.hosted import HOSTED, free_symbols, node_symbols, own_symbols
from ..ir.types import BOOL, TensorType
from .checks import KEY


@dataclass(frozen=True)
class Kept:
    """A stage's input: a value of the whole graph; only its first `size` rows, if that is given."""

    value: Value
    size: dims.Sym | None = None


@dataclass(frozen=True)
class Size:
    """A stage's input without bytes, `bool[0,_n0]`: its shape tells the stage what `_n0` is."""

    symbol: str


@dataclass(frozen=True)
class Bound:
    """The elements of a stage's output number `output` are the sizes of `symbols`."""

    output: int
    symbols: tuple
    where: str


@dataclass(eq=False)
class Stage:
    """A graph whose sizes are known when it starts.

    `sources` says where its inputs come from, `results` which values of the whole graph its
    outputs are.
    """

    graph: Graph
    sources: list[Kept | Size] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)
    bound: list[Bound] = field(default_factory=list)


@dataclass(eq=False)
class HostStage:
    """A node that the host runs, and its graphs, if it has any, each an executable of its own.

    `sources` are the node's operands and, for the graphs, the sizes that these do not tell.
    """

    node: Node
    graphs: list[Graph]
    sources: list[Kept | Size]

    @property
    def results(self) -> list[Value]:
        return list(self.node.outputs)


def known_sizes(graph: Graph) -> dict:
    """Sizes that follow from shapes alone, by symbol: numbers, or dims of the inputs."""
    found: dict = {}
    for node in graph.nodes:
        if node.op.name != "bind_dims":
            continue
        source = node.inputs[0]
        values = source.constant
        if values is not None:
            values = values.tolist()
        elif source.node is not None and source.node.op.name == "dims":
            values = source.node.attrs["values"]
        open_ = [] if values is None else zip(node.attrs["symbols"], values)
        found |= {str(d): size for d, size in open_ if isinstance(d, dims.Sym) and d != size}
    return found


def split_stages(graph: Graph) -> list[Stage | HostStage]:
    """The stages of a graph in order. Raises GraphError where a size is used but never bound."""
    return _Splitter(graph).stages()


class _Splitter:
    """Which stage each node belongs to. `free` nodes read nothing and are repeated wherever they
    are read; `cuts` take the first rows of what an earlier stage made, which is no work."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.binders = {name: node for node in graph.nodes for name in own_symbols(node)}
        self.needed = self._needed()
        self.level: dict[Node, int] = {}
        self.free: set[Node] = set()
        self.cuts: set[Node] = set()
        for node in graph.nodes:
            if node in self.needed:
                self.level[node] = self._level(node)
                if all(v is not None and v.node in self.free for v in node.inputs):
                    if node.op.pure and not any(node.regions()):
                        self.free.add(node)
                elif self._is_cut(node):
                    self.cuts.add(node)

    def _needed(self) -> set[Node]:
        """What outputs follow from, by operands or by sizes."""
        found: set[Node] = set()
        stack = [v.node for v in self.graph.outputs]
        while stack:
            node = stack.pop()
            if node is None or node in found:
                continue
            found.add(node)
            stack += [v.node for v in node.inputs if v is not None]
            stack += [self.binders[s] for s in node_symbols(node) if s in self.binders]
        return found

    def _level(self, node: Node) -> int:
        """The first stage that can run a node."""
        hosted = node.op.name in HOSTED
        level = int(hosted)
        for v in node.inputs:
            if v is not None:
                level = max(level, _after(self.home(v), hosted))
        for name in node_symbols(node):
            binder = self.binders.get(name)
            if binder is None or binder is node:
                continue
            if binder not in self.level:
                raise GraphError(
                    f"the size {name} is used before it is bound",
                    where=node.where,
                    expected=f"after {binder.where}",
                )
            # What a stage makes is there within it; a size only when it has run.
            home = self.level[binder] + (binder.op.name == "bind_dims")
            level = max(level, _after(home, hosted))
        return level

    def _is_cut(self, node: Node) -> bool:
        if node.op.name != "slice":
            return False
        a, x = node.attrs, node.inputs[0]
        first = (a["axes"], a["starts"], a["steps"]) == ((0,), (0,), (1,))
        return (
            first
            and isinstance(a["sizes"][0], dims.Sym)
            and self.home(x) < self.level[node]
            and x.node not in self.free
            and x.node not in self.cuts
        )

    def home(self, value: Value) -> int:
        """The first stage that has a value."""
        return 0 if value.node is None else self.level[value.node]

    def stages(self) -> list[Stage | HostStage]:
        outputs = [v for v in self.graph.outputs if v.node is not None]
        work = set(self.level) - self.free - self.cuts
        levels = {self.level[n] for n in work} | {self.home(v) for v in outputs}
        wanted: dict[int, dict[Value, None]] = {level: {} for level in levels}
        for v in outputs:
            wanted[self.home(v)][v] = None
        stages: list[Stage | HostStage] = []
        while wanted:
            level = max(wanted)
            values = list(wanted.pop(level))
            made = self._hosted(level) if level % 2 else [_Maker(self, level, values).stage()]
            for source in [s for stage in made for s in stage.sources]:
                if isinstance(source, Kept) and source.value.node is not None:
                    home = self.home(source.value)
                    if home != level:
                        wanted.setdefault(home, {})[source.value] = None
            stages += made[::-1]
        return stages[::-1]

    def _hosted(self, level: int) -> list[HostStage]:
        """The nodes of a level that the host runs, one after the other."""
        nodes = [n for n in self.graph.nodes if self.level.get(n) == level]
        return [self._host_stage(n) for n in nodes if n not in self.cuts and n not in self.free]

    def _host_stage(self, node: Node) -> HostStage:
        graphs = [region.copy() for _, region in node.regions()]
        sizes = sorted({name for graph in graphs for name in free_symbols(graph)})
        for graph in graphs:
            graph.inputs += [size_input(name) for name in sizes]
            graph.metadata |= {k: v for k, v in self.graph.metadata.items() if k == KEY}
        sources = [self.source(v) for v in node.inputs]
        return HostStage(node, graphs, [*sources, *map(Size, sizes)])

    def source(self, v: Value) -> Kept:
        """Where a stage finds a value that it does not make."""
        cut = v.node in self.cuts
        return Kept(v.node.inputs[0], v.node.attrs["sizes"][0]) if cut else Kept(v)


def _after(home: int, hosted: bool) -> int:
    """The first level of a node that reads what level `home` makes."""
    return home if home % 2 == hosted else home + 1


def size_input(name: str) -> Value:
    """An input without bytes whose shape tells a size."""
    return Value(f"size {name}", TensorType(BOOL, (0, dims.Sym.named(name))))


class _Maker:
    """Makes one stage: walks back from its results to what earlier stages made."""

    def __init__(self, splitter: _Splitter, level: int, results: list[Value]):
        self.splitter, self.level, self.results = splitter, level, results
        self.result = Stage(Graph(f"{splitter.graph.name}_{level}"))
        if KEY in splitter.graph.metadata:
            self.result.graph.metadata[KEY] = splitter.graph.metadata[KEY]
        self.env: dict[Value, Value] = {}

    def stage(self) -> Stage:
        stage, nodes = self.result, self.splitter.graph.nodes
        binders = [
            n
            for n in nodes
            if n.op.name == "bind_dims" and self.splitter.level.get(n) == self.level
        ]
        mine = self._mine([*self.results, *(n.inputs[0] for n in binders)])
        for node in nodes:
            if node in mine:
                self._copy(node)
        for v in self.results:
            self._output(v)
        for node in binders:
            at = self._output(node.inputs[0])
            stage.bound.append(Bound(at, node.attrs["symbols"], node.where))
        self._tell_sizes()
        return stage

    def _mine(self, heads: list[Value]) -> set[Node]:
        found: set[Node] = set()
        stack = list(heads)
        while stack:
            node = stack.pop().node
            if node is not None and node not in found and self._runs_here(node):
                found.add(node)
                stack += [x for x in node.inputs if x is not None]
        return found

    def _runs_here(self, node: Node) -> bool:
        if node in self.splitter.free:
            return True
        return self.splitter.level[node] == self.level and node not in self.splitter.cuts

    def _value(self, v: Value) -> Value:
        """The stage's own value for one of the whole graph; an input if it is made elsewhere."""
        if v not in self.env:
            self.env[v] = Value(v.name, v.type)
            self.result.sources.append(self.splitter.source(v))
            self.result.graph.inputs.append(self.env[v])
        return self.env[v]

    def _copy(self, node: Node) -> None:
        operands = [None if v is None else self._value(v) for v in node.inputs]
        if node.op.name == "bind_dims":
            self.env[node.output] = operands[0]
            return
        new = node.copied(operands)
        self.env |= zip(node.outputs, new.outputs)
        self.result.graph.nodes.append(new)

    def _output(self, v: Value) -> int:
        stage = self.result
        if v not in stage.results:
            stage.results.append(v)
            stage.graph.outputs.append(self._value(v))
            stage.graph.output_names.append(v.name)
        return stage.results.index(v)

    def _tell_sizes(self) -> None:
        """Inputs for the symbols that no other input's shape tells."""
        graph = self.result.graph
        for name in sorted(free_symbols(graph)):
            self.result.sources.append(Size(name))
            graph.inputs.append(size_input(name))
