#!/bin/sh
# Saving an AVIF with an EXIF orientation, Pillow 13.0.0 (libavif 1.4.2) writes it as the properties irot and
# imir, and no EXIF: a reader of the file's EXIF finds none, though Image.getexif() shows the orientation that
# was given, made up from irot. The size stays that before turning, 64 x 48, where a browser lays out 48 x 64;
# and saved again as PNG, as for a thumbnail, the picture has lost its orientation.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0
"$folder/venv/bin/python" - <<'END'
import io

from PIL import Image

ORIENTATION = 0x112
exif = Image.Exif()
exif[ORIENTATION] = 6
saved = io.BytesIO()
Image.new("RGB", (64, 48)).save(saved, "AVIF", exif=exif)
content = saved.getvalue()
image = Image.open(io.BytesIO(content))
again = io.BytesIO()
image.save(again, "PNG")
thumbnail = Image.open(again)
print("irot:", b"irot" in content, "Exif:", b"Exif" in content, "size:", image.size)
print("getexif():", image.getexif().get(ORIENTATION), "- as PNG:", thumbnail.size, thumbnail.getexif().get(ORIENTATION))
assert b"irot" in content
assert b"Exif" not in content, "it has changed"
assert (image.size, image.getexif().get(ORIENTATION)) == ((64, 48), 6)
assert (thumbnail.size, thumbnail.getexif().get(ORIENTATION)) == ((64, 48), None), "it has changed"
END
