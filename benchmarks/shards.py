"""Time and memory of the index of tar shards with a million images, and of reading images by their place in it.

python benchmarks/shards.py [--images N] [--folder DIR]

Seconds of the processor are stated beside those of the clock: the first do not depend on what else the machine does.
"""

import argparse
import io
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from lookalike.data import Files, open_source
from machine import save

SHARDS, READS, SIDE = 10, 2000, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the tar files are written for a while")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        for number in range(SHARDS):
            write(Path(place) / f"s-{number:04}.tar", asked.images // SHARDS)
        print(save("shards", measured(Path(place))))


def write(path: Path, images: int) -> None:
    """Members <number>.png: noise of 16 pixels a side, in blocks of two, the same for all."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(images):
            member = tarfile.TarInfo(f"{number:08}.png")
            member.size = len(file.getvalue())
            tar.addfile(member, io.BytesIO(file.getvalue()))


def measured(folder: Path) -> dict[str, object]:
    process = psutil.Process()
    before, clock, work = process.memory_info().rss, time.perf_counter(), time.process_time()
    source = open_source(folder)
    seconds, busy, after = time.perf_counter() - clock, time.process_time() - work, process.memory_info().rss
    columns = (source.index.shard, source.index.start, source.index.size, source.index.check, source.index.end)
    held = sum(column.nbytes for column in columns) + len(source.index.names)
    work = time.process_time()
    source.identity()
    identity = time.process_time() - work
    order = np.random.default_rng(1).integers(0, len(source), READS).tolist()
    (folder / "one.png").write_bytes(source.places[0].read(512, int(source.index.size[0])))
    single = Files(folder, ["one.png"])
    return {
        "images": len(source),
        "shards": SHARDS,
        "bytes_per_member": int(source.index.size[0]),
        "index_seconds": round(seconds, 2),
        "index_processor_seconds": round(busy, 2),
        "index_microseconds_per_image": round(1e6 * busy / len(source), 2),
        "index_megabytes": round(held / 1e6, 1),
        "resident_megabytes_added": round((after - before) / 1e6, 1),
        "identity_processor_seconds": round(identity, 2),
        "read_microseconds": cost(source.read, order),
        "read_microseconds_of_one_file_again_and_again": cost(single.read, [0] * READS),
    }


def cost(read, order: list[int]) -> float:
    """Processor time of one image, decoded."""
    start = time.process_time()
    for index in order:
        read(index)
    return round(1e6 * (time.process_time() - start) / len(order), 1)


if __name__ == "__main__":
    main()
