"""Labels in any script: the tokenizer gets what was written, and predictions give it back to the byte."""

from __future__ import annotations

import unicodedata
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers.normalizers import Lowercase

from prelabel.schemas import Control, Item, Label, Prediction, Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.model.colour import ColourEncoder, ColourTexts
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.model.similarity import normalise
from prelabel.worker.model.text_tower import lower_case
from prelabel.worker.scoring.local import score_items
from tests.answering import Answers
from tests.checkpoints import MAKERS

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

RANGES = {
    "Latin": (0x0041, 0x024F),
    "Greek": (0x0370, 0x03FF),
    "Greek with accents": (0x1F00, 0x1FFF),
    "Cyrillic": (0x0400, 0x04FF),
    "Armenian": (0x0531, 0x0587),
    "Hebrew": (0x0590, 0x05F4),
    "Arabic": (0x0600, 0x06FF),
    "Devanagari": (0x0900, 0x097F),
    "Thai": (0x0E01, 0x0E5B),
    "Georgian": (0x10A0, 0x10FF),
    "kana": (0x3041, 0x30FF),
    "Han": (0x4E00, 0x9FFF),
    "Hangul": (0xAC00, 0xD7A3),
    "accents": (0x0300, 0x036F),
    "letters in one": (0xFB00, 0xFB4F),
    "full width": (0xFF01, 0xFF5E),
    "emoji": (0x1F300, 0x1FAFF),
}

NAMED = {
    "a Greek word that ends in sigma": "ΣΊΣΥΦΟΣ",
    "Turkish dotted and dotless": "İSTANBUL ILIK ığdır",  # noqa: RUF001
    "composed": unicodedata.normalize("NFC", "Ångström café"),
    "decomposed": unicodedata.normalize("NFD", "Ångström café"),
    "Hangul in parts": unicodedata.normalize("NFD", "고양이"),
    "Hebrew with points": "שָׁלוֹם",
    "Arabic with marks and a mark of direction": "\u200fقِطَّة\u200f",
    "Devanagari with a joiner": "क्\u200dष बिल्ली",
    "Thai": "แม่น้ำ",
    "Han": "红色的圆",
    "a family": "👨\u200d👩\u200d👧",
    "a flag and a skin": "🇬🇷 👍🏽 ❤\ufe0f",
    "German": "STRASSE Straße ẞ",
    "ligatures": "ﬁsh ǅ",
    "a compatible ideograph": "\uf900",
}
"""What programs that touch texts get wrong."""


def characters(first: int, last: int) -> st.SearchStrategy[str]:
    return st.characters(min_codepoint=first, max_codepoint=last, exclude_categories=("Cs", "Cn", "Cc", "Co"))


words = st.sampled_from(list(RANGES.values())).flatmap(lambda ends: st.text(characters(*ends), min_size=1, max_size=12))
labels = st.lists(words | st.sampled_from(["\u200d", "\ufe0f", " ", "-", "A", "ς"]), min_size=1, max_size=3).map(
    "".join
).filter(lambda label: label.strip()) | st.sampled_from(list(NAMED.values()))
"""Labels of one script or of several."""


def examples(test):
    for label in NAMED.values():
        test = example(label=label)(test)
    return test


def read(label: str) -> str:
    """A label as prompts have it: single spaces, composed characters. Nothing else of it changes."""
    return unicodedata.normalize("NFC", " ".join(label.split()))


@examples
@given(label=labels)
def test_lower_case_is_that_of_the_tokenizer_siglip_2_was_trained_with(label) -> None:
    """`Siglip2Tokenizer` has this normaliser; Gemma's, which the checkpoints of one resolution name, has none."""
    assert lower_case(label) == Lowercase().normalize_str(label)


class Heard(ColourTexts):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts):
        self.texts += texts
        return super().encode(texts)


@examples
@given(label=labels)
def test_a_text_tower_gets_the_template_with_the_label_as_it_is_written(label) -> None:
    heard = Heard()
    taxonomy = Taxonomy.flat([Label(name=label, synonyms=(f"x {label}",), description=label)], template="«{label}»")
    TextVectors(replace(ColourEncoder(), texts=heard), 10).matrix(taxonomy)
    expected = [f"«{read(label)}»", f"«{read('x ' + label)}»", label]
    assert heard.texts == expected


@pytest.fixture(scope="module", params=MAKERS)
def family(request, made) -> tuple[str, Path, Encoder]:
    folder = made(request.param)
    return request.param, folder, load_encoder(load_settings(model=str(folder), device="cpu"), "m@1")


