"""Collects checkpoints as a hospital's log collector would, over OpenSSL's TLS.

audit_collector.py https|syslog PORT CERTIFICATE KEY CLIENT_CA OUT

Listens on loopback, asks for a client certificate, and appends each checkpoint to OUT, with an
empty line between two. Ends by itself after two minutes.
"""

import http.server
import os
import socket
import ssl
import sys
import threading

kind, port, certificate, key, client_ca, out = sys.argv[1:]
threading.Timer(120, os._exit, [3]).start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.load_verify_locations(client_ca)
context.verify_mode = ssl.CERT_REQUIRED


def collect(note):
    with open(out, "a", encoding="utf-8") as file:
        file.write(note + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.headers["content-type"] == "text/plain; charset=utf-8"
        collect(body.decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def read_frame(stream):
    """RFC 5425 section 4.3: MSG-LEN SP SYSLOG-MSG."""
    length = b""
    while (byte := stream.read(1)) != b" ":
        if not byte:
            return None
        assert byte.isdigit(), byte
        length += byte
    message = stream.read(int(length)).decode()
    head, note = message.split("\ufeff", 1)
    priority, _time, _host, application, *_ = head.split(" ")
    assert (priority, application) == ("<110>1", "vitalgate"), head
    return note


if kind == "https":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
listener = socket.create_server(("127.0.0.1", int(port)))
while True:
    tcp, _ = listener.accept()
    try:
        with context.wrap_socket(tcp, server_side=True) as session, session.makefile("rb") as stream:
            while note := read_frame(stream):
                collect(note)
            session.unwrap()
    except OSError:
        pass
