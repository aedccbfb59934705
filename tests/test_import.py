"""Importing pyro_scenes changes nothing for whoever imports it."""

import json
import os
import subprocess
import sys
from pathlib import Path

# Run in a fresh interpreter. What pyro_scenes stands on is imported first: its doings are not ours.
PROBE = """
import importlib, json, logging, random, sys, warnings
import jaxtyping, numpy, pyro, pyro.infer, pyro.nn, pyro.optim, torch, tqdm

def loggers():
    return {name: logging.getLogger(name) for name in [None, *logging.root.manager.loggerDict]}

def state():
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "numpy's random state": repr(numpy.random.get_state()),
        "python's random state": repr(random.getstate()),
        "pyro's settings": repr(pyro.settings.get()),
        "pyro's parameters": sorted(pyro.get_param_store().keys()),
        "validation": torch.distributions.Distribution._validate_args,
        "default dtype and device": f"{torch.get_default_dtype()} {torch.get_default_device()}",
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "warning filters": repr(warnings.filters),
        "logging": {str(name): [log.level, len(log.handlers)] for name, log in known.items()},
        "heavy imports": sorted({"arviz", "matplotlib", "torchvision"} & set(sys.modules)),
    }

known = loggers()
for module in sys.argv[1:]:
    before = state()
    importlib.import_module(module)
    after = state()
    print(json.dumps([name for name in before if before[name] != after[name]]))
"""

OFFENDER = """
import logging, warnings
import matplotlib, pyro, torch

torch.manual_seed(0)
pyro.settings.set(validate_poutine=not pyro.settings.get("validate_poutine"))
torch.set_default_dtype(torch.float64)
warnings.simplefilter("ignore")
logging.basicConfig(level=10)
"""


def changed_by_importing(*modules: str, folder: Path) -> list[list[str]]:
    """What importing each module changes, after those before it; they stand in the folder or in ours."""
    command = [sys.executable, "-c", PROBE, *modules]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_importing_changes_nothing_and_a_change_would_be_noticed(tmp_path: Path):
    (tmp_path / "made_up.py").write_text(OFFENDER)
    ours, changed = changed_by_importing("pyro_scenes", "made_up", folder=tmp_path)
    assert ours == []
    assert changed == [
        "torch's random state",
        "pyro's settings",
        "default dtype and device",
        "warning filters",
        "logging",
        "heavy imports",
    ]
