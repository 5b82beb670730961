"""The kernels that valgrind cannot run (AVX-512, AVX-VNNI, AMX), by their machine code: instructions of each, and ten
more for each vector register that is spilled to the stack, which costs most where it is in a loop. Compared with a
committed table per compiler. Usage: kernel_code.py OBJDUMP ARCHIVE COMPILER TABLE [--rewrite]
Exits with 77 (skipped) where the table has no counts for this compiler."""
import platform
import re
import subprocess
import sys

from kernel_table import SKIPPED, judge, stop

OBJECTS = {"amx", "amx_int8", "avx512", "avx512vnni", "avxvnni", "dequantise_avx512"}
SPILL = re.compile(r"\bvmov\w*\s+%[xyz]mm\d+,(?:-?0x[0-9a-f]+)?\(%r[sb]p")
SPILL_COST = 10


def kernel(function):
    """The name alone: all instances of a template count as one kernel."""
    name = re.sub(r"\(anonymous namespace\)::|\[clone[^]]*\]", "", function)
    return re.search(r"(\w+)\s*(?:<|\()", name + "(").group(1)


def measure(objdump, archive):
    listing = subprocess.run([objdump, "-d", "-C", "--no-show-raw-insn", archive], capture_output=True, text=True,
                             check=True).stdout
    if "endbr64" in listing:
        stop(SKIPPED, "skipped: this compiler marks the targets of jumps, which the table does not count")
    sets, kernels, name = {}, None, None
    for line in listing.splitlines():
        if found := re.match(r"(\w+)\.cpp\.o:\s+file format", line):
            kernels = sets.setdefault(found.group(1), {}) if found.group(1) in OBJECTS else None
        elif kernels is None:
            continue
        elif found := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            name = kernel(found.group(1))
        elif line.startswith(" ") and "\tnop" not in line:
            kernels[name] = kernels.get(name, 0) + 1 + SPILL_COST * bool(SPILL.search(line))
    return {name: kernels for name, kernels in sets.items() if kernels}


def main(objdump, archive, compiler, table_path, *options):
    measured = measure(objdump, archive)
    if not measured:
        stop(SKIPPED, f"skipped: {archive} has no kernels for this kind of processor")
    judge(f"{platform.machine()} {compiler}", measured, table_path, "instructions and spills", options, slack=4)


if __name__ == "__main__":
    main(*sys.argv[1:])
