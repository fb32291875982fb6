"""Evaluations of several processes, real ones over loopback: the report is that of one process, to the bit."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.checkpoints import save_untrained
from tests.conftest import REPOSITORY, takes_minutes
from tests.evaluation.video.test_temporal import texture
from tests.jobs import finish, free_port, succeed
from tests.recordings import (
    DRIVE,
    point_at,
    truncate,
    write_clip,
    write_image,
    write_kitti_odometry,
    write_kitti_raw,
    write_scan,
)
from tests.tiny import tiny_config

OF_A_RUN = ("seconds", "network_seconds", "outside_network", "timing", "devices")  # what may differ
DEVICES = 2  # of every process


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("model") / "run"
    save_untrained(tiny_config(views=("previous", "next")), folder)
    np.savez(folder / "train_median.npz", depth=np.linspace(60, 6, 32, dtype=np.float32)[:, None] * np.ones((1, 64)))
    return folder


def recording(root: pathlib.Path, count: int) -> pathlib.Path:
    write_kitti_raw(root, numbers=range(count), sides="l")
    for number in range(count):
        write_scan(root, number, np.array([point_at(u, 35, 5 + u / 10 + number) for u in range(10, 150, 5)]))
    return root


def start(
    output: pathlib.Path, *flags: str, processes: int = 1, own: dict[int, tuple[str, ...]] | None = None
) -> list[subprocess.Popen]:
    """Starts an evaluation: `flags` for all of its processes, `own` ones for some."""
    port, started = free_port(), []
    for process in range(processes):
        job = (f"--coordinator=127.0.0.1:{port}", f"--processes={processes}", f"--process={process}")
        command = [sys.executable, "-m", "tests.evaluation_worker", f"--output={output}", *flags]
        started.append(
            subprocess.Popen(
                [*command, *(job if processes > 1 else ()), *(own or {}).get(process, ())],
                cwd=REPOSITORY,
                env=os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def of_the_model(content: object) -> object:
    """A report without what differs from run to run."""
    if isinstance(content, dict):
        return {key: of_the_model(value) for key, value in content.items() if key not in OF_A_RUN}
    return [of_the_model(value) for value in content] if isinstance(content, list) else content


def report(output: pathlib.Path) -> dict:
    content = of_the_model(json.loads((output / "report.json").read_text()))
    assert isinstance(content, dict)
    return content


def same_reports(folder: pathlib.Path, *flags: str, processes: int = 2) -> dict:
    """The report of one process, once that of several is found to be the same, with every picture."""
    for count in (1, processes):
        ended = succeed(start(folder / str(count), *flags, processes=count))
        assert "report:" in ended[0].out
        assert not any("report:" in process.out for process in ended[1:])  # process 0 speaks for all
    alone, shared = folder / "1", folder / str(processes)
    assert report(shared) == report(alone)
    pictures = sorted(path.name for path in (alone / "pictures").glob("*"))
    assert sorted(path.name for path in (shared / "pictures").glob("*")) == pictures
    for name in pictures:
        assert (shared / "pictures" / name).read_bytes() == (alone / "pictures" / name).read_bytes()
    return report(alone)["protocols"]


@takes_minutes
def test_worlds(workdir, tmp_path):
    """Seven in two batches."""
    flags = (f"--workdir={workdir}", "--protocols=world", "--batch_size=4", "--worlds=7")
    found = same_reports(tmp_path, *flags)
    assert [entry["name"] for entry in found["world"]["per_image"]] == [f"world_{i:05d}" for i in range(7)]


def test_a_recording_under_corruptions(workdir, tmp_path):
    """Seven frames in two batches, one of which cannot be read; one process has two corruptions, the other has one."""
    root = recording(tmp_path / "kitti", 7)
    truncate(root / DRIVE / "image_02/data/0000000003.png")
    flags = [f"--workdir={workdir}", "--protocols=kitti_sparse_frames", f"--data_root={root}", "--batch_size=4"]
    found = same_reports(tmp_path, *flags, "--corruptions=contrast,gaussian,jpeg", "--severities=4")
    entry = found["kitti_sparse_frames"]
    assert [row["name"][-12:] for row in entry["per_image"]] == [f"{i:010d} l" for i in (0, 1, 2, 4, 5, 6)]
    assert [row["number"] for row in entry["left_out"]] == [3]
    assert len(entry["corruptions"]["by_corruption"]) == 3


def test_fewer_frames_than_processes_in_fog(workdir, tmp_path):
    root = recording(tmp_path / "kitti", 2)
    flags = (f"--workdir={workdir}", "--protocols=kitti_sparse_frames", f"--data_root={root}", "--weather=fog")
    found = same_reports(tmp_path, *flags, "--batch_size=1", "--flip", processes=3)
    assert found["kitti_sparse_frames[fog]"]["count"] == 2


def test_paths_and_videos(workdir, tmp_path):
    """Eleven motions are seen in two batches; each process has one of two clips of footage, beside the sequence."""
    root = tmp_path / "odometry"
    write_kitti_odometry(root, "09", cameras=(2,), count=12)
    for name in "ab":
        write_clip(root / name, count=3)
        for number in range(3):
            write_image(root / name / f"frame_{number + 8}.png", texture(2 * number)[:48])
    flags = (f"--workdir={workdir}", "--protocols=odometry,video_odometry,flicker", f"--data_root={root}")
    found = same_reports(tmp_path, *flags, "--sequence=09")
    assert found["odometry_09"]["count"] == 8
    assert found["video_odometry"]["count"] == 1
    assert [row["name"] for row in found["flicker"]["per_image"]] == ["a", "b"]


@takes_minutes
def test_videos_of_worlds(workdir, tmp_path):
    """In ten groups of five."""
    found = same_reports(tmp_path, f"--workdir={workdir}", "--protocols=video_world")
    assert found["video_world"]["count"] == 50


@takes_minutes
@pytest.mark.parametrize(("task", "protocol"), [("segmentation", "world"), ("stereo", "stereo"), ("depth", "masks")])
def test_networks_of_other_tasks_and_masks(tmp_path, task, protocol):
    config = tiny_config()
    config.task = task
    if protocol == "masks":
        config.loss.proxy = config.loss.mask = 1.0
        config.selective.proxy, config.model.mask_decoder = "sgm", "loss"
    save_untrained(config, tmp_path / "run")
    same_reports(tmp_path, f"--workdir={tmp_path / 'run'}", f"--protocols={protocol}", "--batch_size=2", "--worlds=7")


@takes_minutes
def test_a_suite_goes_on_after_what_one_process_cannot_do(workdir, tmp_path):
    root = recording(tmp_path / "kitti", 3)
    flags = (f"--workdir={workdir}", "--suite=adverse", f"--data_roots=kitti_raw={root}", "--worlds=3")
    flags += ("--batch_size=2", "--protocols=kitti_sparse_frames,world", "--refused=world_00002")
    for process in finish(start(tmp_path / "out", *flags, processes=2)):
        assert process.status == 2, process
        assert "world_00002 is refused." in process.err.splitlines()[-1]
    assert list(json.loads((tmp_path / "out" / "run" / "report.json").read_text())["protocols"]) == [
        "kitti_sparse_frames"
    ]


def test_what_one_process_cannot_do_ends_all_with_its_sentence(workdir, tmp_path):
    root = recording(tmp_path / "kitti", 3)
    flags = (f"--workdir={workdir}", "--protocols=kitti_sparse_frames", f"--data_root={root}", "--batch_size=2")
    refused = f"{DRIVE} 0000000002 l"
    first, second = finish(start(tmp_path / "out", *flags, f"--refused={refused}", processes=2))
    assert (first.status, second.status) == (2, 2), (first, second)
    assert first.err.splitlines()[-1] == f"error: process 1: {refused} is refused."
    assert second.err.splitlines()[-1] == f"error: {refused} is refused."
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_lost_process_ends_the_other(workdir, tmp_path):
    root = recording(tmp_path / "kitti", 3)
    flags = (f"--workdir={workdir}", "--protocols=kitti_sparse_frames", f"--data_root={root}", "--batch_size=2")
    hangs = {1: (f"--hangs={tmp_path / 'hangs'}",)}
    job = start(tmp_path / "out", *flags, "--lost_seconds=20", processes=2, own=hangs)
    while not (tmp_path / "hangs").exists():
        assert all(process.poll() is None for process in job), finish(job)
        time.sleep(0.05)
    job[1].kill()
    left, _ = finish(job)
    assert left.status not in (0, None)
    assert "lost another process" in left.err or "another task died" in left.err
    assert not (tmp_path / "out" / "report.json").exists()


def test_watching_a_training_that_removes_what_one_process_reads(workdir, tmp_path):
    """Process 1 finds step 5 gone, process 0 does not: both take the newer one, as a process alone that finds it."""
    run, root = shutil.copytree(workdir, tmp_path / "run"), recording(tmp_path / "kitti", 3)
    shutil.copytree(run / "checkpoints" / "5", run / "newer")
    (run / "finished").write_text("7\n")
    flags = [f"--workdir={run}", "--watch", "--protocols=kitti_sparse_frames", f"--data_root={root}", "--batch_size=2"]
    first, second = succeed(start(tmp_path / "2", *flags, processes=2, own={1: ("--removed=5",)}))
    assert first.out.count("report:") == 1
    assert "checkpoint of step 5" in second.err
    succeed(start(tmp_path / "1", *flags))
    alone, shared = tmp_path / "1", tmp_path / "2"
    assert [path.name for path in shared.glob("step_*/report.json")] == ["report.json"]
    assert json.loads((shared / "watch.jsonl").read_text())["step"] == 7
    assert (shared / "watch.jsonl").read_bytes() == (alone / "watch.jsonl").read_bytes()
    assert report(shared / "step_00000007") == report(alone / "step_00000007")


@takes_minutes
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_lost_while_watching_ends_the_other(workdir, tmp_path, killed):
    (tmp_path / "run").mkdir()
    shutil.copy(workdir / "config.json", tmp_path / "run")  # no checkpoint yet
    flags = (f"--workdir={tmp_path / 'run'}", "--watch", "--protocols=world", "--lost_seconds=20")
    job = start(tmp_path / "out", *flags, processes=2)
    while not (tmp_path / "out").exists():
        assert all(process.poll() is None for process in job), finish(job)
        time.sleep(0.05)
    job[killed].kill()
    left = finish(job)[1 - killed]
    assert left.status not in (0, None)
    assert "lost another process" in left.err or "another task died" in left.err


def test_recordings_that_differ_between_hosts_are_refused(workdir, tmp_path):
    """Of one block each, which would not tell."""
    flags = (f"--workdir={workdir}", "--protocols=kitti_sparse_frames", "--batch_size=4")
    roots = {process: (f"--data_root={recording(tmp_path / str(process), 3 - process)}",) for process in (0, 1)}
    for process in finish(start(tmp_path / "out", *flags, processes=2, own=roots)):
        assert process.status == 2, process
        assert "process 0 has found 3 items, process 1 2. Give all the same" in process.err.splitlines()[-1]
    assert not (tmp_path / "out" / "report.json").exists()


def test_different_flags_are_refused_on_every_process(workdir, tmp_path):
    flags = (f"--workdir={workdir}", "--protocols=world")
    for process in finish(start(tmp_path / "out", *flags, processes=2, own={1: ("--batch_size=4",)})):
        assert process.status == 2, process
        assert "--batch_size is 16 on process 0 and 4 on process 1" in process.err
        assert "Traceback" not in process.err
    assert not (tmp_path / "out").exists()
