"""Importing pyro_scenes changes nothing for whoever imports it."""

import json
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
before = state()
importlib.import_module(sys.argv[1])
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


def changed_by_importing(module: str, folder: Path) -> list[str]:
    command = [sys.executable, "-c", PROBE, module]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_importing_changes_nothing():
    assert changed_by_importing("pyro_scenes", Path(__file__).parent.parent) == []


def test_a_change_would_be_noticed(tmp_path: Path):
    (tmp_path / "made_up.py").write_text(OFFENDER)
    changed = changed_by_importing("made_up", tmp_path)
    assert changed == [
        "torch's random state",
        "pyro's settings",
        "default dtype and device",
        "warning filters",
        "logging",
        "heavy imports",
    ]
