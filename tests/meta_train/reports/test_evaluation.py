import dataclasses
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.reports import STEPS, make_report

from meta_train.evaluation import stats
from meta_train.reports import (
    evaluation as module,
    evaluation_figures as report_figures,
    evaluation_tables as report_tables,
    evaluation_text as report_text,
    figures,
    page,
    wording,
)

VOID = {"meta", "br", "line", "path", "use", "rect", "image"}


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
    # Two tasks, training and test; three profiles; budgets.
    assert found.tags.count("figure") == 8
    # Scores, heat map, validation, comparison, times to target, other scores, times, what
    # diverged, which trials did, training losses, test losses, grid.
    assert found.tags.count("table") == 12
    for table in re.findall(r"<table.*?</table>", text, flags=re.DOTALL):
        heads = table.count('<th scope="col">')
        rows = [row.count("<td") for row in table.split("<tr")]
        assert heads and set(rows) <= {0, heads}


def test_the_page_asks_for_nothing(text):
    found = Balance(text)
    for name, value in found.attributes:
        assert name not in ("src", "srcset", "action"), (name, value)
        if name.endswith("href"):
            assert value.startswith("#")
    assert not re.search(r"@import|url\((?!#)|fetch\(|<link|<script src", text)


def test_a_run_that_ends_high_says_what_its_limit_was():
    run = np.array([2.0, 3.0, 40.0])
    told = report_tables._reason(run, 21.0, (0, 5, 10))
    assert told == "ended at 40, above 21 (ten times its start plus 1)"
    first = report_tables._reason(np.array([np.nan, 1.0]), np.nan, (0, 5))
    assert first == "a loss that is not finite at step 0"