@pytest.fixture(scope="module")
def theirs(family):
    """A text's vector by transformers' own tokenizer and model."""
    name, folder, encoder = family
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()

    def vector(text: str) -> np.ndarray:
        told = tokenizer(
            [Lowercase().normalize_str(text) if name.startswith("siglip 2") else text],
            padding="max_length",
            max_length=encoder.card.text_length,
            truncation=True,
            return_tensors="pt",
        )
        mask = {"attention_mask": told["attention_mask"]} if name == "altclip" else {}
        with torch.no_grad():
            (made,) = model.get_text_features(input_ids=told["input_ids"], **mask).pooler_output.numpy()
        return made / np.linalg.norm(made)

    return vector


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@examples
@given(label=labels)
def test_a_labels_vector_is_that_of_transformers_own_tokenizer_and_model(label, family, theirs) -> None:
    (prompts,) = Taxonomy.flat([label]).prompts()
    (vector,) = normalise(family[2].texts.encode(prompts))  # not rounded for a store yet
    assert np.abs(vector - theirs(f"This is a photo of {read(label)}.")).max() < 1e-5


DIFFERENT = ["cat", "κύκλος", "кошка", "حمراء", "חתול", "बिल्ली", "แม่น้ำ", "猫", "ねこ", "고양이", "köprü"]


@pytest.mark.parametrize("name", ["siglip i18n", "siglip 2", "siglip 2 naflex", "clip", "metaclip 2", "altclip"])
def test_labels_of_different_scripts_have_different_vectors(name, made) -> None:
    encoder = load_encoder(load_settings(model=str(made(name)), device="cpu"), "m@1")
    vectors = TextVectors(encoder, 100).matrix(Taxonomy.flat(DIFFERENT))
    differences = np.abs(vectors[:, None] - vectors[None]).max(axis=2)
    assert differences[~np.eye(len(DIFFERENT), dtype=bool)].min() > 1e-4


@pytest.mark.parametrize("name", MAKERS)
def test_composed_and_decomposed_characters_are_one_text(name, made) -> None:
    encoder = load_encoder(load_settings(model=str(made(name)), device="cpu"), "m@1")
    for word in ("Ångström café", "고양이", "Ώρα", "آب", "ऩ", "ガラス"):
        composed, decomposed = (unicodedata.normalize(form, word) for form in ("NFC", "NFD"))
        assert composed != decomposed
        vectors = TextVectors(encoder, 10).matrix(Taxonomy.flat([composed, decomposed]))
        assert np.array_equal(*vectors)


@given(names=st.lists(labels, min_size=2, max_size=6, unique=True))
def test_an_answer_gives_labels_back_to_the_byte(names) -> None:
    """Through the columns that a worker writes, and through JSON."""
    taxonomy = Taxonomy.flat(names)
    answer = Answers(taxonomy)(np.arange(len(names), dtype=np.float32))
    assert [score.path for score in answer.scores] == [(name,) for name in reversed(names)]
    assert answer.paths == ((names[-1],),)
    prediction = Prediction(item=Item.of("s3://a/1.jpg"), model_version="m@1", answers=(answer,))
    assert Prediction.model_validate_json(prediction.model_dump_json()).answers == (answer,)


@pytest.mark.parametrize("name", ["siglip i18n", "siglip 2", "metaclip 2"])
def test_scoring_gives_labels_back_to_the_byte(name, made, tmp_path) -> None:
    encoder = load_encoder(load_settings(model=str(made(name)), device="cpu"), "m@1")
    told = load_settings(image_roots=(tmp_path,), fetch_threads=1, batch_size=1)
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "a.png")
    names = list(dict.fromkeys([*NAMED.values(), *DIFFERENT]))
    tree = {name: [f"{name} I", f"{name} II"] for name in NAMED.values()}
    controls = [Control(name="flat", taxonomy=Taxonomy.flat(names)), Control(name="tree", taxonomy=Taxonomy.tree(tree))]
    with closing(Fetcher(told)) as fetcher:
        (prediction,) = score_items(
            [Item.of(str(tmp_path / "a.png"))],
            controls,
            encoder=encoder,
            fetch=fetcher.fetch,
            settings=told,
            top_k=None,
        )
    flat, below = prediction.answers
    assert {score.path for score in flat.scores} == {(name,) for name in names}
    leaves = {(name, leaf) for name, under in tree.items() for leaf in under}
    assert {score.path for score in below.scores} == leaves | {(name,) for name in tree}
    assert flat.paths[0] == max(flat.scores, key=lambda score: score.logit).path
