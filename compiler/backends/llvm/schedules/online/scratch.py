"""Scratch memory of a block: its regions are `Blocks.regions`."""

import llvmlite.ir as ir

from ...base.types import constant, i64, register_type, vector
from ...emit.emitter import Emitter
from .form import Blocks


class Scratch:
    """Loads and stores vectors; places count elements from where a region begins."""

    def __init__(self, e: Emitter, plan: Blocks, start: ir.Value):
        self.e, self.plan, self.start = e, plan, start
        self.dtype = plan.online.reduce.dtype
        self.type = register_type(self.dtype)
        self.vector = vector(self.type, plan.lanes)
        self.low = constant(-float("inf"), self.dtype, plan.lanes)
        self.zero = constant(0.0, self.dtype, plan.lanes)

    def at(self, region: str, place: ir.Value | None = None) -> ir.Value:
        offset = self.e.plus(i64(0) if place is None else place, self.plan.start_of(region))
        return self.e.b.gep(self.start, [offset], source_etype=self.type)

    def number(self, region: str, place: ir.Value) -> ir.Value:
        return self.e.b.load(self.at(region, place), typ=self.type)

    def load(self, region: str, place: ir.Value) -> ir.Value:
        return self.e.b.load(self.at(region, place), typ=self.vector, align=self.plan.size)

    def store(self, value: ir.Value, region: str, place: ir.Value) -> None:
        self.e.b.store(value, self.at(region, place), align=self.plan.size)
