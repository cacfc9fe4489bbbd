"""Graph -> Program: kernels in order over planned memory.

    lower(graph) -> Program      every shape of the graph is static

Each value that needs memory (`fuse.py`) becomes one kernel whose expression is pulled from the
graph (`inlining.py`). Reshapes of memory are aliases. `if`, `scan` and `while` become `If` and
`For` steps over the same memory; a scan's slices are places that move with the loop.
"""

from collections.abc import Sequence

from ..analysis.run_checks import WORD, Check, words
from ..errors import UnsupportedError, told
from ..expr.blocks import blocked_stores
from ..expr.expr import Buffer
from ..ir.bounds import DynamicSize, assume_above, assuming, sizes_of
from ..ir.graph import Graph, Node, Value
from ..ir.host_callbacks import host_callback_of, is_text
from ..ir.op import Alias, Control, Kernels
from ..ir.types import STR, TensorType
from ..kernels.assumptions import Assumptions
from ..kernels.bounds import require_equal, require_inside, require_rows, require_same
from ..kernels.kernel import ENDLESS, Call, For, HostCallback, If, Kernel, Program, Store
from ..kernels.simplify import merge_axes, split_axes
from .checks import check_kernel, check_of, is_checked
from .copies import copy_steps, keep_old_values, zero_steps
from .expand import expand_composites
from .fuse import Fusion, plan_fusion
from .gates import join_products
from .inlining import Inliner
from .kinds import Kinds
from .memory import Place, Storage, plan_memory
from .names import kernel_name
from .reading import Border, Kind
from .turns import Carried, scanned
from .writer import KernelWriter, emit_border


def lower(
    graph: Graph, *, dynamic_shapes: bool = False, chains: bool = False, joins: bool = False
) -> Program:
    """The program of a graph. `chains`: products of products may be one kernel (`chains.py`);
    `joins`: so may be a product and what several kernels make of it (`gates.py`), for backends that
    have schedules for those.

    With `dynamic_shapes`, symbolic dims become sizes that the program is given when it runs: raises
    DynamicSize where an op cannot be said without them. Else raises UnsupportedError for them.
    """
    for v in graph.values():
        if not isinstance(v.type, TensorType) or v.type.is_static:
            continue
        if dynamic_shapes and v.type.dtype == STR:
            raise DynamicSize(f"host callbacks for strings need static shapes: {v.name}")
        if not dynamic_shapes:
            raise UnsupportedError(
                "a shape is not known", where=f"%{v.name}", received=v.type,
                fix="give the sizes of the symbolic dims (--shapes)",
            )  # fmt: skip
    with assuming() as noted:
        program = _lower(graph, chains, joins)
    program.conditions, program.equations = tuple(noted.above), tuple(noted.equal)
    return program


def _lower(graph: Graph, chains: bool, joins: bool) -> Program:
    kinds = Kinds()
    graph = expand_composites(graph, kinds)
    for d in {d for v in graph.values() if isinstance(v.type, TensorType) for d in v.shape}:
        assume_above(d, 0)
    lowering = _Lowering(kinds, chains)
    inputs = [Place(Storage.of(v.type, "input", i)) for i, v in enumerate(graph.inputs)]
    outputs = [Place(Storage.of(v.type, "output", i)) for i, v in enumerate(graph.outputs)]
    steps = lowering.graph(graph, inputs, outputs, graph.updates)
    types = [v.type for v in graph.outputs]
    steps = keep_old_values(steps, inputs, outputs, types, graph.updates)
    if joins:
        steps = join_products(steps)
    steps, arena, slots = plan_memory(steps)
    return Program(
        steps=steps,
        inputs=[v.type for v in graph.inputs],
        outputs=[v.type for v in graph.outputs],
        weights=lowering.weights,
        arena=arena,
        fusions=lowering.fusions,
        slots=slots,
        checks=tuple(lowering.checks),
    )


