"""Emulators of Google's store and of S3 on this machine, behind a proxy that makes faults."""

import contextlib
import http.client
import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import pytest

BUCKET = "runs"
# Of a test that takes seconds with a store, and is of what stands above the stores.
IN_ONE = pytest.mark.parametrize(
    "store", ["gs", pytest.param("s3", marks=pytest.mark.long)], indirect=True
)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Proxy:
    """Forwards requests to a server, and fails those that it is told to.

    The emulator of Google's store ignores conditions, and does not send the generation of what is
    read: both are added here, as Google's documentation has them.

    Attributes:
        url: what clients are told.
        log: (method, path) of all requests.
    """

    def __init__(self, port, adds_generations):
        self._port, self.log = port, []
        self._adds_generations, self._condition = adds_generations, threading.RLock()
        self._rules, self._lag, self._old = [], None, {}
        self._act, self._left, self._loses = None, 0, False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    outer._handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = handle_any

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that are killed
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def failing(self, status, times, matches):
        """Answers the next `times` requests that (method, path) → bool picks with a status."""
        rule = [status, times, matches, 0]
        self._rules.append(rule)
        try:
            yield rule
        finally:
            self._rules.remove(rule)

    @contextlib.contextmanager
    def lagging(self, matches):
        """Answers what (method, path) → bool picks as it was answered the first time in here."""
        self._lag = matches
        try:
            yield
        finally:
            self._lag = None

    def at_write(self, number, act, is_lost=False):
        """Calls `act` before the write of this number from now on, which then may be lost.

        `number` counts from 1.
        """
        self._act, self._left, self._loses = act, number, is_lost

    def _count_writes(self, method):
        if method in ("PUT", "POST", "DELETE"):
            self._left -= 1
            if self._left == 0:
                self._act()
                if self._loses:
                    raise ConnectionResetError

    def _handle(self, handler):
        body = self._body(handler)
        request = (handler.command, urllib.parse.unquote(handler.path))
        self.log.append(request)
        self._count_writes(request[0])
        for rule in self._rules:
            if rule[1] > 0 and rule[2](*request):
                rule[1], rule[3] = rule[1] - 1, rule[3] + 1
                return self._answer(handler, rule[0], {}, b"injected")
        if self._lag is not None and self._lag(*request):
            if request not in self._old:
                self._old[request] = self._forward(handler, body)
            return self._answer(handler, *self._old[request])
        if not self._adds_generations:
            return self._answer(handler, *self._forward(handler, body))
        with self._condition:
            match = re.search(r"[?&]ifGenerationMatch=(\d+)", handler.path)
            if match and match[1] != self._generation(request[1]):
                return self._answer(handler, 412, {}, b"{}")
            status, headers, content = self._forward(handler, body)
            if handler.command == "GET" and "alt=media" in handler.path and status < 300:
                headers["x-goog-generation"] = self._generation(request[1])
        return self._answer(handler, status, headers, content)

    def _generation(self, path):
        """The generation of the object that a request is about, "0" of none."""
        bucket, name = re.search(r"/b/([^/?]+)/o(?:/([^?]+))?", path).groups()
        name = name or re.search(r"[?&]name=([^&]+)", path)[1]
        place = f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}"
        with contextlib.closing(self._connect()) as connection:
            connection.request("GET", place)
            response = connection.getresponse()
            content = response.read()
        return json.loads(content)["generation"] if response.status < 300 else "0"

    def _connect(self):
        """Without the waits of TCP, which are long beside what the emulators take."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.connect()
        for option in (socket.TCP_NODELAY, socket.TCP_QUICKACK):
            connection.sock.setsockopt(socket.IPPROTO_TCP, option, 1)
        return connection

    def _forward(self, handler, body):
        connection = self._connect()
        dropped = ("transfer-encoding", "connection", "content-length", "expect")
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in dropped}
        connection.request(handler.command, handler.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        headers = {k: v for k, v in response.getheaders() if k.lower() not in dropped}
        if handler.command == "HEAD" and response.getheader("Content-Length"):
            headers["Content-Length"] = response.getheader("Content-Length")
        connection.close()
        # The emulator names itself where an upload goes on.
        if "Location" in headers:
            here = f"http://127.0.0.1:{self._port}"
            headers["Location"] = headers["Location"].replace(here, self.url)
            headers["Location"] = headers["Location"].replace(
                f"http://localhost:{self._port}", self.url
            )
        return response.status, headers, content

    def _body(self, handler):
        if handler.headers.get("Expect", "").lower() == "100-continue":
            handler.send_response_only(100)
            handler.end_headers()
        if "chunked" in handler.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(handler.rfile.readline().split(b";")[0], 16):
                body += handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
            return body
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))

    def _answer(self, handler, status, headers, content):
        handler.send_response(status)
        for key, value in headers.items():
            if key.lower() not in ("server", "date"):
                handler.send_header(key, value)
        if "Content-Length" not in headers:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)


class Store:
    """An emulated store with one bucket.

    Attributes:
        scheme: "gs" or "s3".
        proxy: between it and its clients.
        environment: how clients find it.
    """

    def __init__(self, scheme):
        self.scheme, port = scheme, free_port()
        if scheme == "gs":
            command = ["gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}"]
            command += ["--in-memory", f"--default-bucket={BUCKET}"]
        else:
            command = ["moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait(port)
        self.proxy = Proxy(port, adds_generations=scheme == "gs")
        url = self.proxy.url
        self.environment = {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "NO_GCE_CHECK": "true",
        }
        if scheme == "s3":
            self.environment = {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT", data=b"")
            urllib.request.urlopen(request).close()

    def _wait(self, port):
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.1)
        raise RuntimeError("the emulator did not start")

    def place(self, name):
        return f"{self.scheme}://{BUCKET}/{name}"

    def close(self):
        self.proxy.close()
        self._process.terminate()
        self._process.wait()
