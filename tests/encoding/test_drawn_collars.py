"""Drawn collars: the same whoever draws them, nobody's catalogue, and something to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lib.base.errors import ConfigError
from lib.base.params import load_params
from lib.encoding import drawn_collars
from lib.encoding.collars import collar_places, cut_out
from lib.encoding.convnet import PlainConvNet
from lib.encoding.drawn_collars import PICTURE, draw_collars, warm_up
from lib.encoding.drawn_necks import draw_necks
from lib.encoding.random_crops import normalise, to_unit

ROOT = Path(__file__).parents[2]


def test_pictures_show_what_they_are_said_to_show() -> None:
    drawn = [draw_necks(number, seed=3, size=48) for number in range(60)]
    assert {len(product) for product in drawn} == {0, 1, 2}, "trousers have no neckline, some are seen from the side"
    for product in drawn:
        assert len({neckline for _, neckline in product}) <= 1
        assert all(picture.shape == (48, 48, 3) and picture.dtype == np.uint8 for picture, _ in product)
    again = draw_necks(1, seed=3, size=48)
    assert all((a == b).all() for (a, _), (b, _) in zip(drawn[1], again, strict=True))


def test_as_many_as_wanted_whoever_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_collars, "_BLOCK", 16)
    (one, codes), (two, same) = (draw_collars(40, side=24, seed=1, workers=workers) for workers in (1, 2))
    assert one.shape == (40, 24, 24, 3) and one.dtype == np.uint8 and codes.dtype == np.int64
    assert sorted(set(codes)) == list(range(codes.max() + 1)) and codes.max() >= 2
    assert (one == two).all() and (codes == same).all()
    other, _ = draw_collars(40, side=24, seed=2, workers=2)
    assert (one != other).any()


def test_a_drawn_catalogue_has_other_garments() -> None:
    """Its held-out products would be learnt from otherwise."""
    own, theirs = (
        [picture.tobytes() for number in range(12) for picture, _ in draw_necks(number, seed=seed, size=24)]
        for seed in (42, drawn_collars._SEED + 42)
    )
    assert own and theirs and not set(own) & set(theirs)


def test_collars_are_cut_out_of_those_pictures() -> None:
    collars, codes = draw_collars(3, side=24, seed=42, workers=1)
    drawn = [one for number in range(9) for one in draw_necks(number, seed=drawn_collars._SEED + 42, size=PICTURE)]
    pixels = to_unit(np.stack([picture for picture, _ in drawn[:3]]))
    expected = cut_out(pixels, collar_places(normalise(pixels)), 24)
    assert (to_unit(collars) - expected).abs().max() < 0.003  # half a level of 255
    necklines = [neckline for _, neckline in drawn[:3]]
    assert codes.tolist() == [sorted(set(necklines)).index(neckline) for neckline in necklines]


def test_the_column_learns_necklines_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_collars, "EPOCHS", 12)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 160)
    collars = rng.integers(90, 110, (160, 72, 72, 3)).astype(np.uint8)
    collars[codes == 0, 30:42] = 220  # a bar across, or one down: a turn of nine degrees does not exchange them
    collars[codes == 1, :, 30:42] = 220
    torch.manual_seed(0)
    trunk = PlainConvNet(8, 4, 0, 12, collar=True)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    params = load_params(ROOT / "params.yaml").backbone.train.model_copy(update={"batch_size": 16})
    warm_up(trunk, (collars[:128], codes[:128]), 64, params)
    changed = {name for name, value in trunk.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("collar.") for name in changed)

    trunk.eval()
    with torch.no_grad():
        read = trunk.read_collars(normalise(to_unit(np.ascontiguousarray(collars[:, 4:68, 4:68]))))
    centres = [read[:128][codes[:128] == value].mean(dim=0) for value in (0, 1)]
    nearest = torch.stack([(read[128:] - centre).norm(dim=1) for centre in centres]).argmin(dim=0).numpy()
    assert (nearest == codes[128:]).mean() > 0.9


@pytest.mark.parametrize(
    ("keys", "said"), [({"drawn_collars": 5}, "collar: true"), ({"drawn_collars": 1, "collar": True}, "at least 2")]
)
def test_parameters_that_mean_nothing_are_refused(tmp_path: Path, keys: dict[str, object], said: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["backbone"]["train"] |= keys
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        load_params(tmp_path / "params.yaml")
