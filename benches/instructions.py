#!/usr/bin/env python3
"""Count the instructions of one prediction, and hold them against the committed budget.

    benches/instructions.py [--bless]

Runs the release build of `vitalgate dev` under valgrind's callgrind, asks for the same prediction
over one connection of mutual TLS, and divides what each kind of thread executed by the number of
answers. Instructions do not depend on how busy the machine is, so a change that makes the path
longer shows here before it shows anywhere else. A wiped byte counts as one.

Fails when a count is above its budget in benches/instructions.json by more than the tolerance
there. A count far below it is told, so that the budget can follow; --bless writes the counts.
Needs valgrind and the release build (`make instructions` makes it).
"""

import argparse
import json
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGET = ROOT / "benches/instructions.json"
BINARY = ROOT / "target/release/vitalgate"
PATIENT = ROOT / "models/icu-mortality/examples/predicted.json"
WARM_UP, REQUESTS = 30, 200
# What a thread is, by a function that only it runs (of what is not found before it): what a thread
# begins with may be inlined into whatever starts it.
KINDS = {
    "request": "tokio::runtime::scheduler::multi_thread::worker::Context::run",
    "inference": "vitalgate::inference::",
    "audit": "vitalgate::audit::",
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def control(process, *arguments):
    command = ["callgrind_control", *arguments, str(process.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


class Client:
    """One connection of mutual TLS, kept open."""

    def __init__(self, state, port):
        context = ssl.create_default_context(cafile=state / "ca.pem")
        context.load_cert_chain(state / "clients/evaluator.pem", state / "clients/evaluator.key")
        plain = socket.create_connection(("127.0.0.1", port), 60)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        body = PATIENT.read_bytes()
        self.request = (
            "POST /v1/models/icu-mortality/predict HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def predict(self, times):
        for _ in range(times):
            self.socket.sendall(self.request)
            answer = b""
            while not answer.endswith(b"}}"):
                piece = self.socket.recv(65536)
                if not piece:
                    sys.exit(f"the server closed the connection: {answer!r}")
                answer += piece
            if b'"disposition":"predicted"' not in answer:
                sys.exit(f"not a prediction: {answer!r}")


def profile(directory):
    state, port, out = directory / "state", free_port(), directory / "callgrind.out"
    any_port = "127.0.0.1:0"
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes",
               f"--callgrind-out-file={out}", BINARY, "dev", "--state", state,
               "--listen", f"127.0.0.1:{port}", "--admin", any_port, "--health", any_port]
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if not any(line.strip() == "ready" for line in process.stdout):
            sys.exit("the server did not start under valgrind")
        client = Client(state, port)
        client.predict(WARM_UP)
        control(process, "-i", "on")
        client.predict(REQUESTS)
        control(process, "-i", "off")
        control(process, "-d")
        time.sleep(1)
    finally:
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
    counts = dict.fromkeys(KINDS, 0)
    for file in directory.glob("callgrind.out.1-*"):
        text = file.read_text()
        total = re.search(r"^totals: (\d+)", text, re.M)
        kind = next((kind for kind, function in KINDS.items() if function in text), None)
        if total and kind:
            counts[kind] += int(total[1]) // REQUESTS
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bless", action="store_true", help="take the counts for the budget")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        counts = profile(pathlib.Path(name))
    if not all(counts.values()):
        sys.exit(f"a kind of thread was not found: {counts}")
    if arguments.bless:
        BUDGET.write_text(json.dumps({"tolerance": 0.15, "instructions": counts}, indent=2) + "\n")
    budget = json.loads(BUDGET.read_text())
    tolerance, failed = budget["tolerance"], False
    for kind, count in counts.items():
        allowed = budget["instructions"][kind]
        change = count / allowed - 1
        verdict = "more than allowed" if change > tolerance else "far less: bless it" if change < -tolerance else "ok"
        failed |= change > tolerance
        print(f"{kind:10} {count:9,} a prediction, budget {allowed:9,} ({change:+.1%}): {verdict}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
