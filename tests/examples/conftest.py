"""Examples as programs: called from a shell, and in this process."""

import gc
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyro_scenes.experiment import launch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache of digits for all examples."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def shell(cache):
    """Starts an example as from a shell."""

    def shell(example, *words, folder):
        command = [sys.executable, ROOT / "examples" / f"{example}.py", *words]
        env = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(list(map(str, command)), env=env, cwd=folder, text=True, **pipes)

    return shell


@pytest.fixture(scope="session")
def smoked(shell, tmp_path_factory):
    """The folder of an example's smoke test, called from a shell, and what it said; each is called once."""
    results = {}

    def smoked(example):
        if example not in results:
            folder = tmp_path_factory.mktemp(example)
            process = shell(example, "--smoke", "--out", "out", folder=folder)
            stdout, stderr = process.communicate()
            result = SimpleNamespace(stdout=stdout, stderr=stderr, returncode=process.returncode)
            results[example] = folder / "out", result
        return results[example]

    return smoked


@pytest.fixture(scope="session")
def load():
    """A script of the repository as a module: ``load("examples/air_multi_mnist.py")``."""

    def load(path):
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def run(load, cache, tmp_path, monkeypatch, capsys, unchecked):
    """As from a shell, but in this process: most of a process of its own would go into imports."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *args: None)

    def run(example, *words, fails=False, **patches):
        module = load(f"examples/{example}.py")
        for name, value in patches.items():
            monkeypatch.setattr(module, name, value)
        monkeypatch.setattr(sys, "argv", [f"{example}.py", *map(str, words)])
        code = None
        try:
            launch(module.main, module.parser())
        except SystemExit as stopped:
            code = stopped.code
        # The run locks its folder.
        gc.collect()
        out, err = capsys.readouterr()
        assert bool(code) == fails, f"{out}{err}{code}"
        return SimpleNamespace(stdout=out, stderr=f"{err}{code}" if isinstance(code, str) else err)

    return run


@pytest.fixture(scope="session")
def written():
    """The metrics that a run has written into a folder."""
    return lambda out: json.loads(Path(out, "metrics.json").read_text())
