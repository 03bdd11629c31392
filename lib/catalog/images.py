"""Photos as they come, made into upright 8-bit images: a full decode, never `Image.verify()`.

`verify()` passes a truncated JPEG, and `convert("RGB")` clips a 16-bit PNG to white; both were seen.
"""

from __future__ import annotations

import errno
import io
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lib.base.errors import PipelineError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Nothing that runs another program (EPS calls Ghostscript) or is no photo."""

_BLOCK_PIXELS = 2**20
"""Pixels that are widened to 64 bits at a time."""
MAX_FILE_BYTES = 256 * 2**20
JPEG_QUALITY = 95
ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow warns about what is refused or noted here anyway. A filter, once: `warnings.catch_warnings` is not
# safe in the decoding threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# What Pillow's parsers raise on broken input; it promises no common base.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError,
           OverflowError, ZeroDivisionError, RuntimeError, MemoryError, struct.error, zlib.error)  # fmt: skip


class ImageError(PipelineError):
    """A photo that cannot be used; `reason` is one word for counting, the message is for reading."""

    exit_code = 3

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class NormalImage:
    """An encoded image (JPEG, or PNG where the original was one) with no pending rotation.

    Attributes:
        data: encoded bytes, mode RGB or L, 8 bits, at most the asked-for side.
        notes: what had to be overlooked, for example `corrupt_exif`.
    """

    data: bytes
    width: int
    height: int
    notes: tuple[str, ...] = ()


def resolve_under(root: Path, name: str, *, key: str = "data.image_root") -> Path:
    """The regular file `name` under `root`, symbolic links followed; messages call the root by its parameter, `key`.

    Raises:
        ImageError: `path_escape` (absolute, or its real place is outside the root), `bad_path` (NUL or
            a name that cannot be encoded), `name_too_long`, `missing_file`, `not_a_file` (folder, FIFO, device),
            `unreadable`.
    """
    if "\0" in name:
        raise ImageError("bad_path", "the name holds a NUL character")
    if Path(name).is_absolute():
        raise ImageError("path_escape", f"absolute path; image paths are relative to {key}")
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()):
            raise ImageError("path_escape", f"its real place is outside {key}")
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("missing_file", f"no such file under {key}") from None
    except UnicodeEncodeError:
        raise ImageError("bad_path", "the name cannot be a file name on this system") from None
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise ImageError("name_too_long", f"{len(name)} characters are too many for a file name") from None
        raise ImageError("unreadable", str(error)) from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file (FIFO, socket or device)"
        raise ImageError("not_a_file", f"it is {kind}")
    return path


def read_file(root: Path, name: str, *, key: str = "data.image_root") -> bytes:
    """Bytes of a photo under `root`; see `resolve_under`. Adds `zero_bytes`, `file_too_large`, `unreadable`."""
    path = resolve_under(root, name, key=key)
    try:
        size = path.stat().st_size
        if size == 0:
            raise ImageError("zero_bytes", "the file is empty")
        if size > MAX_FILE_BYTES:
            raise ImageError("file_too_large", f"{size} bytes, more than {MAX_FILE_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ImageError("unreadable", error.strerror or str(error)) from None


def normalise_image(data: bytes, *, max_side: int, max_pixels: int) -> NormalImage:
    """Decode a photo completely and make it upright, 8-bit, without alpha, at most `max_side` on a side.

    EXIF orientation is applied, transparency is laid on white, CMYK and palettes become RGB, 16-bit is
    scaled (not clipped), an animation gives its first frame. Bytes that are already like that (an RGB or L
    JPEG, an RGB PNG) are returned as they are; all others are encoded again as JPEG, quality 95.

    Args:
        data: the file's bytes.
        max_side: in pixels; larger images are scaled down (Lanczos), the aspect ratio is kept.
        max_pixels: refused above this, from the header, before any pixel is decoded.

    Raises:
        ImageError: `zero_bytes`, `not_an_image`, `too_many_pixels`, `truncated` or `broken_image`.
    """
    if not data:
        raise ImageError("zero_bytes", "the file is empty")
    with _open(data, max_pixels) as image:
        if image.format == "JPEG":
            # Lets libjpeg scale by 1/2, 1/4 or 1/8 while it decodes, never below twice the final size.
            image.draft(image.mode, (2 * max_side, 2 * max_side))
        try:
            image.load()
            orientation, notes = _orientation(image)
            if _is_normal(image, orientation, notes) and max(image.size) <= max_side:
                return NormalImage(data, image.width, image.height)
            plain = _eight_bit(image)
        except _BROKEN as error:
            raise _undecodable(error) from None
    if orientation in _TRANSPOSE:
        plain = plain.transpose(_TRANSPOSE[orientation])
    if max(plain.size) > max_side:
        scale = max_side / max(plain.size)
        width, height = (max(1, round(side * scale)) for side in plain.size)
        plain = plain.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    plain.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return NormalImage(buffer.getvalue(), plain.width, plain.height, notes)


def image_format(data: bytes, *, max_pixels: int) -> str:
    """Decode a photo completely and say what it is: one of `FORMATS`, or "MPO", a JPEG with more pictures behind it.

    Args:
        data: the file's bytes.
        max_pixels: refused above this, from the header, before any pixel is decoded.

    Raises:
        ImageError: see `normalise_image`.
    """
    if not data:
        raise ImageError("zero_bytes", "the file is empty")
    with _open(data, max_pixels) as image:
        try:
            image.load()
        except _BROKEN as error:
            raise _undecodable(error) from None
        return str(image.format)


def _undecodable(error: BaseException) -> ImageError:
    return ImageError("truncated" if "truncated" in str(error).lower() else "broken_image", _first_line(error))


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError("too_many_pixels", f"more than {max_pixels} pixels (data.max_pixels)") from None
    except UnidentifiedImageError:
        html = data[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<"))
        looks = "it looks like HTML or XML" if html else f"it starts with {data[:8]!r}"
        raise ImageError("not_an_image", f"no known image format: {looks}") from None
    except _BROKEN as error:
        raise ImageError("broken_image", _first_line(error)) from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError("too_many_pixels", f"{width}×{height} pixels, more than {max_pixels} (data.max_pixels)")
    return image


def _orientation(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    """Orientation 1–8; 1 with a note when the EXIF block cannot be read or says nonsense."""
    block = image.info.get("exif")
    try:
        # Without a block Pillow still knows TIFF tags and XMP.
        value = read_orientation(block) if block else image.getexif().get(ORIENTATION_TAG, 1)
    except _BROKEN:
        return 1, ("corrupt_exif",)
    if value == 0:  # "unknown" to many cameras
        return 1, ()
    if not isinstance(value, int) or not 1 <= value <= 8:
        return 1, ("corrupt_exif",)
    return value, ()


def read_orientation(block: bytes) -> int:
    """The orientation tag of an EXIF block, 1 where it has none.

    Pillow only warns about a damaged block and goes on as if it were empty, and warnings cannot be caught
    in threads; so the one directory that matters is read here.

    Raises:
        ValueError or struct.error: the block is no EXIF, or its first directory runs past its end.
    """
    tiff = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        raise ValueError(f"expected a TIFF header, got {tiff[:4]!r}")
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    orientation = 1
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, _, short = struct.unpack_from(order + "HHIH2x", tiff, entry)
        if tag == ORIENTATION_TAG:
            orientation = short if kind == 3 else struct.unpack_from(order + "I", tiff, entry + 8)[0]
    return orientation


def _is_normal(image: Image.Image, orientation: int, notes: tuple[str, ...]) -> bool:
    """Whether the original bytes will do; corrupt EXIF is written anew, so that no later reader trips."""
    if orientation != 1 or notes or "transparency" in image.info or getattr(image, "n_frames", 1) > 1:
        return False
    return (image.format == "JPEG" and image.mode in ("RGB", "L")) or (image.format == "PNG" and image.mode == "RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """RGB or L, alpha on white. A new image: the file may be closed afterwards."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _scaled_to_eight_bit(image)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.copy() if image.mode in ("RGB", "L") else image.convert("RGB")


def _scaled_to_eight_bit(image: Image.Image) -> Image.Image:
    """One channel of 16 or 32 bits or floats: the full range of the format becomes 0–255."""
    values = np.asarray(image)
    step = max(_BLOCK_PIXELS // max(image.width, 1), 1)
    parts = [slice(row, row + step) for row in range(0, image.height, step)]

    def clean(part: slice) -> npt.NDArray[np.float64]:
        found = np.nan_to_num(values[part].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        return found.clip(min=0.0)

    peak = max(float(clean(part).max(initial=0.0)) for part in parts)
    if image.mode == "F":
        full = next((limit for limit in (1.0, 255.0, 65535.0) if peak <= limit), peak)
    elif image.mode == "I":
        full = 65535.0 if peak <= 65535.0 else peak  # 16-bit data that Pillow widened, as a rule
    else:
        full = 65535.0
    eight_bit = np.empty(values.shape, dtype=np.uint8)
    for part in parts:
        eight_bit[part] = (clean(part) * (255.0 / full)).round()
    return Image.fromarray(eight_bit)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
