"""Write docs/patterns.md and its pictures anew: `python -m tests.patterns_page`."""

import time

from tests.patterns_page.page import PAGE, PICTURES, generate

began = time.monotonic()
page, pictures = generate(PAGE.read_text(encoding="utf-8"))
PAGE.write_text(page, encoding="utf-8")
PICTURES.mkdir(parents=True, exist_ok=True)
for stale in {path.name for path in PICTURES.iterdir()} - pictures.keys():
    (PICTURES / stale).unlink()
for name, svg in pictures.items():
    (PICTURES / name).write_text(svg, encoding="utf-8")
print(f"{PAGE}: {len(pictures)} patterns in {time.monotonic() - began:.1f} s")
