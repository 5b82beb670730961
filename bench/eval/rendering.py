"""A report's tables as Markdown and as one HTML page without scripts, legible in light and dark."""
import html
import json

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em }
div { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .25em .7em; border-bottom: 1px solid #8886; text-align: left; white-space: nowrap }
figure { margin: 1em 0 }
svg { background: #fff; max-width: 100%; height: auto }
code, pre { overflow-wrap: anywhere; white-space: pre-wrap }
"""


def markdown(title, table):
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([f"### {title}", "", lines[0], "|" + "---|" * len(table[0]), *lines[1:], ""])


def html_table(title, table):
    def cells(tag, line):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) + "</tr>"
    return (f"<h2>{html.escape(title)}</h2>\n<div><table>{cells('th', table[0])}\n" +
            "\n".join(cells("td", line) for line in table[1:]) + "</table></div>\n")


def page(name, paragraphs, tables, pictures, verdicts):
    """pictures: [(caption, SVG), ...]. verdicts: plain data, shown as JSON."""
    body = "".join(f"<p>{html.escape(text)}</p>\n" for text in paragraphs if text)
    body += "".join(f"<figure><figcaption>{html.escape(caption)}</figcaption>\n{svg}</figure>\n"
                    for caption, svg in pictures)
    body += "".join(html_table(*each) for each in tables)
    if verdicts:
        text = html.escape(json.dumps(verdicts, indent=1))
        body += f"<details><summary>Comparisons as JSON</summary><pre>{text}</pre></details>\n"
    return (f'<!doctype html>\n<html lang="en"><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width"><title>{html.escape(name)}</title>\n'
            f"<style>{STYLE}</style>\n<h1>{html.escape(name)}</h1>\n{body}</html>\n")
