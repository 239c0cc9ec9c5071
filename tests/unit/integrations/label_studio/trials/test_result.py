"""What counts as a change, and how a trial's totals come about."""

from __future__ import annotations

from prelabel.integrations.label_studio.convert.results import Place, ShownAnswer, shown_answers
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.trials.result import Side, TaskTrial, Trial, words
from prelabel.schemas import Answer, ImageRef, Item, Prediction

CLS, SIZE = Place("cls"), Place("size")


def answer(*labels: str, confidence: float = 0.5, stored: tuple[str, ...] | None = None) -> ShownAnswer:
    return ShownAnswer(tuple((label,) for label in labels), tuple((label,) for label in stored or labels), confidence)


def task(old: dict[Place, ShownAnswer], new: dict[Place, ShownAnswer], number: int = 1, **why: str) -> TaskTrial:
    return TaskTrial(number, True, Side(old, why.get("no_old", "")), Side(new, why.get("no_new", "")))


def test_another_label_is_a_change_and_another_confidence_or_order_is_none() -> None:
    assert task({CLS: answer("cat")}, {CLS: answer("dog")}).changed
    assert not task({CLS: answer("cat", confidence=0.2)}, {CLS: answer("cat", confidence=0.9)}).changed
    assert not task({CLS: answer("cat", "dog")}, {CLS: answer("dog", "cat")}).changed
    assert task({CLS: answer("cat", "dog")}, {CLS: answer("cat")}).changed


def test_the_same_label_stored_under_another_alias_is_a_change() -> None:
    changed = task({CLS: answer("cat", stored=("c",))}, {CLS: answer("cat", stored=("k",))})
    assert changed.changed
    (line,) = changed.lines
    assert (words(line.old), words(line.new)) == ("cat (c)", "cat (k)")


def test_what_is_not_asked_any_more_is_a_change_where_something_was_chosen() -> None:
    assert task({CLS: answer("cat")}, {}).changed
    assert task({}, {CLS: answer("cat")}).changed
    assert not task({CLS: answer()}, {}).changed, "nothing stood there, nothing will"
    (line,) = task({CLS: answer()}, {}).lines
    assert (words(line.old), words(line.new)) == ("none", "-")


def test_what_could_not_be_had_is_no_change_of_the_wording() -> None:
    lost = task({CLS: answer("cat"), SIZE: answer("big")}, {SIZE: answer("small")}, no_new="cls: HTTP 503")
    assert [(line.place, line.changed) for line in lost.lines] == [(CLS, False), (SIZE, True)]
    cls, size = Trial(project=1, tasks=(lost,)).controls
    assert (cls.places, cls.changed, dict(cls.lost)) == (0, 0, {})
    assert (size.places, size.changed) == (1, 1)
    assert not task({}, {CLS: answer("cat")}, no_old="HTTP 503").changed


def test_places_are_compared_one_by_one_wherever_they_stand() -> None:
    first, second, region = Place("cls", image=0), Place("cls", image=1), Place("cls", region="r1")
    lines = task(
        {second: answer("dog"), first: answer("cat"), region: answer("cat")},
        {first: answer("cat"), second: answer("cat"), CLS: answer("cat")},
    ).lines
    assert [(line.place, line.changed) for line in lines] == [
        (second, True),
        (first, False),
        (region, True),
        (CLS, True),
    ]


def test_totals_say_per_control_what_is_gained_and_lost() -> None:
    trial = Trial(
        project=1,
        tasks=(
            task({CLS: answer("cat", confidence=0.4)}, {CLS: answer("dog", confidence=0.8)}),
            task({CLS: answer("cat", confidence=0.6)}, {CLS: answer("dog", "bird", confidence=1.0)}, 2),
            task({CLS: answer("cat", confidence=0.5)}, {CLS: answer("cat"), SIZE: answer("big")}, 3),
            task({}, {}, 4, no_old="no image", no_new="no image"),
            task({CLS: answer("dog")}, {CLS: answer("dog")}, 5, no_new="size: an image is missing"),
        ),
    )
    cls, size = trial.controls
    assert (cls.control, cls.standing, cls.places, cls.changed) == ("cls", "both", 4, 2)
    assert (dict(cls.gained), dict(cls.lost)) == ({"dog": 2, "bird": 1}, {"cat": 2})
    assert next(iter(cls.gained)) == "dog", "the most frequent first"
    assert cls.old_confidence == 0.5
    assert cls.new_confidence is not None
    assert round(cls.new_confidence, 3) == 0.7
    assert (size.standing, size.old_confidence, dict(size.gained)) == ("only new", None, {"big": 1})
    assert trial.changed == 3
    assert (trial.unanswered("old"), trial.unanswered("new")) == (1, 1)
    assert (trial.in_part("old"), trial.in_part("new")) == (0, 1)


def test_only_what_the_form_shows_counts() -> None:
    config = LabelConfig.parse(
        '<View><Image name="i" value="$image"/>'
        '<Choices name="animal" toName="i"><Choice value="cat" alias="c"/><Choice value="dog"/></Choices>'
        '<Choices name="fur" toName="i" visibleWhen="choice-selected" whenTagName="animal" whenChoiceValue="cat">'
        '<Choice value="long"/><Choice value="short"/></Choices></View>'
    )

    def shown(animal: str) -> dict[Place, ShownAnswer]:
        answers = [
            Answer(control=name, rule="softmax", paths=((label,),), confidence=0.9)
            for name, label in (("animal", animal), ("fur", "long"))
        ]
        item = Item(id="7", images=(ImageRef(uri="https://e.org/1.jpg", name="i"),))
        return shown_answers(Prediction(item=item, model_version="m", answers=tuple(answers)), config)

    assert shown("cat") == {
        Place("animal"): ShownAnswer((("cat",),), (("c",),), 0.9),
        Place("fur"): ShownAnswer((("long",),), (("long",),), 0.9),
    }
    assert list(shown("dog")) == [Place("animal")]
