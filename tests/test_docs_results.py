"""The pages of the measured results: what is recorded, what is shown, and that both agree."""

import re

import pytest

from benchmarks.results_pages import FOLDER, ROOT, by_condition, load, pages
from robustdepth.errors import UserError

TOPICS, TABLES = load()


def test_pages_are_those_that_the_records_give():
    for path, text in pages().items():
        assert path.read_text() == text, f"{path.name} is out of date: python -m benchmarks.results render"


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_number_of_an_answer_was_measured(topic):
    values = [value for name in topic.tables for row in TABLES[name]["rows"] for value in row.values()]
    measured = [float(number) for value in values for number in re.findall(r"\d+\.\d+", str(value))]
    for number in re.findall(r"\d+\.\d+", topic.answer + topic.readme):
        decimals = len(number.split(".")[1])
        assert any(f"{value:.{decimals}f}" == number for value in measured), f"{number} stands in no table of the topic"


def test_conditions_stand_in_columns():
    rows = [
        {"protocol": "world", "images": 9, "one": 0.2, "better baseline": 0.5},
        {"protocol": "world, fog", "images": "", "one": 0.25},
        {"protocol": "world, jpeg", "images": "", "one": 0.35},
        {"protocol": "world, mce", "images": "", "one": 90.0},
        {"protocol": "world, mrr", "images": "", "one": 95.5},
        {"protocol": "world[night(0.7-0.7)][alignment=none]", "images": 9, "one": 0.4, "better baseline": 0.6},
    ]
    corrupted, weather = by_condition(rows)
    numbers = {"clear": "0.200", "mean": "0.300", "fog": "0.250", "jpeg": "0.350", "mRR": 95.5}
    assert corrupted == [
        {"protocol": "world", "model": "one"} | numbers,
        {"protocol": "world", "model": "better baseline", "clear": "0.500"},
    ]
    assert weather == [
        {"protocol": "world[alignment=none]", "model": "one", "night": "0.400"},
        {"protocol": "world[alignment=none]", "model": "better baseline", "night": "0.600"},
    ]


def test_a_table_without_a_topic_is_refused(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "topics.yaml").write_text("{}")
    (folder / "stray.json").write_text('{"rows": []}')
    with pytest.raises(UserError, match=r"stray\.json is in no topic: add \"stray\" to the tables"):
        load(tmp_path)


def test_figures_show_the_recorded_bars(tmp_path):
    from benchmarks.results_figures import draw

    topic = next(topic for topic in TOPICS if topic.name == "quickstart")
    draw(topic, TABLES, tmp_path / "bars.svg")
    picture = (tmp_path / "bars.svg").read_text()
    assert all(f">{label}<" in picture for label in ("model", "constant", "train_median", "AbsRel"))
    for other in TOPICS:
        assert (ROOT / FOLDER / f"{other.name}.svg").is_file()
