"""A schema registry on loopback: the REST paths of Confluent's that decoders ask, over real HTTP."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RegistryServer(ThreadingHTTPServer):
    """What is registered, what was asked, and how to misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.schemas: dict[int, dict[str, object]] = {}
        self.subjects: dict[str, list[int]] = {}
        self.asked: list[str] = []
        self.headers: list[str | None] = []
        self.credentials: str | None = None
        self.failures: list[int] = []
        """Statuses to answer with, before anything else is answered."""
        self.redirect: str | None = None
        self.incompatible: list[str] = []
        """What it says against any schema whose compatibility it is asked about."""
        self.broken: bytes | None = None
        self.together: threading.Barrier | None = None
        """Where those who ask about compatibility wait for each other."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def register(self, subject: str, schema: object, **more: object) -> int:
        entry = {"schema": json.dumps(schema) if not isinstance(schema, str) else schema, **more}
        known = [number for number, one in self.schemas.items() if one == entry]
        number = known[0] if known else len(self.schemas) + 1
        self.schemas[number] = entry
        if number not in self.subjects.setdefault(subject, []):
            self.subjects[subject].append(number)
        return number

    def answer(self, method: str, path: str, body: dict[str, object]) -> tuple[int, dict[str, object]]:
        match path.strip("/").split("/"), method:
            case ["schemas", "ids", number], "GET":
                found = self.schemas.get(int(number))
                return (200, found) if found else (404, {"error_code": 40403, "message": "Schema not found"})
            case ["subjects", subject, "versions", version], "GET":
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": "Subject not found"}
                number = self.subjects[subject][-1 if version == "latest" else int(version) - 1]
                return 200, {"subject": subject, "id": number, **self.schemas[number]}
            case ["compatibility", "subjects", subject, "versions", "latest?verbose=true"], "POST":
                if self.together is not None:
                    self.together.wait()
                said = {"is_compatible": not self.incompatible, "messages": self.incompatible}
                return (200, said) if subject in self.subjects else (404, {"error_code": 40401, "message": "none"})
            case ["subjects", subject, "versions"], "POST":
                return 200, {"id": self.register(subject, body["schema"])}
            case ["subjects", subject], "POST":
                for number in self.subjects.get(subject, []):
                    if json.loads(str(self.schemas[number]["schema"])) == json.loads(str(body["schema"])):
                        return 200, {"subject": subject, "id": number, **self.schemas[number]}
                return 404, {"error_code": 40403, "message": "Schema not found"}
        return 404, {"message": "no such path"}


class _Handler(BaseHTTPRequestHandler):
    server: RegistryServer

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.server.asked.append(f"{method} {self.path}")
        given = self.headers.get("Authorization")
        self.server.headers.append(given)
        if self.server.redirect is not None:
            self.send_response(302)
            self.send_header("Location", self.server.redirect + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.server.failures:
            status = self.server.failures.pop(0)
            self._reply(status, {"error_code": status * 100, "message": "not now"})
        elif (
            self.server.credentials and given != "Basic " + base64.b64encode(self.server.credentials.encode()).decode()
        ):
            self._reply(401, {"error_code": 401, "message": "Unauthorized"})
        else:
            self._reply(*self.server.answer(method, self.path, body))

    def _reply(self, status: int, answer: dict[str, object]) -> None:
        content = self.server.broken or json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(BrokenPipeError):  # a client that was told to give up in time
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def schema_registry() -> Iterator[RegistryServer]:
    """A registry that answers until the block ends."""
    server = RegistryServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
