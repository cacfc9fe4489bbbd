"""The kinds of schedules, in the order in which a kernel is offered to them."""

from ..schedules.base import Schedule
from ..schedules.blocked_transpose import BlockedTransposeSchedule
from ..schedules.blocks.schedule import BlocksSchedule
from ..schedules.contraction.schedule import ContractSchedule
from ..schedules.nest import NestSchedule
from ..schedules.online.schedule import OnlineSchedule
from ..schedules.scan import ScanSchedule
from ..schedules.sliding.schedule import SlidingSchedule
from ..schedules.window import WindowSchedule

SCHEDULES: tuple[type[Schedule], ...] = (
    BlocksSchedule,  # weights of few bits, unpacked in registers
    ContractSchedule,  # register tiles over packed panels
    WindowSchedule,  # neighbouring sums share what they read
    OnlineSchedule,  # products with the weights of a softmax
    SlidingSchedule,  # windows along the contiguous axis
    BlockedTransposeSchedule,  # what is read across the lines that are written
    ScanSchedule,  # each element follows from the one before
    NestSchedule,  # everything: it refuses nothing
)
