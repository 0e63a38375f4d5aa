"""Hostile input, made up by hypothesis: a taste of it in every test run, a campaign on demand.

With `FUZZ=campaign` in the environment, ten thousand cases a test.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}

settings.register_profile("taste", max_examples=150, derandomize=True, database=None, **COMMON)
settings.register_profile("campaign", max_examples=10_000, database=None, **COMMON)
settings.load_profile(os.environ.get("FUZZ", "taste"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a file of tests writes its hostile files."""
    return tmp_path_factory.mktemp("hostile")
