"""One pool for a fault test: a directory with keys, configuration and store, the real daemon, the real gateway and the
real kpoolctl. Nothing here waits by sleeping: the daemon says READY to NOTIFY_SOCKET, programs end."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

DEADLINE = 120  # seconds that any single step may take before the test fails
STREAM_DEADLINE = 1800  # and a whole stream
GATEWAYS = ("gateway", "second")


class Failed(Exception):
    """The test fails; the message says why."""


def check(condition, why):
    if not condition:
        raise Failed(why)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Pool:
    """settings: configuration beyond the common, {"section.key": value}. model: a GGUF; None: a tiny random one."""

    def __init__(self, build, root=None, model=None, settings=None, keys_of=None):
        self.build = pathlib.Path(build)
        self.root = pathlib.Path(root or tempfile.mkdtemp(prefix="kpool-fault-"))
        self.root.mkdir(exist_ok=True)
        self.store, self.log, self.socket = self.root / "store", self.root / "daemon.log", self.root / "admin.sock"
        self.keys = keys_of.keys if keys_of else self.root / "keys"  # the same source in two pools: the same keys
        self.port = free_port()
        self.daemon = None
        self.gateways = []
        self.model = pathlib.Path(model) if model else self.root / "tiny.gguf"
        if not model:
            self.run("tests/tiny_model", self.model)
        if not keys_of:
            self.make_keys()
        self.settings = {
            "base.path": str(self.model), "encoder.kind": "base:1", "routing.slots": 5,
            "lora.rank": 4, "train.tokens_per_step": 64, "train.threads": 1, "commit.bytes": 2048,
            "gateway.sources_max": 2, "gateway.listen": f"tcp://127.0.0.1:{self.port}",
            "gateway.secret_key_file": str(self.keys / "server.key"),
            "gateway.authorized_keys_file": str(self.keys / "authorized"),
            "store.path": str(self.store), "admin.socket": f"ipc://{self.socket}",
            "engine.deterministic": True, "engine.journal": str(self.root / "journal"), **(settings or {})}
        self.config = self.root / "kpoold.toml"
        self.config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in self.settings.items()))

    def make_keys(self):
        for name in ("server", *GATEWAYS):
            self.run("kpoolctl", "keys", "new", self.keys, name)
        listed = [f"{name} {(self.keys / f'{name}.pub').read_text().strip()}\n" for name in GATEWAYS]
        (self.keys / "authorized").write_text("".join(listed))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for process in filter(None, (self.daemon, *self.gateways)):
            process.kill()
            process.wait()
        if kind and self.log.exists():
            print("".join(self.log.read_text(errors="replace").splitlines(True)[-20:]))
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, program, *arguments, code=0, stdin=None, timeout=DEADLINE):
        """Runs a program to its end; (standard output, standard error)."""
        done = subprocess.run([str(self.build / program), *map(str, arguments)], input=stdin, capture_output=True,
                              timeout=timeout)
        out, error = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        check(done.returncode == code,
              f"{program} {' '.join(map(str, arguments))}: exit code {done.returncode}, not {code}\n{out}{error}")
        return out, error

    def daemon_command(self, *arguments):
        return [str(self.build / "kpoold"), "--config", str(self.config), *map(str, arguments)]

    def start(self, kill_point=None, wait=True):
        """Starts the daemon; with wait, until it is ready. False: it ended before."""
        path = self.root / "notify"
        path.unlink(missing_ok=True)
        environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
        if kill_point:
            environment["KPOOL_KILL_POINT"] = kill_point
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(self.log, "ab") as log:
            notify.bind(str(path))
            notify.settimeout(0.05)
            self.daemon = subprocess.Popen(self.daemon_command(), env=environment, stdout=log, stderr=log)
            until = time.monotonic() + DEADLINE
            while wait and time.monotonic() < until:
                try:
                    if b"READY=1" in notify.recv(4096):
                        return True
                except socket.timeout:
                    if self.daemon.poll() is not None:
                        return False
        check(not wait, f"the daemon was not ready within {DEADLINE} s")
        return True

    def kill(self):
        self.daemon.kill()
        self.daemon.wait(DEADLINE)

    def stop(self):
        """An orderly end, which must succeed."""
        self.daemon.send_signal(signal.SIGTERM)
        check(self.daemon.wait(DEADLINE) == 0, f"the daemon ended with {self.daemon.returncode} on SIGTERM")

    def gateway_command(self, *inputs, name=GATEWAYS[0]):
        return [str(self.build / "kpool-gateway"), "send", "--to", f"tcp://127.0.0.1:{self.port}",
                "--server-key", str(self.keys / "server.pub"), "--key", str(self.keys / f"{name}.key"),
                "--state", str(self.root / f"{name}.state"), "--progress", "json", *map(str, inputs)]

    def gateway(self, *inputs, name=GATEWAYS[0]):
        with open(self.root / "gateway.log", "ab") as out, open(self.root / "gateway.err", "ab") as error:
            gateway = subprocess.Popen(self.gateway_command(*inputs, name=name), stdout=out, stderr=error)
        self.gateways.append(gateway)
        return gateway

    def send(self, *inputs, code=0):
        """Sends to the last acknowledgement; (standard output, standard error)."""
        return self.run("kpool-gateway", *self.gateway_command(*inputs)[1:], code=code, timeout=STREAM_DEADLINE)

    def status(self):
        return json.loads(self.run("kpoolctl", "status", "--json", "--socket", f"ipc://{self.socket}")[0])

    def verify(self):
        return json.loads(self.run("kpoolctl", "verify", "--json", self.store)[0])


def wait_until(what, condition, seconds=DEADLINE, every=0.1):
    """Waits for a state that only polling shows (kpoolctl status)."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise Failed(f"{what} did not come within {seconds} s")


def counters(pool, records):
    """Records of all sources and of all slots as the running daemon counts them; all of `records` once, or Failed."""
    def settled():
        stages = pool.status()["stages"]
        watermark = sum(source["watermark"] for source in stages["ingestion"]["sources"])
        slots = sum(slot["records"] for slot in stages["routing"]["slots"])
        return (watermark, slots) if watermark == records and slots >= records else None
    watermark, slots = wait_until(f"the watermark {records}", settled, 20)
    check(slots == records, f"{records} records were acknowledged and {slots} applied")
    return watermark, slots


WORDS = {"sea": "tide wave harbour anchor salt gull current reef sail storm",
         "law": "clause party court appeal statute damages consent notice trial breach",
         "code": "loop index array return buffer struct pointer branch cache lock"}


def write_stream(path, records, words=12):
    """A JSON Lines file of three domains in turn; the same for the same arguments."""
    state = 1
    with open(path, "w") as out:
        for i in range(records):
            domain = list(WORDS)[i * len(WORDS) // records]
            vocabulary = WORDS[domain].split()
            line = []
            for _ in range(words):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                line.append(vocabulary[(state >> 33) % len(vocabulary)])
            out.write(json.dumps({"text": f"{domain} {i}: {' '.join(line)}."}) + "\n")
    return path
