"""While something compiles, Python searches less often for cycles of garbage; not afterwards."""

import contextlib
import gc

import pytest
from tessel.compiler.system.garbage import EVERY, seldom_collected


@pytest.fixture
def usual():
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_the_threshold_is_higher_inside_of_the_outermost_block(usual):
    with seldom_collected:
        with contextlib.suppress(KeyError), seldom_collected:
            raise KeyError
        assert gc.get_threshold() == (EVERY, 10, 10)
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("own", [(0, 10, 10), (EVERY + 1, 5, 5)])
def test_who_searches_as_seldom_or_never_keeps_that(usual, own):
    gc.set_threshold(*own)
    with seldom_collected:
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


def test_what_is_set_meanwhile_stays(usual):
    with seldom_collected:
        gc.set_threshold(900, 10, 10)
    assert gc.get_threshold() == (900, 10, 10)
