"""The compose file means what it says: its commands, variables and build targets exist."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from typer.main import get_command

from prelabel.schemas import Settings
from prelabel.worker.cli import app

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def known_variables() -> set[str]:
    names = set()
    for name, field in Settings.model_fields.items():
        names.add(f"PRELABEL_{name.upper()}")
        names.update(getattr(field.validation_alias, "choices", []))
    return names | {"HF_HOME", "REDIS_PASSWORD"}


def test_every_variable_is_one_the_settings_read() -> None:
    used = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    assert used
    assert used <= known_variables()


def test_every_build_target_and_command_exists() -> None:
    targets = set(re.findall(r"AS (\w+)", DOCKERFILE))
    built = {service["build"]["target"] for service in COMPOSE["services"].values() if "build" in service}
    assert built == {"adapter", "worker"}
    assert built <= targets
    commands = re.findall(r'CMD \["prelabel", "(\w+)"', DOCKERFILE)
    assert len(commands) == 2
    assert set(commands) <= set(get_command(app).commands)


def test_services_wait_for_a_healthy_redis_that_keeps_what_it_is_told() -> None:
    redis = COMPOSE["services"]["redis"]
    assert {"--appendonly", "--requirepass", "noeviction"} <= set(redis["command"])
    for name in ("adapter", "worker"):
        assert COMPOSE["services"][name]["depends_on"]["redis"]["condition"] == "service_healthy"


def test_images_run_as_an_ordinary_user() -> None:
    assert DOCKERFILE.count("USER prelabel") == 2
