"""One thread unless a test says otherwise: what is compared here is small, and waiting for a second thread is not."""

import pytest
import torch


@pytest.fixture(autouse=True)
def threads():
    """torch.set_num_threads, at 1 to begin with and put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)
