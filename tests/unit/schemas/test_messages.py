"""What travels: JSON round trips, wire versions, and nothing secret on display."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prelabel.schemas import (
    Answer,
    Chunk,
    ConfigError,
    Control,
    ImageRef,
    Item,
    ItemFailure,
    JobSpec,
    Label,
    LabelScore,
    Options,
    Outcome,
    Prediction,
    Priority,
    PushTarget,
    Region,
    Taxonomy,
    WireVersionError,
    model_id,
    model_version,
)
from prelabel.schemas.references import display_uri

TREE = Taxonomy.tree({"animal": ["cat", "dog"], "vehicle": None}, threshold=0.3)
SPEC = JobSpec(
    controls=(Control(name="kind", taxonomy=TREE, image="left"), Control(name="mood", taxonomy=Taxonomy.flat(["a"]))),
    priority=Priority.INTERACTIVE,
    model="m@12345678",
    top_k=None,
    push=PushTarget(project=3, label_config="<View/>", hold=True),
)
ITEM = Item(
    id="7",
    images=(
        ImageRef(uri="s3://bucket/a.jpg", name="left", region=Region(x=1, y=2, width=30, height=40, rotation=5)),
        ImageRef(uri="https://host/b.png", name="right"),
    ),
)
ANSWER = Answer(
    control="kind",
    rule="tree-softmax",
    paths=(("animal", "cat"),),
    confidence=0.75,
    scores=(
        LabelScore(path=("animal",), probability=0.9),
        LabelScore(path=("animal", "cat"), logit=-2.5, probability=0.75),
    ),
)


@pytest.mark.parametrize(
    "message",
    [
        TREE,
        SPEC,
        Outcome(model_version="m@1+tax.2", answers=(ANSWER,)),
        Outcome(error=ItemFailure(kind="ItemError", message="no such file")),
        Prediction(item=ITEM, ordinal=9, answers=(ANSWER,)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_survives_the_round_trip_through_json(message) -> None:
    assert type(message).from_json(message.to_json()) == message


@pytest.mark.parametrize(
    "message", [TREE, SPEC, Prediction(item=ITEM, answers=(ANSWER,))], ids=lambda m: type(m).__name__
)
def test_an_unknown_wire_version_is_refused_before_anything_else_is_read(message) -> None:
    newer = {**json.loads(message.to_json()), "wire_version": 2, "a_field_of_tomorrow": 1}
    with pytest.raises(WireVersionError, match=r"wire version 2, this prelabel speaks 1.*same prelabel release"):
        type(message).from_json(json.dumps(newer))


def test_every_message_says_its_wire_version() -> None:
    assert json.loads(Taxonomy.flat(["a"]).to_json())["wire_version"] == 1


def test_an_unknown_field_is_refused_by_name_without_its_value() -> None:
    with pytest.raises(ConfigError, match="colour") as refused:
        Taxonomy.from_json('{"labels": [{"name": "a", "colour": "s3cret"}]}')
    assert "s3cret" not in str(refused.value)


def test_a_chunk_knows_each_items_ordinal() -> None:
    items = tuple(Item.of(f"{i}.jpg") for i in range(3))
    assert [ordinal for ordinal, _ in Chunk(first=64, items=items).pairs()] == [64, 65, 66]
    picked = Chunk(ordinals=(5, 9, 70), items=items)
    assert picked.item(9) == items[1]
    assert Chunk.model_validate_json(picked.model_dump_json(exclude_defaults=True)) == picked


def test_an_item_is_named_after_its_image_unless_it_has_an_id() -> None:
    assert Item.of("photos/1.jpg").id == "photos/1.jpg"
    assert Item.of("https://host/1.jpg?signature=s3cret").id == "https://host/1.jpg"
    assert ITEM.id == "7"


def test_images_of_one_item_need_names() -> None:
    with pytest.raises(ConfigError, match="need names"):
        Item(images=(ImageRef(uri="a"), ImageRef(uri="b")))


def test_images_that_share_a_name_are_a_list_in_their_order() -> None:
    item = Item(images=tuple(ImageRef(uri=uri, name=name) for uri, name in [("a", "x"), ("b", "y"), ("c", "x")]))
    assert [image.uri for image in item.images_of("x")] == ["a", "c"]
    assert item.images_of(None) == item.images[:1]
    assert item.images_of("z") == ()
    only = Item.of("a")
    assert only.images_of("x") == only.images, "an only image needs no name"
    assert len(set(item.slots())) == 3
    assert item.slots()[:2] == ["x", "y"]


OPTIONS = Options(labels=(Label(name="red", answer="r"), Label(name="green", children=(Label(name="lime"),))))


def test_labels_that_items_bring_travel_once_a_chunk_and_come_back_as_one_object() -> None:
    items = tuple(Item(id=str(i), images=(ImageRef(uri=f"{i}.jpg"),), options={"cls": OPTIONS}) for i in range(64))
    chunk = Chunk(items=(*items, Item.of("bare.jpg")))
    text = chunk.to_json()
    assert text.count('"lime"') == 1
    read = Chunk.model_validate_json(text)
    assert read == chunk
    assert len({id(item.options["cls"]) for item in read.items[:64]}) == 1


def test_a_chunk_without_new_features_is_written_as_before() -> None:
    """A worker of an older release reads it; what it cannot read it refuses by the spec's unknown field."""
    items = tuple(Item(id=str(i), images=(ImageRef(uri=f"{i}.jpg"),)) for i in range(2))
    assert Chunk(items=items).to_json() == (
        '{"items":[{"id":"0","images":[{"uri":"0.jpg"}]},{"id":"1","images":[{"uri":"1.jpg"}]}]}'
    )
    plain = JobSpec(controls=(Control(name="a", taxonomy=Taxonomy.flat(["x"])),))
    assert not {"over", "form", "is_open", "answer"} & set(plain.to_json().split('"'))


