#!/usr/bin/env python3
"""The processor time of an idle daemon: utime + stime of /proc/PID/stat over so many seconds, as a share of one core.

    bench/idle.py PID [SECONDS] [--json FILE]

samples_stopped counts the samples at which the process was stopped (SIGSTOP), which would make it look idle.
"""
import argparse
import json
import os
import pathlib
import time


def state_and_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pid", type=int)
    parser.add_argument("seconds", type=float, nargs="?", default=60)
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path)
    options = parser.parse_args()
    start, before, stopped = time.monotonic(), state_and_seconds(options.pid)[1], 0
    while time.monotonic() < start + options.seconds:
        time.sleep(0.25)
        stopped += state_and_seconds(options.pid)[0] == "T"
    elapsed, spent = time.monotonic() - start, state_and_seconds(options.pid)[1] - before
    line = json.dumps({"what": "idle", "seconds": round(elapsed, 1), "cpu_seconds": round(spent, 2),
                       "share_of_core": round(spent / elapsed, 5), "samples_stopped": stopped})
    print(line)
    if options.json:
        options.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
