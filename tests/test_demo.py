"""The page of robustdepth.demo in headless Chromium, by clicks, and the sentences of its command line."""

import os
import pathlib
import socket
import subprocess
import sys
import urllib.parse

import cv2
import numpy as np
import pytest

from robustdepth import demo
from robustdepth.prediction import conditioned
from robustdepth.prediction.predictor import Predictor
from tests.conftest import REPOSITORY
from tests.made_up_model import red_model
from tests.prediction_files import SIZE, red, save, save_video

pytestmark = pytest.mark.filterwarnings("default")  # gradio runs here, with warnings of its own
CHROMIUM = pathlib.Path("/usr/bin/chromium")
WAIT = 300_000  # ms; a busy machine
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # 3D views without a GPU


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page with two made-up networks of known depth, the second of another size; its server asks no other machine."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    pytest.importorskip("trimesh", reason="trimesh is not installed")
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        asked, find = [], socket.getaddrinfo
        patch.setattr(
            socket, "getaddrinfo", lambda host, *rest, **more: asked.append(host) or find(host, *rest, **more)
        )
        gradio = demo.import_gradio(str(folder))
        models = {"small": Predictor(red_model(SIZE)), "smaller": Predictor(red_model((16, 32)))}
        page = demo.build_page(gradio, models, folder)
        port = free_port()
        demo.launch(page, "127.0.0.1", port, largest_file=10**6)
        yield f"http://127.0.0.1:{port}"
        page.close()
        assert set(asked) == {"127.0.0.1"}  # its own start does


class User:
    """Somebody with the page open; `requests` are the addresses that the browser asked."""

    def __init__(self, browser, address: str):
        self.page = browser.new_page()
        self.page.set_default_timeout(WAIT)
        self.requests: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda opened: self.requests.append(opened.url))
        self.page.goto(address)
        self.reads("Drop a picture")

    def reads(self, text: str) -> str:
        """The page's sentence, once it holds this text."""
        self.page.wait_for_function("text => document.querySelector('#message')?.innerText.includes(text)", arg=text)
        return self.page.inner_text("#message")

    def drops(self, path: pathlib.Path) -> None:
        self.page.set_input_files("input[type=file]", str(path))

    def chooses(self, label: str, name: str) -> None:
        self.page.get_by_label(label).click()
        self.page.get_by_role("option", name=name, exact=True).click()

    def takes_away(self) -> None:
        self.page.get_by_label("Clear").first.click()
        self.reads("Drop a picture")

    def outside(self) -> set[str | None]:
        """Hosts that were asked, but for this machine."""
        hosts = {urllib.parse.urlsplit(url).hostname for url in self.requests if url.startswith(("http", "ws"))}
        return hosts - {"127.0.0.1"}


@pytest.fixture
def user(browser, address):
    user = User(browser, address)
    yield user
    user.page.close()


def drawn(user: User) -> float:
    """How many colours the 3D view shows: 1 while it is empty."""
    picture = cv2.imdecode(np.frombuffer(user.page.locator("canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR)
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def test_a_picture_under_fog_by_clicks(user, tmp_path):
    user.drops(save(tmp_path / "picture.png", red(40, 80, 120, 160)))
    assert "choose a condition" in user.reads("clear:")
    assert "70 degrees" in user.reads("metric")
    user.chooses("Condition", "fog")
    assert "depth changes by" in user.reads("fog:")
    assert user.page.locator("img").count() >= 5  # two pairs and the difference
    user.page.wait_for_selector("canvas")
    for _ in range(100):
        if (colors := drawn(user)) > 100:
            break
        user.page.wait_for_timeout(300)
    assert colors > 100
    user.chooses("Model", "smaller")
    user.page.get_by_label("Severity").first.fill("0")
    user.page.get_by_label("Severity").first.press("Enter")
    user.reads("changes by 0%")
    assert not user.outside()
    assert any("/assets/" in url for url in user.requests)  # the log is not empty


def test_files_that_cannot_be_used_cost_one_sentence_and_the_page_lives(user, tmp_path):
    for name, content in (("text.jpg", b"no picture\n"), ("empty.jpg", b""), ("broken.mp4", b"x" * 500)):
        (tmp_path / name).write_bytes(content)
        user.drops(tmp_path / name)
        sentence = user.reads(name)
        assert "cannot be used" in sentence
        assert "\n" not in sentence.strip()
        assert user.page.locator("canvas").count() == 0
        user.takes_away()
    (tmp_path / "large.png").write_bytes(bytes(2 * 10**6))
    user.drops(tmp_path / "large.png")
    user.page.get_by_text("exceed the maximum allowed size").first.wait_for()
    user.page.reload()
    user.drops(save(tmp_path / "picture.png", red(40, 80, 120, 160)))
    user.reads("choose a condition")


def test_a_video_becomes_a_film_that_plays(user, tmp_path):
    user.chooses("Condition", "sensor_noise")
    user.drops(save_video(tmp_path / "film.avi", [red(60 + 10 * i, 160) for i in range(6)], rate=5.0))
    user.reads("6 frames, 5 a second")
    film = user.page.locator("video")
    film.wait_for()
    user.page.wait_for_function("document.querySelector('video').readyState >= 2")
    assert film.evaluate("film => [film.videoWidth, film.videoHeight]") == [SIZE[1], 3 * SIZE[0]]
    assert not user.outside()


def test_two_users_at_once_get_their_own(browser, address, user, tmp_path):
    other = User(browser, address)
    user.drops(save(tmp_path / "one.png", red(40, 80, 120, 160)))
    other.drops(save(tmp_path / "two.png", red(90, 90, 90, 90)))
    user.chooses("Condition", "fog")
    first = user.reads("fog:")
    second = other.reads("clear:")
    near = 1 / (160 / 255 + 0.01), 1 / (90 / 255 + 0.01) / 1.001  # one colour has a range of a thousandth
    assert f"Depth from {near[0]:.3g} m" in first
    assert f"Depth from {near[1]:.3g} m" in second
    other.page.close()


def test_a_rendered_street(user, monkeypatch):
    monkeypatch.setattr(conditioned, "STREET", SIZE)
    user.page.get_by_role("button", name="Render a street").click()
    assert "of 35 mm film" in user.reads("camera by EXIF")


def command(*words: str, code: str = "", **environment: str) -> subprocess.CompletedProcess:
    run = "import sys; from robustdepth.__main__ import main; sys.argv[1:1] = ['demo']; main()"
    return subprocess.run(
        [sys.executable, "-c", code + run, *words],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
    )


def test_without_gradio_the_command_says_what_to_install():
    done = command(code="import sys; sys.modules['gradio'] = None\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the page needs gradio: pip install 'robustdepth[demo]'.\n"


def test_a_port_in_use_and_weights_that_are_none_are_told(tmp_path):
    pytest.importorskip("gradio", reason="gradio is not installed")
    (tmp_path / "weights.safetensors").write_bytes(b"none")
    done = command(f"--checkpoint={tmp_path / 'weights.safetensors'}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "weights.safetensors" in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command(f"--port={port}")
    assert done.returncode == 2
    assert f"error: cannot listen on 127.0.0.1:{port}: another program has that port" in done.stderr
