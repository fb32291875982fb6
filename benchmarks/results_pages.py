"""The pages of the results: docs/results.md and one page a topic, from the JSON files and topics.yaml in docs/results.

`python -m benchmarks.results render` writes them, the figures beside them, and the table in the README.
"""

import dataclasses
import json
import pathlib
import re
import textwrap
from typing import Any

import yaml

from robustdepth.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = "docs/results"
WIDTH = 120  # of the pages' lines
README_TABLE = re.compile(
    r"(?<=<!-- results: python -m benchmarks\.results render -->\n).*?(?=<!-- end of results -->)", re.S
)
WEATHER = re.compile(r"\[(\w+)\([\d.]+-[\d.]+\)\]")  # in the name of a protocol under rendered weather
HEAD = ("protocol", "model", "images")
SCORES = ("mce", "mrr")
Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Topic:
    """One page: a question, its answer in a sentence or two, a figure, and the tables that hold the numbers."""

    name: str
    title: str
    question: str
    answer: str
    tables: list[str]
    figure: dict[str, Any]
    readme: str = ""  # a short answer for the README; "": none


def load(root: pathlib.Path = ROOT) -> tuple[list[Topic], dict[str, dict]]:
    """The topics in their order, and all recorded tables by name.

    Raises:
      UserError: a table belongs to no topic, or to none that exists.
    """
    folder = root / FOLDER
    named = yaml.safe_load((folder / "topics.yaml").read_text())
    topics = [Topic(name, **values) for name, values in named.items()]
    tables = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    listed = [name for topic in topics for name in topic.tables]
    for name in sorted(tables.keys() ^ set(listed)):
        raise UserError(
            f'{FOLDER}/{name}.json is in no topic: add "{name}" to the tables of one in {FOLDER}/topics.yaml.'
            if name in tables
            else f"{FOLDER}/topics.yaml lists the table {name}, but {FOLDER}/{name}.json does not exist."
        )
    return topics, tables


def pages(root: pathlib.Path = ROOT) -> dict[pathlib.Path, str]:
    """The text of every page by its path: docs/results.md, one page a topic, and the README with its table."""
    topics, tables = load(root)
    readme = root / "README.md"
    texts = {root / "docs" / "results.md": overview(topics)}
    texts |= {root / FOLDER / f"{topic.name}.md": topic_page(topic, tables) for topic in topics}
    return texts | {readme: README_TABLE.sub(lambda _: readme_table(topics), readme.read_text())}


def overview(topics: list[Topic]) -> str:
    """docs/results.md: every question with its answer, figure and link, and what the data are."""
    parts = []
    for topic in topics:
        parts += [
            f"## {topic.question}\n",
            f"![{topic.title}](results/{topic.name}.svg)\n",
            textwrap.fill(topic.answer, WIDTH),
        ]
        parts += [f"Tables and commands: [results/{topic.name}.md](results/{topic.name}.md).\n"]
    return "\n".join(["# Measured results\n", *parts, (ROOT / FOLDER / "data.txt").read_text()])


def topic_page(topic: Topic, tables: dict[str, dict]) -> str:
    """A topic's page: figure, answer, then for every table what was found, the numbers, and the commands."""
    parts = [
        f"# {topic.title}\n",
        f"![{topic.title}]({topic.name}.svg)\n",
        textwrap.fill(f"**{topic.question}** {topic.answer}", WIDTH) + "\n",
    ]
    for name in topic.tables:
        table = tables[name]
        parts += [f"## {table['title']}\n"]
        parts += [table["note"] + "\n"] if table["note"] else []
        parts += [markdown(part) for part in shown(table["rows"])]
        parts += [f"```sh\n{table['command']}\n```\n"] if table["command"] else []
        parts += [f"[{name}.json]({name}.json): {table['date']}, revision {table['git'][:12]}, {table['machine']}\n"]
    return "\n".join(parts)


def readme_table(topics: list[Topic]) -> str:
    """The questions with short answers, as a Markdown table."""
    lines = ["| question | answer |", "| --- | --- |"]
    for topic in topics:
        if topic.readme:
            lines.append(f"| [{topic.question}](docs/results/{topic.name}.md) | {topic.readme} |")
    return "\n".join(lines) + "\n"


def markdown(rows: Rows) -> str:
    """Rows as a Markdown table; columns in the order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def shown(rows: Rows) -> list[Rows]:
    """The tables that a page shows for recorded rows: conditions stand in columns."""
    if not any(", " in str(row.get("protocol", "")) for row in rows):
        return [rows]
    corrupted, weather = by_condition(rows)
    return [part for part in (corrupted, weather) if part]


def by_condition(rows: Rows) -> tuple[Rows, Rows]:
    """AbsRel with one row for each protocol and model: under the corruptions, and under rendered weather.

    Args:
      rows: as `benchmarks.results.compare` makes them: "PROTOCOL", "PROTOCOL, CORRUPTION" and "PROTOCOL[WEATHER]", with
        one column for each model.
    """
    corrupted: dict[tuple[str, str], dict] = {}
    weather: dict[tuple[str, str], dict] = {}
    for row in rows:
        protocol, _, corruption = row["protocol"].partition(", ")
        found = WEATHER.search(protocol)
        tables, condition = (weather, found[1]) if found else (corrupted, corruption or "clear")
        protocol = WEATHER.sub("", protocol)
        for model in [key for key in row if key not in HEAD]:
            line = tables.setdefault((protocol, model), {"protocol": protocol, "model": model})
            line[condition] = row[model]
    return [with_mean(line) for line in corrupted.values()], [with_mean(line) for line in weather.values()]


def with_mean(line: dict[str, Any]) -> dict[str, Any]:
    """A row of `by_condition` with three decimals, and the mean over its corruptions behind the clear value."""
    values = {key: value for key, value in line.items() if key not in (*HEAD, "clear", *SCORES)}
    means = {"mean": sum(values.values()) / len(values)} if len(values) > 1 and "clear" in line else {}
    clear = {"clear": line["clear"]} if "clear" in line else {}
    numbers = {key: f"{value:.3f}" for key, value in (clear | means | values).items()}
    return {key: line[key] for key in HEAD if key in line} | numbers | ({"mRR": line["mrr"]} if "mrr" in line else {})
