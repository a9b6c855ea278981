"""An API over views of which one holds personal data, keys of every role, and requests that ask as one of them."""

import asyncio
from contextlib import asynccontextmanager

import httpx
from online_world import NOW_US, World, departures, item, legs, service
from stream_world import SOURCE
from stream_world import compiled as readings

from feature_store import FeatureService, encode, request
from feature_store.access.grants import Grants
from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.access.keys import make_key, revoked
from feature_store.catalog.document import (
    DECLARED,
    Catalog,
    FeatureEntry,
    ServedEntry,
    ServiceEntry,
    SourceEntry,
    ViewEntry,
    pack,
)
from feature_store.clock import ManualClock
from feature_store.online.keys import access_key, catalog_key
from feature_store.online.layout import service_layout
from feature_store.serving.app import build_app
from feature_store.serving.limits import Limits
from feature_store.serving.publishing import Publishing

COUNT = item("departures", "count_1h")
JFK = {"origin": "JFK"}
KEYS = {"delay": JFK, "trip": JFK | {"dest": "LAX"}, "stay": JFK, "score": JFK}
"""Service -> keys of a row."""
SERVICES = tuple(KEYS)
VIEWS = {"departures": "count_1h", "legs": "count_1d", "guests": "count_1h"}
"""View -> a feature of it; `guests` is personal, `stay` reads it, and so do the functions of `score`."""
READS = {"delay": {"departures"}, "trip": {"legs"}, "stay": {"departures", "guests"}, "score": {"guests"}}
"""Service -> views that it is made of."""
READ = "/v1/services/delay/features"
DAY_US = 86_400_000_000

# Role -> its grants, and all that it may do. Everything else is refused; so is everything to those who are not known.
ROLES = {
    "reads delay": ({"services": ["delay"]}, {"service delay"}),
    "reads t*": ({"services": ["t*"]}, {"service trip"}),
    "reads all services": ({"services": ["*"]}, {"service delay", "service trip"}),
    "reads all services and guests": (
        {"services": ["*"], "personal": ["guests"]},
        {f"service {name}" for name in SERVICES},
    ),
    "reads legs": ({"views": ["legs"]}, {"view legs"}),
    "reads all views": ({"views": ["*"]}, {"view legs", "view departures"}),
    "reads all views and guests": (
        {"views": ["*"], "personal": ["guests"]},
        {"view legs", "view departures", "view guests"},
    ),
    "has guests alone": ({"personal": ["guests"]}, set()),
    "publishes readings": ({"sources": [SOURCE]}, {f"source {SOURCE}"}),
    "publishes others": ({"sources": ["other"]}, set()),
    "watches": ({"metrics": True}, {"metrics"}),
    "administers": ({"admin": True}, {"metrics", "keys", *(f"describe {name}" for name in SERVICES)}),
    "may all": (
        {"services": ["*"], "views": ["*"], "sources": ["*"], "personal": ["guests"], "admin": True},
        {
            *(f"{kind} {name}" for kind in ("service", "describe") for name in SERVICES),
            *(f"view {name}" for name in VIEWS),
            f"source {SOURCE}",
            "metrics",
            "keys",
        },
    ),
}
UNKNOWN = ("nobody", "a wrong key", "an expired key", "a revoked key")


level = encode.bucketing("level", "guests@1:count_1h", edges=[2])
SCORE = FeatureService(
    "score",
    features=[
        encode.bucketing("again", level, edges=[0.5]),
        encode.one_hot("channel", request(str, default="web"), values=["web"]),
        encode.hashing("origin", request(str), buckets=5),
    ],
)


class Pinned:
    """What takes the features of a service as they stand."""

    @staticmethod
    def resolve(service):
        return [feature for item in service.features for feature in item.features]


def catalog():
    """What is declared of the views, services and the source, as far as it decides who sees it."""
    return Catalog(
        views=[_view(name, feature) for name, feature in VIEWS.items()],
        services=[_service(name, reads) for name, reads in READS.items()],
        sources=[
            SourceEntry(
                name=SOURCE, owner=None, description="", event_time="at", event_id=["uid"], history=None, log=None,
                personal=False, assets=[], columns=[],
            )
        ],
    )  # fmt: skip


