"""What bench_route makes of embeddings by `kpoolctl model embed`; shared by the bench/route_*.py programs."""
import argparse
import array
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Per label {generation: records}, 0 for none of the slots; births: [(row, label), ...]
Routes = collections.namedtuple("Routes", "learned queries births")


def parser(docstring):
    found = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("embeddings")
    found.add_argument("settings", nargs="*", metavar="key=value")
    found.add_argument("--program", default=str(ROOT / "build/bench/bench_route"))
    return found


def domain_of(label):
    return label.split("/")[0]


def read(path, records):
    """label -> its first records, at most so many, as arrays of float32."""
    rows = collections.defaultdict(list)
    with open(path) as lines:
        for line in lines:
            record = json.loads(line)
            if len(rows[record["label"]]) < records:
                rows[record["label"]].append(array.array("f", record["embedding"]))
    return dict(rows)


def by_domain(rows):
    """domain -> labels, both sorted."""
    domains = {}
    for label in sorted(rows):
        domains.setdefault(domain_of(label), []).append(label)
    return domains


def replay(program, rows, labels, settings):
    """rows: embeddings, each with a label, in the order of the stream."""
    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/rows.f32", "wb") as out:
            for row in rows:
                row.tofile(out)
        pathlib.Path(f"{directory}/labels.txt").write_text("".join(f"{label}\n" for label in labels))
        run = subprocess.run([program, f"{directory}/rows.f32", str(len(rows[0])), f"{directory}/labels.txt",
                              *settings], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{program} {' '.join(settings)} fails: {run.stderr.strip()}")
    return parse(run.stdout)


def parse(text):
    routes = Routes({}, {}, [])
    for line in text.splitlines():
        label, *counts = line.split()
        if label == "births":
            routes.births.extend((int(row), of) for row, of in re.findall(r"@(\d+)\((.*?)\)", line.split("|", 1)[1]))
            continue
        table = routes.learned
        if label == "query":
            table, label, counts = routes.queries, counts[0], counts[1:]
        table[label] = {int(slot): int(count) for slot, count in (each.split(":") for each in counts)}
    return routes