def test_every_number_of_the_score_table_is_in_the_json(text, tmp_path):
    make_report().save(tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    verdict = found["verdicts"]["rule <b>"]
    cells = (verdict["ratio"], verdict["speedup"], verdict["wall_clock_speedup"])
    assert all(f">{cell:.2f}×<" in text for cell in cells)
    assert f"{verdict['improvement']:.0%}" in text
    assert found["ranking"] == ["rule <b>", "adam (tuned)", "wild"]
    assert found["comparisons"]["rule <b>"]["wild"]["wins"] == 2
    assert list(found["budgets"])[0] == "rule <b>, one setting"


def test_the_verdict_is_a_sentence_before_all_tables(text):
    verdict = re.search(r'<p class="verdict">(.*?)</p>', text)
    assert verdict and verdict.end() < text.index("<table")
    for said in (
        "rule &lt;b&gt; reaches adam (tuned), the best of 2 trials for each task, on 2 of 2 tasks.",
        "faster",
        "2% above the yardstick&#x27;s on 0 of 2 tasks, 1.45× in the median.",
    ):
        assert said in verdict.group(1)


def test_the_verdict_on_a_failure_says_how_many_tasks_and_the_worst():
    """`wild` in the place of the one looked at."""
    report = make_report(optimizers=("wild", "rule <b>", "adam (tuned)"))
    runs = {
        name: getattr(report, name)[[1, 0, 2]] for name in ("train_loss", "test_loss", "diverged")
    }
    told = wording.headline(dataclasses.replace(report, **runs))
    assert told.startswith("wild reaches adam (tuned), the best of 2 trials for each task, on 0 of")
    assert "0 of 2 tasks and does not on 2; 1 of 4 runs diverged." in told
    worst = np.sqrt((31.0 / (3.0 * np.exp(-3.0))) * np.exp(1.5))  # the limit of a start at 3
    assert f"in the median of the tasks, {worst:.2f}× at the worst, on first." in told
    assert "slower" in told


def test_results_without_validation_have_no_such_columns():
    report = make_report(trial_test_loss={})
    assert "validation" not in module.table(report) + wording.headline(report)
    assert "validation" not in report_tables.scores(report).split("What the columns mean")[0]
    assert "Not recorded by the version" in module.html(report)


def test_scores_begin_with_ratio_and_speedup_and_keep_forms_apart(text):
    first = text[text.index("<table") : text.index("</table>")]
    assert re.findall(r'class="group"[^>]*>([^<]*)', first) == [
        "Learned",
        "Hand-designed, constant rate",
        "Hand-designed, rate on a schedule",
    ]
    heads = re.findall(r'<th scope="col">(.*?)</th>', first)
    assert [head.split(",")[0] for head in heads[:3]] == [
        "optimizer",
        "final loss ratio",
        "speedup in steps",
    ]
    assert heads[3:7] == [
        "tasks that did not reach adam (tuned)",
        "diverged runs",
        "validation loss over adam (tuned)'s best by validation<br>median",
        "tasks within 2%<br>by validation",
    ]
    rows = [row for row in re.findall(r"<tr.*?</tr>", first, flags=re.DOTALL) if "<td" in row]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    assert [row[3:5] + row[6:7] + row[-1:] for row in cells] == [
        ["0 of 2", "0 of 4", "0 of 2", "1"],
        ["0 of 2", "0 of 4", "2 of 2", "2"],
        ["2 of 2", "1 of 4", "0 of 2", "1"],
    ]
    assert cells[1][1:3] == ["1.00×<small>worst 1.00×</small>", "1.00×<small>1.00 to 1.00</small>"]
    assert "rule &lt;b&gt;" in rows[0] and 'class="yardstick"' in rows[1] and "wild" in rows[2]
    assert 'class="group"' not in report_tables.scores(make_report(forms={}))


def test_runs_left_out_for_a_diverged_yardstick_are_told():
    report = make_report()
    assert "leave these out" not in module.table(report) + report_tables.scores(report)
    train = report.train_loss.copy()
    train[2, 1, :, -1] = np.nan
    train[2, 0, 0, -1] = np.nan
    bound = np.broadcast_to(report.lower_bound, train.shape[:-1])
    report = make_report(train_loss=train, diverged=stats.find_diverged(train, bound))
    told = "adam (tuned) diverged in 3 of 4 runs"
    page = module.html(report)
    assert told in module.table(report) and told in page
    assert re.search(r"rule <b> .* 1/1", module.table(report))
    assert "nan" not in module.table(report) + page


def test_seen_tasks_are_drawn_beside_unseen_ones(text):
    both = "".join(module._budgets(make_report(), make_report(suite="seen")))
    assert text.count("<figcaption>two &amp; more: lower is better") == 1
    cards = re.findall(r"<figcaption>([^<]*): lower is better", both)
    assert cards == ["seen", "two &amp; more"]
    assert "Left: seen, tasks of meta-training" in both and "Left: seen" not in text


def test_names_are_escaped(text):
    assert "<b>" not in text
    assert "two &amp; more" in text


def test_grids_show_the_rate_taken_and_what_diverged(text):
    grid = text[text.index("Tuned baselines") :]
    assert re.search(r'<td class="best">1</td><td>diverged</td>', grid)
    assert re.search(r'<td>0.5</td><td class="best">0.25</td>', grid)
    assert "None: every optimizer" in report_tables.grids(make_report(grids=False))


def test_diverged_runs_are_marked_in_tables_and_curves(text):
    heat = text[text.index("<h2>Final loss, tasks by") : text.index("<h2>Learning curves")]
    assert re.search(r"<td[^>]*>[0-9.]+×</td>", heat)
    losses = text[text.index("<h2>Losses") :]
    assert "1 of 2 diverged" in losses
    why = text[text.index("<h2>What diverged") : text.index("<h2>Losses")]
    assert "not finite at step 40, 1.91 at the measurement before" in why
    assert "<td>first</td><td>0.01</td>" in why
    series = report_figures._series(make_report(), make_report().train_loss, 1, 0)
    assert series.ends.tolist() == [[30.0, pytest.approx(3.0 * np.exp(-0.45))]]
    assert np.isfinite(series.middle[:4]).all() and np.isnan(series.middle[4:]).all()


def test_curves_are_drawn_above_the_bound(text):
    series = report_figures._series(make_report(), make_report().train_loss, 0, 1)
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
    assert re.split(r"  +", row)[-4:] == ["0/2", "28.27", "0/2", "1/4"]
    rule = next(line for line in lines if line.startswith("rule <b>  "))
    assert re.split(r"  +", rule)[:4] == ["rule <b>", "0.05", "0.05", "2.00"]
    heads = next(line for line in lines if line.startswith("optimizer"))
    assert re.split(r"  +", heads)[:4] == ["optimizer", "ratio", "task", "speedup"]
    assert "slowest trial of one program took 2.50× as long" in " ".join(lines)
    assert any(line.startswith("first") and line.count("*") == 1 for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_the_text_fits_a_terminal_of_a_hundred_columns():
    names = [f"schedule_free_adamw+warmup_cosine_{n} (tuned)" for n in range(9)]
    report = make_report()
    runs = {
        name: np.repeat(getattr(report, name)[:1], 9, axis=0)
        for name in ("train_loss", "test_loss", "diverged", "seconds_per_step")
    }
    many = dataclasses.replace(report, optimizers=tuple(names), grids={}, trial_loss={}, **runs)
    text = module.table(many)
    assert 90 < max(map(len, text.splitlines())) <= 100
    assert all(text.count(name) >= 2 for name in names)  # one line in each block of scores
    assert len(re.findall(r"^second .*", text, flags=re.MULTILINE)) == 4  # twice two blocks


def test_speedups_task_by_task():
    report = make_report()
    *_, first, second = report_text.speedups(report).splitlines()
    means = report.scores.speedup.mean(axis=2)
    for name, line, t in (("first", first, 0), ("second", second, 1)):
        task, *cells = re.split(r"\s{2,}", line)
        assert task == name
        numbers = [float("nan") if cell == "–" else float(cell) for cell in cells]
        np.testing.assert_allclose(numbers, means[list(report.ranking), t], atol=0.006)


def test_the_page_is_the_same_every_time_and_written_whole(tmp_path, text):
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


def test_the_optimizer_looked_at_is_the_first_that_is_not_the_yardstick():
    report = make_report(optimizers=("adam (tuned)", "rule", "wild"))
    assert (report.yardstick, report.subject) == (0, 1)
    assert wording.headline(report).startswith("rule reaches ")
    assert "rule on the final training loss" in report_tables.comparisons(report)
    alone = make_report(optimizers=("rule",), grids=False)
    assert wording.headline(alone).startswith("rule ran alone")
