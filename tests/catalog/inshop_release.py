"""A small DeepFashion In-shop release, drawn from a seed, in the schema of the original one.

As in the original: category folders with underscores, items whose id stands in two folders, one to three colourways
of several views, colours and texts by item id, trailing blanks in the lists, and an official partition in which every
test item has query and gallery images.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

FOLDERS = ("WOMEN/Blouses_Shirts", "WOMEN/Graphic_Tees", "WOMEN/Denim", "MEN/Sweatshirts_Hoodies", "MEN/Denim")
SECOND_FOLDER = {"WOMEN/Blouses_Shirts": "WOMEN/Tees_Tanks"}
"""Some items of the first are listed under the second as well."""
VIEWS = ("1_front", "2_side", "3_back", "4_full", "7_additional")
COLORS = {
    "Navy": (28, 38, 92),
    "Cream": (240, 230, 200),
    "Rust": (170, 80, 40),
    "Heather grey": (150, 150, 155),
    "Black-red": (40, 20, 25),
    "Yellow": (230, 200, 60),
}
LINES = (
    ("A boxy top with a V-neckline and short sleeves. ", "100% cotton", "Machine wash cold", "Imported"),
    ("Band tee with a crew neck and short sleeves. ", "60% cotton, 40% polyester", "Hand wash cold"),
    ('Slim fit denim with a "worn" look. ', "Denim", "98% cotton, 2% spandex"),
    ("A striped hoodie, long sleeves. ", "Voilà!", "80% cotton, 20% polyester"),
    ("Straight jeans, plain. ", "Denim", "Machine wash cold"),
)


@dataclass
class Release:
    """What was written; `lines` are the rows of the partition file (image name, item id, status), to be damaged."""

    raw: Path
    lines: list[tuple[str, str, str]] = field(default_factory=list)
    descriptions: list[dict[str, object]] = field(default_factory=list)
    colors: dict[str, str] = field(default_factory=dict)

    @property
    def partition(self) -> Path:
        return self.raw / "Eval" / "list_eval_partition.txt"

    def item_ids(self) -> list[str]:
        return list(dict.fromkeys(item for _, item, _ in self.lines))

    def write(self) -> None:
        """The lists; `list_color_cloth.txt` is left to `write_colors`."""
        rows = [f"{name:<60} {item}  {status} " for name, item, status in self.lines]
        self.write_list("Eval/list_eval_partition.txt", ["image_name item_id evaluation_status", *rows], len(rows))
        self.write_list("Anno/list_item_inshop.txt", self.item_ids(), len(self.item_ids()))
        path = self.raw / "Anno/list_description_inshop.json"
        path.write_text(json.dumps(self.descriptions, indent=1, ensure_ascii=False), encoding="utf-8")

    def write_colors(self) -> None:
        rows = [f"{name}     {color} " for name, color in self.colors.items()]
        self.write_list("Anno/attributes/list_color_cloth.txt", ["image_name  clothes_color", *rows], len(rows))

    def write_list(self, name: str, lines: list[str], count: int) -> None:
        path = self.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([str(count), *lines]) + "\n", encoding="utf-8")


def write_release(raw: Path, *, seed: int, n_items: int = 30, side: int = 40) -> Release:
    """Draw and write a release of `n_items` official items; even ones are test items. About five photos an item."""
    release = Release(raw)
    rng = np.random.default_rng(seed)
    for number in range(1, n_items + 1):
        item, main = f"id_{number:08d}", FOLDERS[number % len(FOLDERS)]
        folders = [main, SECOND_FOLDER[main]] if main in SECOND_FOLDER and number % 3 else [main]
        shape = rng.integers(0, side // 4, size=4)
        palette = [list(COLORS)[int(code)] for code in rng.choice(len(COLORS), size=3, replace=False)]
        first = int(rng.integers(1, 3))
        names = []
        for place, folder in enumerate(folders):
            for way in range(first, first + int(rng.integers(1, 3))):
                views = sorted(rng.choice(len(VIEWS), size=int(rng.integers(2, 4)), replace=False))
                for view in views:
                    name = f"img/{folder}/{item}/{way:02d}_{VIEWS[view]}.jpg"
                    release.colors[name] = palette[way - first]
                    path = raw / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    draw(shape, COLORS[palette[way - first]], int(view) + 5 * place, rng, side).save(path, quality=92)
                    names.append(name)
        order = rng.permutation(len(names))
        n_query = max(1, len(names) // 2)
        for rank, place in enumerate(order.tolist()):
            status = "train" if number % 2 else "query" if rank < n_query else "gallery"
            release.lines.append((names[place], item, status))
        release.descriptions.append(
            {"item": item, "color": palette[0], "description": list(LINES[number % len(LINES)])}
        )
    release.write()
    return release


def draw(
    shape: np.ndarray, color: tuple[int, int, int], view: int, rng: np.random.Generator, side: int
) -> Image.Image:
    """A garment before a wall: its outline is the item's, its colour the colourway's, its place the view's."""
    picture = Image.new("RGB", (side, side), (225 - 3 * view, 222, 218 + 2 * view))
    pen = ImageDraw.Draw(picture)
    left, top = 6 + view % 3, 5 + view % 2
    pen.rectangle((left + shape[0] // 2, top, side - 8, side - 4 - shape[1] // 2), fill=color)
    pen.rectangle((left, top + 2, left + 6 + shape[2] // 2, top + 8 + shape[3]), fill=color)
    pen.ellipse((side // 2 - 4, top - 3, side // 2 + 4, top + 3 + shape[1] // 3), fill=(240, 205, 180))
    noise = rng.normal(0, 4, size=(side, side, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
