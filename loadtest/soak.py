#!/usr/bin/env python3
"""Ask vitalgate for half of what it can answer, for an hour, and watch its memory.

    loadtest/soak.py [--minutes 60] [--json FILE]

Every answer is checked: predictions, reviews and rejections of the demo model. Resident memory is
read every minute; its growth counts from the fifth minute, when buffers and histories have filled.
Fails when an answer was wrong or shed, or a connection broke. Needs release builds.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import threading
import time

import compare

SETTLED_MINUTES = 5


def resident_kilobytes(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def watch(server, minutes, samples):
    for minute in range(minutes + 1):
        samples.append(resident_kilobytes(server))
        print(f"minute {minute}: {samples[-1] / 1e3:.1f} MB resident", flush=True)
        time.sleep(60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--json", type=pathlib.Path, help="write all figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        patient = compare.plain_patient(directory)
        server = compare.vitalgate(directory / "state", "written", patient)
        try:
            [capacity] = compare.load(server, 10, directory, "closed")
            rate = capacity["goodput"] / 2
            mix = ["--mix", f"predicted=8:{patient},review=1,rejected=1"]
            server.ask = [*server.ask[:-2], *mix]
            samples = []
            threading.Thread(target=watch, args=(server, arguments.minutes, samples), daemon=True).start()
            [run] = compare.load(server, arguments.minutes * 60, directory, "open", "--rate", rate)
        finally:
            server.stop()
    # loadtest ends with an error when an answer was wrong or a connection broke.
    growth = samples[-1] / samples[min(SETTLED_MINUTES, len(samples) - 1)] - 1
    print(f"{rate:.0f} requests/s asked for, {run['goodput']:.0f} answered, {run['unsent']} unsent, "
          f"p99 {run['latency_ms']['p99']:.2f} ms, resident memory grew by {growth:.1%}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"run": run, "resident_kb": samples}, indent=1))
    sys.exit(growth >= 0.02)
