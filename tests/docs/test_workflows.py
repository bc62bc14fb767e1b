"""Workflows are read as GitHub and Read the Docs read them: their keys, their commands, their files and versions."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = {
    "actions/checkout",
    "actions/setup-python",
    "actions/cache",
    "actions/upload-pages-artifact",
    "actions/deploy-pages",
}
LEAST = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]


def read_yaml(path: Path) -> dict[Any, Any]:
    """A file of YAML, in which no key stands twice."""

    class Once(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
        pass

    def build(loader: Any, node: Any) -> dict[Any, Any]:
        pairs = [
            (loader.construct_object(key, deep=True), loader.construct_object(v, deep=True)) for key, v in node.value
        ]
        assert len(dict(pairs)) == len(pairs), f"{path.name}: a key stands twice"
        return dict(pairs)

    Once.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, build)
    found = yaml.load(path.read_text(encoding="utf-8"), Once)
    assert isinstance(found, dict)
    return found


def list_steps_of(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def can_make(command: str) -> bool:
    """Whether the Makefile knows the target of `make TARGET`."""
    words = command.split()
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, check=False)
    return words[0] == "make" and len(words) == 2 and done.returncode == 0


def is_new_enough(version: str) -> bool:
    """Whether a Python is one that the package takes."""
    least = tuple(map(int, LEAST.removeprefix(">=").split(".")))
    return tuple(map(int, version.split("."))) >= least


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_what_github_asks_for(path: Path) -> None:
    workflow = read_yaml(path)
    assert set(workflow) <= {"name", True, "permissions", "concurrency", "jobs"}  # YAML takes "on" for true
    assert set(workflow[True]) <= {"push", "schedule", "workflow_dispatch"}
    assert set(workflow["permissions"]) <= {"contents", "pages", "id-token"}
    for name, job in workflow["jobs"].items():
        assert job["runs-on"].startswith("ubuntu-")
        assert set(job) <= {"needs", "runs-on", "timeout-minutes", "environment", "steps"}
        assert job.get("needs", name) in workflow["jobs"]
    for one in workflow[True].get("schedule", ()):
        assert re.fullmatch(r"[0-5]?\d [0-2]?\d \* \* \*", one["cron"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_of_workflows_name_actions_commands_files_and_versions_that_exist(path: Path) -> None:
    for step in list_steps_of(read_yaml(path)):
        assert len({"run", "uses"} & set(step)) == 1
        if "run" in step:
            assert can_make(step["run"]), step
            continue
        action, version = step["uses"].split("@")
        assert action in ACTIONS
        assert re.fullmatch(r"v\d+", version)
        given = step.get("with", {})
        assert is_new_enough(given.get("python-version", "3.12"))
        for pattern in [*re.findall(r"'([^']+)'", str(given.get("key", ""))), given.get("cache-dependency-path", "")]:
            assert any(ROOT.glob(pattern)) if pattern else True, pattern


def test_pages_serves_the_folder_that_is_built_and_keeps_what_examples_made() -> None:
    site = read_yaml(ROOT / ".github" / "workflows" / "site.yml")
    steps = {step["uses"].split("@")[0]: step["with"] for step in list_steps_of(site) if step.get("with")}
    built = re.search(r'HERE / "(_build)" / "(html)"', (ROOT / "docs" / "build.py").read_text(encoding="utf-8"))
    assert built is not None
    assert steps["actions/upload-pages-artifact"]["path"] == f"docs/{built[1]}/{built[2]}"
    conf = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    kept = re.findall(r'"(?:gallery_dirs|backreferences_dir)": "(.+)"', conf)
    assert steps["actions/cache"]["path"].split() == [f"docs/{name}" for name in kept]
    assert {"pages": "write", "id-token": "write"}.items() <= site["permissions"].items()


def test_a_workflow_runs_the_nightly_list() -> None:
    night = read_yaml(ROOT / ".github" / "workflows" / "nightly.yml")
    assert "schedule" in night[True]
    assert "make test-nightly" in [step.get("run") for step in list_steps_of(night)]
    assert "-m nightly" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_read_the_docs_has_what_it_asks_for() -> None:
    config = read_yaml(ROOT / ".readthedocs.yaml")
    assert set(config) == {"version", "build"}
    assert config["version"] == 2
    assert set(config["build"]) == {"os", "tools", "commands"}
    assert is_new_enough(config["build"]["tools"]["python"])
    assert can_make(config["build"]["commands"][0])
