"""The compose files, the Dockerfile and the monitoring's files mean what they say. Needs no container engine."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from prometheus_client import CollectorRegistry
from typer.main import get_command

from prelabel.integrations.http.metrics import Metrics
from prelabel.integrations.label_studio.deliver.counters import PredictCounters
from prelabel.integrations.telemetry.queues import Queues
from prelabel.schemas import Settings
from prelabel.schemas.progress import QueueState
from prelabel.worker.cli import app
from prelabel.worker.telemetry import metrics

ROOT = Path(__file__).parent.parent.parent
BASE, GPU = ROOT / "docker-compose.yml", ROOT / "docker-compose.gpu.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(BASE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = ("adapter", "worker")
NOT_OURS = {"HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN"} | {
    f"AWS_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT_URL", "DEFAULT_REGION")
}
"""Variables that huggingface_hub and boto3 read."""


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment(service: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service.get("environment", {})
    return found


@pytest.mark.parametrize("path", [BASE, GPU], ids=lambda path: path.name)
def test_the_files_keep_to_the_compose_specification(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_old_and_new_compose_can_read_them() -> None:
    # docker-compose 1.28 knows no top-level `name`, no `depends_on: required`, no nested or alternative interpolation;
    # with a `version` it would refuse profiles, and Compose v2 warns of one.
    for path in (BASE, GPU):
        text = path.read_text()
        assert not {"version", "name", "include"} & yaml.safe_load(text).keys()
        assert not re.search(r"\$\{[A-Z_]+:?\+|\$\{[^}]*\$\{|required:", text)


def test_every_variable_is_one_the_settings_read() -> None:
    known = set(NOT_OURS)
    for name, field in Settings.model_fields.items():
        known |= {f"PRELABEL_{name.upper()}", *getattr(field.validation_alias, "choices", [])}
    gpu = yaml.safe_load(GPU.read_text())["services"]["worker"]
    image = set(re.findall(r"\b(PRELABEL_\w+|HF_\w+)=", DOCKERFILE))
    used = {name for service in OURS for name in environment(SERVICES[service])} | set(environment(gpu)) | image
    assert used
    assert used <= known


def test_every_interpolated_variable_is_explained_in_the_example_and_the_other_way_round() -> None:
    used = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", BASE.read_text() + GPU.read_text()))
    assert used == set(example())
    before = ""
    for line in (ROOT / ".env.example").read_text().splitlines():
        if re.match(r"[A-Z0-9_]+=", line):
            assert before.startswith("#") or "=" in before, f"{line} is not explained"
        before = line


def test_defaults_are_the_same_in_the_file_and_in_the_example() -> None:
    defaults = dict(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+):?-([^}]*)\}", BASE.read_text()))
    assert {name: value for name, value in defaults.items() if value} == {
        name: example()[name] for name, value in defaults.items() if value
    }


def test_the_example_holds_no_secret_and_git_ignores_the_real_one() -> None:
    assert [name for name, value in example().items() if value and re.search("PASS|KEY|TOKEN|AUTH|SECRET", name)] == []
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_build_target_and_command_exists() -> None:
    targets = set(re.findall(r"AS ([\w-]+)", DOCKERFILE))
    built = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert built == set(OURS)
    assert built <= targets
    commands = re.findall(r'CMD \["prelabel", "(\w+)"\]', DOCKERFILE)
    assert commands == ["serve", "worker"]
    assert set(commands) <= set(get_command(app).commands)


def test_the_adapter_has_what_makes_small_pictures() -> None:
    extras = re.search(r"requirements\.py (.+?) > /adapter\.txt", DOCKERFILE)
    assert extras
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "requirements.py", *extras[1].split()], capture_output=True, text=True
    )
    asked = {re.split(r"[\[<>=;! ]", line)[0].lower() for line in done.stdout.splitlines()}
    assert "torch" not in asked
    there = {name.replace("_", "-") for name in asked | _required_by(asked)} | {"prelabel"}
    lacks = [
        module
        for module, brought_by in packages_distributions().items()
        if not there & {name.lower().replace("_", "-") for name in brought_by}
    ]
    assert {"torch", "transformers"} <= set(lacks)
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1:])); "  # importing them fails from now on
        "from prelabel.schemas.settings import load_settings; "
        "from prelabel.worker.delivering.thumbnails import ThumbnailMaker; ThumbnailMaker(load_settings()).close()"
    )
    loaded = subprocess.run([sys.executable, "-c", code, *lacks], capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr


def _required_by(names: Iterable[str]) -> set[str]:
    """All that distributions need, and what that needs."""
    found: set[str] = set()
    to_do = list(names)
    while to_do:
        name = to_do.pop()
        for line in requires(name) or ():
            requirement = Requirement(line)
            needed = requirement.name.lower()
            if needed not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                found.add(needed)
                to_do.append(needed)
    return found


def test_every_build_argument_is_declared_and_bases_are_pinned_arguments() -> None:
    declared = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    for path in (BASE, GPU):
        for service in yaml.safe_load(path.read_text())["services"].values():
            assert set(service.get("build", {}).get("args", {})) <= declared
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) - set(re.findall(r"AS ([\w-]+)", DOCKERFILE))
    assert bases == {"${PYTHON_IMAGE}"}
    for name, service in SERVICES.items():
        default = re.fullmatch(r"\$\{[A-Z_]+:-(.+:.+)\}", service["image"])
        assert name in OURS or (default and not default[1].endswith(":latest")), service["image"]


def test_nothing_but_what_the_image_is_built_from_is_sent_to_the_engine() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    sent = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    }
    assert copied == sent
    assert all((ROOT / path).exists() for path in sent)
    assert "**/.env*" in ignore


def test_images_need_no_root_and_no_writable_file_system() -> None:
    last = DOCKERFILE[DOCKERFILE.index("AS runtime") :]
    assert last.count("USER prelabel") == 1
    assert "USER root" not in last
    for name in ("redis", *OURS, "prometheus", "grafana", "flower"):
        service = SERVICES[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "/tmp" in service["tmpfs"], name


def test_services_wait_for_a_healthy_redis_that_keeps_what_it_is_told() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert {"--appendonly yes", "--maxmemory-policy noeviction", '--requirepass "$$REDISCLI_AUTH"'} <= set(
        re.findall(r"--\S+ (?:\"[^\"]*\"|\S+)", command)
    )
    assert SERVICES["redis"]["volumes"] == ["redis-data:/data"]
    for name in OURS:
        assert SERVICES[name]["depends_on"]["redis"]["condition"] == "service_healthy"


def test_nothing_but_label_studio_listens_on_every_address_unless_told() -> None:
    open_to_all = {
        name for name, service in SERVICES.items() for port in service.get("ports", []) if "127.0.0.1" not in port
    }
    assert open_to_all == {"label-studio"}


def test_profiles_are_as_the_documentation_says() -> None:
    assert {name: service.get("profiles") for name, service in SERVICES.items()} == {
        "redis": None,
        "adapter": None,
        "worker": None,
        "label-studio": ["label-studio"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
        "flower": ["flower"],
    }


def test_workers_can_be_scaled_and_each_claims_a_gpu() -> None:
    assert not {"container_name", "ports"} & SERVICES["worker"].keys()
    gpu = yaml.safe_load(GPU.read_text())["services"]["worker"]
    assert gpu["environment"]["PRELABEL_CLAIM_GPU"] == "true"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", "all", ["gpu"])
    assert "state:/state" in SERVICES["worker"]["volumes"]  # where the claims are


def test_the_bundled_label_studio_reaches_the_adapter_and_no_cloud_metadata() -> None:
    variables = environment(SERVICES["label-studio"])
    assert not {"ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED"} & variables.keys()  # both stay on
    banned = [ipaddress.ip_network(text) for text in variables["USER_ADDITIONAL_BANNED_SUBNETS"].split(",")]

    def refused(address: str) -> bool:
        return any(ipaddress.ip_address(address) in network for network in banned)

    assert not refused("172.18.0.4")
    assert not refused("192.168.16.4")
    for address in ("169.254.169.254", "127.0.0.1", "10.0.0.1", "100.100.100.200", "::1", "fd00:ec2::254", "0.0.0.0"):
        assert refused(address), address


# ---- monitoring


def our_metrics() -> set[str]:
    """Every series name that adapter and workers offer."""

    class Client:
        def queue_states(self) -> dict[str, QueueState]:
            return {"bulk": QueueState(1, 1.0)}

        def workers(self) -> list[str]:
            return ["w"]

    registries = [metrics.REGISTRY, Metrics(Client()).registry, CollectorRegistry()]
    PredictCounters(registries[-1])
    families = [family for registry in registries for family in registry.collect()]
    families += Queues(Client().queue_states).collect()
    families += metrics.DeviceMemory(lambda: {"used": 1}).collect()
    names = set()
    for family in families:
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names


def named(expression: str) -> set[str]:
    return set(re.findall(r"\bprelabel_\w+", expression))


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_exist_and_leave_none_out() -> None:
    known = our_metrics()
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/prelabel.json").read_text())
    shown = {name for panel in dashboard["panels"] for target in panel["targets"] for name in named(target["expr"])}
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    rules = alerts["groups"][0]["rules"]
    assert shown | {name for rule in rules for name in named(rule["expr"])} <= known
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in known}
    unseen = families - {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in shown}
    assert unseen == {"prelabel_worker_info"}
    assert all(rule["annotations"].keys() == {"summary", "fix"} for rule in rules)


def test_panels_have_places_and_ids_of_their_own() -> None:
    panels = json.loads((ROOT / "deploy/grafana/dashboards/prelabel.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_prometheus_and_grafana_find_what_they_are_pointed_at() -> None:
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {target["names"][0]: target for job in scrape["scrape_configs"] for target in job["dns_sd_configs"]}
    assert set(targets) == set(OURS)
    for name, target in targets.items():
        assert environment(SERVICES[name])["PRELABEL_METRICS_PORT"] == target["port"]
    assert [(ROOT / "deploy/prometheus" / rules).is_file() for rules in scrape["rule_files"]] == [True]
    grafana = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((grafana / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    used = re.findall(r'"uid": "(prelabel-\w+)"', (ROOT / "deploy/grafana/dashboards/prelabel.json").read_text())
    assert set(used) == {source["uid"]}
    (provider,) = yaml.safe_load((grafana / "dashboards/prelabel.yml").read_text())["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source_path = volume.partition(":")[0]
            assert not source_path.startswith("./") or (ROOT / source_path).exists(), volume
