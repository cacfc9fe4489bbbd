"""Recurrent layers of traced tensors: one region, which runs once for each time step."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..functions import movement
from ..functions.traced import TracedArray, cast, find, lift
from .core import scan


def rnn(
    step_function: Callable,
    inputs: Any,
    initial_states: Any,
    go_backwards: bool = False,
    mask: Any = None,
    constants: Any = None,
    unroll: bool = False,
    input_length: Any = None,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
) -> Any:
    """(last output, outputs, last states). Where `mask` is False a step keeps output and states."""
    from keras.src import tree

    like = find(inputs, initial_states, mask, constants)

    def swapped(x: Any) -> TracedArray:
        return movement.swapaxes(lift(like, x), 0, 1)

    xs = inputs if time_major else tree.map_structure(swapped, inputs)
    xs = tree.map_structure(lambda x: lift(like, x), xs)
    constants = [] if constants is None else list(constants)
    states = tree.map_structure(lambda s: lift(like, s), initial_states)
    if mask is not None:
        mask = cast(lift(like, mask), "bool")
        mask = mask if time_major else swapped(mask)
        mask = mask.reshape(mask.shape[:2])

    def step(x: Any, states: Any) -> Any:
        return step_function(x, (*states, *constants))

    first = tree.map_structure(lambda x: x[0], xs)
    before: Any = ()
    if mask is not None and not zero_output_for_mask:
        sample = step(first, states)[0]  # only its type is used
        before = tree.map_structure(lambda y: lift(like, np.zeros(y.shape, y.dtype)), sample)

    def body(carry: Any, x: Any) -> Any:
        (previous, states), (x, here) = carry, x
        y, new = step(x, states)
        new = tree.pack_sequence_as(states, tree.flatten(new))  # a list where they were a tuple
        new = tree.map_structure(lambda s, n: cast(lift(like, n), s.dtype), states, new)
        if here is None:
            return (previous, new), y
        new = tree.map_structure(lambda s, n: _chosen(here, n, s), states, new)
        if zero_output_for_mask:
            y = tree.map_structure(lambda v: _chosen(here, v, np.zeros(v.shape, v.dtype)), y)
            return (previous, new), y
        y = tree.map_structure(lambda v, p: _chosen(here, v, p), y, previous)
        return (y, new), y

    states = tuple(states) if isinstance(states, list) else states
    carry = (before, states)
    if mask is None:
        (_, last_states), ys = scan(
            lambda c, x: body(c, (x, None)), carry, xs, reverse=go_backwards
        )
    else:
        (_, last_states), ys = scan(body, carry, (xs, mask), reverse=go_backwards)
    # Outputs stand in the order in which they were computed.
    ys = tree.map_structure(lambda y: movement.flip(y, 0), ys) if go_backwards else ys
    last = tree.map_structure(lambda y: y[-1], ys)
    if not return_all_outputs:
        ys = tree.map_structure(lambda y: y[-1:], ys)
    outputs = ys if time_major else tree.map_structure(lambda y: movement.swapaxes(y, 0, 1), ys)
    return last, outputs, last_states


def _chosen(here: TracedArray, new: Any, old: Any) -> TracedArray:
    return movement.where(here.reshape((-1, *(1,) * (new.ndim - 1))), new, old)


FUNCTIONS: dict[str, Callable] = {"rnn": rnn}
