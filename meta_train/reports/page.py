"""The frame of an HTML page that needs nothing but itself."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1c1f23; --soft: #5d6670; --line: #d9dde2;
  --card: #f6f7f9; --good: 0 114 178; --bad: 213 94 0;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b5588f; --c4: #b07800;
  --c5: #3a9bd0; --c6: #7a5fc0; --c7: #7d8a2e; --c8: #8c564b; --c9: #5d6670; }
@media (prefers-color-scheme: dark) { :root { --back: #14161a; --ink: #e8eaed; --soft: #9aa3ad;
  --line: #343a41; --card: #1d2024; --good: 86 180 233; --bad: 230 130 50;
  --c0: #4aa8e0; --c1: #f08040; --c2: #2cc49a; --c3: #e08cc0; --c4: #e6ac33;
  --c5: #8ccdf2; --c6: #ab96e8; --c7: #b4c25a; --c8: #c49286; --c9: #9aa3ad; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 82rem; padding: 2rem 1.5rem 4rem; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .5rem; }
p { margin: .4rem 0; max-width: 62rem; } .soft, small, figcaption small { color: var(--soft); }
.verdict { font-size: 1.15rem; line-height: 1.45; margin: 1rem 0 1.4rem; padding: .8rem 1.1rem;
  background: var(--card); border-left: .3rem solid rgb(var(--good)); border-radius: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .7rem 0; }
th, td { padding: .38rem .8rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: .86rem; vertical-align: bottom;
  white-space: normal; line-height: 1.25; overflow-wrap: break-word; }
tr > :first-child { position: sticky; left: 0; z-index: 1; text-align: left; padding-left: .3rem;
  background: var(--back); }
td:first-child { font-weight: 600; }
td small { display: block; line-height: 1.15; font-weight: 400; }
table.sortable th[scope=col] { cursor: pointer; } table.sortable th[scope=col]:hover {
  color: var(--ink); }
th[aria-sort=ascending]::after { content: " \\2191"; }
th[aria-sort=descending]::after { content: " \\2193"; }
th.group { padding-top: 1rem; color: var(--ink); text-align: left; }
tr.yardstick td { background: var(--card); }
td.best { font-weight: 700; } td.failed { color: rgb(var(--bad)); font-weight: 600; }
table.texts td, table.texts th { text-align: left; }
table.texts td:last-child { white-space: normal; min-width: 14rem; }
table.heat { border-collapse: separate; border-spacing: 2px; }
table.heat td { border: 0; padding: .3rem .5rem; text-align: center; min-width: 3.6rem;
  border-radius: .2rem; }
table.heat tr > :first-child { text-align: left; }
table.heat th:not(:first-child) { text-align: left; height: 9.5rem; padding: .2rem; }
table.heat th span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.key { display: inline-block; width: 1.9rem; height: .7rem; margin-right: .5rem; }
.keys { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; margin: .6rem 0 1rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); }
.wide figure { overflow-x: auto; }
.wide svg { min-width: 27rem; }
figure { margin: 0; padding: .7rem .8rem .4rem; background: var(--card); border-radius: .6rem;
  min-width: 0; }
figcaption { font-weight: 600; margin-bottom: .3rem; }
svg { width: 100%; height: auto; } svg text { font-family: inherit !important; }
svg.key { width: 1.9rem; height: .7rem; }
details { margin: 1.2rem 0; } summary { cursor: pointer; font-weight: 600; font-size: 1.05rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 1.1rem .9rem 3rem; } h1 { font-size: 1.4rem; }
  .figures { grid-template-columns: 1fr; }
  .verdict { font-size: 1.02rem; padding: .7rem .8rem; }
  th, td { padding: .35rem .55rem; }
  tr > :first-child { min-width: 7.6rem; max-width: 9rem; white-space: normal;
    overflow-wrap: anywhere; }
  th.group { max-width: none; }
  td .key { display: block; margin: .2rem 0 0; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
}
@media (min-width: 100rem) { body { font-size: 17px; } }
"""

