"""The cell over HTTP on loopback: camera streams, requests, and a page for people."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from poco_ros.cell.streams import CameraStream
from poco_ros.core.errors import PocoError

_BOUNDARY = "poco-cell-picture"
Command = Callable[[str, Mapping[str, str]], Any]
"""Path below the command's name and query parameters in, a JSON value out."""

_PAGE = """<!doctype html><meta charset="utf-8"><title>poco cell</title>
<style>body{font:15px sans-serif;margin:2em;max-width:60em;color:#222}
img{width:20em;height:20em;image-rendering:pixelated;margin-right:1em;background:#ccc}
button{margin:.15em}pre{background:#f4f4f4;padding:1em}</style>
<h1>The emulated cell</h1><p>PICTURES</p>
<p>Keys: KEYS</p><p>Faults, 3 seconds each: FAULTS</p><pre id="truth"></pre>
<script>const go=p=>fetch(p).then(r=>r.text()).then(t=>console.log(t));
setInterval(()=>fetch("/truth").then(r=>r.json()).then(
t=>truth.textContent=JSON.stringify(t,null,1)),1000)</script>"""


class WebServer:
    """Serves until :meth:`close`; every request has a thread of its own."""

    def __init__(self, host: str, port: int, streams: Mapping[str, CameraStream],
                 commands: Mapping[str, Command], page_commands: Mapping[str, list[str]]) -> None:
        """Listen.

        Args:
            host: address, of loopback.
            port: port; 0 picks a free one.
            streams: cameras by name, at ``/camera/<name>.mjpg`` and ``/camera/<name>.jpg``.
            commands: first part of a path -> what it does; it answers with JSON.
            page_commands: ``key`` and ``fault`` -> names that get a button on the page.
        """
        handler = type("Handler", (_Handler,), {
            "streams": streams, "commands": commands, "page": _page(streams, page_commands)})
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self.address = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="web",
            daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; streams must be closed before."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _page(streams: Mapping[str, CameraStream], commands: Mapping[str, list[str]]) -> bytes:
    pictures = "".join(f'<img src="/camera/{name}.mjpg" alt="{name}">' for name in streams)
    buttons = {kind: "".join(f"<button onclick=\"go('/{kind}/{name}')\">{name}</button>"
                             for name in names) for kind, names in commands.items()}
    page = _PAGE.replace("PICTURES", pictures).replace("KEYS", buttons.get("key", ""))
    return page.replace("FAULTS", buttons.get("fault", "")).encode()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    streams: Mapping[str, CameraStream]
    commands: Mapping[str, Command]
    page: bytes
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        kind, _, rest = parts.path.strip("/").partition("/")
        try:
            if not kind:
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.page)
            elif kind == "camera":
                self._camera(rest)
            elif kind in self.commands:
                value = self.commands[kind](rest, dict(parse_qsl(parts.query)))
                self._json(HTTPStatus.OK, value)
            else:
                self._json(HTTPStatus.NOT_FOUND, {"error": f"no {parts.path}; there are /, "
                           f"/camera/<name>.mjpg, {', '.join('/' + k for k in self.commands)}"})
        except PocoError as error:
            self._json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except (BrokenPipeError, ConnectionResetError):  # the watcher left
            self.close_connection = True

    do_POST = do_GET  # noqa: N815 (the name is http.server's)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not news; ``poco cell`` prints what happens in the cell."""

    def _camera(self, path: str) -> None:
        name, _, kind = path.rpartition(".")
        stream = self.streams.get(name)
        if stream is None or kind not in ("mjpg", "jpg"):
            known = ", ".join(f"/camera/{key}.mjpg" for key in self.streams)
            self._json(HTTPStatus.NOT_FOUND, {"error": f"no /camera/{path}; there are {known}"})
        elif kind == "jpg":
            self._answer(HTTPStatus.OK, "image/jpeg", stream.picture())
        else:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            for jpeg in stream.watch():
                self.wfile.write(b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                                 b"%s\r\n" % (_BOUNDARY.encode(), len(jpeg), jpeg))

    def _json(self, status: HTTPStatus, value: Any) -> None:
        self._answer(status, "application/json", json.dumps(value).encode() + b"\n")

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