def test_a_control_finds_its_image_by_name() -> None:
    assert ITEM.image("right").uri == "https://host/b.png"
    assert ITEM.image(None).uri == "s3://bucket/a.jpg"
    assert ITEM.image("middle") is None


@pytest.mark.parametrize("region", [{"x": -1}, {"width": 0}, {"height": 101}, {"y": 100.1}])
def test_a_region_outside_the_image_is_refused(region: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="Region: "):
        Region(**{"x": 0, "y": 0, "width": 10, "height": 10, **region})


FILE_IN_A_BUCKET = base64.urlsafe_b64encode(b"s3://b/a b.jpg").decode()
SIGNED_FILE = base64.urlsafe_b64encode(b"https://u:s3cret@h/a.jpg?X-Amz-Signature=s3cret").decode()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:s3cret@host:8080/a.jpg?X-Amz-Signature=s3cret#s3cret", "https://host:8080/a.jpg"),
        ("redis://:s3cret@redis:6379/0", "redis://redis:6379/0"),
        ("photos/a.jpg", "photos/a.jpg"),
        ("s3://bucket/key.jpg", "s3://bucket/key.jpg"),
        ("data:image/png;base64,c2VjcmV0", "data:image/png;base64,… (30 characters, 7c88d415e3be)"),
        ("https://u:s3cret@host/img?id=3&token=s3cret", "https://host/img?id=3&…"),
        ("https://host/img?s3cret", "https://host/img?…"),
        ("https://host/img?file=a/b%201.jpg&sort=s3cret", "https://host/img?file=a/b%201.jpg&…"),
        ("https://host/a.jpg?X-Amz-Date=1&X-Amz-Signature=s3cret&X-Amz-Expires=9", "https://host/a.jpg"),
        (
            "https://host/a.jpg?versionId=7&Expires=9&Signature=s3cret&Key-Pair-Id=s3cret",
            "https://host/a.jpg?versionId=7",
        ),
        (
            "https://a.blob.core.windows.net/c/a.jpg?sv=2024&se=9&sr=b&sp=r&sig=s3cret",
            "https://a.blob.core.windows.net/c/a.jpg",
        ),
        ("s3://user:s3cret@bucket/a?b#1@2x.jpg", "s3://bucket/a?b#1@2x.jpg"),
        ("s3://bucket/a.jpg?AWSAccessKeyId=s3cret&Signature=s3cret", "s3://bucket/a.jpg"),
        ("file:///photos/a#1?.jpg", "file:///photos/a#1?.jpg"),
        ("rediss://h/0?password=s3cret", "rediss://h/0"),
        ("http://[s3cret", "http://…"),
        ("http://h/data/local-files/?d=folder/a.jpg", "http://h/data/local-files/?d=folder/a.jpg"),
        (
            "http://h/ls/data/local-files?d=f%C3%B6/no picture's name",
            "http://h/ls/data/local-files?d=f%C3%B6/no picture's name",
        ),
        (
            "http://h/data/local-files/?d=a.jpg&X-Amz-Signature=s3cret&X-Amz-Date=1",
            "http://h/data/local-files/?d=a.jpg",
        ),
        ("http://h/data/local-files/?d=a&token=s3cret", "http://h/data/local-files/?d=a&…"),
        ("http://h/elsewhere/?d=s3cret", "http://h/elsewhere/?…"),
        (f"http://h/tasks/3/resolve/?fileuri={FILE_IN_A_BUCKET}", "http://h/tasks/3/resolve/?fileuri=s3://b/a b.jpg"),
        ("http://h/tasks/3/presign/?fileuri=gs%3A%2F%2Fb%2Fa", "http://h/tasks/3/presign/?fileuri=gs://b/a"),
        (f"http://h/tasks/3/resolve/?fileuri={SIGNED_FILE}", "http://h/tasks/3/resolve/?fileuri=https://h/a.jpg"),
        ("http://h/tasks/3/resolve/?fileuri=s3cret", "http://h/tasks/3/resolve/?…"),
    ],
)
def test_a_reference_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert re.sub(r"…[0-9a-f]{12}$", "…", display_uri(uri)) == shown
    assert "s3cret" not in repr(ImageRef(uri=uri))


