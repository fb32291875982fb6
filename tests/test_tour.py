"""The notebook docs/tour.ipynb, run from beginning to end; only its training is shrunk."""

import json
import os
import re
import subprocess
import sys

from tests.conftest import REPOSITORY, takes_minutes

SIZE = "config.image_size = (128, 416)\n"


@takes_minutes
def test_the_tour_runs_from_beginning_to_end(tmp_path):
    cells = json.loads((REPOSITORY / "docs" / "tour.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert SIZE in code
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # one device will do
    environment |= {"PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", code.replace(SIZE, "config.image_size = (32, 64)\n")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    errors = dict(re.findall(r"^(\w.*?) +AbsRel (\d\.\d+)$", done.stdout, re.MULTILINE))
    assert list(errors) == ["clear", "fog", "rain at night", "noise"]
    assert float(errors["clear"]) < 0.25
    assert "step 5/5" in done.stdout
    assert re.search(r"Predictor\(.*, step 5: efficientnet_lite0 at 32x64, metric\)", done.stdout)
