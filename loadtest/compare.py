#!/usr/bin/env python3
"""Compare vitalgate, everything on, with a bare handler and with nginx, on this machine.

    loadtest/compare.py [--rounds 5] [--seconds 5] [--json FILE]

vitalgate (`dev`: mutual TLS, authorization, all screens, audit record written before each answer;
and the same with `synced` records), the bare handler of benches/reference (its
network run with ONNX Runtime's own number of threads, and with one), and nginx answering a fixed
text, each over TLS with the same certificate, take turns under loadtest's closed loop: batch
1, 32 keep-alive connections, every answer checked, each server's processor time counted. Then each, but nginx, at half its knee in the
open loop. Needs release builds (`make compare` makes them) and nginx (Debian's package nginx-light
is enough). Everything listens on loopback and is ended at the end.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target/release"
EXAMPLE = ROOT / "models/icu-mortality/examples/predicted.json"
NETWORK = ROOT / "models/icu-mortality/bundle/members"
CONNECTIONS = 32
# Seconds of load before loadtest counts answers.
WARM_UP = 1


def plain_patient(directory):
    """The example patient in bare numbers: the bare handler knows no units."""
    body = json.loads(EXAMPLE.read_text())
    values = body["observations"].items()
    body["observations"] = {name: v["value"] if isinstance(v, dict) else v for name, v in values}
    path = directory / "patient.json"
    path.write_text(json.dumps(body, indent=2))
    return path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A server under test: how it is started, and how it is asked."""

    def __init__(self, name, command, port, ask, ready=None):
        self.name, self.port, self.ask = name, port, ask
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        if ready:
            if not any(line.strip() == ready for line in self.process.stdout):
                sys.exit(f"{name} did not start")
        else:
            wait_for(port, self.process, name)

    def processor_time(self):
        """Seconds of user and of kernel time, so far, of the process and its children (proc(5))."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        user = kernel = 0
        for process in [pid, *children]:
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            user, kernel = user + int(fields[11]), kernel + int(fields[12])
        second = os.sysconf("SC_CLK_TCK")
        return user / second, kernel / second

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def wait_for(port, process, name):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            subprocess.run(["sleep", "0.05"], check=True)
    sys.exit(f"{name} did not start")


def vitalgate(state, mode, patient):
    """`dev` makes the state; mode `synced` runs what it wrote with that one line changed."""
    port = free_port()
    any_port = "127.0.0.1:0"
    command = [RELEASE / "vitalgate", "dev", "--state", state, "--listen", f"127.0.0.1:{port}"]
    command += ["--admin", any_port, "--health", any_port]
    server = Server(f"vitalgate, {mode}", command, port, identity(state, patient), "ready")
    if mode == "written":
        return server
    server.stop()
    text = (state / "vitalgate.toml").read_text()
    text = text.replace('mode = "written"', f'mode = "{mode}"').replace('"audit"', f'"audit-{mode}"')
    config = state / f"{mode}.toml"
    config.write_text(text)
    command = [RELEASE / "vitalgate", "serve", "--config", config]
    return Server(f"vitalgate, {mode}", command, port, identity(state, patient))


def identity(state, patient):
    client = state / "clients/evaluator"
    return ["--ca", state / "ca.pem", "--cert", f"{client}.pem", "--key", f"{client}.key",
            "--mix", f"predicted=1:{patient}"]


def bare(state, member, patient, threads):
    port = free_port()
    command = [RELEASE / "reference", "--listen", f"127.0.0.1:{port}",
               "--cert", state / "server.pem", "--key", state / "server.key",
               "--network", NETWORK / f"{member}.onnx"]
    if threads:
        command += ["--intra-threads", threads]
    ask = ["--ca", state / "ca.pem", "--no-client-certificate", "--path", "/predict",
           "--mix", f"predicted=1:{patient}"]
    name = f"bare handler, {member}" + (f", {threads} thread" if threads else "")
    return Server(name, command, port, ask)


def nginx(state, directory, patient):
    port = free_port()
    answer = '{"outcome":"in-hospital death","probability":0.1}'
    config = directory / "nginx.conf"
    config.write_text(f"""
daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log; worker_processes auto;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {state}/server.pem; ssl_certificate_key {state}/server.key;
    location / {{ return 200 '{answer}'; }}
  }}
}}
""")
    ask = ["--ca", state / "ca.pem", "--no-client-certificate", "--path", "/predict",
           "--mix", f"predicted=1:{patient}"]
    return Server("nginx, fixed text", ["nginx", "-c", config], port, ask)


def load(server, seconds, directory, *command):
    out = directory / "run.json"
    command = [RELEASE / "loadtest", "--address", f"127.0.0.1:{server.port}", *server.ask,
               "--connections", CONNECTIONS, "--duration", seconds, "--warmup", WARM_UP,
               "--quiet", "--json", out, *command]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{server.name}: {done.stdout}{done.stderr}")
    return json.loads(out.read_text())


def half_of_knee(server, seconds, directory):
    runs = load(server, seconds, directory, "ramp")
    knee = max((run["rate"] for run in runs if run["rate"] and run["goodput"] >= 0.99 * run["rate"]), default=0)
    if not knee:
        return 0, float("nan")
    [run] = load(server, seconds, directory, "open", "--rate", knee / 2)
    return knee, run["latency_ms"]["p99"]


def measure(servers, arguments, directory):
    rates = {server.name: [] for server in servers}
    p99 = {server.name: [] for server in servers}
    processor = {server.name: [] for server in servers}
    for number in range(arguments.rounds):
        for server in servers:
            print(f"round {number + 1} of {arguments.rounds}: {server.name}", file=sys.stderr)
            before = server.processor_time()
            [run] = load(server, arguments.seconds, directory, "closed")
            answers = run["goodput"] * (arguments.seconds + WARM_UP)
            spent = zip(before, server.processor_time())
            processor[server.name].append([(after - before) / answers * 1e6 for before, after in spent])
            rates[server.name].append(run["goodput"])
            p99[server.name].append(run["latency_ms"]["p99"])
    rows = []
    for server in servers:
        knee, at_half = (None, None)
        if not server.name.startswith("nginx"):
            print(f"knee: {server.name}", file=sys.stderr)
            knee, at_half = half_of_knee(server, arguments.seconds, directory)
        rows.append({
            "server": server.name,
            "requests_per_second": statistics.median(rates[server.name]),
            "rounds": rates[server.name],
            "p99_ms": statistics.median(p99[server.name]),
            "user_us": statistics.median(user for user, _ in processor[server.name]),
            "kernel_us": statistics.median(kernel for _, kernel in processor[server.name]),
            "knee": knee,
            "p99_ms_at_half_knee": at_half,
        })
    return rows


def show(rows):
    by_name = {row["server"]: row["requests_per_second"] for row in rows}
    handler = by_name["bare handler, " + arguments.member]
    fixed = by_name["nginx, fixed text"]
    print("| server | requests/s | p99, ms | × bare handler | × nginx | processor, µs a request | of it kernel "
          "| knee, /s | p99 at half the knee, ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        rate = row["requests_per_second"]
        knee = "" if row["knee"] is None else f"{row['knee']:,.0f}"
        half = "" if row["knee"] is None else f"{row['p99_ms_at_half_knee']:.2f}"
        kernel, whole = row["kernel_us"], row["user_us"] + row["kernel_us"]
        print(f"| {row['server']} | {rate:,.0f} | {row['p99_ms']:.2f} | {rate / handler:.2f} | {rate / fixed:.2f} "
              f"| {whole:.0f} | {kernel:.0f} | {knee} | {half} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--member", default="mlp", help="the network that the bare handler runs")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures here")
    arguments = parser.parse_args()
    if not shutil.which("nginx"):
        sys.exit("nginx is not installed (Debian: apt-get install nginx-light)")
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        state = directory / "state"
        patient = plain_patient(directory)
        servers = []
        try:
            servers.append(vitalgate(state, "written", patient))
            shutil.copytree(state, directory / "synced")
            servers.append(vitalgate(directory / "synced", "synced", patient))
            servers.append(bare(state, arguments.member, patient, None))
            servers.append(bare(state, arguments.member, patient, 1))
            servers.append(nginx(state, directory, patient))
            rows = measure(servers, arguments, directory)
        finally:
            for server in servers:
                server.stop()
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
