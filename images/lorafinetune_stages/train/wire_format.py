"""In what form the ranks of a training send each other values: as JSON of a type that both sides know.

Whoever reaches their port may speak up, and a pickle would be code that its reader runs.
"""

from typing import Final

from pydantic import ConfigDict

MAX_GATHERED_BYTES: Final = 64 * 2**20
"""By one rank at a time: the losses of a million rows fit."""
WIRE_FORMAT: Final = ConfigDict(
    ser_json_inf_nan="constants", ser_json_bytes="base64", val_json_bytes="base64"
)
"""A loss may be no number, and the random numbers of a rank are bytes."""
