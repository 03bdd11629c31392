"""What texts and cells say about attributes."""

from pathlib import Path

import pytest
import yaml

from lib.base.errors import ConfigError
from lib.catalog.attributes import load_attribute_schema

FILE = Path(__file__).parents[2] / "lib/catalog/attributes.yaml"


@pytest.fixture(scope="module")
def schema():
    return load_attribute_schema(FILE)


@pytest.mark.parametrize(
    ("attribute", "text", "value"),
    [
        ("neckline", "Men's V-Neck Tee", "v-neck"),
        ("neckline", "VNECK sweater", "v-neck"),
        ("neckline", "v necked jumper", "v-neck"),
        ("neckline", "Crew-neck T-Shirt", "round neck"),
        ("neckline", "with a roundneck", "round neck"),
        ("neckline", "round neckline", "round neck"),
        ("neckline", "Hooded sweatshirt", "hood"),
        ("neckline", "polo t-shirt with contrast collar", "polo collar"),
        ("neckline", "Henley with polo buttons", "henley"),
        ("neckline", "U.S. Polo Assn. Men Blue Shirt", None),
        ("neckline", "polo neck jumper", "turtleneck"),
        ("neckline", "a collared dress", "collar"),
        ("neckline", "childhood memories", None),
        ("neckline", "no hood, crew neck", "round neck"),
        ("neckline", "without a collar or hood", None),
        ("neckline", "no hood. Collar", "collar"),
        ("neckline", "v-neck over a round neck", None),
        ("sleeve", "sleeveless", "sleeveless"),
        ("sleeve", "no sleeves", "sleeveless"),
        ("sleeve", "Half Sleeves", "short sleeve"),
        ("sleeve", "3/4 sleeves", "three-quarter sleeve"),
        ("sleeve", "¾-sleeved", "three-quarter sleeve"),
        ("sleeve", "long-sleeved", "long sleeve"),
        ("sleeve", "without long sleeves", None),
        ("pattern", "printed and striped", "striped"),
        ("pattern", "all-over print", "printed"),
        ("pattern", "polka-dots", "polka dot"),
        ("pattern", "Grey Melange Solid", "solid"),
        ("pattern", "check out our new", None),
        ("pattern", "colour-block", "colourblock"),
        ("material", "non-denim pants", None),
        ("material", "leather-free cotton", "cotton"),
        ("material", "leather-look leggings", "faux leather"),
        ("material", "faux leather jacket", "faux leather"),
        ("material", "faux suede jacket", None),
        ("material", "lace-up leather shoe", "leather"),
        ("material", "lace top", "lace"),
        ("material", "80% cotton, 20% silk", "cotton"),
        ("material", "60 % recycled polyester 40% wool", "polyester"),
        ("material", "50% cotton 50% silk", None),
        ("material", "cotton silk", None),
        ("material", "wool with leather patch", "wool"),
        ("color", "Navy Blue", "navy blue"),
        ("color", "black & white", None),
        ("color", "Gray", "grey"),
    ],
)
def test_text(schema, attribute, text, value):
    assert schema[attribute].extract(text).value == value


def test_ambiguity_is_told_apart_from_silence(schema):
    assert schema["material"].extract("cotton silk").ambiguous == ("cotton", "silk")
    assert schema["material"].extract("a shirt").ambiguous == ()
    assert schema["pattern"].extract("a printed shirt").level == 2


@pytest.mark.parametrize(
    ("attribute", "text", "phrases"),
    [
        ("neckline", "Men's V-Necked Tee", [("V-Necked", "v neck", "v-neck")]),
        ("neckline", "Crew, U  Neckline", [("Crew", "crew", "round neck"), ("U  Neckline", "u neck", "scoop neck")]),
        ("neckline", "no hood, crew-neck", [("crew-neck", "crew neck", "round neck")]),
        ("sleeve", "¾-sleeved", [("¾-sleeved", "3 4 sleeve", "three-quarter sleeve")]),
        ("pattern", "Printed, Striped", [("Striped", "striped", "striped")]),
        ("material", "80 % Cotton, 20 % silk", [("Cotton", "cotton", "cotton")]),
        ("material", "cotton silk", [("cotton", "cotton", "cotton"), ("silk", "silk", "silk")]),
        ("material", "leather-look lace-up", [("leather-look", "leather look", "faux leather")]),
        ("material", "non-denim", []),
        ("color", "", []),
    ],
)  # fmt: skip
def test_evidence(schema, attribute, text, phrases):
    found = schema[attribute].evidence(text)
    assert [(text[e.start : e.end], e.entry, e.value) for e in found] == phrases
    said = schema[attribute].extract(text)
    assert {e.value for e in found} == ({said.value} if said.value else set(said.ambiguous))


def test_every_phrase_leads_to_an_entry_of_the_same_meaning(schema):
    for rule in schema.values():
        assert set(rule.entries) == set(rule.meanings)
        for phrase, entry in rule.entries.items():
            assert rule.entries[entry] == entry
            # a phrase listed for several levels of one value stands at the strongest
            assert (rule.meanings[entry] or [None])[0] == (rule.meanings[phrase] or [None])[0], (phrase, entry)


def test_cells(schema):
    assert schema["neckline"].canonical(" Round  Neck ") == ("round neck", True)
    assert schema["neckline"].canonical("Crew") == ("round neck", True)
    assert schema["color"].canonical("Turquoise Blue") == ("turquoise", True)
    assert schema["color"].canonical(" Steel  Mesh ") == ("steel mesh", False)


def test_every_value_is_its_own_phrase(schema):
    raw = yaml.safe_load(FILE.read_text())["attributes"]
    for name, entry in raw.items():
        for value in (*entry["values"], *entry.get("weak", {}), *entry.get("generic", {})):
            assert schema[name].canonical(value) == (value, True)


@pytest.mark.parametrize("category", ["Pants", "dress shorts", "Casual Shoes", "WATCHES", "Bags & Backpacks", "Ties"])
def test_no_neckline_there(schema, category):
    assert not schema["neckline"].applies_to((None, category, None))
    assert not schema["sleeve"].applies_to((category,))
    assert schema["material"].applies_to((category,))


@pytest.mark.parametrize("category", ["Tshirts", "short sleeve shirts", "tie-neck blouses", None, "Dresses"])
def test_neckline_there(schema, category):
    assert schema["neckline"].applies_to((category, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["attributes"].pop("sleeve"), "attributes must be"),
        (lambda raw: raw["attributes"]["sleeve"].update(valeus={}), "valeus"),
        (lambda raw: raw["attributes"]["sleeve"].update(values={}), "sleeve.values"),
        (lambda raw: raw["negation"].update(before=[False]), "negation.before"),
        (lambda raw: raw["attributes"]["pattern"]["values"]["solid"].append("striped"), "two meanings"),
        (lambda raw: raw["attributes"]["pattern"]["values"]["solid"].append("--"), "no letters"),
    ],
)
def test_broken_schema(tmp_path, change, message):
    raw = yaml.safe_load(FILE.read_text())
    change(raw)
    file = tmp_path / "attributes.yaml"
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=message):
        load_attribute_schema(file)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_no_schema_at_all(tmp_path, text):
    file = tmp_path / "attributes.yaml"
    with pytest.raises(ConfigError, match="no such"):
        load_attribute_schema(file)
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_attribute_schema(file)
