"""A local HTTP server that keeps what is posted, can refuse, and can be down and come up again on its port."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from feature_store.embedded import free_port


class Webhook:
    """`received` are the messages that were answered with 2xx; `tried` all ids, in order."""

    def __init__(self):
        self.received, self.tried, self.headers = [], [], []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.refuses = lambda _message: 200
        """Message -> the status of the answer."""
        self.retry_after = None
        self._server = self._thread = None
        self.start()

    @property
    def told(self):
        """What arrived, in short."""
        return [(message["state"], message["check"]) for message in self.received]

    def start(self):
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.tried.append(message["id"])
                hook.headers.append(dict(self.headers))
                status = hook.refuses(message)
                if 200 <= status < 300:
                    hook.received.append(message)
                self.send_response(status)
                if hook.retry_after is not None:
                    self.send_header("Retry-After", hook.retry_after)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self):
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None


@contextmanager
def receiving():
    """A receiver that is up, and down at the end."""
    hook = Webhook()
    try:
        yield hook
    finally:
        hook.stop()
