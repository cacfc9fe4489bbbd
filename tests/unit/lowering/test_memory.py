"""The arena: what is alive at the same time never overlaps, and what is dead is used again."""

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.types import TensorType
from tessel.compiler.kernels.kernel import Call, For, HostCallback, If
from tessel.compiler.lowering.memory import ALIGNMENT, Place, Storage, places_of, plan_memory


def arena(nbytes: int) -> Storage:
    return Storage("arena", 0, nbytes)


def touch(*storages: Storage) -> Call:
    """A step that uses storages; what its kernel does is of no concern here."""
    return Call(None, tuple(Place(s) for s in storages))


@st.composite
def programs(draw):
    """Steps, some in loops and branches, over a few storages."""
    storages = [arena(n) for n in draw(st.lists(st.integers(1, 5000), min_size=1, max_size=10))]
    call = st.lists(st.sampled_from(storages), min_size=1, max_size=3).map(lambda s: touch(*s))
    some = st.lists(call, min_size=1, max_size=3)
    step = st.one_of(
        call,
        call,
        some.map(lambda body: For(0, 2, body)),
        st.tuples(st.sampled_from(storages), some, some).map(lambda t: If(Place(t[0]), t[1], t[2])),
    )
    return draw(st.lists(step, min_size=1, max_size=12))


def lives(steps) -> dict[Storage, tuple[int, int]]:
    """First and last top-level step that touches each storage."""
    found: dict[Storage, tuple[int, int]] = {}
    for time, step in enumerate(steps):
        for place in places_of(step):
            first, _ = found.get(place.storage, (time, time))
            found[place.storage] = (first, time)
    return found


@given(programs())
@settings(max_examples=200, deadline=None)
def test_what_is_alive_together_does_not_overlap(steps):
    life = lives(steps)
    _, size, _ = plan_memory(steps)
    for a in life:
        assert a.offset % ALIGNMENT == 0
        assert a.offset + a.nbytes <= size
    for a, b in combinations(life, 2):
        together = life[a][0] <= life[b][1] and life[b][0] <= life[a][1]
        apart = a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
        assert apart or not together


@given(programs())
@settings(max_examples=100, deadline=None)
def test_the_arena_is_no_larger_than_everything_and_no_smaller_than_what_is_alive(steps):
    life = lives(steps)
    _, size, _ = plan_memory(steps)
    rounded = {s: -(-s.nbytes // ALIGNMENT) * ALIGNMENT for s in life}
    assert size <= sum(rounded.values())
    for time in range(len(steps)):
        assert size >= sum(n for s, n in rounded.items() if life[s][0] <= time <= life[s][1])


def test_a_chain_needs_two_places():
    chain = [arena(1000) for _ in range(10)]
    steps = [touch(a, b) for a, b in pairwise(chain)]
    _, size, _ = plan_memory(steps)
    assert size == 2 * 1024


def test_small_values_fill_the_holes_between_large_ones():
    large, small, later = arena(4096), arena(64), arena(4096)
    _, size, _ = plan_memory([touch(large, small), touch(small, later)])
    assert size == 4096 + 64


def test_what_a_loop_touches_lives_through_all_of_it():
    inside, state = arena(640), arena(640)
    first, second = touch(inside), touch(state)
    _, size, _ = plan_memory([For(0, 3, [first, second])])
    assert size == 1280
    _, size, _ = plan_memory([first, second])
    assert size == 640


def test_a_condition_lives_through_its_branches():
    condition, a, b = arena(1), arena(640), arena(640)
    _, size, _ = plan_memory([If(Place(condition), [touch(a)], [touch(b)])])
    assert size == 1280 + 64


def test_other_memory_is_not_the_arenas():
    x, w, y = Storage("input", 0, 4000), Storage("weight", 2, 4000), Storage("output", 1, 4000)
    (call,), size, _ = plan_memory([touch(x, w, y)])
    assert size == 0
    assert [(r.slot.kind, r.slot.index) for r in call.refs] == [
        ("input", 0),
        ("weight", 2),
        ("output", 1),
    ]


def test_places_within_a_storage_move_with_their_loop():
    first, storage = arena(64), arena(4000)
    slices = Place(storage).moved(960, 3, -320)
    steps, _, _ = plan_memory([touch(first, storage), For(3, 4, [Call(None, (slices,))])])
    (ref,) = steps[1].body[0].refs
    assert ref.offset == storage.offset + 960
    assert ref.steps == ((3, -320),)


def test_absent_operands_of_an_extern_call_stay_absent():
    storage = arena(64)
    call = HostCallback("f", None, {}, (None, Place(storage)), (), (Place(storage),), ())
    (resolved,), _, _ = plan_memory([call])
    assert resolved.inputs[0] is None
    assert resolved.inputs[1] == resolved.outputs[0]


def test_values_without_bytes_have_a_place_of_their_own():
    a, b = Storage.of(None, "arena"), Storage.of(TensorType("f32", (0,)), "arena")
    plan_memory([touch(a, b)])
    assert a.offset != b.offset


def test_slots_are_shared_by_what_does_not_live_together():
    n = Sym.named("N")
    a, b, c, wide = (arena(size) for size in (4 * n, 4 * n, 4 * n, 16 * n))
    _, size, slots = plan_memory([touch(a, b), touch(b, wide), touch(wide, c)])
    assert size == 0 and slots == (16 * n, 4 * n)
    assert (a.index, b.index, wide.index, c.index) == (0, 1, 0, 1)
