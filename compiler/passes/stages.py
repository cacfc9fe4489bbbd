"""Cut a graph where sizes become known that only data decides (`compiler/ops/sizes.py`).

    %p, %n = …x…                                  stage 0:  x -> p, n
    %b = bind_dims(%n) {symbols=[_n0]}            _n0 is read from n
    %q = slice(%p) {…, sizes=[_n0]}         =>    stage 1:  q = p[:_n0], x -> y
    %y = gather(%x, %q)

A node belongs to the first stage in which its operands exist and the symbols of its attributes and
types are known. Every stage is a graph like any other, whose inputs are what it needs of the
model's inputs and of earlier stages; constants are repeated in each stage that reads them.
"""

from dataclasses import dataclass, field

from .. import dims
from ..errors import GraphError
from ..ir import Graph, Node, Value
from ..types import BOOL, TensorType
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


def has_stages(graph: Graph) -> bool:
    """Whether a size of the graph is known only while it runs."""
    return any(n.op.name == "bind_dims" for n in graph.nodes)


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


def split_stages(graph: Graph) -> list[Stage]:
    """The stages of a graph in order. Raises GraphError where a size is used but never bound."""
    return _Splitter(graph).stages()


class _Splitter:
    """Which stage each node belongs to. `free` nodes read nothing and are repeated wherever they
    are read; `cuts` take the first rows of what an earlier stage made, which is no work."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.binders = {
            name: node
            for node in graph.nodes
            if node.op.name == "bind_dims"
            for d in node.attrs["symbols"]
            for name in dims.symbols(d)
        }
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
        level = max((self.home(v) for v in node.inputs if v is not None), default=0)
        for name in node_symbols(node):
            binder = self.binders.get(name)
            if binder is None or binder is node:
                continue
            if binder not in self.level:
                raise GraphError(
                    f"the size {name} is used before it is bound", where=node.where,
                    expected=f"after {binder.where}",
                )  # fmt: skip
            level = max(level, self.level[binder] + 1)
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

    def stages(self) -> list[Stage]:
        outputs = [v for v in self.graph.outputs if v.node is not None]
        work = set(self.level) - self.free - self.cuts
        levels = {self.level[n] for n in work} | {self.home(v) for v in outputs}
        wanted: dict[int, dict[Value, None]] = {level: {} for level in levels}
        for v in outputs:
            wanted[self.home(v)][v] = None
        stages = []
        for level in sorted(levels, reverse=True):
            stage = _Maker(self, level, list(wanted[level])).stage()
            for source in stage.sources:
                if isinstance(source, Kept) and source.value.node is not None:
                    wanted[self.home(source.value)][source.value] = None
            stages.append(stage)
        return stages[::-1]


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
            n for n in nodes
            if n.op.name == "bind_dims" and self.splitter.level.get(n) == self.level
        ]  # fmt: skip
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
            cut = v.node in self.splitter.cuts
            source = Kept(v.node.inputs[0], v.node.attrs["sizes"][0]) if cut else Kept(v)
            self.env[v] = Value(v.name, v.type)
            self.result.sources.append(source)
            self.result.graph.inputs.append(self.env[v])
        return self.env[v]

    def _copy(self, node: Node) -> None:
        operands = [None if v is None else self._value(v) for v in node.inputs]
        if node.op.name == "bind_dims":
            self.env[node.output] = operands[0]
            return
        types, names = [v.type for v in node.outputs], [v.name for v in node.outputs]
        new = Node(node.op, operands, node.attrs, types, names, node.origin)
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
        shapes = [v.type.shape for v in graph.inputs if isinstance(v.type, TensorType)]
        told = {str(d) for shape in shapes for d in shape if str(d) in dims.symbols(d)}
        used = {s for shape in shapes for d in shape for s in dims.symbols(d)}
        used |= {s for node in graph.nodes for s in node_symbols(node)}
        for name in sorted(used - told):
            type = TensorType(BOOL, (0, dims.Sym.named(name)))
            self.result.sources.append(Size(name))
            graph.inputs.append(Value(f"size {name}", type))


def node_symbols(node: Node) -> set[str]:
    """The symbols in a node's attributes and types, also in its regions."""
    found: set[str] = set()

    def visit(value):
        match value:
            case dims.Sym():
                found.update(value.symbols())
            case tuple() | list():
                for v in value:
                    visit(v)
            case Graph():
                for v in value.inputs:
                    visit_type(v.type)
                for n in value.nodes:
                    found.update(node_symbols(n))

    def visit_type(type):
        if isinstance(type, TensorType):
            visit(type.shape)

    for value in node.attrs.values():
        visit(value)
    for v in node.outputs:
        visit_type(v.type)
    return found
