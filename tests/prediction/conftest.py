"""The made-up network of known depth that prediction runs meet in these tests."""

import pytest

from robustdepth.prediction.predictor import Predictor
from tests.made_up_model import red_model
from tests.prediction_files import SIZE


@pytest.fixture
def made_up_network(monkeypatch):
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Predictor(red_model(SIZE)))