class _Lowering:
    """Weights and kernels of one program; `graph` is called again for each region."""

    def __init__(self, kinds: Kinds, chains: bool):
        self.kinds, self.chains = kinds, chains
        self.weights: list = []
        self.fusions: list[Fusion] = []
        self.known = Assumptions()
        self.checks: list[Check] = []
        self.record = Storage("record", 0, 0)
        self._weight_slots: dict[int, tuple] = {}
        self._loops = 0
        self._groups = 0

    def graph(
        self, graph: Graph, inputs: Sequence[Place], outputs: Sequence[Place], updates=None
    ) -> list:
        """Steps that compute `outputs` from `inputs`."""
        return _Scope(self, graph, inputs, outputs, updates or {}).steps

    def weight(self, array) -> Place:
        found = self._weight_slots.get(id(array))
        if found is None:
            place = Place(Storage("weight", len(self.weights), max(1, array.nbytes)))
            self.weights.append(array)
            found = self._weight_slots[id(array)] = (array, place)
        return found[1]

    def group(self) -> int:
        self._groups += 1
        return self._groups

    def loop_id(self) -> int:
        self._loops += 1
        return self._loops - 1


class _Scope:
    """The lowering of one graph (the model, or a region)."""

    def __init__(self, parent: _Lowering, graph: Graph, inputs, outputs, updates):
        self.parent, self.current = parent, graph
        self.places: dict[Value, Place] = dict(zip(graph.inputs, inputs))
        self.steps: list = []
        self.order = {node: i for i, node in enumerate(graph.nodes)}
        self.fusion = plan_fusion(graph, parent.kinds, parent.chains)
        parent.fusions.append(self.fusion)
        late = self._assign_outputs(graph, outputs, updates)
        for wanted in (False, True):
            for node in graph.nodes:
                if (node in late) == wanted:
                    with sizes_of(node), told(f"{node.op.name} at {node.where}"):
                        self._node(node)
        for value, place in zip(graph.outputs, outputs):
            if self._place(value) != place:
                self.steps += copy_steps(self._place(value), place, value.type)

    def _assign_outputs(self, graph, outputs, updates) -> set[Node]:
        """Let producers write into the outputs directly; returns the nodes that must run last.

        An output that takes over an input's memory is stored after everything else has read it
        (`copies.py` sees to what has to read it later still).
        """
        late = set()
        self.preset: dict[Value, Place] = {}
        for i, (value, place) in enumerate(zip(graph.outputs, outputs)):
            source = self._alias_source(value)
            if source.node is None or source.constant is not None or source in self.preset:
                continue
            self.preset[source] = place
            if i in updates:
                late.add(source.node)
        for node in graph.nodes:
            if any(v is not None and v.node in late for v in node.inputs):
                late.add(node)
        return late

    def _alias_source(self, value: Value) -> Value:
        while value.node is not None and self.parent.kinds[value.node] == Kind.ALIAS:
            source = value.node.inputs[0]
            if source in self.fusion.inlined:
                break
            value = source
        return value

    def _place(self, value: Value) -> Place:
        """Where a value lives; constants become weights on first use."""
        if value not in self.places:
            constant = value.constant
            assert constant is not None, f"{value} has no memory yet"
            self.places[value] = self.parent.weight(constant)
        return self.places[value]

    def _new(self, value: Value) -> Place:
        place = self.preset.get(value)
        if place is None:
            place = Place(Storage.of(value.type, "arena"))
        self.places[value] = place
        return place

    # -- nodes ----------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        if is_checked(node):
            self._check(node)
        if node.op.name == "constant" or all(v in self.fusion.inlined for v in node.outputs):
            return
        python = host_callback_of(node)
        if python is not None:
            self._host_callback(node, python.kernel)
            return
        match node.op.loops:
            case Kernels(emit=emit):
                self._kernels(node, emit)
            case Control(kind="if" | "host_if"):
                self._if(node)
            case Control(kind="scan"):
                self._scan(node)
            case Control(kind="while" | "host_loop"):
                self._while(node)
            case Alias() if node.inputs[0] not in self.fusion.inlined:
                require_equal(node, node.inputs[0].type.size, node.outputs[0].type.size)
                self.places[node.outputs[0]] = self._place(node.inputs[0])
            case _ if border := self.parent.kinds.border(node):
                self._border(node, border)
            case _:
                for value in node.outputs:
                    if value not in self.fusion.inlined:
                        self._kernel(value)

    def _inliner(self) -> tuple[Inliner, dict]:
        """An Inliner over everything that has memory; buffers are made as they are read."""
        scope, buffers = self, {}

        class Lazy(dict):
            def __contains__(self, value):
                if value in buffers:
                    return True
                return value in scope.places or (
                    value.constant is not None and value not in scope.fusion.inlined
                )

            def __getitem__(self, value):
                if value not in buffers:
                    buffers[value] = Buffer(value.name, value.type)
                return buffers[value]

        return Inliner(Lazy()), buffers

    def _kernel(self, value: Value) -> None:
        """One kernel that computes a value at every index of its shape."""
        inliner, buffers = self._inliner()
        out = Buffer(value.name, value.type)
        inliner.visited[value.node] = None

        def make(*index):
            return index, inliner._inline(value, index)

        axes, made = blocked_stores(value.shape, make)
        stores = tuple(Store(out, index, e, inside) for (index, e), inside in made)
        name = kernel_name(inliner.visited, self.order, self.parent.kinds)
        kernel = Kernel(name, axes, stores, origins=inliner.origins)
        self._call(kernel, buffers, {out: self._new(value)})

    def _kernels(self, node: Node, emit) -> None:
        inliner, buffers = self._inliner()
        inliner.visited[node] = None
        stores = KernelWriter([Buffer(v.name, v.type) for v in node.outputs], inliner.recent)
        operands = [inliner.operand(v) for v in node.inputs]
        operands += [None] * (sum(not i.variadic for i in node.op.inputs) - len(operands))
        types = tuple(v.type for v in node.outputs)
        emit(stores, types[0] if len(types) == 1 else types, *operands, **node.attrs)
        self._write(node, stores, inliner, buffers)

    def _border(self, node: Node, border: Border) -> None:
        """What is inside of a constant border, and the border in strips."""
        inliner, buffers = self._inliner()
        inliner.visited[node] = None
        stores = KernelWriter([Buffer(v.name, v.type) for v in node.outputs], inliner.recent)
        inner, fill = border.read(node, inliner)
        emit_border(stores, inner, border.low, fill)
        self._write(node, stores, inliner, buffers)

    def _write(self, node: Node, stores: KernelWriter, inliner: Inliner, buffers: dict) -> None:
        places = {b: self._new(v) for b, v in zip(stores.outs, node.outputs)}
        group = self.parent.group() if self.parent.kinds.stores_whole(node) else None
        places |= {b: Place(Storage.of(b.type, "arena")) for b in stores.temporaries}
        origins = inliner.origins
        for axes, pieces, serial, apart, nodes in stores.kernels:
            if all(a.extent for a in axes):
                name = kernel_name((node, *nodes), self.order, self.parent.kinds, node)
                kernel = Kernel(name, axes, pieces, serial, origins, apart=apart)
                self._call(kernel, buffers, places, group)

    def _call(self, kernel: Kernel, buffers: dict, outs: dict, group: int | None = None) -> None:
        if any(0 in st.buffer.shape for st in kernel.stores):
            return  # nothing can be stored where there is nothing
        require_inside(kernel, buffers, self.parent.known)
        kernel = merge_axes(split_axes(kernel))
        if any(a.extent == 0 for a in kernel.axes):
            return
        where = {b: self._place(v) for v, b in buffers.items()} | outs
        self.steps.append(Call(kernel, tuple(where[b] for b in kernel.sources), group))

    def _check(self, node: Node) -> None:
        """A kernel that notes what must not be; operands are pulled like any other's."""
        inliner, buffers = self._inliner()
        check = check_of(node, words(self.parent.checks))
        kernel, record = check_kernel(node, check, [inliner.operand(v) for v in node.inputs])
        self.parent.checks.append(check)
        self._call(kernel, buffers, {record: Place(self.parent.record, check.first * WORD)})

    def _host_callback(self, node: Node, function) -> None:
        _refuse_dynamic(node)
        inputs = tuple(None if v is None else self._place(v) for v in node.inputs)
        outputs = tuple(self._new(v) for v in node.outputs)
        for v, place in zip((*node.inputs, *node.outputs), (*inputs, *outputs)):
            if place is not None and place.steps and is_text(v.type):
                raise UnsupportedError(
                    "a loop cannot split or join strings, iteration by iteration",
                    where=node.where, received=v.type,
                )  # fmt: skip
        self.steps.append(
            HostCallback(
                node.op.name,
                function,
                node.attrs,
                inputs,
                tuple(None if v is None else v.type for v in node.inputs),
                outputs,
                tuple(v.type for v in node.outputs),
                node.where,
            )
        )

    # -- control flow ---------------------------------------------------------------------

    def _if(self, node: Node) -> None:
        condition, *captured = [self._place(v) for v in node.inputs]
        for graph in (node.attrs["then_graph"], node.attrs["else_graph"]):
            require_same(node, graph.inputs, node.inputs[1:])
            require_same(node, graph.outputs, node.outputs)
        outs = [self._new(v) for v in node.outputs]
        branches = [
            self.parent.graph(node.attrs[k], captured, outs) for k in ("then_graph", "else_graph")
        ]
        self.steps.append(If(condition, *branches))

    def _scan(self, node: Node) -> None:
        body, n, m = node.attrs["body"], node.attrs["states"], node.attrs["scans"]
        reverse = node.attrs["reverse"]
        operands = [self._place(v) for v in node.inputs]
        trips = node.inputs[n].shape[0]
        require_same(node, body.inputs[:n] + body.outputs[:n], node.inputs[:n] + node.outputs[:n])
        require_same(node, body.inputs[n + m :], node.inputs[n + m :])
        require_rows(node, body.inputs[n : n + m], node.inputs[n : n + m], trips)
        require_rows(node, body.outputs[n:], node.outputs[n:], trips)
        loop = self.parent.loop_id()

        def slice_of(place: Place, type: TensorType) -> Place:
            step = type.nbytes
            start = (trips - 1) * step if reverse else 0
            return place.moved(start, loop, -step if reverse else step)

        carried = []
        for value, result, source in zip(node.inputs[:n], node.outputs, body.inputs):
            place = self._new(result)  # the final state's memory carries the state
            spare = Place(Storage.of(source.type, "arena"))
            carried.append(Carried(self._place(value), place, spare, source.type))
        slices = [slice_of(p, v.type) for p, v in zip(operands[n : n + m], body.inputs[n : n + m])]
        stacked = [
            slice_of(self._new(o), v.type) for o, v in zip(node.outputs[n:], body.outputs[n:])
        ]
        given = [c.place for c in carried] + slices + operands[n + m :]
        made = [c.next for c in carried] + stacked
        steps = [] if trips == 0 else self.parent.graph(body, given, made)
        self.steps += scanned(loop, trips, steps, carried)

    def _while(self, node: Node) -> None:
        """The condition and the states live in one place each; a turn computes the next ones
        elsewhere, and copies them when nobody needs the old ones any more."""
        body, n, trips = node.attrs["body"], node.attrs["states"], node.attrs.get("trips", ())
        require_same(node, body.inputs, node.inputs[1:])
        require_same(node, body.outputs[: 1 + n], node.inputs[: 1 + n])
        require_same(node, node.outputs[:n], node.inputs[1 : 1 + n])
        require_rows(node, body.outputs[1 + n :], node.outputs[n:], *trips)
        loop = self.parent.loop_id()
        go = Place(Storage.of(node.inputs[0].type, "arena"))
        carried = [(go, node.inputs[0].type)]
        carried += [(self._new(v), v.type) for v in node.outputs[:n]]
        for value, (place, type) in zip(node.inputs, carried):
            self.steps += copy_steps(self._place(value), place, type)
        stacked = []
        for value, row in zip(node.outputs[n:], body.outputs[1 + n :]):
            whole = self._new(value)
            self.steps += zero_steps(whole, value.type)
            stacked.append(whole.moved(0, loop, row.type.nbytes))
        nexts = [Place(Storage.of(t, "arena")) for _, t in carried]
        captured = [self._place(v) for v in node.inputs[1 + n :]]
        steps = self.parent.graph(body, [p for p, _ in carried[1:]] + captured, nexts + stacked)
        for source, (place, t) in zip(nexts, carried):
            steps += copy_steps(source, place, t)
        self.steps.append(For(loop, trips[0] if trips else ENDLESS, steps, go))


def _refuse_dynamic(node: Node) -> None:
    """Raise DynamicSize for a node of which sizes must be known."""
    for v in (*node.inputs, *node.outputs):
        if v is not None and isinstance(v.type, TensorType) and not v.type.is_static:
            raise DynamicSize("it is a host callback, which needs static shapes", node)
