"""A server of its own for the attacks: `vitalgate dev` makes its state, `serve` runs it with more callers.

Every attack gets callers that nobody used before, each with a client certificate of its own and the limits that its role has by
default. Everything is on loopback, in a fresh directory, and ends with this program.
"""

import datetime
import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ANY_PORT = "127.0.0.1:0"
START_SECONDS = 60


class EnvironmentFault(Exception):
    """The server or the machine stands in the way of the measurement."""


class Server:
    """The running server, and the certificates of those who may call it."""

    def __init__(self, binary: Path, library: Path, directory: Path, roles: dict[str, int]):
        """Starts it with so many callers of each role, named `<role>-<number>`."""
        self.state = directory / "state"
        self.environment = {**os.environ, "ORT_DYLIB_PATH": str(library)}
        self._process = None
        addresses = ["--listen", ANY_PORT, "--admin", ANY_PORT, "--health", ANY_PORT]
        self._start([binary, "dev", "--state", self.state, *addresses], lambda line: line == "ready")
        self.stop()
        config = self._with_callers(roles)
        line = self._start([binary, "serve", "--config", config], lambda line: '"serving"' in line)
        fields = json.loads(line)["fields"]
        self.host, port = fields["data"].rsplit(":", 1)
        self.port = int(port)

    def _start(self, command, is_ready) -> str:
        """Runs the command until it prints the line that says it serves; returns that line."""
        self._process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment
        )
        lines = queue.Queue()
        # Read to the end, or the server would wait for room in the pipe.
        threading.Thread(target=lambda: [lines.put(line) for line in self._process.stdout], daemon=True).start()
        printed, deadline = [], time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                printed.append(lines.get(timeout=0.2).rstrip("\n"))
            except queue.Empty:
                if self._process.poll() is not None:
                    break
                continue
            if is_ready(printed[-1]):
                return printed[-1]
        self.stop()
        raise EnvironmentFault("the server did not start:\n" + "\n".join(printed[-20:]))

    def _with_callers(self, roles: dict[str, int]) -> Path:
        """Writes the configuration of `dev` again, with our authority beside its own and our callers."""
        self.clients = self.state / "attackers"
        self.clients.mkdir(mode=0o700)
        authority = Authority()
        (self.state / "attackers-ca.pem").write_text((self.state / "ca.pem").read_text() + authority.pem)
        text = (self.state / "vitalgate.toml").read_text()
        head, data, rest = text.partition("[data]")
        if not data:
            head, data, rest = text.partition("[[data]]")
        text = head + data + rest.replace('client_ca = "ca.pem"', 'client_ca = "attackers-ca.pem"', 1)
        for role, count in roles.items():
            for number in range(count):
                name = f"{role}-{number}"
                uri = f"spiffe://vitalgate.internal/{name}"
                authority.issue(self.clients, name, uri)
                text += f'\n[[principals]]\nname = "{name}"\nsan = "URI:{uri}"\nroles = ["{role}"]\nmodels = ["*"]\n'
        path = self.state / "attackers.toml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    def identity(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of one of our callers, or of a client of `dev`."""
        directory = self.clients if (self.clients / f"{name}.pem").exists() else self.state / "clients"
        return directory / f"{name}.pem", directory / f"{name}.key"

    def stop(self) -> None:
        """Ends it: asked first, then killed."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Authority:
    """A throw-away certificate authority."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vitalgate attacks CA")])
        certificate = (
            self._builder(self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _builder(self, subject, public_key):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def issue(self, directory: Path, name: str, uri: str) -> None:
        """Writes a client's certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for suffix, content in ("key", pem), ("pem", certificate.public_bytes(serialization.Encoding.PEM)):
            path = directory / f"{name}.{suffix}"
            path.touch(mode=0o600)
            path.write_bytes(content)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
