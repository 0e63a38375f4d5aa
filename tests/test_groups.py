"""The tests of a host share one server, so they have to run in one process."""

from __future__ import annotations

import pytest


def test_xdist_sees_the_groups(request: pytest.FixtureRequest) -> None:
    """Where it does not, as under pytest 9.2, every process starts every server."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("not run by --dist loadgroup")
    assert request.node.nodeid.endswith(f"@{request.path}")
