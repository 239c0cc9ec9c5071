import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prelabel.integrations.label_studio.api.media import image_uri, is_media_url
from prelabel.integrations.label_studio.convert.items import has_version, item_from_task, project_number
from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import Answer, ImageRef, Item, ItemError, ItemFailure, Prediction

URL = "http://ls:8080"
CHOICES = '<View><Image name="img" value="$image"/><Choices name="cls" toName="img" {extra}>{inside}</Choices></View>'
TAXONOMY = (
    '<View><Image name="img" value="$image"/><Taxonomy name="tax" toName="img" {extra}>{inside}</Taxonomy></View>'
)
PLAIN = CHOICES.format(extra="", inside='<Choice value="Cat"/><Choice value="Dog"/>')
MULTIPLE = CHOICES.format(extra='choice="multiple"', inside='<Choice value="Cat"/><Choice value="Other"/>')
ALIAS = CHOICES.format(extra="", inside='<Choice value="A photo of a cat" alias="cat"/><Choice value="Dog"/>')
NESTED = CHOICES.format(
    extra='allowNested="true"',
    inside='<Choice value="Animal"><Choice value="Dog"/><Choice value="Cat" alias="c"/></Choice><Choice value="blue"/>',
)
TREE = (
    '<Choice value="Animals" alias="A"><Choice value="Mammals"><Choice value="Dog" alias="d"/></Choice></Choice>'
    '<Choice value="Vehicles"/>'
)


def predicted(*answers, task="7", error=None):
    item = Item(id=task, images=(ImageRef(uri="https://e.org/1.jpg"),))
    return Prediction(item=item, model_version="m@1+tax.abc123", answers=answers, error=error)


def answer(*paths, control="cls", confidence=0.9):
    return Answer(control=control, rule="softmax", paths=paths, confidence=confidence)


SHAPES = [
    (PLAIN, [("Dog",)], {"choices": ["Dog"]}),
    (MULTIPLE, [("Cat",), ("Other",)], {"choices": ["Cat", "Other"]}),
    (ALIAS, [("A photo of a cat",)], {"choices": ["cat"]}),
    (ALIAS, [("Dog",)], {"choices": ["Dog"]}),
    (NESTED, [("Animal", "Dog")], {"choices": [["Animal", "Dog"]]}),
    (NESTED, [("Animal", "Cat")], {"choices": [["Animal", "c"]]}),
    (NESTED, [("blue",)], {"choices": [["blue"]]}),
    (TAXONOMY.format(extra="", inside=TREE), [("Animals", "Mammals", "Dog")], {"taxonomy": [["A", "Mammals", "d"]]}),
    (TAXONOMY.format(extra="", inside=TREE), [("Animals",)], {"taxonomy": [["A"]]}),
    (TAXONOMY.format(extra='leafsOnly="true"', inside=TREE), [("Vehicles",)], {"taxonomy": [["Vehicles"]]}),
]


@pytest.mark.parametrize(("xml", "paths", "value"), SHAPES)
def test_result_shapes(xml, paths, value):
    config = LabelConfig.parse(xml)
    name = config.control().from_name
    made = prediction_to_label_studio(predicted(answer(*paths, control=name)), config)
    assert made == {
        "task": 7,
        "result": [{"from_name": name, "to_name": "img", "type": next(iter(value)), "value": value, "score": 0.9}],
        "score": 0.9,
        "model_version": "m@1+tax.abc123",
    }


@pytest.mark.parametrize(("xml", "paths", "value"), [shape for shape in SHAPES if shape[0] is not NESTED])
def test_label_studios_own_validator_accepts_the_shapes(xml, paths, value):
    from label_studio_sdk.label_interface import LabelInterface

    config = LabelConfig.parse(xml)
    made = prediction_to_label_studio(predicted(answer(*paths, control=config.control().from_name)), config)
    assert LabelInterface(xml).validate_prediction(made, return_errors=True) == []


def test_two_images_answer_each_by_its_name_and_score_the_weakest():
    xml = (
        '<View><Image name="a" value="$a"/><Image name="b" value="$b"/><Choices name="x" toName="a">'
        '<Choice value="1"/><Choice value="2"/></Choices><Choices name="y" toName="b">'
        '<Choice value="3"/></Choices></View>'
    )
    made = prediction_to_label_studio(
        predicted(answer(("2",), control="x", confidence=0.8), answer(("3",), control="y", confidence=0.6)),
        LabelConfig.parse(xml),
    )
    assert [(entry["to_name"], entry["value"]) for entry in made["result"]] == [
        ("a", {"choices": ["2"]}),
        ("b", {"choices": ["3"]}),
    ]
    assert made["score"] == 0.6


