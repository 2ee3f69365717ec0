"""What one test finds healthy, with a mutant perhaps, no other believes."""

import pytest

from dynamics._health.memory import HEALTHY


@pytest.fixture(autouse=True)
def nothing_remembered():
    HEALTHY.clear()
    yield
    HEALTHY.clear()
