"""Settings: names, defaults, and errors that name the setting and never its value."""

from __future__ import annotations

from pathlib import Path

import pytest

from prelabel.schemas import ConfigError, Settings
from prelabel.schemas.settings import DEFAULT_REVISION, load_settings


def test_the_default_model_is_pinned_and_another_one_is_not() -> None:
    assert load_settings().model == "google/siglip-base-patch16-512"
    assert load_settings().pinned_revision == DEFAULT_REVISION
    assert load_settings(model="google/siglip-so400m-patch14-384").pinned_revision is None


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("PRELABEL_DEVICE", "cpu", "device", "cpu"),
        ("PRELABEL_ALLOW_HOSTS", "Minio:9000, 10.0.0.0/8", "allow_hosts", ("minio:9000", "10.0.0.0/8")),
        ("PRELABEL_IMAGE_ROOTS", "/data:/photos", "image_roots", (Path("/data"), Path("/photos"))),
        ("PRELABEL_IMAGE_ROOTS", "", "image_roots", None),
        ("LABEL_STUDIO_URL", "http://ls:8080/", "label_studio_url", "http://ls:8080"),
        ("LABEL_STUDIO_HOST", "http://ls:8080", "label_studio_url", "http://ls:8080"),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
    ],
)
def test_a_variable_sets_its_field(monkeypatch, variable: str, value: str, field: str, expected) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(load_settings(), field) == expected


def test_label_studio_url_wins_over_the_older_name(monkeypatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_HOST", "http://old")
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://new")
    assert load_settings().label_studio_url == "http://new"


def test_a_bad_value_is_named_by_its_setting_not_shown(monkeypatch) -> None:
    monkeypatch.setenv("PRELABEL_PORT", "s3cret")
    with pytest.raises(ConfigError, match="port") as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)


def test_secrets_do_not_stand_in_the_repr() -> None:
    settings = load_settings(
        redis_url="redis://:s3cret@host/0", label_studio_api_key="s3cret", basic_auth_pass="s3cret"
    )
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in settings.model_dump_json()


def test_a_child_process_gets_the_same_settings_through_its_environment(monkeypatch) -> None:
    settings = load_settings(
        redis_url="redis://:s3cret@host/0",
        image_roots=(Path("/a"), Path("/b")),
        allow_hosts=("ls:8080", "10.0.0.0/8"),
        label_studio_url="http://ls:8080",
        basic_auth_pass="s3cret",
        lease_s=2.5,
        log_level="DEBUG",
    )
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    assert load_settings() == settings


def test_a_child_process_gets_our_settings_though_the_environment_says_otherwise(monkeypatch) -> None:
    settings = load_settings()
    for variable, value in {"PRELABEL_PORT": "9191", "PRELABEL_MODEL": "/x", "PRELABEL_REVISION": "abc"}.items():
        monkeypatch.setenv(variable, value)
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    assert load_settings() == settings


def test_settings_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().model = "x"


def test_the_state_folder_is_the_one_the_environment_names_when_settings_are_made(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert load_settings().state_dir == tmp_path / "prelabel"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_settings().state_dir == tmp_path / "home" / ".local" / "state" / "prelabel"
    assert load_settings(state_dir=tmp_path).state_dir == tmp_path


class TestAUserWithoutAHome:
    """No HOME, and a user id that no passwd file knows."""

    @pytest.fixture
    def homeless(self, monkeypatch) -> None:
        for name in ("HOME", "XDG_STATE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))

    @pytest.mark.usefixtures("homeless")
    def test_is_told_which_setting_takes_its_place(self) -> None:
        with pytest.raises(ConfigError, match=r"no home folder.*PRELABEL_STATE_DIR"):
            load_settings()

    @pytest.mark.usefixtures("homeless")
    def test_needs_none_where_the_state_folder_is_named(self, monkeypatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PRELABEL_STATE_DIR", str(tmp_path))
        assert load_settings().state_dir == tmp_path


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PRELABEL_PORT", "many", "setting port (PRELABEL_PORT): Input should be a valid integer"),
        ("PRELABEL_VECTOR_STORE", "s3", "setting vector_store (PRELABEL_VECTOR_STORE): use disk, off, "),
        ("PRELABEL_DEVICE", "tpu", "setting device (PRELABEL_DEVICE): Input should be"),
    ],
)
def test_an_error_names_the_variable_to_change(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert str(raised.value).startswith(message)


def test_label_studios_address_may_lack_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "localhost:8080/ls/")
    assert load_settings().label_studio_url == "http://localhost:8080/ls"


@pytest.mark.parametrize(
    "variable", ["PRELABEL_MODEL", "PRELABEL_STATE_DIR", "PRELABEL_VECTOR_STORE_DIR", "PRELABEL_IMAGE_ROOTS"]
)
def test_a_home_that_nobody_has_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "~nobody-of-this-name/x")
    with pytest.raises(ConfigError, match=f"{variable}.*: ~nobody-of-this-name is nobody's home folder here"):
        load_settings()
    monkeypatch.setenv(variable, "~/x")
    load_settings()


@pytest.mark.parametrize(("name", "says"), [("redis", "no setting 'redis'"), ("redis_ulr", "redis_url?"), ("x", "'x'")])
def test_a_setting_that_there_is_none_of_is_not_passed_over(name: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings(**{name: "redis://:s3cret@h/0"})
    assert says in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_setting_goes_by_each_of_its_names() -> None:
    assert (
        Settings(LABEL_STUDIO_URL="h").label_studio_url == Settings(label_studio_url="h").label_studio_url == "http://h"
    )
