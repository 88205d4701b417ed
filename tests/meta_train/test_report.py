import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from meta_train import figures, page, report as module, stats
from meta_train.results import Grid, Report

STEPS = tuple(range(0, 101, 10))
VOID = {"meta", "br", "line", "path", "use", "rect", "image"}


def make_report(optimizers=("rule <b>", "wild", "adam (tuned)"), grids=True, **changes):
    """Two tasks, two seeds; `rule` twice as steep as the yardstick, `wild` fails on one seed."""
    curve = np.stack([3.0 * np.exp(-0.03 * rate * np.array(STEPS)) for rate in (2.0, 0.5, 1.0)])
    train = np.broadcast_to(curve[:, None, None], (3, 2, 2, len(STEPS))).copy()
    train[:, 1] -= 5.0
    train[1, 0, 1, 4:] = np.nan
    train = train[: len(optimizers)]
    bound = np.array([[0.0, 0.0], [-5.0, -5.0]])
    tuned = Grid(
        ({"learning_rate": 1e-3}, {"learning_rate": 1e-2}), (0, 1), ((1.0, None), (0.5, 0.25))
    )
    given = dict(
        suite="two & more",
        fingerprint="",
        optimizers=tuple(optimizers),
        tasks=("first", "second"),
        seeds=(0, 1),
        eval_steps=STEPS,
        train_loss=train,
        test_loss=train + 0.5,
        lower_bound=bound,
        diverged=stats.find_diverged(train, np.broadcast_to(bound, train.shape[:-1])),
        seconds_per_step=np.full((len(optimizers), 2), 1e-5),
        grids={"adam (tuned)": tuned} if grids else {},
        settings={"steps": 100},
        versions={"jax": "0.0"},
    )
    return Report(**(given | changes))


@pytest.fixture(scope="module")
def text():
    return module.html(make_report())


class Balance(HTMLParser):
    """Raises where a closing tag does not match; collects tags, attributes and table cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_is_well_formed(text):
    found = Balance(text)
    assert found.tags.count("h1") == 1
    assert found.tags.count("figure") == 4  # two tasks, training and test
    assert found.tags.count("table") == 6  # verdict, speedup, losses, test losses, grid, time


def test_the_page_asks_for_nothing(text):
    found = Balance(text)
    for name, value in found.attributes:
        assert name not in ("src", "srcset", "action"), (name, value)
        if name.endswith("href"):
            assert value.startswith("#")
    assert not re.search(r"@import|url\((?!#)|fetch\(|<link|<script src", text)


def test_the_page_is_the_same_every_time(text):
    assert module.html(make_report()) == text


def test_verdicts_come_first_and_say_what_they_should(text):
    first = text[text.index("<table") : text.index("</table>")]
    rows = re.findall(r"<tr.*?</tr>", first, flags=re.DOTALL)
    assert len(rows) == 4
    assert "rule &lt;b&gt;" in rows[1] and "2 of 2" in rows[1] and "0 of 4" in rows[1]
    assert "0 of 2" in rows[2] and "1 of 4" in rows[2]
    assert 'class="yardstick"' in rows[3]


def test_runs_left_out_for_a_diverged_yardstick_are_told():
    report = make_report()
    assert "leave these out" not in module.table(report) + module.html(report)
    train = report.train_loss.copy()
    train[2, 1, :, -1] = np.nan
    train[2, 0, 0, -1] = np.nan
    bound = np.broadcast_to(report.lower_bound, train.shape[:-1])
    report = make_report(train_loss=train, diverged=stats.find_diverged(train, bound))
    told = "adam (tuned) diverged in 3 of 4 runs"
    assert told in module.table(report) and told in module.html(report)
    assert re.search(r"rule <b> .* 1/1 ", module.table(report))
    assert "nan" not in module.table(report) + module.html(report)


def test_names_are_escaped(text):
    assert "<b>" not in text
    assert "two &amp; more" in text


def test_grids_show_the_rate_taken_and_what_diverged(text):
    grid = text[text.index("Tuned baselines") :]
    assert re.search(r'<td class="best">1</td><td>diverged</td>', grid)
    assert re.search(r'<td>0.5</td><td class="best">0.25</td>', grid)
    assert "None: every optimizer" in module.html(make_report(grids=False))


def test_diverged_runs_are_marked_in_tables_and_curves(text):
    losses = text[text.index("<h2>Final training loss") : text.index("<h2>Learning curves")]
    assert "1 of 2 diverged" in losses
    series = module._series(make_report(), make_report().train_loss, 1, 0)
    assert series.ends.tolist() == [[30.0, pytest.approx(3.0 * np.exp(-0.45))]]
    assert np.isfinite(series.middle[:4]).all() and np.isnan(series.middle[4:]).all()


def test_curves_are_drawn_above_the_bound(text):
    series = module._series(make_report(), make_report().train_loss, 0, 1)
    assert series.middle == pytest.approx(3.0 * np.exp(-0.06 * np.array(STEPS)), rel=1e-5)
    assert "training loss above its bound" in text


def test_everything_diverged_still_gives_a_page():
    lost = np.full((3, 2, 2, len(STEPS)), np.nan)
    lost[..., 0] = 1.0
    report = make_report(train_loss=lost, test_loss=lost, diverged=np.ones((3, 2, 2), bool))
    assert "diverged" in module.html(report)
    assert "diverged" in module.table(report)


def test_unbounded_negative_losses_give_a_page():
    report = make_report(lower_bound=np.full((2, 2), np.nan))
    assert "–" not in module.table(report)  # the first task is positive: it has a ratio
    Balance(module.html(report))


def test_one_optimizer_alone_is_its_own_yardstick():
    alone = make_report(optimizers=("rule",), grids=False)
    assert alone.yardstick == 0
    assert alone.verdicts[0].ratio == pytest.approx(1.0)
    Balance(module.html(alone))


def test_the_text_table():
    lines = module.table(make_report()).splitlines()
    assert lines[0] == "suite two & more: 2 tasks, 100 steps, 2 seeds; against adam (tuned)"
    row = next(line for line in lines if line.startswith("wild"))
    assert "0/2" in row and "1/4" in row
    assert any(line.startswith("first") and line.count("*") == 1 for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_write_html(tmp_path, text):
    path = module.write_html(make_report(), tmp_path / "new")
    assert path.name == "report.html"
    assert path.read_text(encoding="utf-8") == text


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(module.MissingExtra, match=r"pip install 'learned-opt\[report\]'"):
        module.write_html(make_report(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert module.table(make_report())


def test_figures_take_the_colours_of_the_page():
    x = np.array([0.0, 1.0])
    lines = [figures.Series(style, x, x + 1, x + 1, x + 2) for style in (None, 0, 11)]
    svg = figures.draw(lines, 'a "quoted" <label>', "loss")
    assert svg.startswith("<svg") and "<metadata" not in svg
    assert "currentColor" in svg and "var(--c0)" in svg and "var(--c1)" in svg
    assert not re.search(r"#f[de]00", svg)
    assert 'aria-label="a &quot;quoted&quot; &lt;label>"' in svg


def test_cells_sort_by_value_and_shade_by_sign():
    assert page._cell(page.Cell("x", np.nan)) == '<td data-value="Infinity">x</td>'
    assert "--good) / 0.35" in page._cell(page.Cell("x", shade=1.0))
    assert "--bad) / 0.17" in page._cell(page.Cell("x", shade=-0.5))
