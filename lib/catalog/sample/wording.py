"""Shop texts: a title and a description per product, with synonyms, filler and things left unsaid."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from lib.catalog.drawing.assortment import BOTTOMS
from lib.catalog.drawing.plan import Product

# How the shop words each true value; the first form is the plainest one.
MATERIAL_WORDS: dict[str, tuple[str, ...]] = {
    "cotton": ("cotton", "washed cotton", "jersey cotton", "organic cotton", "100% cotton", "pima cotton"),
    "wool": ("wool", "merino wool", "lambswool", "wool knit", "merino"),
    "linen": ("linen", "pure linen", "washed linen", "European flax linen"),
    "silk": ("silk", "mulberry silk", "pure silk", "sand-washed silk"),
    "polyester": ("polyester", "recycled polyester", "lightweight polyester"),
    "fleece": ("fleece", "soft fleece", "teddy fleece", "brushed fleece"),
    "chiffon": ("chiffon", "sheer chiffon", "airy chiffon"),
    "lace": ("lace", "crochet lace", "fine lace"),
    "denim": ("denim", "rigid denim", "stretch denim", "raw denim"),
    "leather": ("leather", "soft leather", "nappa leather", "genuine leather"),
}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "solid": ("solid", "plain", "solid colour", "unpatterned"),
    "striped": ("striped", "stripe", "stripes", "stripy"),
    "checked": ("checked", "plaid", "check", "checkered"),
    "floral print": ("floral", "flower print", "floral print", "ditsy floral"),
    "polka dot": ("polka dot", "polka-dot", "dotted", "spotted"),
    "graphic print": ("graphic print", "graphic", "graphic-print"),
    "colourblock": ("colour block", "colour-block", "color block", "colourblock"),
    "animal print": ("animal print", "animal-print", "wild animal print"),
    "camouflage": ("camouflage", "camo", "camo print"),
}
NECKLINE_WORDS: dict[str, tuple[str, ...]] = {
    "round neck": ("crew neck", "round neck", "crewneck", "crew-neck", "round neckline"),
    "v-neck": ("v-neck", "V neck", "v-neckline", "V-neck"),
    "polo collar": ("polo collar", "polo", "polo neck"),
    "henley": ("henley", "henley neckline", "buttoned henley neck"),
    "turtleneck": ("turtleneck", "roll neck", "turtle neck", "rollneck"),
    "scoop neck": ("scoop neck", "scoop-neck", "scooped neckline"),
    "square neck": ("square neck", "square neckline", "square-neck"),
    "boat neck": ("boat neck", "bateau neckline", "boatneck"),
    "hood": ("hood", "roomy hood", "lined hood"),
    "shirt collar": ("shirt collar", "button-down collar", "pointed collar", "classic collar"),
    "mandarin collar": ("mandarin collar", "band collar", "stand collar", "grandad collar"),
    "off shoulder": ("off-shoulder neckline", "off-the-shoulder neckline", "bardot neckline"),
}
SLEEVE_WORDS: dict[str, tuple[str, ...]] = {
    "sleeveless": ("sleeveless", "no sleeves"),
    "short sleeve": ("short sleeve", "short sleeves", "short-sleeved", "half sleeves"),
    "three-quarter sleeve": ("three-quarter sleeve", "3/4 sleeves", "three-quarter sleeves", "bracelet sleeves"),
    "long sleeve": ("long sleeve", "long sleeves", "full sleeves", "long-sleeved"),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "black": ("Black", "Jet Black", "Onyx"),
    "white": ("White", "Bright White"),
    "grey": ("Grey", "Slate"),
    "navy blue": ("Navy", "Navy Blue", "Dark Navy", "Midnight"),
    "blue": ("Blue", "Cobalt", "Sky Blue"),
    "red": ("Red", "Scarlet"),
    "burgundy": ("Burgundy", "Wine", "Bordeaux"),
    "pink": ("Pink", "Rose", "Blush"),
    "green": ("Green", "Forest Green"),
    "olive": ("Olive", "Army Green"),
    "beige": ("Beige", "Sand", "Oatmeal"),
    "brown": ("Brown", "Chocolate", "Mocha"),
    "yellow": ("Yellow", "Lemon"),
    "purple": ("Purple", "Violet", "Plum"),
}
_NOUNS: dict[str, tuple[str, ...]] = {
    "tees": ("Tee", "T-Shirt", "Top", "Jersey Top"),
    "graphic": ("Tee", "T-Shirt", "Band Tee"),
    "shirts": ("Shirt", "Button-Up Shirt", "Overshirt"),
    "dresses": ("Dress", "Day Dress", "Swing Dress"),
    "blouses": ("Blouse", "Top", "Woven Blouse"),
    "sweaters": ("Sweater", "Jumper", "Pullover"),
    "pants": ("Pants", "Trousers", "Slacks"),
    "skirts": ("Skirt", "A-Line Skirt", "Wrap-Style Skirt"),
    "hoodies": ("Hoodie", "Sweatshirt", "Hoodie"),
    "jackets": ("Jacket", "Bomber", "Light Jacket"),
    "shorts": ("Shorts", "Walk Shorts", "Weekend Shorts"),
    "cardigans": ("Cardigan", "Knit Cardigan", "Button Cardigan"),
}
_FITS = (
    "Slim Fit",
    "Relaxed",
    "Oversized",
    "Regular Fit",
    "Classic",
    "Essential",
    "Everyday",
    "Easy",
    "Weekend",
    "Modern",
)
_FILLER = (
    "An easy piece for every day.",
    "Made to be worn on repeat.",
    "Pairs well with almost anything you own.",
    "A wardrobe favourite, back for the new season.",
    "Our model is 178 cm tall and wears size M.",
    "Machine wash cold, dry flat.",
    "Designed in our own studio.",
    "True to size.",
    "From the office to the weekend without a second thought.",
    "New in.",
    "Customer favourite!",
    "Runs slightly large.",
)
_LONG = (
    "We have been making this piece for more than ten years and have changed very little about it since then: the "
    "same careful cut, the same patient finishing by hand, the same small mill, and a fit that our customers write "
    "to us about. Every piece is inspected twice before it leaves the house, folded, wrapped in paper and sent out "
    "in a box that can be used again, and should anything be wrong with it you can return it within thirty days, "
    "free of charge and without having to give a reason. Please note that the shade may differ a little between "
    "screens, and that a piece like this gets better with every wash."
)


@dataclass(frozen=True)
class Wording:
    """The texts all views of a product share; colour is None where the shop left the field empty."""

    title: str
    description: str
    colour: str | None


def _pick(rng: Generator, words: tuple[str, ...]) -> str:
    # The plainest form leads, as it does in shops.
    return words[0] if rng.random() < 0.45 else words[int(rng.integers(len(words)))]


def _negation(rng: Generator, product: Product) -> str:
    """A sentence that says what the product is not; it never denies a true value."""
    options = ["No dry cleaning needed.", "No stretch."]
    if product.category not in BOTTOMS:
        if product.neckline != "hood":
            options += ["No hood.", "Comes without a hood."]
        if product.neckline not in ("polo collar", "shirt collar", "mandarin collar"):
            options += ["Without collar.", "No collar to iron."]
        if product.neckline != "turtleneck":
            options.append("Not a turtleneck.")
    if product.pattern == "solid":
        options += ["No stripes, no print.", "Without print."]
    if product.material != "leather":
        options.append("Contains no leather.")
    if product.material != "wool":
        options.append("Wool-free.")
    return options[int(rng.integers(len(options)))]


def _named(rng: Generator, product: Product) -> dict[str, str]:
    """Which attributes the text names, in the shop's own words."""
    said: dict[str, str] = {}
    if rng.random() < 0.77:
        said["material"] = _pick(rng, MATERIAL_WORDS[product.material])
    if rng.random() < (0.72 if product.pattern == "solid" else 0.80):
        said["pattern"] = _pick(rng, PATTERN_WORDS[product.pattern])
    if product.neckline is not None and rng.random() < 0.52:
        said["neckline"] = _pick(rng, NECKLINE_WORDS[product.neckline])
    if product.sleeve is not None and rng.random() < 0.76:
        said["sleeve"] = _pick(rng, SLEEVE_WORDS[product.sleeve])
    return said


