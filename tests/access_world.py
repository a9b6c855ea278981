"""An API over views of which one holds personal data, keys of every role, and requests that ask as one of them."""

import asyncio
from contextlib import asynccontextmanager

import httpx
from online_world import NOW_US, World, departures, item, legs, service
from stream_world import SOURCE
from stream_world import compiled as readings

from feature_store.access.grants import Grants
from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.access.keys import make_key, revoked
from feature_store.clock import ManualClock
from feature_store.online.keys import access_key
from feature_store.serving.app import build_app
from feature_store.serving.publishing import Publishing
from feature_store.serving.reads import Limits

COUNT = item("departures", "count_1h")
JFK = {"origin": "JFK"}
KEYS = {"delay": JFK, "trip": JFK | {"dest": "LAX"}, "stay": JFK}
"""Service -> keys of a row."""
VIEWS = {"departures": "count_1h", "legs": "count_1d", "guests": "count_1h"}
"""View -> a feature of it; `guests` is personal, and service `stay` reads it."""
READ = "/v1/services/delay/features"
DAY_US = 86_400_000_000


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
            ],
        )
        for view in (plain, guests):
            self.put(view, "JFK", 3, 12.0)
        self.put(route, "JFK|LAX", 2)
        self.ready()
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
        httpx.AsyncClient(transport=transport, base_url="http://api") as client,
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
