"""Questions over several images, and labels that items bring along."""

from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prelabel.schemas import ConfigError, Control, ImageRef, Item, ItemError, JobSpec, Label, Options, Region, Taxonomy
from prelabel.worker.embedding.items import EmbeddedItem, part_of
from prelabel.worker.embedding.pending import PendingVector
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.model.colour import ColourEncoder, ColourTexts, colour_card
from prelabel.worker.scoring.job_scorer import JobScorer, JobScorers

COLOURS = ("red", "green", "blue")
PURE = {"red": (1, -1, -1), "green": (-1, 0.004, -1), "blue": (-1, -1, 1)}


class CountingTexts(ColourTexts):
    def __init__(self):
        self.encoded = []

    def encode(self, texts):
        self.encoded += texts
        return super().encode(texts)


def outcomes_of(scorer: JobScorer, items: list[EmbeddedItem]) -> list:
    return scorer.score(items).each(items)


@pytest.fixture
def encoder():
    return ColourEncoder(texts=CountingTexts())


def scorer_of(encoder, *controls, job="job"):
    return JobScorers(encoder, TextVectors(encoder, 1000)).get(job, JobSpec(controls=controls, top_k=None))


def vector(colour):
    return np.array([*PURE[colour], 0.1], dtype=np.float32)


def ready(item, **colours):
    """The item with each image embedded as the colour given for its address."""
    return EmbeddedItem(item, {part_of(i): PendingVector.at_hand(b"k" * 16, vector(colours[i.uri])) for i in item.images
                        if i.uri in colours})  # fmt: skip


def listed(*uris, **fields):
    return Item(id="1", images=tuple(ImageRef(uri=uri, name="img") for uri in uris), **fields)


def flat(choice="single", **options):
    return Taxonomy.flat(COLOURS, choice, **options)


def test_each_image_gets_an_answer_of_its_own(encoder):
    scorer = scorer_of(encoder, Control(name="c", taxonomy=flat(), image="img", over="each"))
    (outcome,) = outcomes_of(scorer, [ready(listed("a", "b"), a="red", b="blue")])
    assert [(answer.index, answer.paths) for answer in outcome.answers] == [(0, (("red",),)), (1, (("blue",),))]
    assert set(outcome.vectors) == {"img", "img\x1f1"}


def test_an_image_that_cannot_be_had_leaves_the_others_their_places(encoder):
    scorer = scorer_of(encoder, Control(name="c", taxonomy=flat(), image="img", over="each"))
    item = listed("a", "b", "c")
    assert [wanted.optional for wanted in scorer.wanted(item)] == [True] * 3
    (outcome,) = outcomes_of(scorer, [ready(item, a="red", c="green")])
    assert [(answer.index, answer.paths) for answer in outcome.answers] == [(0, (("red",),)), (2, (("green",),))]


def test_a_list_as_a_whole_is_answered_by_its_mean_or_by_any_of_it(encoder):
    single = Control(name="one", taxonomy=flat(), image="img", over="all")
    several = Control(name="many", taxonomy=flat("multiple", threshold=0.5), image="img", over="all")
    scorer = scorer_of(encoder, single, several)
    item = listed("a", "b", "c")
    assert not any(wanted.optional for wanted in scorer.wanted(item))
    (outcome,) = outcomes_of(scorer, [ready(item, a="red", b="red", c="blue")])
    one, many = outcome.answers
    assert one.paths == (("red",),)
    assert set(many.paths) == {("red",), ("blue",)}


vectors = hnp.arrays(np.float32, (3, 4), elements=st.floats(0.125, 3, width=32))


