"""The kinds of schedules, in the order in which a kernel is offered to them."""

from .contract_schedule import ContractSchedule
from .nest import NestSchedule
from .schedule_base import Schedule
from .window import WindowSchedule

SCHEDULES: tuple[type[Schedule], ...] = (
    ContractSchedule,  # register tiles over packed panels
    WindowSchedule,  # neighbouring sums share what they read
    NestSchedule,  # everything: it refuses nothing
)
