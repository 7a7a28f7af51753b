"""A network camera: a program that serves an MJPEG stream over HTTP on loopback.

Every picture shows its number as black and white blocks, so that a reader knows which one it has.
Run as a program it prints its port; each line on its standard input is a JSON request.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE, BLOCK, BITS = 64, 8, 24


def draw(number: int, noise: int) -> np.ndarray:
    """Return picture ``number``, (SIZE, SIZE, 3) uint8; its red channel is 200, blue 40."""
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[SIZE // 2:] = (40, 0, 200)
    picture[-1, :] = noise
    for bit in range(BITS):
        row, column = divmod(bit, SIZE // BLOCK)
        if number >> bit & 1:
            picture[row * BLOCK:(row + 1) * BLOCK, column * BLOCK:(column + 1) * BLOCK] = 255
    return picture


def number_of(picture: np.ndarray) -> int:
    """Return the number that a picture shows."""
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, SIZE // BLOCK)
        middle = picture[row * BLOCK + 2:(row + 1) * BLOCK - 2,
                         column * BLOCK + 2:(column + 1) * BLOCK - 2]
        number |= int(middle.mean() > 128) << bit
    return number


class Stream:
    """What is sent, and what it is told to do wrong."""

    def __init__(self) -> None:
        self.rate = 50.0
        self.frozen = self.silent = self.hang_up = False
        self.keep_every = 1
        self.number = 0
        self.sent: dict[int, int] = {}

    def serve(self, write: Any) -> None:
        due = time.monotonic()
        while not self.hang_up:
            due += 1.0 / self.rate
            time.sleep(max(0.0, due - time.monotonic()))
            if self.silent:
                continue
            self.number += not self.frozen
            if self.number % self.keep_every:
                continue
            jpeg = cv2.imencode(".jpg", draw(self.number, self.number % 200))[1].tobytes()
            self.sent[self.number] = time.monotonic_ns()
            write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
                  % (len(jpeg), jpeg))


STREAM = Stream()


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the stream."""

    def do_GET(self) -> None:
        self.send_response(503 if STREAM.hang_up else 200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            STREAM.serve(self.wfile.write)
        except OSError:
            pass  # the viewer has gone

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        for name, value in json.loads(line).items():
            setattr(STREAM, name, value)
        print(json.dumps({str(number): when for number, when in tuple(STREAM.sent.items())}),
              flush=True)


class MjpegServer:
    """The program above in a process of its own, as tests use it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, str(Path(__file__).resolve())],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/stream"

    def ask(self, **changes: Any) -> dict[int, int]:
        """Change the stream; return when each picture was sent [monotonic ns]."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(changes) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return {int(number): when for number, when in answer.items()}

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(5)
        self._process.stdout.close()


if __name__ == "__main__":
    main()
