"""Bad input to the real programs: each case ends in one clear sentence that names what and where and in the documented
exit code (docs/exit-codes.md), and the daemon goes on.

usage: bad_input.py --build DIR"""
import argparse
import json
import subprocess
import sys

import pool as pools
from pool import Failed, Pool, check, wait_until

GOOD = json.dumps({"text": "a record that is good"}).encode()


def one_sentence(error, *words):
    """The last line must be the sentence; each of the words must be in it."""
    lines = [line for line in error.strip().splitlines() if line]
    check(lines, "nothing was said")
    for word in words:
        check(word in error, f"'{word}' is not in: {error}")
    check(len(lines[-1]) < 400, f"that is no sentence: {lines[-1]}")
    return lines[-1]


def records(pool):
    """Files that a gateway sends: what is wrong in line 2 is named, lines 1 and 3 are learned."""
    cases = {
        "broken JSON": (b'{"text": "cut', [":2", "broken JSON"]),
        "no object": (b'[1, 2]', [":2", "object"]),
        "no text": (b'{"other": "x"}', [":2", '"text"']),
        "text is a number": (b'{"text": 7}', [":2", "not a string"]),
        "invalid UTF-8": (b'{"text": "\xff\xfe"}', [":2", "UTF-8"]),
        "empty": (b'{"text": ""}', [":2", "the record is empty"]),
        "white space": (b'{"text": "  \\n "}', [":2", "the record is empty"]),
        "over-long": (json.dumps({"text": "x" * 70000}).encode(), [":2"]),
        "far over-long": (json.dumps({"text": "x" * 3_000_000}).encode(), [":2"]),
        "unknown field": (b'{"text": "x y z", "label": 3}', [":2", '"label"']),
    }
    for name, (line, words) in cases.items():
        path = pool.root / f"{name.replace(' ', '-')}.jsonl"
        path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
        before = applied(pool)
        _, error = pool.send("--strict", path, code=65)
        one_sentence(error, path.name, *words)
        wait_until(f"two records of {name}", lambda: applied(pool) == before + 2, 20)
        print(f"{name}: {next(row for row in error.splitlines() if ':2' in row)}")


def applied(pool):
    return sum(slot["records"] for slot in pool.status()["stages"]["routing"]["slots"])


def unknown_key(pool):
    pool.run("kpoolctl", "keys", "new", pool.root, "stranger")
    path = pool.root / "stranger.jsonl"
    path.write_bytes(GOOD + b"\n")
    command = pool.gateway_command(path)
    command[command.index("--key") + 1] = str(pool.root / "stranger.key")
    command[command.index("--state") + 1] = str(pool.root / "stranger.state")
    before = pool.status()["stages"]["ingestion"]["records_received"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as gateway:
        lines = []
        for line in gateway.stderr:  # it tries again until it is let in, and says why it waits
            lines.append(line)
            if "authorized keys" in line:
                break
        gateway.kill()
    check(lines and "authorized keys" in lines[-1], f"the unknown key was not explained: {''.join(lines)}")
    check("turned away" in pool.log.read_text(), "the daemon's log does not tell of the unknown key")
    check(pool.status()["stages"]["ingestion"]["records_received"] == before, "an unknown key got a record in")
    print(f"unknown key: {lines[-1].strip()}")


def daemon_refuses(pool, name, code, words, *arguments):
    done = subprocess.run(pool.daemon_command(*arguments), capture_output=True, text=True, timeout=pools.DEADLINE)
    check(done.returncode == code, f"{name}: exit code {done.returncode}, not {code}\n{done.stderr}")
    print(f"{name} ({code}): {one_sentence(done.stderr, *words)}")


def models_and_configuration(pool):
    """What keeps the daemon from starting; the store is the one that the stream has filled."""
    def with_value(key, value):
        return "--set", f"{key}={value}"

    whole = pool.model.read_bytes()
    damaged, other, text = pool.root / "damaged.gguf", pool.root / "other.gguf", pool.root / "text.gguf"
    damaged.write_bytes(whole[:len(whole) // 2])
    text.write_text("no model at all\n")
    pool.run("tests/tiny_model", other, 2)
    daemon_refuses(pool, "missing model", 66, ["nowhere.gguf"], *with_value("base.path", pool.root / "nowhere.gguf"))
    daemon_refuses(pool, "truncated model", 65, ["damaged.gguf"], *with_value("base.path", damaged))
    daemon_refuses(pool, "no model", 65, ["text.gguf"], *with_value("base.path", text))
    daemon_refuses(pool, "wrong base", 76, ["the stored pool was made with base", "another store.path"],
                   *with_value("base.path", other))
    daemon_refuses(pool, "unknown key", 78, ["train.speed"], *with_value("train.speed", 3))
    daemon_refuses(pool, "wrong value", 78, ["lora.rank"], *with_value("lora.rank", "many"))
    daemon_refuses(pool, "wrong transport", 78, ["engine.transport"], *with_value("engine.transport", "pigeon"))
    daemon_refuses(pool, "missing key file", 66, ["nobody.key"],
                   *with_value("gateway.secret_key_file", pool.root / "nobody.key"))
    kept, good = pool.config, pool.config.read_text()
    pool.config = pool.root / "bad.toml"
    line = str(good.count("\n") + 1)
    for name, content, words in [("broken TOML", good + "x = = 1\n", ["bad.toml", line]),
                                 ("unknown TOML key", "train.speed = 3\n" + good, ["bad.toml", "train.speed"]),
                                 ("binary configuration", "\0\1\2", ["bad.toml"])]:
        pool.config.write_text(content)
        daemon_refuses(pool, name, 78, words)
    pool.config = pool.root / "absent.toml"
    daemon_refuses(pool, "missing configuration", 66, ["absent.toml"])
    pool.config = kept


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    options = parser.parse_args()
    with Pool(options.build) as pool:
        pool.start()
        records(pool)
        unknown_key(pool)
        state = wait_until("the last commit", lambda: pool.status()["stages"]["ingestion"])
        check(state["records_refused"] + state["records_durable"] > 0, "nothing was durable")
        daemon_refuses(pool, "store in use", 69, [str(pool.store)],
                       "--set", f"gateway.listen=tcp://127.0.0.1:{pools.free_port()}",
                       "--set", f"admin.socket=ipc://{pool.root / 'other.sock'}",
                       "--set", f"engine.journal={pool.root / 'other.journal'}")
        pool.stop()
        before = pool.verify()
        models_and_configuration(pool)
        check(pool.verify()["state_sha256"] == before["state_sha256"], "a refused start changed the store")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
