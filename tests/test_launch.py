"""The launch scripts: they parse, their flags exist, the manifest fits its schema."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

import pytest
import yaml

from tests.conftest import REPOSITORY

LAUNCH = REPOSITORY / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
MANIFEST = LAUNCH / "kubernetes" / "jobset.yaml"
TRAINS = {"local.sh", "slurm.sbatch", "tpu_vm.sh"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_can_be_started(path):
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(path, os.X_OK) != (path.name == "slurm_step.sh"), "all but the sourced one are commands"


def known_flags(module: str) -> set[str]:
    """The flags that a binary defines, and absl's --help."""
    code = f"from robustdepth.{module} import define_flags; define_flags(); from absl import flags; print(*flags.FLAGS)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def shown_commands() -> list[str]:
    """Lines of the shell blocks of README.md, continued ones joined, and the usage lines in the scripts' heads."""
    blocks = re.findall(r"```sh\n(.*?)```", (LAUNCH / "README.md").read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for path in SCRIPTS:
        lines += [line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#   ")]
    return lines


def flags_by_user() -> dict[str, list[str]]:
    """Binary, or "config", -> the flags and keys that shown commands and the manifest give to it."""
    container = yaml.safe_load(MANIFEST.read_text())["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    args = container["spec"]["containers"][0]["args"]
    lines = [*shown_commands(), shlex.join(["launch/local.sh", *args])]
    found: dict[str, list[str]] = {"train": [], "evaluate": [], "config": []}
    for line in lines:
        user = re.search(r"launch/(local\.sh|slurm\.sbatch|slurm_evaluate\.sbatch|tpu_vm\.sh)(.*)", line)
        if not user:
            continue
        for flag in re.findall(r"--([\w.]+)", user[2]):
            if flag.startswith("config."):
                found["config"].append(flag.removeprefix("config."))
            else:
                trains = user[1] in TRAINS and not user[2].startswith(" evaluate ")
                found["train" if trains else "evaluate"].append(flag)
    return found


def test_shown_commands_and_the_manifest_use_flags_that_exist():
    from configs import base
    from robustdepth.runtime.config import flatten

    found = flags_by_user()
    assert set(found["train"]) >= {"config", "workdir", "distributed"}
    assert set(found["evaluate"]) >= {"workdir", "protocols", "output"}
    for user in ("train", "evaluate"):
        assert set(found[user]) <= known_flags(user)
    assert set(found["config"]) <= flatten(base.get_config()).keys()


def test_shown_files_exist():
    text = "\n".join([(LAUNCH / "README.md").read_text(), MANIFEST.read_text(), *(p.read_text() for p in SCRIPTS)])
    shown = set(re.findall(r"(?:launch|configs)/[\w/]+\.(?:sh|sbatch|yaml|py)", text)) - {"configs/NAME.py"}
    assert {"launch/local.sh", "launch/kubernetes/jobset.yaml", "launch/sweep.py"} <= shown
    assert [name for name in sorted(shown) if not (REPOSITORY / name).is_file()] == []


def strict(schema):
    """The schema with unknown fields refused, as `kubectl apply --server-side` refuses them."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema and "type" in schema:
        schema["additionalProperties"] = False
    return schema


@pytest.fixture(scope="module")
def validator():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema, which checks the JobSet manifest, is missing")
    schema = strict(json.loads((REPOSITORY / "tests" / "fixtures" / "jobset_schema.json").read_text()))
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_jobset_manifest_fits_its_schema(validator):
    manifest = yaml.safe_load(MANIFEST.read_text())
    assert [error.message for error in validator.iter_errors(manifest)] == []
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("backoffLimit: 0", "backofLimit: 0"),
        ("action: FailJobSet", "action: Fail"),
        ("parallelism: 2", 'parallelism: "2"'),
        ("      - name: disrupted #", "      - title: disrupted #"),
    ],
)
def test_the_schema_refuses_a_manifest_with_a_mistake(validator, old, new):
    text = MANIFEST.read_text()
    assert old in text
    assert list(validator.iter_errors(yaml.safe_load(text.replace(old, new))))


def test_the_manifest_gives_every_host_what_training_needs_to_find_the_others():
    from robustdepth.runtime.job import Job, find_job

    manifest = yaml.safe_load(MANIFEST.read_text())
    (hosts,) = manifest["spec"]["replicatedJobs"]
    job = hosts["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    values = {  # what Kubernetes and JobSet put into the annotations and into the environment of pod 1
        "metadata.annotations['jobset.sigs.k8s.io/jobset-name']": manifest["metadata"]["name"],
        "metadata.annotations['jobset.sigs.k8s.io/replicatedjob-name']": hosts["name"],
    }
    environment = {"JOB_COMPLETION_INDEX": "1"}
    for entry in container["env"]:
        environment[entry["name"]] = entry.get("value") or values[entry["valueFrom"]["fieldRef"]["fieldPath"]]
    found = find_job("kubernetes", Job("explicit", processes=0, process=-1), environment)
    assert found.processes == job["parallelism"] == job["completions"]
    assert found.process == 1
    assert found.coordinator == f"robustdepth-hosts-0-0.robustdepth:{container['ports'][0]['containerPort']}"
    assert container["command"] == ["launch/local.sh"]


@pytest.fixture
def fake_python(tmp_path) -> pathlib.Path:
    """Stands for the interpreter: notes its arguments, then does what $DO says."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/calls\neval "$DO"\n')
    path.chmod(0o755)
    return path


def local(fake_python: pathlib.Path, *flags: str, **environment: str) -> subprocess.Popen:
    variables = os.environ | {"PYTHON": str(fake_python)} | environment
    return subprocess.Popen([LAUNCH / "local.sh", *flags], env=variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("action", "status"), [("exit 0", 75), ("touch $RUN/finished", 0), ("exit 2", 2)])
def test_local_ends_with_zero_only_once_the_run_is_finished(fake_python, tmp_path, action, status):
    process = local(fake_python, f"--workdir={tmp_path}", "--config.a=b c", DO=action, RUN=str(tmp_path))
    process.communicate(timeout=60)
    assert process.returncode == status
    assert (tmp_path / "calls").read_text() == f"-m robustdepth.train --workdir={tmp_path} --config.a=b c\n"


@pytest.mark.parametrize("status", [0, 2])
def test_local_evaluates_with_the_status_of_the_evaluation(fake_python, tmp_path, status):
    process = local(fake_python, "evaluate", "--workdir=w", "--output=o", DO=f"exit {status}", PROCESSES="2", PORT="9")
    process.communicate(timeout=60)
    assert process.returncode == status
    common = "-m robustdepth.evaluate --workdir=w --output=o --distributed=explicit --coordinator=localhost:9"
    lines = [f"{common} --processes=2 --process={i}" for i in (0, 1)]
    assert sorted((tmp_path / "calls").read_text().splitlines()) == lines


def test_local_hands_sigterm_on_to_every_process_and_waits_for_them(fake_python, tmp_path):
    action = 'trap "echo saved >> $RUN/calls; exit 0" TERM; echo ready >> $RUN/calls; while :; do sleep 0.05; done'
    process = local(fake_python, f"--workdir={tmp_path}", DO=action, RUN=str(tmp_path), PROCESSES="2", PORT="1234")
    calls = tmp_path / "calls"
    while not calls.exists() or calls.read_text().count("ready") < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 75
    lines = calls.read_text().splitlines()
    assert lines.count("saved") == 2
    common = (
        f"-m robustdepth.train --workdir={tmp_path} --distributed=explicit --coordinator=localhost:1234 --processes=2"
    )
    assert sorted(line for line in lines if line.startswith("-m")) == [f"{common} --process={i}" for i in (0, 1)]


@pytest.mark.parametrize(
    ("flags", "environment", "sentence"),
    [((), {}, "no --workdir=DIR"), (("--workdir=x",), {"PROCESSES": "two"}, "PROCESSES=two is not a number")],
)
def test_local_refuses_what_cannot_be_started(fake_python, flags, environment, sentence):
    process = local(fake_python, *flags, DO="exit 0", **environment)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert sentence in err


def test_tpu_hosts_get_the_flags_as_they_were_given(tmp_path):
    """`gcloud` is replaced by a command that notes its arguments; the last one is what the hosts' shells run."""
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {tmp_path}/words\n')
    gcloud.chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GCLOUD_FLAGS": "--project=p"}
    flags = ["--config=c.py", "--config.image_size=(64, 208)", "--workdir=/mnt/run"]
    subprocess.run([LAUNCH / "tpu_vm.sh", "train", "pod", "us-x", *flags], env=variables, check=True, timeout=60)
    *words, command = (tmp_path / "words").read_text().splitlines()
    assert shlex.join(words) == "compute tpus tpu-vm ssh pod --zone=us-x --worker=all --project=p"
    start, given = command.removeprefix("--command=").split("launch/local.sh ")
    assert start == "cd robustdepth && PYTHON=.venv/bin/python "
    assert shlex.split(given) == ["--distributed=tpu", *flags]
    subprocess.run([LAUNCH / "tpu_vm.sh", "evaluate", "pod", "z", "--output=o"], env=variables, check=True, timeout=60)
    given = (tmp_path / "words").read_text().split("launch/local.sh ")[1]
    assert shlex.split(given) == ["evaluate", "--distributed=tpu", "--output=o"]
    done = subprocess.run([LAUNCH / "tpu_vm.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "launch/tpu_vm.sh setup NAME ZONE" in done.stderr
