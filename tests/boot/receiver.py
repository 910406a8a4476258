"""Runs in the container: takes every request, answers 204, and writes one line for each: path and webhook-id."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with open(sys.argv[3], "a", encoding="ascii") as file:
            file.write(f"{self.path} {self.headers['webhook-id']}\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Systemd's journal is for what is tested."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128


Server((sys.argv[1], int(sys.argv[2])), Receiver).serve_forever()