@pytest.mark.parametrize(("confidence", "score"), [(float("nan"), 0.0), (float("inf"), 0.0), (1.2, 1.0), (-1.0, 0.0)])
def test_score_is_always_a_number_from_0_to_1(confidence, score):
    made = prediction_to_label_studio(predicted(answer(("Cat",), confidence=confidence)), LabelConfig.parse(PLAIN))
    assert made["score"] == made["result"][0]["score"] == score


@pytest.mark.parametrize(
    ("xml", "prediction"),
    [
        (PLAIN, predicted(error=ItemFailure(kind="ItemError", message="gone"))),
        (PLAIN, predicted(answer())),
        (PLAIN, predicted(answer(("Unicorn",)))),
        (PLAIN, predicted(answer(("Cat",), control="renamed"))),
        (NESTED, predicted(answer(("Animal",)))),
        (TAXONOMY.format(extra='leafsOnly="true"', inside=TREE), predicted(answer(("Animals",), control="tax"))),
    ],
)
def test_nothing_to_show_is_none(xml, prediction):
    assert prediction_to_label_studio(prediction, LabelConfig.parse(xml)) is None


def encoded(uri):
    return base64.urlsafe_b64encode(uri.encode()).decode()


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        ("https://e.org/a.jpg?x=1", "https://e.org/a.jpg?x=1"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        ("/data/upload/1/ab12-cat.jpg", f"{URL}/data/upload/1/ab12-cat.jpg"),
        ("/label-studio/data/upload/1/ab12-cat.jpg", f"{URL}/data/upload/1/ab12-cat.jpg"),
        ("http://127.0.0.1:8080/data/local-files/?d=imgs/car.jpg", f"{URL}/data/local-files/?d=imgs/car.jpg"),
        ("/data/local-files/?d=imgs/car.jpg", f"{URL}/data/local-files/?d=imgs/car.jpg"),
        ("http://public.org/tasks/9/resolve/?fileuri=czM6", f"{URL}/tasks/9/resolve/?fileuri=czM6"),
        ("s3://bkt/pics/car.jpg", f"{URL}/tasks/9/resolve/?fileuri={encoded('s3://bkt/pics/car.jpg')}"),
        ("gs://bkt/ö.jpg", f"{URL}/tasks/9/resolve/?fileuri={encoded('gs://bkt/ö.jpg')}"),
        ("azure-blob://c/x.jpg", f"{URL}/tasks/9/resolve/?fileuri={encoded('azure-blob://c/x.jpg')}"),
        ("https://cdn.example.com/data/cat.jpg", "https://cdn.example.com/data/cat.jpg"),
    ],
)
def test_image_references(value, uri):
    assert image_uri(value, 9, URL) == uri


def test_image_references_without_label_studio():
    assert image_uri("s3://bkt/x.jpg", 9, None) == "s3://bkt/x.jpg"
    assert image_uri("http://ls/data/upload/1/x.jpg", 9, None) == "http://ls/data/upload/1/x.jpg"
    for value in ("/data/upload/1/x.jpg", "gs://bkt/x.jpg"):
        with pytest.raises(ItemError, match="set LABEL_STUDIO_URL"):
            image_uri(value, 9, None)


def test_s3_references_are_left_to_the_workers_where_they_have_credentials():
    assert image_uri("s3://bkt/x.jpg", 9, URL, s3_direct=True) == "s3://bkt/x.jpg"
    assert image_uri("gs://bkt/x.jpg", 9, URL, s3_direct=True).startswith(f"{URL}/tasks/9/resolve/")
    task = {"id": 3, "data": {"image": "s3://bkt/x.jpg"}}
    assert item_from_task(task, LabelConfig.parse(PLAIN), URL, s3_direct=True).images[0].uri == "s3://bkt/x.jpg"


@pytest.mark.parametrize(
    "value",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "cat.jpg",
        "../cat.jpg",
        r"C:\cat.jpg",
        "//evil.org/data/upload/1/x.jpg",
        "ftp://e.org/x.jpg",
        "http://",
        "http://[::1",
        "/api/users/",
        "/data/upload/../../api/users/",
        "/data/upload/1/..",
        "/data/upload/1/%2e%2e%2fapi",
        "/data/upload/1/a%2fb",
        "",
        "  ",
        None,
        7,
        ["https://e.org/1.jpg"],
    ],
)
def test_references_that_are_refused(value):
    with pytest.raises(ItemError):
        image_uri(value, 9, URL)


PIECES = [
    "http://",
    "s3://",
    "file:",
    "/",
    "//",
    "..",
    "%2e",
    "data/upload/1/",
    "data:",
    "@",
    ":",
    "x",
    "ls:8080",
    "?d=",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join), st.sampled_from([URL, None]))
@example("\x08http://h/a.jpg", URL)
@example("ht\ttp://h/a.jpg", None)
def test_whatever_a_task_says_it_never_becomes_a_local_path(value, url):
    try:
        uri = image_uri(value, 9, url)
    except ItemError:
        return
    assert uri.lower().startswith(("http://", "https://", "data:", "s3://" if url is None else "http://"))


