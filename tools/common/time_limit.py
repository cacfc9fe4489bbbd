"""A limit in seconds for what may not end by itself: a loop whose exit depends on random values."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class OutOfTime(BaseException):
    """Raised from a signal handler; no Exception, so that nothing on the way takes it for a fault.
    Compiled loops let handlers run every now and then, as for Ctrl-C."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime where the body takes longer. Only the main thread has signals: elsewhere
    there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number, frame):
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
