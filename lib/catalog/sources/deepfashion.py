"""Adapter for DeepFashion In-shop as its authors release it: a folder of photos and lists about them.

The rows are those of the partition file. Folders and files:

- `img/{MEN,WOMEN}/<Category>/id_########/NN_V_view.jpg`: NN counts the colourways of an item, V the views.
- `list_eval_partition.txt`: `image_name item_id evaluation_status`, the status `train`, `query` or `gallery`.
- `list_item_inshop.txt`: every item id; compared with the partition, nothing is taken from it.
- `list_description_inshop.json`: for every item id a colour and lines of text.
- `list_color_cloth.txt` (later releases): a colour for every photo. It wins, because a description has one colour
  for all colourways of its item.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lib.base.errors import ConfigError
from lib.base.params import Data
from lib.catalog.photo_folder import PhotoFolder
from lib.catalog.schema import PARTITIONS, BadRow, RawRow
from lib.catalog.sources.inshop import (
    Description,
    Line,
    find_file,
    read_colors,
    read_descriptions,
    read_items,
    read_list,
    some,
)
from lib.catalog.sources.mapping import TEXT_JOIN

PARTITION, ITEMS = "list_eval_partition.txt", "list_item_inshop.txt"
DESCRIPTIONS, COLORS = "list_description_inshop.json", "list_color_cloth.txt"
COLUMNS = ("image_name", "item_id", "evaluation_status")
_IMAGE = re.compile(r"img/(MEN|WOMEN)/([^/]+)/(id_[0-9]{8})/([^/]+)\.[A-Za-z]+")
_NOTHING = Description(None, ())


def category_names(folder: str) -> tuple[str | None, str | None]:
    """`category2` and `category3` of a category folder: what precedes and what follows its first underscore.

    These are the names that the data set bears in its Hugging Face form.

    >>> [category_names(folder) for folder in ("Blouses_Shirts", "Graphic_Tees", "Denim")]
    [('blouses', 'shirts'), ('graphic', 'tees'), ('denim', None)]
    """
    first, _, rest = folder.lower().partition("_")
    return first or None, rest or None


class DeepFashionSource:
    """Rows and photos of the original In-shop release.

    An item's id is its path with underscores, `WOMEN_Blouses_Shirts_id_00000001_02_1_front`, as in the Hugging Face
    form: the same photo has the same id in both. Its product is the folder with the item id, because bare ids repeat
    across folders; the official protocol matches by the bare id, which is kept as `partition_item`.

    Args:
        raw: folder of the release.
        data: the section of the parameters. `metadata` is the partition file under `raw`, "" looks for it in
            `inshop.FOLDERS`, where the other lists are always looked for; `image_root` is the folder with `MEN` and
            `WOMEN`, which is what `img` stands for in image names; `columns` must be empty.

    Raises:
        ConfigError: the partition file or the photos are not there, or `data.columns` names something.
        DataError: a list has other columns, or the descriptions are no JSON list.
    """

    notes: list[str]

    def __init__(self, raw: Path, data: Data) -> None:
        named = data.columns.model_dump(exclude_defaults=True)
        if named:
            raise ConfigError(
                f"data.columns.{min(named)}: the columns of source deepfashion_inshop are those of its release; "
                "write columns: {}"
            )
        path = raw / data.metadata if data.metadata else find_file(raw, PARTITION)
        if path is None or not path.is_file():
            place = path or f"{raw}/{PARTITION} (nor in Eval or Anno)"
            raise ConfigError(f"{place}: no such file; data.raw_dir and data.metadata name it")
        self._photos = PhotoFolder(raw / data.image_root)
        if not self._photos.holds("MEN") and not self._photos.holds("WOMEN"):
            raise ConfigError(
                f"{self._photos.root}: no folder MEN or WOMEN in it, nor in {self._photos.root.name}.zip; "
                "data.image_root names the one that holds them, such as img or Img/img"
            )
        self._path = path
        self._missing = frozenset(data.missing_values)
        lines, self.notes = read_list(path, COLUMNS)
        items, descriptions, self._colors = self._side_files(raw)
        self._descriptions = descriptions or {}
        self._rows = [self._row(line) for line in lines]
        self._compare(items, descriptions)

    @property
    def name(self) -> str:
        """The partition file's path, for messages."""
        return str(self._path)

    def rows(self) -> Iterator[RawRow | BadRow]:
        """A row for each line of the partition file, in order; lines that contradict themselves are bad."""
        yield from self._rows

    def image_size(self, image: str) -> int | None:
        """Bytes of a photo, None where it cannot be read."""
        return self._photos.size(image)

    def image_bytes(self, image: str) -> bytes:
        """A photo's bytes.

        Raises:
            ImageError: it lies elsewhere, is missing, no file, empty, or cannot be read.
        """
        return self._photos.read(image)

    def same_photo(self, row: int, image: str) -> bool:
        """True: what names a photo is a cell, and the cells are the same."""
        return True

    def photos(self) -> Iterator[str]:
        """Names of all photo files, sorted within each folder."""
        return self._photos.names()

    def _side_files(self, raw: Path) -> tuple[list[str] | None, dict[str, Description] | None, dict[str, str]]:
        """What the other lists say; None where one is not there."""
        paths = {name: find_file(raw, name) for name in (ITEMS, DESCRIPTIONS, COLORS)}
        items = descriptions = None
        colors: dict[str, str] = {}
        if (path := paths[ITEMS]) is not None:
            items, notes = read_items(path)
            self.notes += notes
        if (path := paths[DESCRIPTIONS]) is not None:
            descriptions, notes = read_descriptions(path)
            self.notes += notes
        else:
            self.notes.append(f"{DESCRIPTIONS}: not there; no item has a text")
        if (path := paths[COLORS]) is not None:
            colors, notes = read_colors(path)
            self.notes += notes
        return items, descriptions, colors

    def _row(self, line: Line) -> RawRow | BadRow:
        fields = line.text.split()
        photo = fields[0].removeprefix("img/")
        if len(fields) != len(COLUMNS):
            detail = f"expected {', '.join(COLUMNS)}, got {len(fields)} fields: {line.text[:80]!r}"
            return BadRow(line.number, None, photo, "malformed_line", detail)
        name, item, status = fields
        match = _IMAGE.fullmatch(name)
        if match is None:
            detail = f"expected img/MEN or WOMEN/<Category>/id_<8 digits>/<view>.jpg, got {name[:120]!r}"
            return BadRow(line.number, None, photo, "bad_image_name", detail)
        gender, folder, path_item, view = match.groups()
        product = f"{gender}_{folder}_{path_item}"
        item_id = f"{product}_{view}"
        if item != path_item:
            detail = f"the image lies in {path_item}, the line says {item}"
            return BadRow(line.number, item_id, photo, "item_mismatch", detail)
        if status not in PARTITIONS:
            detail = f"evaluation_status: expected {', '.join(PARTITIONS)}, got {status!r}"
            return BadRow(line.number, item_id, photo, "unknown_status", detail)
        described = self._descriptions.get(item, _NOTHING)
        category2, category3 = category_names(folder)
        texts = [text for part in described.lines if (text := self._known(part)) is not None]
        return RawRow(
            row=line.number,
            item_id=item_id,
            image=photo,
            image_name=PurePosixPath(photo).name,
            category1=gender.lower(),
            category2=category2,
            category3=category3,
            product_id=product,
            text=TEXT_JOIN.join(texts) or None,
            attributes={"color": self._known(self._colors.get(name, described.color))},
            partition=status,
            partition_item=item,
            digest=hashlib.sha256("\0".join(fields).encode("utf-8", "surrogatepass")).digest()[:16],
        )

    def _known(self, cell: str | None) -> str | None:
        """A text without surrounding blanks; None when it is empty or listed in `data.missing_values`."""
        cell = (cell or "").strip()
        return None if not cell or cell in self._missing else cell

    def _compare(self, items: list[str] | None, descriptions: dict[str, Description] | None) -> None:
        """Notes about items that one list has and another has not, and about colours that cannot be right."""
        rows = [row for row in self._rows if isinstance(row, RawRow)]
        mine = {row.partition_item for row in rows if row.partition_item is not None}
        for file, listed in ((ITEMS, items), (DESCRIPTIONS, descriptions)):
            if listed is None:
                continue
            for ids, what in (
                (set(listed) - mine, f"of {file} have no row in {self._path.name}"),
                (mine - set(listed), f"of {self._path.name} are not in {file}"),
            ):
                if ids:
                    self.notes.append(f"{len(ids)} items {what}: {some(ids)}")
        ways: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            if (
                row.partition_item
                and row.image
                and f"img/{row.image}" not in self._colors
                and row.attributes["color"]
            ):
                ways[row.partition_item].add(PurePosixPath(row.image).name.partition("_")[0])
        several = sum(len(found) > 1 for found in ways.values())
        if several:
            self.notes.append(
                f"{several} items with several colourways bear the one colour of their description in all of them; "
                f"{COLORS} of later releases tells them apart"
            )
        unused = self._colors.keys() - {f"img/{row.image}" for row in rows}
        if unused:
            self.notes.append(f"{len(unused)} images of {COLORS} have no row in {self._path.name}: {some(unused)}")