@pytest.mark.parametrize(
    "uris",
    [
        ("http://h/img?id=1", "http://h/img?id=3", "http://h/img"),
        ("http://h/img?id=1&token=a", "http://h/img?id=1&token=b"),
        ("http://h/img?key=a", "http://h/img?key=b", "http://h/img?a", "http://h/img?b"),
        ("http://h/img?x=a&y=b", "http://h/img?x=b&y=a"),
        ("https://h/get?file=a.jpg", "https://h/get?file=b.jpg"),
        ("https://h/a?v=1&X-Amz-Signature=s", "https://h/a?v=2&X-Amz-Signature=s"),
        ("https://h/a?st=1", "https://h/a?st=2"),
        ("s3://b/a#1.jpg", "s3://b/a#2.jpg", "s3://b/a?1.jpg", "s3://b/a;1.jpg", "s3://b/a"),
        ("file:///a#1.jpg", "file:///a#2.jpg", "file:///a?1.jpg"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAB"),
        ("ours://h/a?id=x", "ours://h/a?id=y"),
    ],
    ids=lambda uris: uris[0],
)
def test_each_image_has_a_name_of_its_own(uris: tuple[str, ...]) -> None:
    assert len({Item.of(uri).id for uri in uris}) == len(uris)


def test_a_link_that_is_signed_again_keeps_its_name() -> None:
    signed = [f"https://h/a.jpg?id=7&X-Amz-Date={date}&X-Amz-Signature={date}abc" for date in (1, 2)]
    assert {Item.of(uri).id for uri in signed} == {"https://h/a.jpg?id=7"}


def test_an_item_without_a_name_of_its_own_gets_the_same_one_wherever_it_is_read() -> None:
    items = tuple(map(Item.of, ("http://h/img?id=1&t=x", "s3://b/a#1.jpg", "data:,x")))
    assert tuple(Chunk.from_json(Chunk(items=items).to_json()).items) == items


@given(st.floats(min_value=-60, max_value=60))
def test_the_sigmoid_of_a_score_comes_from_its_raw_logit(logit: float) -> None:
    sigmoid = LabelScore(path=("a",), logit=logit, probability=0.5).sigmoid
    opposite = LabelScore(path=("a",), logit=-logit, probability=0.5).sigmoid
    assert 0.0 <= sigmoid <= 1.0
    assert sigmoid + opposite == pytest.approx(1.0)


def test_a_prediction_reads_like_its_first_answer() -> None:
    prediction = Prediction(item=ITEM, answers=(ANSWER,))
    assert (prediction.label, prediction.path, prediction.confidence) == ("cat", ("animal", "cat"), 0.75)
    failed = Prediction(item=ITEM, error=ItemFailure(kind="ItemError", message="empty file"))
    assert (failed.label, failed.confidence, failed.ok) == (None, None, False)


def test_an_outcome_is_an_answer_or_an_error_never_both_or_neither() -> None:
    with pytest.raises(ConfigError, match="either answers or an error"):
        Outcome()
    with pytest.raises(ConfigError, match="either answers or an error"):
        Outcome(answers=(ANSWER,), error=ItemFailure(kind="ItemError", message="x"))


@pytest.mark.parametrize(
    ("model", "revision", "expected"),
    [
        ("google/siglip-base-patch16-512", "753a949581523b60257d", "google/siglip-base-patch16-512@753a9495"),
        ("google/siglip-base-patch16-512", None, "google/siglip-base-patch16-512@main"),
        ("/models/my-siglip/", "0123456789", "my-siglip@01234567"),
        ("./my-siglip", None, "my-siglip@main"),
    ],
)
def test_a_model_id_names_the_weights(model: str, revision: str | None, expected: str) -> None:
    assert model_id(model, revision) == expected


def test_the_model_version_changes_with_any_controls_taxonomy() -> None:
    taxonomy = Taxonomy.flat(["x", "y"])
    assert model_version("m@1", [Control(taxonomy=taxonomy)]) == f"m@1+tax.{taxonomy.fingerprint[:6]}"
    one = Control(name="a", taxonomy=taxonomy)
    other = Control(name="b", taxonomy=Taxonomy.flat(["x"]))
    alone = model_version("m@1", [one])
    assert alone != model_version("m@1", [one.model_copy(update={"name": "renamed"})])
    both = model_version("m@1", [one, other])
    assert both == model_version("m@1", [other, one])
    edited = other.model_copy(update={"taxonomy": Taxonomy.flat(["x", "z"])})
    assert len({alone, both, model_version("m@1", [one, edited])}) == 3


def test_the_model_version_changes_with_what_several_images_mean_and_with_the_form_of_answers() -> None:
    one = Control(name="a", taxonomy=Taxonomy.flat(["x"]))
    others = [one.model_copy(update=update) for update in ({"over": "all"}, {"over": "each"}, {"form": "1"})]
    assert len({model_version("m@1", [control]) for control in (one, *others)}) == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"items": [{"ima',
        b"\xff\xfe",
        "[]",
        '{"items": [{"images": [{"uri": "s3://b/a", "signature": "hunter2"}]}]}',
        '{"items": [{"images": [{"uri": "s3://b/a"}]}], "ordinals": [1, 2]}',
        '{"items": [{"images": [{"uri": "s3://b/a"}]}], "first": -1}',
        '{"items": [{"images": [{"uri": "s3://b/a"}], "options": {"c": 1}}], "options": [{"labels": [{"name": "a"}]}]}',
        '{"items": [{"images": [{"uri": "s3://b/a"}], "options": 7}], "options": [{"labels": [{"name": "a"}]}]}',
        '{"items": 7, "options": [{"labels": [{"name": "a"}]}]}',
        '{"options": [{"labels": [{"name": "a"}]}]}',
    ],
)
def test_what_is_no_chunk_is_one_error_in_one_line_without_what_it_holds(text) -> None:
    with pytest.raises(ConfigError, match=r"^not a valid Chunk message: ") as raised:
        Chunk.from_json(text)
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_errors_about_messages_hold_no_input() -> None:
    with pytest.raises(ValidationError) as raised:
        ImageRef.model_validate({"uri": "https://h/a.jpg?signature=hunter2", "size": 1})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "ordinals"),
    [
        ('{"first": 64, "items": [{"hue": 1}, 7]}', [64, 65]),
        ('{"ordinals": [5, 9], "items": [{}, {}], "of another release": true}', [5, 9]),
        ('{"ordinals": [5], "items": [{}, {}]}', []),
        ('{"items": [{"ima', []),
    ],
)
def test_the_ordinals_of_a_chunk_whose_items_cannot_be_read(text, ordinals) -> None:
    assert list(Chunk.ordinals_in(text)) == ordinals


class TestPushTarget:
    def test_label_studio_needs_to_know_how_the_project_is_labelled(self) -> None:
        with pytest.raises(ConfigError, match="needs label_config"):
            PushTarget(project=3)

    def test_another_platform_may_have_no_use_for_that(self) -> None:
        target = PushTarget(platform="table", project=3)
        assert PushTarget.from_json(target.model_dump_json(exclude_defaults=True)) == target

    def test_the_number_of_a_place_elsewhere_is_no_project_of_label_studio(self) -> None:
        spec = JobSpec(controls=(Control(taxonomy=Taxonomy.flat(["cat"])),))
        targets = [None, PushTarget(project=3, label_config="<View/>"), PushTarget(platform="table", project=3)]
        projects = [spec.model_copy(update={"push": target}).label_studio_project for target in targets]
        assert projects == [None, 3, None]
