import jaxtyping
import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def fresh():
    """Each test starts from the same seed, with Pyro's checks on; few threads, as runners are small."""
    torch.set_num_threads(1)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled(True):
        yield


@pytest.fixture
def double():
    """Pyro's TraceEnum_ELBO counts deterministic sites in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def unchecked(monkeypatch):
    """As outside the tests: no shapes are checked, and the functions' own errors show."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
