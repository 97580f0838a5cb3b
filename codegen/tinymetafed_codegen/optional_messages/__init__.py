"""Messages that only some firmware knows, for instance that with a store or with a sensor: a file for each such part.

Any other firmware answers them with UNKNOWN_TYPE. ``schema_hash`` of the wire table does not cover them; the model's hash of
firmware with a store, a sensor, authentication, secure aggregation, coded updates, levels or a downlink by difference does.
"""

from __future__ import annotations

from ..messages.wire_record import Request
from ..protocol import REQUESTS
from .authentication_messages import AUTHENTICATION_REQUESTS
from .coded_messages import CODED_REQUESTS
from .difference_messages import DIFFERENCE_REQUESTS
from .level_messages import LEVEL_REQUESTS
from .measure_messages import MEASURE_REQUESTS
from .own_program_messages import OWN_PROGRAM_REQUESTS
from .part_messages import PART_REQUESTS
from .secure_messages import SECURE_REQUESTS
from .sensor_messages import SENSOR_REQUESTS
from .store_messages import STORE_REQUESTS

ALL_REQUESTS: tuple[type[Request], ...] = (
    *REQUESTS,
    *PART_REQUESTS,
    *STORE_REQUESTS,
    *OWN_PROGRAM_REQUESTS,
    *MEASURE_REQUESTS,
    *SENSOR_REQUESTS,
    *AUTHENTICATION_REQUESTS,
    *SECURE_REQUESTS,
    *CODED_REQUESTS,
    *DIFFERENCE_REQUESTS,
    *LEVEL_REQUESTS,
)
