"""Loops that go on for as long as a bool in memory says so.

    head:   t = phi(0, t + 1);  flag = load condition;  if flag and t < trips: body, else done
    body:   …, barrier, head

Every thread reads the flag between two barriers: of the body's end, which follows the write of
it, and the one before the next turn overwrites it.
"""

import llvmlite.ir as ir

from ..base.types import I8, I64, i64


def emit_while(main, step) -> None:
    """Write a `For` with a condition into the entry that `main` (a `program.Main`) writes."""
    b = main.b
    main._synchronise()
    before = b.block
    head, body, done = [main.f.append_basic_block(f"while{x}") for x in ("", ".body", ".done")]
    b.branch(head)
    b.position_at_end(head)
    t = b.phi(I64, "t")
    t.add_incoming(i64(0), before)
    main.polling.head()
    flag = b.load(main._address(step.condition), typ=I8)
    goes = b.icmp_unsigned("!=", flag, ir.Constant(I8, 0))
    b.cbranch(b.and_(goes, b.icmp_signed("<", t, main.size(step.trips))), body, done)
    # Nobody may overwrite the condition before every thread has read it.
    was_read = (True, [main.region(step.condition, 1)], [], None)
    b.position_at_end(body)
    main.loops[step.id] = t
    main.pending = [was_read]
    main.polling.body()
    main._steps(step.body)
    main._synchronise()
    t.add_incoming(b.add(t, i64(1)), b.block)
    b.branch(head)
    del main.loops[step.id]
    b.position_at_end(done)
    main.pending = [was_read]
