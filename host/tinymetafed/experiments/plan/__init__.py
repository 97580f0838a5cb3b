"""What a federation of any size takes: time, bytes, energy and processors of a round, and what gives way first."""

from .federation_plan import FORMS, FederationPlan, Fleet, Limit, Rates, Resource, planned
from .fleet_bench import FleetMeasurement, FleetReading, committed, measure, read
from .fleet_round import BoardWork, DeviceRound, work_of
from .host_cost import HostCost, ServerCost
from .plan_line import BACKHAULS, LINES, Line, parsed
from .round_count import counted

__all__ = [
    "BACKHAULS",
    "FORMS",
    "LINES",
    "BoardWork",
    "DeviceRound",
    "FederationPlan",
    "Fleet",
    "FleetMeasurement",
    "FleetReading",
    "HostCost",
    "Limit",
    "Line",
    "Rates",
    "Resource",
    "ServerCost",
    "committed",
    "counted",
    "measure",
    "parsed",
    "planned",
    "read",
    "work_of",
]
