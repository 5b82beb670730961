"""Checks that the library of vector kernels defines nothing for others to link but its sets and their choice. A weak
function among its objects, an inline one of std:: say, could be linked everywhere and use instructions that the
processor lacks. Usage: simd_symbols.py NM LIBRARY"""
import re
import subprocess
import sys

ALLOWED = re.compile(r"kpool::simd::(\w+_kernels|kernels\(\)|kernel_sets\(\))$")


def main(nm, library):
    listing = subprocess.run([nm, "--extern-only", "--defined-only", "--demangle", library], check=True,
                             capture_output=True, text=True).stdout
    names = [match.group(1) for match in re.finditer(r"^[0-9a-f]+ \w (.+)$", listing, re.MULTILINE)]
    others = [name for name in names if not ALLOWED.match(name)]
    if not names or others:
        sys.exit(f"simd_symbols: {library} defines {', '.join(others) or 'nothing'}; put it in an anonymous namespace")
    print(f"simd_symbols: {library} defines {', '.join(names)} alone")


if __name__ == "__main__":
    main(*sys.argv[1:])
