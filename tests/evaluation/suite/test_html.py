"""The page of a suite: everything inside it, everything escaped, every model and protocol told, the best one bold."""

import base64
import html.parser
import re

import cv2
import numpy as np
import pytest

from robustdepth.evaluation.charts import BARS, LABELS, Row, bar_chart
from robustdepth.evaluation.metrics import DEPTH_METRICS
from robustdepth.evaluation.suite.comparison import best_of, conditions_of, groups_of
from robustdepth.evaluation.suite.html import Picture, render
from robustdepth.evaluation.suite.report import data_uri

HOSTILE = "<script>alert('&')</script>\""
PIXEL = "data:image/jpeg;base64,AAAA"


class Page(html.parser.HTMLParser):
    """All elements as (tag, attributes), the text under each id-less tag path, and cells of the tables."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[tuple[str, str]] = []  # innermost tag, text
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("br", "img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # well-formed: every element is closed in turn

    def handle_data(self, words):
        self.words.append((self.open[-1] if self.open else "", words))
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += f"*{words}*" if self.open[-1] == "b" else words

    def text(self) -> str:
        return " ".join(words for tag, words in self.words if tag != "style")


def metrics(abs_rel: float) -> dict[str, float]:
    values = dict.fromkeys(DEPTH_METRICS, 0.25)
    return values | {"abs_rel": abs_rel, "delta1": 1 - 2 * abs_rel}


def entry(abs_rel: float, alignment: str = "median", **more) -> dict:
    return {
        "title": "a title", "alignment": alignment, "count": 5, "expected_count": None, "warnings": [],
        "metrics": metrics(abs_rel), "baselines": {"constant": metrics(0.45), "train_median": metrics(0.3)},
    } | more  # fmt: skip


def corruptions(dee: float, mce: float) -> dict:
    row = {"abs_rel": 0.2, "delta1": 0.6, "dee": dee, "ce": 100 * dee, "rr": 90.0}
    return {
        "severities": [1, 3], "baseline": {"name": "the base", "dee": {"fog": 0.3}}, "blind_dee": 0.4,
        "clean_dee": 0.16, "warnings": ["1 of 18 corruptions"], "mce": mce, "mrr": 90.0,
        "by_corruption": {"fog": row, "dark": row | {"dee": dee / 2}},
    }  # fmt: skip


def report(protocols: dict, size: tuple[int, int] = (64, 208), **facts) -> dict:
    return {
        "protocols": protocols, "model": {"path": "somewhere", "step": 7, "image_size": list(size)} | facts,
        "train_median_origin": "256 worlds", "versions": {"jax": "1.2.3"},
    }  # fmt: skip


def content(models: dict, missing=(), failed=()) -> dict:
    return {"date": "2030-01-02 03:04", "models": models, "missing": list(missing), "failed": list(failed)}


def test_everything_is_said_and_nothing_is_fetched():
    few = {"warnings": ["3 instead of 500"]}
    models = {
        "weather": report({"world": entry(0.11), "drivingstereo_rainy": entry(0.17, **few)}),
        "base": report({"world": entry(0.12), "drivingstereo_rainy": entry(0.15), "make3d": entry(0.31)}, step=9),
    }
    missing = {
        "title": "CADC in snow", "page": "http://cadcd.uwaterloo.ca (labeled data)", "protocols": ["cadc"],
        "need": "add --splits=cadc=FILE", "command": "python -m robustdepth.prepare check_dataset cadc --root=DIR",
    }  # fmt: skip
    failed = {"protocol": "nuscenes_night", "model": "base", "error": "sweeps/x.bin is missing"}
    pictures = {("weather", "world"): [Picture(f"frame {i}: abs_rel 0.{i}00", PIXEL) for i in range(3)]}
    page = Page(render(content(models, [missing], [failed]), pictures))

    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "base")
        assert attributes.get("src", PIXEL).startswith("data:image/")
        assert not any(key.startswith("on") for key in attributes)
        assert not any(key.endswith(":href") for key in attributes)
        if "href" in attributes:  # a link to follow, never a resource; places on this page exist
            assert tag == "a"
            target = attributes["href"]
            assert target.startswith("http") or any(target == f"#{a.get('id')}" for _, a in page.elements)
    assert "url(" not in "".join(words for tag, words in page.words if tag == "style")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    text = page.text()
    said = ["weather", "base", "drivingstereo_rainy", "world 208x64", "make3d", "alignment median", "2030-01-02 03:04"]
    said += ["jax 1.2.3", "256 worlds", "3 instead of 500", "Failed: nuscenes_night of base: sweeps/x.bin is missing"]
    said += ["CADC in snow", missing["command"], missing["need"], "best: frame 0: abs_rel 0.000", "worst: frame 2"]
    assert [words for words in said if words not in text] == []
    assert sum(tag == "img" for tag, _ in page.elements) == 3
    assert "http://cadcd.uwaterloo.ca" in [attributes.get("href") for _, attributes in page.elements]


def test_the_best_of_a_line_is_bold_and_a_model_below_the_baselines_is_marked():
    models = {
        "a": report({"world": entry(0.11), "make3d": entry(0.31)}),
        "b": report({"world": entry(0.12), "make3d": entry(0.33)}),
    }
    rows = Page(render(content(models), {})).rows
    assert ["world 208x64", "5", "*0.110*", "*0.780*", "0.120", "0.760", "0.300", "0.400"] in rows
    assert ["make3d", "5", "*0.310*†", "*0.380*†", "0.330†", "0.340†", "0.300", "0.400"] in rows
    assert next(row for row in rows if row[0] == "a" and len(row) == 10)[1:4] == ["*0.110*", "*0.250*", "*0.250*"]


def test_metrics_of_one_protocol_alone_have_a_column_there():
    world = entry(0.11)
    for values in (world["metrics"], *world["baselines"].values()):
        values |= {"boundary_f1": 0.5, "another": 0.5}
    rows = Page(render(content({"a": report({"world": world, "make3d": entry(0.31)})}), {})).rows
    assert [row[-2:] for row in rows if row[1:2] == ["AbsRel ↓"]] == [
        ["boundary F1 ↑", "another ↓"], ["log10 ↓", "SI log ↓"],
    ]  # fmt: skip


def test_one_model_alone_is_not_the_best():
    assert "<b>0." not in render(content({"a": report({"world": entry(0.11)})}), {})
    assert best_of({"a": 1.0}) == set()
    assert best_of({"a": 1.0, "b": 2.0, "c": 2.0}, higher=True) == {"b", "c"}


def test_other_alignments_and_sizes_are_other_lines():
    models = {
        "small": report({"world": entry(0.1)}),
        "large": report({"world": entry(0.2)}, size=(192, 640)),
        "metric": report({"make3d": entry(0.1, "none")}),
        "relative": report({"make3d": entry(0.2)}),
    }
    conditions = conditions_of(models)
    assert [(c.label, c.alignment, list(c.entries)) for c in conditions] == [
        ("world 208x64", "median", ["small"]), ("world 640x192", "median", ["large"]),
        ("make3d", "none", ["metric"]), ("make3d", "median", ["relative"]),
    ]  # fmt: skip
    assert all(not condition.best("abs_rel") for condition in conditions)
    assert len(groups_of(conditions)) == 4  # nor do they share a chart
    rows = Page(render(content(models), {})).rows
    assert ["make3d", "5", "-", "-", "-", "-", "0.100", "0.800", "-", "-", "0.300", "0.400"] in rows


def test_conditions_under_the_same_rules_share_a_chart():
    names = ["drivingstereo_sunny", "drivingstereo_foggy", "nuscenes_night", "nuscenes_night_500"]
    groups = groups_of(conditions_of({"a": report({name: entry(0.1) for name in names})}))
    assert [[c.name for c in group.conditions] for group in groups] == [names[:2], names[2:3], names[3:]]
    assert "0.1 to 80 m" in groups[1].rules
    assert "any true depth" in groups[2].rules


def test_many_conditions_of_one_dataset_come_without_pictures():
    names = [f"kitti_c_{name}_{severity}" for name in ("fog", "snow") for severity in (1, 2, 3, 4, 5)]
    models = {"a": report({name: entry(0.1) for name in [*names, "make3d"]})}
    pictures = {("a", name): [Picture("frame", PIXEL)] for name in [*names, "make3d"]}
    text = render(content(models), pictures)
    assert text.count("<img ") == 1
    assert "Best and worst frames: a/report.md." in text


def test_hostile_text_stays_text():
    models = {
        HOSTILE: report({"world": entry(0.1, warnings=[HOSTILE], corruptions=corruptions(0.2, 90.0))}, path=HOSTILE)
    }
    missing = {"title": HOSTILE, "page": HOSTILE, "protocols": [HOSTILE], "need": HOSTILE, "command": HOSTILE}
    failed = {"protocol": HOSTILE, "model": HOSTILE, "error": HOSTILE}
    text = render(content(models, [missing], [failed]), {(HOSTILE, "world"): [Picture(HOSTILE, PIXEL)]})
    page = Page(text)
    assert "<script" not in text
    assert all(tag != "script" for tag, _ in page.elements)
    assert any(attributes.get("alt", "").count(HOSTILE) == 2 for tag, attributes in page.elements if tag == "img")
    assert page.text().count(HOSTILE) > 12


def test_corruptions_are_tabulated_and_drawn():
    models = {
        "a": report({"world": entry(0.1, corruptions=corruptions(0.2, 90.04))}),
        "b": report({"world": entry(0.1, corruptions=corruptions(0.18, 80.0))}),
        "c": report({"make3d": entry(0.1)}),
    }
    page = Page(render(content(models), {}))
    assert ["world 208x64", "the base", "90.0", "*90.0*", "*80.0*", "*90.0*", "-", "-"] in page.rows
    assert ["fog", "0.200", "0.600", "0.200", "20.0", "90.0", "0.200", "0.600", "*0.180*", "18.0", "90.0"] in page.rows
    assert ["mCE, mRR", "", "90.0", "90.0", "", "80.0", "90.0"] in page.rows
    text = page.text()
    assert "severities 1, 3" in text
    assert text.count("1 of 18 corruptions") == 1
    assert "DEE under corruptions, world 208x64" in text  # a chart's title
    drawn = [words for tag, words in page.words if tag == "text"]
    assert drawn[3:12] == ["clean", "0.160", "0.160", "fog", "0.200", "0.180", "dark", "0.100", "0.090"]


def test_bars_are_as_long_as_their_values_and_follow_the_pages_colours():
    rows = Row("x < y", ((0, 0.2), (9, 0.1)), 0.4), Row("$y$", ((1, 0.0),), 0.3), Row("z", ((1, 0.1),))
    svg = bar_chart("a chart", rows)
    bars = re.findall(r'd="M (\S+) [^"L]+L (\S+) [^"]*" style="fill: var\(--c(\d)\)"', svg)
    assert [colour for *_, colour in bars] == ["0", "1", "1", "1"]  # there are eight
    lengths = [float(right) - float(left) for left, right, _ in bars]
    assert lengths == pytest.approx([BARS / 2, BARS / 4, 0, BARS / 4], abs=0.05)
    marks = re.findall(r'd="M (\S+) [^"]*" style="[^"]*dasharray[^"]*stroke: currentColor', svg)
    assert [float(mark) for mark in marks] == pytest.approx([LABELS + BARS, LABELS + 0.75 * BARS], abs=0.05)
    assert not re.search("#[0-9a-f]{6}", svg)  # black on black, in the dark
    texts = [words for tag, words in Page(svg).words if tag == "text"]
    assert texts == ["x < y", "0.200", "0.100", "$y$", "0.000", "z", "0.100"]


def test_pictures_are_embedded_small(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (4, 8, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.resize(picture, (960, 300)))
    kind, data = data_uri(tmp_path / "a.png", 480).split(",")
    assert kind == "data:image/jpeg;base64"
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (150, 480, 3)
    np.testing.assert_allclose(shown, cv2.resize(picture, (480, 150)), atol=60)
    assert abs(shown.astype(int) - cv2.resize(picture, (480, 150))).mean() < 4  # JPEG
