"""Texts without what they say about one attribute."""

from pathlib import Path

import numpy as np
import pytest

from lib.catalog.attributes import load_attribute_schema
from lib.catalog.captions import compose_caption
from lib.catalog.masking import mask_caption, without_phrases, without_words
from lib.catalog.normal_text import normalise_text

SCHEMA = load_attribute_schema(Path(__file__).parents[2] / "lib/catalog/attributes.yaml")


def phrases_left(text: str, name: str) -> list[str]:
    """Slow reference: every run of words that the schema knows as a value, except within a meaningless phrase."""
    words = normalise_text(text).split()
    left, start = [], 0
    while start < len(words):
        runs = [" ".join(words[start:end]) for end in range(len(words), start, -1)]
        known = next((run for run in runs if run in SCHEMA[name].meanings), None)
        if known is not None and SCHEMA[name].meanings[known] is not None:
            left.append(known)
        start += len(known.split()) if known is not None else 1
    return left


@pytest.mark.parametrize(
    ("name", "text", "masked"),
    [
        ("neckline", "Men's V-Neck Tee", "Men's Tee"),
        ("neckline", "A VNECK, long sleeved jumper.", "A, long sleeved jumper."),
        ("neckline", "Without a collar or hood, in blue", "in blue"),
        ("neckline", "U.S. Polo Assn. blue polo shirt", "U.S. Polo Assn. blue"),
        ("neckline", "crew neck/no sleeves", "/no sleeves"),
        ("neckline", "boat polo collar neck", ""),  # the cut makes a phrase of its own
        ("sleeve", "Tee ¾-sleeved, soft", "Tee, soft"),
        ("sleeve", "Tee (short sleeves) || Soft || Long sleeve || Wash cold", "Tee || Soft || Wash cold"),
        ("material", "80% cotton, 20% silk", "80%, 20%"),
        ("material", "leather-free bag, faux suede, lace-up", "bag, lace-up"),
        ("material", "leather-look leggings", "leggings"),
        ("pattern", "no stripes, floral prints", ""),
        ("color", "Navy Blue & white tee", "& tee"),
        ("color", "Red Tape shoe", "Red Tape shoe"),
        ("color", "nothing   to  say", "nothing   to  say"),
    ],
)
def test_phrases_go_and_the_rest_stays(name, text, masked):
    assert without_phrases(text, SCHEMA[name]) == masked


@pytest.mark.parametrize(
    ("value", "text", "masked"),
    [
        ("Tshirts", "Tshirt, T-Shirts and TShirt", "and"),
        ("T-Shirts", "a t shirt, tshirt, shirt; sweatshirt", "a, sweatshirt"),
        ("dresses", "A wrap dress. Dresses!", "A wrap."),
        ("Sweatshirts & Hoodies", "hoodie and a sweatshirt", "and a"),
        ("steel mesh", "Steel watch with a mesh strap", "watch with a strap"),
        ("& the", "you & the rest", "you rest"),
        ("!", "nothing!", "nothing!"),
    ],
)
def test_words_of_a_value(value, text, masked):
    assert without_words(text, value) == masked


def test_nothing_of_the_schema_survives_anywhere():
    rng = np.random.default_rng(0)
    spoken = [[*rule.meanings] for rule in SCHEMA.values()]
    filler = [
        "no", "not", "without", "or", "a", "the", "faux", "look", "free", "80%", "20 %", ",", ".", "(", ")", "-",
    ]  # fmt: skip
    for _ in range(600):
        words = [
            str(rng.choice(spoken[rng.integers(len(spoken))] if rng.random() < 0.6 else filler)) for _ in range(9)
        ]
        text = " ".join(words)
        for name, rule in SCHEMA.items():
            masked = without_phrases(text, rule)
            assert phrases_left(masked, name) == []
            assert rule.extract(masked).value is None and rule.extract(masked).ambiguous == ()
            assert (masked == text) == (phrases_left(text, name) == [])


VALUES = {"neckline": "v-neck", "sleeve": None, "pattern": "striped", "material": "denim", "color": "steel mesh"}
TEXT = "Anna V-neck dress || Denim with stripes, in steel or in mesh."


@pytest.mark.parametrize(
    ("label", "caption"),
    [
        (
            "neckline",
            "striped, denim, steel mesh, denim dresses. Anna dress. Denim with stripes, in steel or in mesh.",
        ),
        (
            "sleeve",
            "v-neck, striped, denim, steel mesh, denim dresses. Anna V-neck dress. Denim with stripes, in steel or "
            "in mesh.",
        ),
        ("material", "v-neck, striped, steel, dresses. Anna V-neck dress. with stripes, in steel or in."),
        ("color", "v-neck, striped, denim, denim dresses. Anna V-neck dress. Denim with stripes, in or in."),
        ("category", "v-neck, striped, steel mesh. Anna V-neck. with stripes, in steel or in mesh."),
    ],
)
def test_caption_without_an_attribute(label, caption):
    assert mask_caption(VALUES, label, category="denim dresses", text=TEXT, rule=SCHEMA.get(label)) == caption


def test_a_caption_that_says_nothing_of_it_is_the_plain_one():
    plain = compose_caption(VALUES, category="tees", text="Anna")
    assert mask_caption(VALUES, "sleeve", category="tees", text="Anna", rule=SCHEMA["sleeve"]) == plain
    assert mask_caption({"color": "red"}, "color", category=None, text="Red", rule=SCHEMA["color"]) == ""
    assert mask_caption({}, "category", category=None, text=None, rule=None) == ""


def test_what_shortening_leaves_of_a_phrase_is_masked_too():
    text = " ".join(["word"] * 39 + ["polo assn"])
    caption = mask_caption({}, "neckline", category=None, text=text, rule=SCHEMA["neckline"])
    assert caption.split() == ["word"] * 39
