"""The variants of an ablation: read from YAML, spelt out for one parameter file, checked before anything runs."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib.base.errors import ConfigError
from lib.base.params import PAIR_KINDS, Params, parse_params

FULL = "full"
"""Name of the recipe as it stands."""
SEEDS = "Seeds"
"""Title of the part that runs the whole recipe again under other seeds."""
_PLAIN = re.compile(r"[A-Za-z_][\w./@-]*")


@dataclass(frozen=True)
class Variant:
    """One run.

    Attributes:
        name: of the experiment, letters, digits and `-`.
        part: title of the part of the table it belongs to; empty for the full recipe.
        what: what is off or other.
        overrides: dotted key -> value.
        params: the whole parameter file under these overrides.
    """

    name: str
    part: str
    what: str
    overrides: Mapping[str, Any]
    params: Params

    @property
    def options(self) -> list[str]:
        """The `-S` options of `dvc exp run`."""
        return [word for key, value in self.overrides.items() for word in ("-S", f"{key}={hydra_value(value)}")]


def read_variants(file: Path, base: Params) -> tuple[list[Variant], dict[str, str]]:
    """Spell out a file of variants for one parameter file.

    Args:
        file: YAML as `benchmarks/ablation.yaml`, which says what its keys mean.
        base: the full recipe.

    Returns:
        The full recipe, it again per seed, and every variant, in the order of the file; and name -> reason of those
        that would change nothing here.

    Raises:
        ConfigError: a key or value that the parameters do not have, or a name twice.
    """
    declared = yaml.safe_load(file.read_text(encoding="utf-8"))
    raw = base.model_dump(mode="json")
    variants = [Variant(FULL, "", "nothing", {}, base)]
    left_out: dict[str, str] = {}
    entries = [
        (SEEDS, {"name": f"seed-{seed}", "what": "another seed", "set": dict.fromkeys(declared["seed_keys"], seed)})
        for seed in declared["seeds"]
    ]
    entries += [(part["title"], entry) for part in declared["parts"] for entry in part["variants"]]
    for part, entry in entries:
        for name, what, overrides in _spelt_out(entry, raw, name=str(file)):
            if name in left_out or any(variant.name == name for variant in variants):
                raise ConfigError(f"{file}: two variants are called '{name}'")
            overrides = {key: v for key, v in overrides.items() if not _weighs_nothing(key, raw)}
            changed = apply_overrides(raw, overrides, name=f"{file}: {name}")
            params = parse_params(changed, name=f"{file}: {name}")
            if _effective(params) == _effective(base):
                left_out[name] = "nothing to change in this recipe"
                continue
            variants.append(Variant(name, part, what, overrides, params))
    return variants, left_out


def recipe_text(file: Path, params: Params, variants: Sequence[Variant]) -> str:
    """The parameter file as it stands, so that nothing built from it counts as changed.

    Only a key that a variant overrides and that the file leaves to its default is added: `dvc exp run -S` changes
    no key that is not there.
    """
    text = file.read_text(encoding="utf-8")
    raw, full = yaml.safe_load(text), params.model_dump(mode="json")
    missing = {}
    for key in dict.fromkeys(key for variant in variants for key in variant.overrides):
        path, _, last = key.rpartition(".")
        place = _at(raw, path, name=str(file))
        if isinstance(place, dict) and last not in place:
            place[last] = missing[key] = _at(full, key, name=str(file))
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True) if missing else text


def _spelt_out(
    entry: Mapping[str, Any], raw: Mapping[str, Any], *, name: str
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    unknown = set(entry) - {"name", "what", "set", "each", "without_share"}
    if unknown or ("set" in entry) == ("without_share" in entry):
        raise ConfigError(f"{name}: {entry.get('name')}: expected name, what, set (or without_share) and each")
    if "without_share" in entry:
        yield entry["name"], entry["what"], _without_share(raw, entry["without_share"])
    elif "each" in entry:
        places = _at(raw, entry["each"], name=name)
        for i, place in enumerate(places):
            of = f"{place['column']}={'|'.join(place['values']) or 'known'}"
            slug = re.sub(r"[^a-z0-9]+", "-", of.lower()).strip("-")
            yield (
                entry["name"].format(i=i, of=slug),
                entry["what"].format(i=i, of=of),
                {key.format(i=i): value for key, value in entry["set"].items()},
            )
    else:
        yield entry["name"], entry["what"], dict(entry["set"])


def _weighs_nothing(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether a key is the weight of an attribute that this recipe does not weigh at all."""
    path, _, last = key.rpartition(".")
    return path == "train.loss.attribute_weights" and last not in raw["train"]["loss"]["attribute_weights"]


def _effective(params: Params) -> Params:
    """The parameters without what has nothing to apply to: a policy, or the recipe of a backbone that is fetched."""
    if not params.data.pattern_only_categories:
        pairs = params.pairs.model_copy(update={"graphic_policy": "pattern_only"})
        params = params.model_copy(update={"pairs": pairs})
    if params.backbone.source != "train":
        params = params.model_copy(update={"backbone": params.backbone.model_copy(update={"train": None})})
    return params


def _without_share(raw: Mapping[str, Any], kind: str) -> dict[str, Any]:
    shares = raw["pairs"]["shares"]
    left = {name: shares[name] for name in PAIR_KINDS if name != kind}
    scaled = {name: round(share / sum(left.values()), 6) for name, share in left.items()}
    last = max(left, key=lambda name: left[name])
    scaled[last] = round(1.0 - sum(share for name, share in scaled.items() if name != last), 6)
    return {f"pairs.shares.{name}": scaled.get(name, 0.0) for name in PAIR_KINDS}


def apply_overrides(raw: Mapping[str, Any], overrides: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """A copy of nested parameters with dotted keys replaced; numbers in a key count list entries.

    >>> apply_overrides({"a": [{"b": 1}, {"b": 2}]}, {"a.1.b": 5}, name="x")
    {'a': [{'b': 1}, {'b': 5}]}

    Raises:
        ConfigError: there is no such key.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(raw))
    for key, value in overrides.items():
        path, _, last = key.rpartition(".")
        place = _at(changed, path, name=name) if path else changed
        if isinstance(place, list) and last.isdigit() and int(last) < len(place):
            place[int(last)] = value
        elif isinstance(place, dict) and last in place:
            place[last] = value
        else:
            raise ConfigError(f"{name}: no parameter '{key}'")
    return changed


def _at(raw: Any, path: str, *, name: str) -> Any:
    for part in path.split("."):
        try:
            raw = raw[int(part)] if isinstance(raw, list) else raw[part]
        except (KeyError, IndexError, ValueError):
            raise ConfigError(f"{name}: no parameter '{path}'") from None
    return raw


def hydra_value(value: Any) -> str:
    """A value in the grammar of `dvc exp run -S`.

    >>> hydra_value([0.5, None, "round neck", True])
    "[0.5,null,'round neck',true]"

    Raises:
        ConfigError: a mapping; name its entries by dotted keys.
    """
    if isinstance(value, Mapping):
        raise ConfigError(
            f"expected a value or a list, got the mapping {dict(value)}; set its entries by dotted keys"
        )
    if isinstance(value, list | tuple):
        return "[" + ",".join(hydra_value(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return text if _PLAIN.fullmatch(text) and text not in ("null", "true", "false") else f"'{quoted}'"
