"""The embedded text."""

from lib.catalog.captions import MAX_WORDS, compose_caption


def test_attributes_first():
    values = {"material": "wool", "neckline": "v-neck", "sleeve": "long sleeve", "pattern": "striped", "color": "red"}
    caption = compose_caption(values, category="cardigans", text="Anna's cardigan || Soft.")
    assert caption == "v-neck, long sleeve, striped, wool, red, cardigans. Anna's cardigan. Soft."


def test_only_what_is_known():
    assert compose_caption({"neckline": None}, category=None, text=None) == ""
    assert compose_caption({}, category=None, text="Tee") == "Tee"
    assert compose_caption({"color": "red"}, category=None, text=None) == "red"


def test_never_past_the_context_of_clip():
    assert len(compose_caption({}, category="tees", text="word " * 500).split()) == MAX_WORDS
    numbers = compose_caption({}, category="tees", text="4851469770656421 " * 40)
    assert len(numbers) < 77  # CLIP reads each digit as a token
    assert len(compose_caption({}, category="tees", text="ü漢字 " * 60).encode()) < 150