SCRIPT = """
for (const th of document.querySelectorAll("table.sortable th[scope=col]")) {
  th.tabIndex = 0;
  const sort = () => {
    const up = th.getAttribute("aria-sort") !== "ascending";
    for (const other of th.parentNode.children) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const column = th.cellIndex;
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const number = row => parseFloat(value(row));
    const order = (a, b) => column && !isNaN(number(a)) && !isNaN(number(b)) ?
      number(a) - number(b) || 0 : value(a).localeCompare(value(b));
    for (const body of th.closest("table").tBodies)
      [...body.rows].filter(row => row.cells.length > 1)
        .sort((a, b) => up ? order(a, b) : order(b, a)).forEach(row => body.append(row));
  };
  th.addEventListener("click", sort);
  th.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
"""


class Cell(NamedTuple):
    """One table cell.

    html: trusted. value: what sorts it, largest where it is not finite. shade: -1 bad to 1 good.
    """

    html: str
    value: float | None = None
    css: str = ""
    shade: float = 0.0


def _cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return f"<td>{cell}</td>"
    attributes = f' class="{cell.css}"' if cell.css else ""
    if cell.value is not None:
        value = f"{cell.value:.6g}" if math.isfinite(cell.value) else "Infinity"
        attributes += f' data-value="{value}"'
    if abs(cell.shade) >= 0.01:
        colour = "good" if cell.shade > 0 else "bad"
        attributes += f' style="background: rgb(var(--{colour}) / {abs(cell.shade) * 0.35:.2f})"'
    return f"<td{attributes}>{cell.html}</td>"


def _row(cells: Sequence[Cell | str], marked: bool = False) -> str:
    opening = '<tr class="yardstick">' if marked else "<tr>"
    return opening + "".join(_cell(cell) for cell in cells) + "</tr>"


def _framed(heads: Sequence[str], bodies: str, css: str) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    kind = f' class="{css}"' if css else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>\n{bodies}</table></div>'
    )


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell | str]],
    sortable: bool = False,
    marked: int | None = None,
    css: str = "",
) -> str:
    """An HTML table. heads and plain cells are trusted HTML; row number `marked` stands out.

    css: classes; "heat" for coloured cells under upright heads, "texts" for sentences.
    """
    body = "\n".join(_row(cells, number == marked) for number, cells in enumerate(rows))
    kind = " ".join(["sortable"] * sortable + css.split())
    return _framed(heads, f"<tbody>\n{body}\n</tbody>", kind)


def grouped_table(
    heads: Sequence[str],
    groups: Sequence[tuple[str, Sequence[Sequence[Cell | str]]]],
    marked: int,
) -> str:
    """A sortable table whose rows stay within their group, under its title if it has one.

    marked: number of the row that stands out, counted through all groups.
    """
    bodies, number = [], 0
    for title, rows in groups:
        lines = [f'<tr><th class="group" colspan="{len(heads)}">{title}</th></tr>'] if title else []
        for cells in rows:
            lines.append(_row(cells, number == marked))
            number += 1
        bodies.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    return _framed(heads, "\n".join(bodies), "sortable")


def breakable(name: str) -> str:
    """A name, escaped, that may be broken behind its underscores and before a plus."""
    return escape(name).replace("_", "_<wbr>").replace("+", "<wbr>+")


def key(style: int | None, dashes: str) -> str:
    """A stroke in the colour of a curve, to stand before its name."""
    colour = "currentColor" if style is None else f"var(--c{style % 10})"
    return (
        f'<svg class="key" viewBox="0 0 30 10" aria-hidden="true"><line x1="0" y1="5" x2="30" '
        f'y2="5" stroke="{colour}" stroke-width="3" stroke-dasharray="{dashes}"/></svg>'
    )


def keys(names: Sequence[str]) -> str:
    """A legend of names with their strokes, trusted HTML."""
    return f'<div class="keys">{"".join(f"<span>{name}</span>" for name in names)}</div>'


def figures(captions: Sequence[str], drawings: Sequence[str], wide: bool = False) -> str:
    """Small multiples, or wide ones; captions are trusted HTML."""
    cards = "\n".join(
        f"<figure><figcaption>{caption}</figcaption>{drawing}</figure>"
        for caption, drawing in zip(captions, drawings, strict=True)
    )
    return f'<div class="figures{" wide" * wide}">\n{cards}\n</div>'


def folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n{body}\n</details>"


def facts(items: dict[str, str]) -> str:
    """Names and values, both escaped."""
    return (
        "<dl>"
        + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in items.items())
        + "</dl>"
    )


def page(title: str, body: str) -> str:
    """The whole document; `title` is escaped, `body` trusted."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
