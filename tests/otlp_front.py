"""Stands before a collector: takes OTLP over OpenSSL's TLS, keeps a copy, and hands it on.

otlp_front.py PORT CERTIFICATE KEY CLIENT_CA COPY COLLECTOR_PORT

Listens on loopback and asks for a client certificate. Ends by itself after two minutes.
"""

import http.client
import http.server
import os
import ssl
import sys
import threading

port, certificate, key, client_ca, copy, collector = sys.argv[1:]
threading.Timer(120, os._exit, [3]).start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.load_verify_locations(client_ca)
context.verify_mode = ssl.CERT_REQUIRED


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open(copy, "ab") as file:
            file.write(f"{self.requestline}\n{self.headers}".encode() + body)
        behind = http.client.HTTPConnection("127.0.0.1", int(collector))
        behind.request("POST", self.path, body, {"Content-Type": self.headers["content-type"]})
        answer = behind.getresponse()
        text = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["content-type"])
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