@pytest.mark.parametrize(
    ("url", "label_studio", "expected"),
    [
        (f"{URL}/data/upload/1/x.jpg", URL, True),
        (f"{URL}/tasks/1/resolve/?fileuri=x", URL, True),
        ("http://LS:8080/data/local-files/?d=x", URL, True),
        ("https://ls/p/data/upload/1/x.jpg", "https://ls:443/p", True),
        ("https://ls/data/upload/1/x.jpg", "https://ls/p", False),
        (f"{URL}/api/users/", URL, False),
        (f"{URL}/data/upload/1/../../x", URL, False),
        (f"{URL}/evil/data/upload/1/x.jpg", URL, False),
        ("http://ls:80/data/upload/1/x.jpg", URL, False),
        ("https://ls:8080/data/upload/1/x.jpg", URL, False),
        ("http://ls:8080@evil.org/data/upload/1/x.jpg", URL, False),
        ("http://ls:x/data/upload/1/x.jpg", URL, False),
    ],
)
def test_only_media_on_label_studio_gets_the_token(url, label_studio, expected):
    assert is_media_url(url, label_studio) is expected


def test_item_from_recorded_tasks(capture):
    body = capture("predict_s3_uri")["body"]
    item = item_from_task(body["tasks"][0], LabelConfig.parse(body["label_config"]), URL)
    assert item.id == "1235"
    uri = f"{URL}/tasks/1235/resolve/?fileuri={encoded('s3://bkt/pics/car.jpg')}"
    assert item.images == (ImageRef(uri=uri, name="img"),)

    body = capture("webhook_TASKS_CREATED_storage_sync")["body"]
    config = LabelConfig.parse(body["project"]["label_config"])
    uris = [item_from_task(task, config, URL).images[0].uri for task in body["tasks"]]
    assert uris == [f"{URL}/data/local-files/?d=imgs/{name}.jpg" for name in ("car", "cat", "dog")]


def test_item_with_two_images_names_them():
    config = LabelConfig.parse(
        '<View><Image name="a" value="$x"/><Image name="b" value="$y"/><Choices name="p" toName="a"><Choice value="1"/>'
        '</Choices><Choices name="q" toName="b"><Choice value="1"/></Choices></View>'
    )
    data = {"x": "https://e.org/x.jpg", "y": "https://e.org/y.jpg"}
    item = item_from_task({"id": 3, "data": data}, config, None)
    assert [(image.name, image.uri) for image in item.images] == [
        ("a", "https://e.org/x.jpg"),
        ("b", "https://e.org/y.jpg"),
    ]
    with pytest.raises(ItemError, match="has no 'x', which <Image name='a'> shows"):
        item_from_task({"id": 3, "data": {"z": "https://e.org/x.jpg"}}, config, None)


def test_bare_file_imports_are_found_under_undefined():
    task = {"id": 3, "data": {"$undefined$": "/data/upload/1/x.jpg"}}
    assert item_from_task(task, LabelConfig.parse(PLAIN), URL).images[0].uri == f"{URL}/data/upload/1/x.jpg"


@pytest.mark.parametrize(
    ("path", "found"),
    [("photos[1].url", True), ("photos.1.url", True), ("a.b", True), ("photos[2].url", False), ("photos.url", False)],
)
def test_an_image_may_lie_deeper_in_the_data(path, found):
    config = LabelConfig.parse(PLAIN.replace("$image", f"${path}"))
    task = {"id": 3, "data": {"photos": [{"url": "x"}, {"url": "https://e.org/1.jpg"}], "a.b": "https://e.org/1.jpg"}}
    if found:
        assert item_from_task(task, config, None).images[0].uri == "https://e.org/1.jpg"
    else:
        with pytest.raises(ItemError, match="has no"):
            item_from_task(task, config, None)


@pytest.mark.parametrize("task", [{}, {"id": "3"}, {"id": True}, {"id": 0}, {"id": 3}, {"id": 3, "data": []},
                                  {"id": 3, "data": {"image": None}}])  # fmt: skip
def test_tasks_without_an_image(task):
    with pytest.raises(ItemError):
        item_from_task(task, LabelConfig.parse(PLAIN), URL)


def test_has_version():
    assert has_version({"predictions": [{"model_version": "a"}, {"model_version": "b"}]}, "b")
    assert not has_version({"predictions": [{"model_version": "a"}, None]}, "b")
    assert not has_version({"predictions": None}, "b")
    assert not has_version({}, "b")


@pytest.mark.parametrize(
    ("project", "number"),
    [("1.1795431184", 1), (5, 5), ("12", 12), (None, None), ("", None), ("x.1", None), (True, None), (0, None)],
)
def test_project_number(project, number):
    assert project_number(project) == number
