"""What every test stands on: no hub is asked, the same random numbers and sums."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

# Before anything imports torch, here and in what the tests start. Processes that take all cores
# each slow one another to a crawl, and only equal numbers of threads give equal sums to the bit.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

if TYPE_CHECKING:  # without playwright the tests in a browser are skipped, not broken
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes, a file's stay together, and so do those of a host."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_host(item) or str(item.path)))


def _host(item: pytest.Item) -> str | None:
    """Whose server a test shares with those of other files."""
    if "comfyui" in item.path.parts:
        return "comfyui"
    if "webui" in item.path.parts and hasattr(item, "callspec"):
        return item.callspec.params.get("kind")
    return None


@pytest.fixture(autouse=True)
def same_random_numbers():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium, for the front ends of all hosts."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no chromium on this machine: install it to test the front end")
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox is not to be had for root, and the pages are ours.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
