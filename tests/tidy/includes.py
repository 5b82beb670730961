"""The include rules: what each folder may know of the others and of foreign libraries."""
import re

STANDARD = set("""
algorithm any array atomic barrier bit bitset charconv chrono compare complex concepts condition_variable coroutine
deque exception execution filesystem forward_list fstream functional future initializer_list iomanip ios iosfwd
iostream istream iterator latch limits list locale map memory memory_resource mutex new numbers numeric optional
ostream queue random ranges ratio regex scoped_allocator semaphore set shared_mutex source_location span sstream
stack stdexcept stop_token streambuf string string_view syncstream system_error thread tuple type_traits typeindex
typeinfo unordered_map unordered_set utility valarray variant vector version
cassert cctype cerrno cfenv cfloat cinttypes climits clocale cmath csetjmp csignal cstdarg cstddef cstdint cstdio
cstdlib cstring ctime cuchar cwchar cwctype
assert.h errno.h fcntl.h signal.h stddef.h stdint.h stdio.h stdlib.h string.h time.h unistd.h immintrin.h poll.h
dirent.h sched.h malloc.h endian.h termios.h pwd.h
""".split())
LIBTORCH = ("ATen/", "c10/", "torch/")
PARSING = ("pcre2.h", "utf8proc.h", "sodium.h", "nlohmann/")
CAPNP = ("capnp/", "kj/")

# folder: (folders that it may include, prefixes of foreign headers). sys/ is the operating system's.
RULES = {
    "core": (("core",), LIBTORCH + PARSING),
    "messages": (("core", "messages"), CAPNP),
    "storage": (("core", "storage"), ("rocksdb/", "sodium.h", "nlohmann/")),
    "config": (("core", "config"), ("toml++/",)),
    "clients": (("core", "messages", "clients"), ("zmq.h", "zmq.hpp", "sodium.h", "nlohmann/")),
    "actors": (("core", "messages", "storage", "config", "clients", "actors"), None),
    "apps": (("core", "messages", "storage", "config", "clients", "actors", "apps"), None),
    "tests": (("core", "messages", "storage", "config", "clients", "actors", "apps", "tests"), None),
    "bench": (("core", "messages", "storage", "config", "clients", "actors", "tests", "bench"), None),
}
# core/ is values in, values out: no disk write, wall clock, randomness from outside, or console.
IMPURE = re.compile(r"std::(ofstream|fstream|random_device|mutex|cout|cerr|thread)\b|\b(system_clock|steady_clock|"
                    r"high_resolution_clock|getenv|fwrite|mkstemp)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def foreign_allowed(header, prefixes):
    if header in STANDARD or header.startswith(("sys/", "netinet/", "arpa/")):
        return True
    return prefixes is None or header.startswith(prefixes)


def caf_allowed(folder, name):
    return folder == "actors" or (folder == "tests" and name.startswith(("actors_", "pipeline_")))


def check(path, text):
    """Complaints about one C++ file; path is relative to the repository."""
    folder, _, name = path.partition("/")
    if folder not in RULES:
        return []
    own, foreign = RULES[folder]
    complaints = []
    for match in INCLUDE.finditer(text):
        quoted, header = match.group(1) == '"', match.group(2)
        if header == "torch/torch.h":
            complaints.append("includes torch/torch.h, which costs half a minute; name the ATen header")
        elif header.startswith("caf/") and not caf_allowed(folder, name):
            complaints.append(f"includes {header}: only actors/ knows CAF")
        elif quoted and header.split("/")[0] not in own:
            complaints.append(f'includes "{header}": {folder}/ may include {", ".join(own)}')
        elif not quoted and not foreign_allowed(header, foreign):
            complaints.append(f"includes <{header}>, which {folder}/ may not know")
    if folder == "core":
        complaints += [f"uses {match.group(0)}, which core/ may not" for match in IMPURE.finditer(text)]
    return complaints
