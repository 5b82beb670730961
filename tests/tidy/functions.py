"""Function lengths: of C++ by matching braces, of Python by its own parser."""
import ast
import re

SKIPPED = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'|'
    r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", re.DOTALL | re.MULTILINE)
CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


def blank(text):
    """The text without comments, literals and preprocessor lines; newlines stay."""
    return SKIPPED.sub(lambda match: "\n" * match.group(0).count("\n") + " ", text)


def kind_of_brace(head):
    """What `head {` opens outside of any function: 'container', 'function' or 'initialiser'."""
    head = head.replace("::", "  ").rstrip()
    closing = head.rfind(")")
    if closing < 0:
        return "container" if CONTAINER.search(head) else "initialiser"
    if head.endswith(("=", ",", "(", "return")):
        return "initialiser"
    after_parameters = head[head.find(")"):]
    in_initialiser_list = ":" in after_parameters
    if in_initialiser_list and re.search(r"[\w>]$", head):
        return "initialiser"  # member{value} of a constructor's initialiser list
    return "function"


def cpp_functions(text):
    """(first line, last line) of every function body with its signature, nested ones left out."""
    code, scopes, head, line, head_line, found = blank(text), [], "", 1, 1, []
    for character in code:
        inside_function = "function" in [kind for kind, _ in scopes]
        if character == "\n":
            line += 1
        if character == "{":
            kind = "block" if inside_function else kind_of_brace(head)
            scopes.append((kind, head_line if head.strip() else line))
            head = "" if kind in ("container", "function") else head
        elif character == "}" and scopes:
            kind, first = scopes.pop()
            if kind == "function":
                found.append((first, line))
            head = head + "{}" if kind == "initialiser" else ""
        elif character == ";" and not any(kind == "initialiser" for kind, _ in scopes):
            if head.count("(") <= head.count(")"):
                head = ""
        elif character == ":" and head.strip() in ("public", "private", "protected"):
            head = ""
        elif not inside_function:
            if not head.strip():
                head_line = line
            head += character
    return found


def python_functions(text):
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [(node.lineno, node.end_lineno) for node in nodes]


def check(path, text, lines_max):
    find = python_functions if path.endswith(".py") else cpp_functions
    return [f"the function at line {first} has {last - first + 1} lines (below {lines_max} is the rule)"
            for first, last in find(text) if last - first + 1 >= lines_max]
