"""The columns of the flight sources: types, nullability and ranges, one model for both paths."""

from typing import Annotated

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]

NEW_YORK = ["EWR", "JFK", "LGA"]
AIRPORT = r"^[A-Z]{3}$"
CARRIER = r"^[A-Z0-9]{2}$"


class Flight(pa.DataFrameModel):
    """What every event of a flight carries."""

    flight_uid: Series[str] = pa.Field(str_length={"min_value": 20, "max_value": 40})
    """Date, carrier, number, scheduled time and origin: a flight number alone repeats within a day."""
    origin: Series[str] = pa.Field(isin=NEW_YORK)
    dest: Series[str] = pa.Field(str_matches=AIRPORT)
    carrier: Series[str] = pa.Field(str_matches=CARRIER)
    tailnum: Series[str] = pa.Field(nullable=True)
    """The aircraft; some cancelled flights never got one."""

    class Config:
        """No other columns; what a column holds is never converted."""

        strict = True
        coerce = False


class Departure(Flight):
    """A flight has left the gate. Delays are minutes, negative when early."""

    departed_at: Series[Time]
    sched_dep: Series[Time]
    dep_delay: Series[pd.Int64Dtype] = pa.Field(ge=-120, le=2880)
    distance: Series[pd.Int64Dtype] = pa.Field(gt=0, le=12000)
    """Miles."""


class Arrival(Flight):
    """A flight has reached its gate, at the airport it was meant for."""

    landed_at: Series[Time]
    sched_arr: Series[Time]
    arr_delay: Series[pd.Int64Dtype] = pa.Field(ge=-180, le=2880)
    air_time: Series[pd.Int64Dtype] = pa.Field(gt=0, le=1440)
    """Minutes between take-off and touch-down."""
    distance: Series[pd.Int64Dtype] = pa.Field(gt=0, le=12000)


class Cancellation(Flight):
    """A flight will not leave; known at its scheduled departure at the latest."""

    cancelled_at: Series[Time]
    distance: Series[pd.Int64Dtype] = pa.Field(gt=0, le=12000)


class Observation(pa.DataFrameModel):
    """The hourly weather report of a departure airport."""

    observation_uid: Series[str]
    origin: Series[str] = pa.Field(isin=NEW_YORK)
    observed_at: Series[Time]
    temp: Series[float] = pa.Field(nullable=True, ge=-40, le=130)
    """Degrees Fahrenheit, as is `dewp`."""
    dewp: Series[float] = pa.Field(nullable=True, ge=-60, le=100)
    humid: Series[float] = pa.Field(nullable=True, ge=0, le=100)
    wind_speed: Series[float] = pa.Field(nullable=True, ge=0, le=200)
    """Miles an hour."""
    precip: Series[float] = pa.Field(nullable=True, ge=0, le=10)
    """Inches in the hour."""
    pressure: Series[float] = pa.Field(nullable=True, ge=850, le=1100)
    """Millibars at sea level."""
    visib: Series[float] = pa.Field(nullable=True, ge=0, le=10)
    """Miles."""

    class Config:
        """No other columns; what a column holds is never converted."""

        strict = True
        coerce = False