def _view(name, feature):
    one = FeatureEntry(
        name=feature, aggregate="count", column=None, window="1h", hop="2m", window_error=1 / 30, cap=None,
        dtype="int", empty=0, description="",
    )  # fmt: skip
    return ViewEntry(
        name=name, version=1, entity="airport", source="flights", where=None, online="stream", every=None, sla="5m",
        late_events="correct", lateness=None, score_own_event=False, owner=None, description="", tags={},
        personal=name == "guests", assets=[], features=[one],
    )  # fmt: skip


def _service(name, reads):
    served = [
        ServedEntry(
            name=f"{view}:{VIEWS[view]}", kind="stored", reads=[f"{view}@1:{VIEWS[view]}"], inputs={}, columns={},
            dtype="int", default=None, code="", description="",
        )
        for view in sorted(reads)
    ]  # fmt: skip
    return ServiceEntry(
        name=name, version=1, owner=None, description="", on_stale="serve", on_ahead="serve", log_rate=0.0,
        personal=["guests"] if "guests" in reads else [], keys=["origin"], requests={}, assets=[], features=served,
    )  # fmt: skip


class AccessWorld(World):
    """A world whose API asks for keys once one is made."""

    def __init__(self, url: str, env: str) -> None:
        super().__init__(url, env)
        plain, route, guests = departures(), legs(), departures(name="guests", personal=True)
        self.publish(
            plain,
            route,
            guests,
            services=[
                service(COUNT, name="delay"),
                service(item("legs", "count_1d"), COUNT, name="trip"),
                service(COUNT, item("guests", "count_1h"), name="stay"),
                service_layout(SCORE, Pinned),
            ],
        )
        for view in (plain, guests):
            self.put(view, "JFK", 3, 12.0)
        self.put(route, "JFK|LAX", 2)
        self.ready()
        self.client.hset(catalog_key(env), DECLARED, pack(catalog()))
        self.keyring = Keyring()

    def key(self, *, expires_us=None, **grants):
        """A new key that works, as text."""
        given = Grants(**{name: tuple(of) if isinstance(of, list) else of for name, of in grants.items()})
        key, text = make_key("a test", given, now_us=self.clock.at_us - 2 * DAY_US, by="a test", expires_us=expires_us)
        self.have(self.keyring.with_key(key))
        return text

    def revoke(self, text):
        key = self.keyring.key(text.split("_")[1])
        self.have(self.keyring.with_key(revoked(key, now_us=self.clock.at_us)))

    def have(self, keyring):
        self.keyring = keyring
        self.client.set(access_key(self.env), encode_keyring(keyring.published()))


def keys_of_roles(world):
    """Role -> its key; those who are not known, too."""
    keys = {role: world.key(**grants) for role, (grants, _) in ROLES.items()}
    everything = {"services": ["*"], "views": ["*"], "sources": ["*"], "personal": ["guests"], "admin": True}
    keys |= {"nobody": None, "a wrong key": keys["may all"][:-4] + "AAAA"}
    keys |= {"an expired key": world.key(**everything, expires_us=NOW_US), "a revoked key": world.key(**everything)}
    world.revoke(keys["a revoked key"])
    return keys


def bearer(text):
    return {} if text is None else {"authorization": f"Bearer {text}"}


@asynccontextmanager
async def api(world, **options):
    """A client of the API, with publishing."""
    limits, clock = Limits(), ManualClock(NOW_US)
    publishing = Publishing(compiled=readings, client=world.client, env=world.env, clock=clock, limits=limits)
    app = build_app(world.url, env=world.env, clock=world.clock, publishing=publishing, **options)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        client.app = app
        yield client


def ask(world, method, path, key=None, *, options=None, **request):
    """The answer to one request."""

    async def run():
        async with api(world, **(options or {})) as client:
            return await client.request(method, path, headers=bearer(key) | request.pop("headers", {}), **request)

    return asyncio.run(run())


def read(world, key=None, name="delay", **request):
    return ask(world, "POST", f"/v1/services/{name}/features", key, json={"keys": KEYS.get(name, JFK)}, **request)


__all__ = ["SOURCE", "AccessWorld", "api", "ask", "bearer", "read"]