@given(vectors, st.permutations(range(3)))
def test_a_list_of_one_is_that_image_and_the_order_of_a_list_does_not_matter(rows, order):
    encoder = ColourEncoder()
    controls = [
        Control(name=choice, taxonomy=flat(choice), image="img", over="all") for choice in ("single", "multiple")
    ]
    scorer = scorer_of(encoder, *controls)
    alone = scorer_of(encoder, *(control.model_copy(update={"over": "first"}) for control in controls))
    images = {uri: PendingVector.at_hand(b"k" * 16, row) for uri, row in zip("abc", rows, strict=True)}

    def scores(scorer, *uris):
        item = listed(*uris)
        (outcome,) = outcomes_of(
            scorer, [EmbeddedItem(item, {part_of(image): images[image.uri] for image in item.images})]
        )
        return [{score.path: score.logit for score in answer.scores} for answer in outcome.answers]

    for one, other in zip(scores(scorer, "a"), scores(alone, "a"), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    for one, other in zip(scores(scorer, *"abc"), scores(scorer, *("abc"[i] for i in order)), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    singles = [scores(scorer, uri)[1] for uri in "abc"]
    for path, logit in scores(scorer, *"abc")[1].items():
        assert logit == pytest.approx(max(single[path] for single in singles), abs=1e-4)


def options(*names):
    return Options(labels=tuple(Label(name=name) for name in names))


def test_items_are_answered_with_the_labels_they_bring_and_each_label_is_encoded_once(encoder):
    scorer = scorer_of(encoder, Control(name="c", taxonomy=Taxonomy(labels=(Label(name="red"),), is_open=True)))
    item = [
        Item(id=str(i), images=(ImageRef(uri="a"),), options={"c": brought})
        for i, brought in enumerate([options("green"), options("blue", "green"), options("green")])
    ]
    outcomes = outcomes_of(scorer, [ready(one, a="blue") for one in item])
    assert [outcome.answers[0].paths[0][0] for outcome in outcomes] == ["green", "blue", "green"]
    assert [len(outcome.answers[0].scores) for outcome in outcomes] == [2, 3, 2]
    assert len(encoder.texts.encoded) == len(set(encoder.texts.encoded)) == 3


def test_labels_that_make_no_taxonomy_fail_their_item_alone(encoder):
    scorer = scorer_of(encoder, Control(name="c", taxonomy=Taxonomy(labels=(), is_open=True)))
    good = Item(id="1", images=(ImageRef(uri="a"),), options={"c": options("red", "blue")})
    twice = Item(id="2", images=(ImageRef(uri="a"),), options={"c": options("red", "red")})
    outcomes = outcomes_of(scorer, [ready(one, a="red") for one in (twice, good)])
    assert "duplicate label: red" in str(outcomes[0])
    assert outcomes[1].answers[0].paths == (("red",),)


def test_what_an_item_must_have_is_said_when_it_is_missing(encoder):
    item = Item(id="1", images=(ImageRef(uri="a", name="img"),))
    for control, message in [
        (Control(name="c", taxonomy=flat(), image="other"), "no image named 'other'"),
        (Control(name="c", taxonomy=Taxonomy(labels=(), is_open=True)), "brings no labels for 'c'"),
        (Control(name="c", taxonomy=flat(), image="regions", over="each"), "no image that is asked about"),
    ]:
        with pytest.raises(ItemError, match=message):
            scorer_of(encoder, control).wanted(item)


def test_a_picture_asked_about_twice_is_wanted_once_and_needed_if_all_need_it(encoder):
    region = Region(x=0, y=0, width=10, height=10)
    images = (ImageRef(uri="a", name="img"), *(ImageRef(uri="a", name=name, region=region) for name in ("r", "s")))
    scorer = scorer_of(
        encoder,
        Control(name="whole", taxonomy=flat(), image="img"),
        *(Control(name=name, taxonomy=flat(), image=name, over="each") for name in ("r", "s")),
    )
    assert [(wanted.image.region, wanted.optional) for wanted in scorer.wanted(Item(id="1", images=images))] == [
        (None, True),
        (region, True),
    ]
    scorer = scorer_of(encoder, *(Control(name=name, taxonomy=flat(), image="img") for name in "cd"), job="other")
    assert [wanted.optional for wanted in scorer.wanted(Item(id="1", images=images))] == [False]


def test_a_failed_embedding_is_not_taken_for_a_missing_one(encoder):
    scorer = scorer_of(encoder, Control(name="c", taxonomy=flat(), image="img", over="each"))
    broken: Future = Future()
    broken.set_exception(RuntimeError("the device is gone"))
    item = listed("a")
    with pytest.raises(RuntimeError):
        scorer.score([EmbeddedItem(item, {part_of(item.images[0]): PendingVector(b"k" * 16, broken)})])


def test_labels_that_items_bring_are_kept_apart_by_the_order_of_the_controls_own(encoder) -> None:
    """Answers name labels by their place: jobs whose labels stand in another order share no rules."""
    scorers = JobScorers(encoder, TextVectors(encoder, 1000))
    brought = Options(labels=(Label(name="blue"),))
    item = Item(id="1", images=(ImageRef(uri="a", name="img"),), options={"c": brought})
    for own in (("red", "green"), ("green", "red")):
        control = Control(name="c", taxonomy=Taxonomy.flat(own, is_open=True))
        missing = Control(name="d", taxonomy=flat(), image="other")
        scorer = scorers.get(" ".join(own), JobSpec(controls=(control, missing)))
        for controls in ((control,), (control, missing)):
            scorer = scorers.get(f"{own} {len(controls)}", JobSpec(controls=controls))
            (outcome,) = outcomes_of(scorer, [ready(item, a="red")])
            assert outcome.answers[0].paths == (("red",),)


def test_an_item_that_has_none_of_a_lists_images_has_no_answer_about_each_of_them(encoder) -> None:
    each = Control(name="each", taxonomy=flat(), image="list", over="each")
    first = Control(name="first", taxonomy=flat(), image="img")
    scorer = scorer_of(encoder, first, each)
    (outcome,) = outcomes_of(scorer, [ready(listed("a"), a="red")])
    assert [answer.control for answer in outcome.answers] == ["first"]
    assert outcome.unanswered == ()


def softmax_encoder() -> ColourEncoder:
    card = colour_card("clip@1").model_copy(update={"head": "softmax", "logit_bias": None, "family": "clip"})
    return ColourEncoder(card=card)


def test_a_model_trained_with_a_softmax_chooses_one_label_and_gives_no_pair_a_probability() -> None:
    scorer = scorer_of(softmax_encoder(), Control(taxonomy=flat()))
    (outcome,) = outcomes_of(scorer, [ready(listed("red.png"), **{"red.png": "red"})])
    (answer,) = outcome.answers
    assert answer.paths == (("red",),)
    assert {score.sigmoid for score in answer.scores} == {None}
    assert sum(score.probability for score in answer.scores) == pytest.approx(1)
    again = type(outcome).from_json(outcome.to_json())
    assert {score.sigmoid for score in again.answers[0].scores} == {None}


def test_a_model_trained_with_a_softmax_is_not_asked_whether_each_label_holds() -> None:
    with pytest.raises(ConfigError, match=r"kind may have several labels, and the scores of clip@1 .* each other: "):
        scorer_of(softmax_encoder(), Control(taxonomy=flat()), Control(name="kind", taxonomy=flat("multiple")))
