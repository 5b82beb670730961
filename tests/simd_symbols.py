"""Checks that the objects of core/simd that are compiled for AVX define data alone, their tables of kernels. A function
that they defined, an inline one of std:: say, could be linked in place of everybody's and use instructions that the
processor lacks. Usage: simd_symbols.py NM LIBRARY"""
import re
import subprocess
import sys


def main(nm, library):
    listing = subprocess.run([nm, "--extern-only", "--defined-only", "--demangle", library], check=True,
                             capture_output=True, text=True).stdout
    tables, functions, member = 0, [], ""
    for line in listing.splitlines():
        symbol = re.match(r"[0-9a-f]+ (\w) (.+)$", line)
        if not symbol:
            member = line.strip(":") or member
        elif "avx" not in member or symbol.group(1) in "DR":
            tables += "avx" in member
        else:
            functions.append(f"{symbol.group(2)} ({member})")
    if functions or not tables:
        sys.exit(f"simd_symbols: {library} defines {', '.join(functions) or 'no kernels'}; functions of AVX objects "
                 "belong into anonymous namespaces")
    print(f"simd_symbols: the AVX objects of {library} define {tables} tables and nothing else")


if __name__ == "__main__":
    main(*sys.argv[1:])