def _title_case(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def write_texts(rng: Generator, product: Product) -> Wording:
    """The title, description and colour field of a product, drawn from rng.

    An attribute that the text names is the true one; about a quarter of the materials, patterns and sleeves and
    half of the necklines stay unsaid.
    """
    said = _named(rng, product)
    left = dict(said)
    shown = _pick(rng, COLOUR_WORDS[product.colour])
    noun = _pick(rng, _NOUNS[product.category])
    parts: list[str] = []
    if rng.random() < 0.5:
        parts.append(_FITS[int(rng.integers(len(_FITS)))])
    if rng.random() < 0.3:
        parts.append(shown)
    for name in ("pattern", "sleeve", "neckline"):
        if name in left and rng.random() < 0.4:
            parts.append(_adjective(left.pop(name)))
    if parts[-1:] not in (["Henley"], ["Polo"]) or rng.random() < 0.4:
        parts.append(noun)  # a "Striped Henley" needs no further noun
    if "material" in left and rng.random() < 0.55:
        parts.append("in " + _title_case(left.pop("material")))
    title = " ".join(parts)

    article = noun.lower()
    sentences: list[str] = []
    material = left.pop("material", None)
    if material is not None:
        plural = article.endswith("s") and not article.endswith("ss")
        lead = (
            "Cut from {m}.",
            "These {n} are made of {m}." if plural else "A {n} made of {m}.",
            "Crafted from {m} for comfort.",
            "{m}, soft against the skin.",
        )
        text = lead[int(rng.integers(len(lead)))].format(m=material, n=article)
        sentences.append(text[:1].upper() + text[1:])
    details = [left[name] for name in ("neckline", "sleeve", "pattern") if name in left]
    if details:
        order = rng.permutation(len(details))
        listed = [_phrase(details[int(k)]) for k in order]
        joined = listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " and " + listed[-1]
        lead = ("Details: {d}.", "Features {d}.", "Comes with {d}.", "Designed with {d}.")
        sentences.append(lead[int(rng.integers(len(lead)))].format(d=joined))
    if rng.random() < 0.6 or not sentences:
        sentences.append(_FILLER[int(rng.integers(len(_FILLER)))])
    if rng.random() < 0.15:
        sentences.append(_negation(rng, product))
    rng.shuffle(sentences)
    if rng.random() < 0.035:
        sentences.insert(0, _LONG)
    return Wording(title, " ".join(sentences), shown if rng.random() < 0.95 else None)


def _adjective(words: str) -> str:
    """The words as they stand before a noun in a title ("Short Sleeve" Tee, "Striped" Tee)."""
    plain = {"stripes": "striped", "no sleeves": "sleeveless"}.get(words, words)
    return _title_case(plain.removesuffix("s") if plain.endswith("sleeves") else plain)


def _phrase(words: str) -> str:
    """The words as part of a list of details ("a crew neck", "long sleeves", "a striped look")."""
    if words.endswith(("sleeves", "stripes")):
        return words
    if words.lower().endswith(("neck", "neckline", "collar", "hood", "sleeve", "print")):
        return f"a {words}"
    if words in ("check", "stripe", "graphic", "plaid", "henley", "polo"):
        return f"a {words} design"
    article = "an" if words[0] in "aeiou" else "a"
    return f"{article} {words} look"
