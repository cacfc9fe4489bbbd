"""What the pool's code and whoever runs it agree on: the state in memory, and the machine.

Apart from the code generator, so that running a package does not import it.
"""

from ....classes import dataclass

BARRIER_SYMBOL = "tessel_barrier"

# Two cache lines: the prefetcher of adjacent lines pairs them.
LINE = 128
MAX_THREADS = 512
ROUND_NS = 10_000  # how long a thread waits awake before it offers its core

# Layout of the state, in bytes.
LOCK, STARTED, ACTIVE = 0, 8, 16
ENTRY_AT, ARGS_AT, NTHREADS_AT, FPMODE_AT = LINE, LINE + 8, LINE + 16, LINE + 24
CORES = LINE + 32
PENDING_WORD, BARRIER_WORD, MAILBOXES = 2 * LINE, 3 * LINE, 4 * LINE
STATE_BYTES = MAILBOXES + MAX_THREADS * LINE
BARRIER_ROUNDS, BARRIER_STOP = 16, 24  # in the barrier's word, after value and sleepers
MAIL_POOL, MAIL_TID = 16, 24  # in a mailbox, likewise


@dataclass(frozen=True)
class PoolHost:
    """What the pool must know of the machine it runs on.

    triple          LLVM triple of the process
    futex           number of the Linux futex system call; None takes mutex and condition variable
    set_mask        SIG_SETMASK
    fatal_signals   signals that a thread raises itself: workers leave these unblocked, and block
                    all others so that Python's handlers stay with the threads of Python
    """

    triple: str
    futex: int | None
    set_mask: int
    fatal_signals: tuple[int, ...]

    @property
    def arch(self) -> str:
        return self.triple.split("-")[0]
