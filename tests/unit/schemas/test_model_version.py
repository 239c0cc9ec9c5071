"""Model versions: what they are made of, read back from their text, and told from other people's."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prelabel.schemas import ConfigError, Control, ModelVersion, Taxonomy, model_id, model_version

HEX = st.text("0123456789abcdef", min_size=6, max_size=6)
MODELS = st.builds(model_id, st.text(min_size=1).filter(lambda name: name.strip("/")), st.none() | st.text())
VERSIONS = st.builds(ModelVersion, model=MODELS, taxonomy=HEX, calibration=st.just("") | HEX)
CONTROLS = (Control(taxonomy=Taxonomy.flat(["x", "y"])),)


@given(VERSIONS)
@example(ModelVersion(model="a+tax.123456@b+cal.12", taxonomy="abcdef", calibration=""))
@example(ModelVersion(model="a@1+tax.123456", taxonomy="abcdef", calibration="fedcba"))
@example(ModelVersion(model="two\nlines@main", taxonomy="abcdef", calibration=""))
def test_a_version_is_read_back_from_its_text(version: ModelVersion) -> None:
    assert ModelVersion.parse(str(version)) == version
    assert ModelVersion.is_ours(str(version))


@given(st.text() | st.from_regex(r"(.*@)?.*(\+tax\.[0-9a-f]*)?(\+cal\.[0-9a-f]*)?", fullmatch=True))
def test_what_is_read_was_ours_to_the_last_character(text: str) -> None:
    version = ModelVersion.parse(text)
    assert version is None or str(version) == text
    assert ModelVersion.is_ours(text) == (version is not None)


@given(VERSIONS, st.sampled_from(["\n", " ", "0", "g", "+", "-old", "+unusable-label-config", ", another@1"]))
def test_ours_with_something_behind_it_is_foreign(version: ModelVersion, tail: str) -> None:
    assert not ModelVersion.is_ours(f"{version}{tail}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "undefined",
        "yolo-v8",
        "siglip@12345678",
        "+tax.abcdef",
        "@1+tax.abcdef",
        "siglip@+tax.abcdef",
        "siglip+tax.abcdef",
        "siglip@12345678+tax.ABCDEF",
        "siglip@12345678+tax.abcde",
        "siglip@12345678+cal.abcdef",
        "siglip@12345678+tax.abcdef+cal.",
        "siglip@12345678+tax.abcdef+cal.abcdef+cal.abcdef",
        "siglip@12345678+unusable-label-config",
    ],
)
def test_other_peoples_versions_are_foreign(text: str) -> None:
    assert ModelVersion.parse(text) is None


def test_a_calibrated_version_is_ours_and_names_its_model() -> None:
    version = ModelVersion.parse("google/siglip@12345678+tax.abcdef+cal.012345")
    assert version is not None
    assert (version.model, version.taxonomy, version.calibration) == ("google/siglip@12345678", "abcdef", "012345")
    assert str(version.uncalibrated) == "google/siglip@12345678+tax.abcdef"
    assert version != version.uncalibrated


def test_a_version_is_made_of_the_model_and_what_is_asked() -> None:
    made = ModelVersion.of("m@1", CONTROLS)
    assert str(made) == model_version("m@1", CONTROLS) == f"m@1+tax.{CONTROLS[0].taxonomy.fingerprint[:6]}"
    assert str(ModelVersion.of("m@1", CONTROLS, calibration="012345")) == f"{made}+cal.012345"
    assert re.fullmatch(r"m@1\+tax\.[0-9a-f]{6}", str(made))


@pytest.mark.parametrize("parts", [{"model": "limit"}, {"taxonomy": "abc"}, {"calibration": "x"}, {"model": "@1"}])
def test_a_version_that_could_not_be_read_back_is_not_made(parts: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        ModelVersion(**{"model": "m@1", "taxonomy": "abcdef", **parts})
