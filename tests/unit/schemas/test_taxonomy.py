"""Taxonomies: what they accept, how they prompt, when their fingerprint changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.schemas import ConfigError, Label, Taxonomy

names = st.text(min_size=1, max_size=12).filter(lambda name: name.strip() == name and name)
label_lists = st.lists(names, min_size=1, max_size=8, unique=True)


def test_a_flat_taxonomy_has_one_leaf_per_label() -> None:
    assert [path for path, _ in Taxonomy.flat(["cat", "dog"]).leaves()] == [("cat",), ("dog",)]


def test_a_tree_lists_its_leaves_with_their_paths() -> None:
    tree = Taxonomy.tree({"animal": ["cat", "dog"], "vehicle": {"car": ["taxi"], "bike": None}})
    assert [path for path, _ in tree.leaves()] == [
        ("animal", "cat"),
        ("animal", "dog"),
        ("vehicle", "car", "taxi"),
        ("vehicle", "bike"),
    ]


def test_a_label_is_prompted_through_the_template() -> None:
    assert Taxonomy.flat(["cat"]).prompts() == [("This is a photo of cat.",)]


def test_synonyms_and_description_become_further_prompts() -> None:
    label = Label(name="cat", synonyms=("kitten",), description="A small pet that meows.")
    assert Taxonomy.flat([label]).prompts() == [
        ("This is a photo of cat.", "This is a photo of kitten.", "A small pet that meows.")
    ]


def test_own_prompts_replace_all_others() -> None:
    label = Label(name="cat", synonyms=("kitten",), prompts=("a feline",))
    assert Taxonomy.flat([label]).prompts() == [("a feline",)]


def test_a_leaf_name_under_several_parents_is_prompted_with_its_path() -> None:
    tree = Taxonomy.tree({"red": ["circle", "star"], "blue": ["circle"]}, template="{label}")
    assert tree.prompts() == [("red circle",), ("star",), ("blue circle",)]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Taxonomy.flat([]), "at least one label"),
        (lambda: Taxonomy.flat(["a", "b", "a"]), "duplicate label: a"),
        (lambda: Taxonomy.flat([""]), "non-empty name"),
        (lambda: Taxonomy.flat([" "]), "non-empty name"),
        (lambda: Taxonomy.flat("cat"), "did you mean ['cat']"),
        (lambda: Taxonomy.flat(["a"], threshold=1.5), "threshold"),
        (lambda: Taxonomy.flat(["a"], temperature=0), "temperature"),
        (lambda: Taxonomy.flat(["a"], template="a photo"), "must contain {label}"),
        (lambda: Taxonomy.flat(["a"], choice="some"), "choice"),
        (lambda: Taxonomy.tree({}), "at least one label"),
        (lambda: Taxonomy.tree({"a": ["x", "x"]}), "duplicate label under a: x"),
        (lambda: Taxonomy.tree({"a": 3}), "children of 'a'"),
        (lambda: Taxonomy.tree({"": ["a"]}), "name"),
    ],
)
def test_a_bad_taxonomy_is_refused_with_its_reason(build, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build()
    assert says in str(refused.value)


def test_five_thousand_labels_are_fine() -> None:
    taxonomy = Taxonomy.flat([f"label {i}" for i in range(5000)])
    assert len(taxonomy.prompts()) == 5000
    assert Taxonomy.from_json(taxonomy.to_json()).fingerprint == taxonomy.fingerprint


@given(label_lists, st.randoms())
def test_the_order_of_labels_does_not_change_the_fingerprint(labels: list[str], random) -> None:
    shuffled = list(labels)
    random.shuffle(shuffled)
    assert Taxonomy.flat(labels).fingerprint == Taxonomy.flat(shuffled).fingerprint


@given(label_lists, names)
def test_another_label_changes_the_fingerprint(labels: list[str], extra: str) -> None:
    if extra not in labels:
        assert Taxonomy.flat(labels).fingerprint != Taxonomy.flat([*labels, extra]).fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        Taxonomy.flat(["cat", "dog"], "multiple"),
        Taxonomy.flat(["cat", "dog"], threshold=0.3),
        Taxonomy.flat(["cat", "dog"], temperature=2.0),
        Taxonomy.flat(["cat", "dog"], template="{label}"),
        Taxonomy.flat([Label(name="cat", synonyms=("kitten",)), "dog"]),
        Taxonomy.flat([Label(name="cat", threshold=0.2), "dog"]),
        Taxonomy.tree({"pet": ["cat", "dog"]}),
    ],
)
def test_whatever_changes_scoring_changes_the_fingerprint(changed: Taxonomy) -> None:
    assert changed.fingerprint != Taxonomy.flat(["cat", "dog"]).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # A synonym that a label's own prompts override is never read.
        (Label(name="cat", prompts=("a cat",)), Label(name="cat", prompts=("a cat",), synonyms=("kitten",))),
        # The prompts are the same however they came about, and in whatever order.
        (
            Label(name="cat", synonyms=("kitten",)),
            Label(name="cat", prompts=("This is a photo of kitten.", "This is a photo of cat.")),
        ),
    ],
)
def test_what_scoring_does_not_read_leaves_the_fingerprint_alone(one: Label, other: Label) -> None:
    assert Taxonomy.flat([one]).fingerprint == Taxonomy.flat([other]).fingerprint


def test_a_parents_threshold_counts_only_where_it_is_read() -> None:
    def tree(choice: str, threshold: float | None) -> Taxonomy:
        parent = Label(name="pet", threshold=threshold, children=(Label(name="cat"), Label(name="dog")))
        return Taxonomy(labels=(parent,), choice=choice)

    assert tree("multiple", 0.3).fingerprint == tree("multiple", None).fingerprint
    assert tree("single", 0.3).fingerprint != tree("single", None).fingerprint


def test_the_shift_counts_only_where_a_sigmoid_is_taken() -> None:
    assert Taxonomy.flat(["a"], logit_shift=1.0).fingerprint == Taxonomy.flat(["a"]).fingerprint
    assert Taxonomy.flat(["a"], "multiple", logit_shift=1.0).fingerprint != Taxonomy.flat(["a"], "multiple").fingerprint


def test_an_open_taxonomy_takes_the_labels_an_item_brings() -> None:
    taxonomy = Taxonomy(labels=(Label(name="other"),), choice="multiple", threshold=0.3, is_open=True)
    closed = taxonomy.closed((Label(name="cat"), Label(name="dog", children=(Label(name="puppy"),))))
    assert [path for path, _ in closed.leaves()] == [("other",), ("cat",), ("dog", "puppy")]
    assert (closed.choice, closed.threshold, closed.is_open) == ("multiple", 0.3, False)
    with pytest.raises(ConfigError, match="duplicate label: other"):
        taxonomy.closed((Label(name="other"),))
    with pytest.raises(ConfigError, match="at least one label"):
        Taxonomy(labels=(), is_open=True).closed(())


def test_what_an_open_taxonomy_or_a_cap_decides_is_in_the_fingerprint_and_nothing_else_has_changed_it() -> None:
    fixed = Taxonomy.flat(["a", "b"], "multiple")
    assert fixed.fingerprint == Taxonomy.flat(["a", "b"], "multiple", is_open=False, max_answers=None).fingerprint
    made = [
        fixed,
        Taxonomy.flat(["a", "b"], "multiple", max_answers=1),
        Taxonomy.flat(["a", "b"], "multiple", max_answers=2),
        Taxonomy.flat(["a", "b"], "multiple", is_open=True),
        Taxonomy.flat(["a", "b"], "multiple", is_open=True, threshold=0.1),
        Taxonomy.flat(["a", "b"], "multiple", is_open=True, template="{label}"),
    ]
    assert len({taxonomy.fingerprint for taxonomy in made}) == len(made)
    assert Taxonomy.flat(["a"], max_answers=1).fingerprint == Taxonomy.flat(["a"]).fingerprint
