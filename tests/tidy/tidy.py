"""Checks the tree's own rules over every tracked file; run by ctest. Usage: tidy.py REPOSITORY"""
import pathlib
import re
import subprocess
import sys

import functions
import includes

CODE = (".cpp", ".hpp", ".py", ".sh", ".cmake", ".capnp")
FILE_LINES, FUNCTION_LINES, LINE_WIDTH, MAIN_LINES = 300, 70, 120, 100
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.}])/(work|root)/")


def tracked(root):
    listing = subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True, capture_output=True).stdout
    return [name for name in listing.decode().split("\0") if name and (pathlib.Path(root) / name).is_file()]


def is_code(path):
    return path.endswith(CODE) or path.endswith("CMakeLists.txt")


def is_shell(path, text):
    return path.endswith(".sh") or re.match(r"#!.*\b(ba|da)?sh\b", text) is not None


def check_header(path, text):
    complaints = []
    if not text.startswith("//"):
        complaints.append("a header opens with a comment that says what the thing is")
    if "#pragma once" not in text:
        complaints.append("#pragma once is missing")
    return complaints


def check_code(path, text):
    lines = text.split("\n")
    complaints = []
    if len(lines) - 1 >= FILE_LINES:
        complaints.append(f"{len(lines) - 1} lines (below {FILE_LINES} is the rule)")
    complaints += [f"line {number} is {len(line)} wide (at most {LINE_WIDTH})"
                   for number, line in enumerate(lines, 1) if len(line) > LINE_WIDTH]
    if path.startswith("apps/") and re.search(r"^int main\(", text, re.MULTILINE) and len(lines) - 1 > MAIN_LINES:
        complaints.append(f"a main of {len(lines) - 1} lines (at most {MAIN_LINES})")
    if path.endswith((".cpp", ".hpp", ".py")):
        complaints += functions.check(path, text, FUNCTION_LINES)
    if path.endswith((".cpp", ".hpp")):
        complaints += includes.check(path, text)
    if path.endswith(".hpp"):
        complaints += check_header(path, text)
    return complaints


def check(path, data):
    """Complaints about one file, given its path in the repository and its bytes."""
    if b"\0" in data:
        return []
    text = data.decode("utf-8", "replace")
    complaints = check_code(path, text) if is_code(path) else []
    if is_shell(path, text) and not re.search(r"^set -e", text, re.MULTILINE):
        complaints.append("a shell script says set -e")
    if text and not text.endswith("\n"):
        complaints.append("does not end in a newline")
    for pattern, what in ((UNFINISHED, "unfinished work"), (MACHINE_PATH, "a path of one machine")):
        if match := pattern.search(text):
            complaints.append(f"line {text.count(chr(10), 0, match.start()) + 1}: {what} ({match.group(0)})")
    return complaints


def main(root):
    paths = tracked(root)
    if not any(path.startswith("core/") for path in paths):
        sys.exit(f"tidy: {root} is not the repository")
    failures = [f"{path}: {complaint}" for path in paths
                for complaint in check(path, (pathlib.Path(root) / path).read_bytes())]
    print("\n".join(failures))
    print(f"tidy: {len(paths)} files, {len(failures)} complaints")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
