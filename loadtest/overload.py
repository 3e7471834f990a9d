#!/usr/bin/env python3
"""Give vitalgate more than it can answer, and things that waste its time, and see who still gets served.

    loadtest/overload.py [--seconds 8] [--only flood|disturbances] [--json FILE]

The flood: one caller asks for three times what the server can answer, in an open loop over 128
connections (each is a thread of the load generator: more of them measure that). Beside it another
caller asks for 50 predictions a second, urgent (`X-Priority: stat`), and a third for 50 that are not.
All three also before and after the flood, for comparison.

The disturbances: 1,000 predictions a second with nothing beside them, and beside 10,000 silent
connections, 500 that send a byte a second, and 500 full handshakes a second.

Needs release builds (`make overload` makes them). Everything listens on loopback and is ended at the
end; the load generator's threads run on the same processors as the server.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import compare

# For the callers beside the flood; the same patient again costs no row.
FASTER = "requests_per_second = 1000\nburst = 1000\nconcurrent_requests = 100\n"


def vitalgate(state, patient):
    """`dev` makes the state; what it wrote is run with higher rates for the callers beside the flood."""
    server = compare.vitalgate(state, "written", patient)
    server.stop()
    text = (state / "vitalgate.toml").read_text()
    for limit in ["rows_per_day = 3600\n", "rows_per_day = 200\n"]:
        assert limit in text
        text = text.replace(limit, limit + FASTER)
    text = text.replace("\nconnections = 4096", "\nconnections = 16384")
    config = state / "overload.toml"
    config.write_text(text)
    command = [compare.RELEASE / "vitalgate", "serve", "--config", config]
    return compare.Server("vitalgate", command, server.port, [])


class Load:
    """One run of loadtest, under way."""

    def __init__(self, server, state, patient, caller, seconds, *command, connections=4, urgent=False):
        self.json = pathlib.Path(tempfile.mkstemp(suffix=".json", dir=state)[1])
        client = state / "clients" / caller
        line = [compare.RELEASE / "loadtest", "--address", f"127.0.0.1:{server.port}",
                "--ca", state / "ca.pem", "--cert", f"{client}.pem", "--key", f"{client}.key",
                "--mix", f"predicted=1:{patient}", "--may-shed", "--quiet", "--json", self.json,
                "--connections", connections, "--duration", seconds]
        if urgent:
            line += ["--header", "X-Priority: stat"]
        line += command
        self.process = subprocess.Popen(
            [str(part) for part in line], cwd=compare.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def result(self):
        output, _ = self.process.communicate()
        if self.process.returncode != 0:
            sys.exit(output)
        [run] = json.loads(self.json.read_text())
        shed = sum(tally["shed"] for tally in run["requests"])
        latency = run["latency_ms"]
        return {"answers_per_second": run["goodput"], "shed": shed, "unsent": run["unsent"],
                "p50_ms": latency["p50"], "p99_ms": latency["p99"]}


def resident_megabytes(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1e3


def bystanders(load, seconds):
    """An urgent caller and one that is not, 50 requests a second each."""
    urgent = load("clinician", seconds, "open", "--rate", 50, urgent=True)
    other = load("ehr", seconds, "open", "--rate", 50)
    return urgent, other


def flood(server, load, seconds):
    yield "resident before, MB", resident_megabytes(server)
    urgent, other = bystanders(load, seconds)
    yield "stat, alone", urgent.result()
    yield "other caller, alone", other.result()
    capacity = load("evaluator", seconds, "closed", connections=32).result()
    yield "capacity", capacity
    rate = 3 * capacity["answers_per_second"]
    flood = load("evaluator", seconds + 2, "open", "--rate", rate, connections=128)
    time.sleep(2)
    urgent, other = bystanders(load, seconds - 2)
    time.sleep(seconds - 2)
    resident = resident_megabytes(server)
    yield "stat, in the flood", urgent.result()
    yield "other caller, in the flood", other.result()
    flooded = flood.result()
    # Its warm-up is the second after the flood.
    urgent, other = bystanders(load, seconds)
    flooded["of_capacity"] = flooded["answers_per_second"] / capacity["answers_per_second"]
    yield "flood", flooded
    yield "resident in the flood, MB", resident
    yield "stat, 1 s after", urgent.result()
    yield "other caller, 1 s after", other.result()
    yield "capacity, after", load("evaluator", seconds, "closed", connections=32).result()
    yield "resident after, MB", resident_megabytes(server)


def disturbances(server, load, seconds):
    beside = {
        "nothing": [],
        "10,000 silent connections": ["--idle", 10_000],
        "500 connections of a byte a second": ["--slow", 500],
        "500 full handshakes a second": ["--churn", 500],
        "nothing, again": [],
    }
    for name, options in beside.items():
        run = load("evaluator", seconds, *options, "open", "--rate", 1000, connections=8)
        yield f"1,000/s beside {name}", run.result()
        yield "resident, MB", resident_megabytes(server)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", choices=["flood", "disturbances"])
    parser.add_argument("--json", type=pathlib.Path, help="write all figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        state = pathlib.Path(name) / "state"
        patient = compare.plain_patient(pathlib.Path(name))
        server = vitalgate(state, patient)

        def load(caller, seconds, *command, **options):
            return Load(server, state, patient, caller, seconds, *command, **options)

        figures = []
        try:
            for part in [flood, disturbances]:
                if arguments.only in (None, part.__name__):
                    for what, figure in part(server, load, arguments.seconds):
                        figures.append((what, figure))
                        print(f"{what}: {figure}", flush=True)
        finally:
            server.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
