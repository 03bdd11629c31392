"""The form in which texts are compared, and the way back to the text."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lib.catalog.normal_text import locate_words, normalise_text

# what is put together, taken apart, dropped or changed by its neighbours when a text is normalised
AWKWARD = "abZ09 %%&'’|_-.,;ΣσİǅéÅ¾ﬁ㎏一カﾞ한각ဦ\u0301\u0327\u0b47\u0b3eकि\n\t\u200d"


def test_normalise_text():
    assert normalise_text("Men's “V-Neck”; 95 % Cotton_x") == " mens v neck | 95% cotton x "


@given(st.one_of(st.text(max_size=30), st.text(alphabet=AWKWARD, max_size=12)))
@example("İstanbul V-neck")
@example("¾ sleeve ﬁt")
def test_words_are_those_of_the_normalised_text_and_stand_in_order(text):
    words = locate_words(text)
    assert [word.word for word in words] == normalise_text(text).split()
    for word in words:
        assert 0 <= word.start < word.end <= len(text)
    assert [word.start for word in words] == sorted(word.start for word in words)


@given(st.text(alphabet=[letter for letter in AWKWARD if letter.isascii()], max_size=20))
def test_plain_letters_have_the_places_they_have_among_others(text):
    assert locate_words(text) == locate_words(f"{text} é")[:-1]


@given(st.lists(st.sampled_from(["v-neck", "Cotton", "80 %", "¾", "Men's", "ΣΑΣ", "é"]), min_size=1))
def test_a_place_gives_the_word_again(parts):
    """Whole words, taken out of their text, normalise to themselves."""
    text = " ".join(parts)
    for word, start, end in locate_words(text):
        assert word in normalise_text(text[start:end]).split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Men's V-Neck", ["Men's", "V", "Neck"]),
        ("80 % cotton", ["80 %", "cotton"]),
        ("black&white", ["black", "&", "white"]),
        ("cotton. Silk", ["cotton", ".", "Silk"]),
        ("Men's V-neck & 60 %cotton.", ["Men's", "V", "neck", "&", "60 %", "cotton", "."]),
        ("e\u0301cru", ["e\u0301cru"]),
        ("", []),
        (" -_ ", []),
    ],
)
def test_places_by_hand(text, expected):
    assert [text[word.start : word.end] for word in locate_words(text)] == expected
