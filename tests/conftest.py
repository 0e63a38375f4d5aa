"""What every test stands on: no hub is asked, the same random numbers, cores shared fairly."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

# Before anything imports torch. Processes that take all cores each slow one another to a crawl.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

import pytest
import torch

HOSTS = ("comfyui", "webui")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes, a file's stay together, and so do those of a host."""
    for item in items:
        folders = item.path.parts
        group = next((host for host in HOSTS if host in folders), str(item.path))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def same_random_numbers():
    torch.manual_seed(0)
