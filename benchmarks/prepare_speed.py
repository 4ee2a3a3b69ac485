"""How fast are X-rays prepared? Beside the recipe that notebooks copy from each other, and beside the bare decoding.

    python benchmarks/prepare_speed.py [--files 200] [--many 2000] [--rounds 3] [--out runs/prepare-speed] [--real FOLDER]

Simulated full-size DICOM files (about 2,400 x 2,700 pixels, 12 and 16 bits) in a mix of six transfer syntaxes are prepared at 512
pixels on all cores, in turn by four ways:

- covidxr: `covidxr.prepare`, as `covidxr prepare` calls it, into an empty folder each time;
- draft: the same with `draft=True` (`covidxr prepare --draft`), which decodes JPEG 2000 no finer than needed;
- the recipe: pydicom's dcmread and pixel_array, apply_voi_lut, invert MONOCHROME1, subtract the minimum, divide by the maximum, Pillow
  LANCZOS to a stretched square, save PNG; in as many processes;
- the bare decoding: reading the file and decoding its pixels by the codecs that covidxr chose, and nothing else, in as many processes.

With `--real`, the DICOM files of a folder take their place, each as often as it takes to have as many: real ones hold less noise
than simulated ones of 12 and 16 bits, and so decode faster.

Prints files a second of each (median of the rounds), the ratios, the milliseconds of each codec beside pydicom's, how far the draft's
and the recipe's kind of shrinking (Pillow's LANCZOS) are from covidxr's pictures, in grey levels of 255, and the largest memory of a
process for `--files` and for `--many` files.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom

from covidxr.base.parallel import parallel
from covidxr.base.process import cores
from covidxr.dicom import TRANSFER_SYNTAXES, read_checked
from covidxr.hospital import simulate_dataset
from covidxr.prepare import prepare, read_prepared
from covidxr.xray.codecs import decode
from covidxr.xray.headers import read_dataset


def _recipe(task: tuple[str, str]) -> None:
    "What public notebooks do"
    from PIL import Image
    from pydicom.pixels import apply_voi_lut

    source, target = task
    warnings.simplefilter("ignore")
    ds = pydicom.dcmread(source)
    data = apply_voi_lut(ds.pixel_array, ds)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        data = np.amax(data) - data
    data = data - np.min(data)
    data = data / np.max(data)
    picture = Image.fromarray((data * 255).astype(np.uint8))
    picture.resize((512, 512), Image.Resampling.LANCZOS).save(target)


def _bare(source: str) -> int:
    "Decoding alone"
    return int(decode(read_dataset(Path(source)), Path(source))[0, 0])


def _files(out: Path, count: int) -> list[Path]:
    "The simulated files, made once"
    data = simulate_dataset(out / "data", studies=round(count * 1.02) + 4, size=2800)
    files = sorted(data.glob("*/*/*/*.dcm"))[:count]
    folder = out / "files"
    folder.mkdir(exist_ok=True)
    for file in files:
        if not (folder / file.name).exists():
            os.link(file, folder / file.name)
    return sorted(folder.glob("*.dcm"))


def _real(out: Path, count: int, source: Path) -> list[Path]:
    "Real files under as many names as are asked for"
    found = sorted(path for path in source.iterdir() if path.suffix == ".dcm")
    (out / "files").mkdir(exist_ok=True)
    for number in range(count):
        target = out / "files" / f"{number:05}.dcm"
        if not target.exists():
            shutil.copyfile(found[number % len(found)], target)
    return sorted((out / "files").glob("*.dcm"))


def _seconds(work) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _distance(files: list[Path], exact: Path, draft: Path) -> pd.DataFrame:
    "How far pictures of JPEG 2000 files are from those of the whole decoding: drafts, and shrunk by LANCZOS instead of averages"
    from PIL import Image

    index, found = pd.read_parquet(exact / "images.parquet"), {"draft": [], "LANCZOS": []}
    sources = {file.name: file for file in files}
    for row in index.itertuples():
        if (
            pydicom.dcmread(sources[row.source], stop_before_pixels=True).file_meta.TransferSyntaxUID
            != TRANSFER_SYNTAXES["jpeg-2000"]
        ):
            continue
        picture = read_prepared(exact / row.file).astype(int)
        found["draft"].append(np.abs(read_prepared(draft / row.file) - picture))
        pixels = read_checked(sources[row.source], as_stored=True)[0].pixels
        across, down = round(row.width * row.scale), round(row.height * row.scale_y)
        other = Image.fromarray((pixels * 255).round().astype(np.uint8))
        other = np.asarray(other.resize((across, down), Image.Resampling.LANCZOS))
        placed = np.zeros_like(picture)
        placed[row.top : row.top + down, row.left : row.left + across] = other
        found["LANCZOS"].append(np.abs(placed - picture))
    rows = [
        (name, len(all_), np.mean(all_), np.percentile(all_, 99), np.max(all_)) for name, all_ in found.items() if all_
    ]
    return pd.DataFrame(rows, columns=["way", "JPEG 2000 files", "mean", "99th percentile", "largest"]).round(2)


def _memory(source: Path, out: Path) -> float:
    "The largest memory of any process of one `covidxr prepare`, in MB, measured in a process of its own"
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, capture_output=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    command = [str(Path(sys.executable).with_name("covidxr")), "prepare", str(source), str(out)]
    answer = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    return float(answer.stdout)


def _codecs(files: list[Path]) -> pd.DataFrame:
    "Milliseconds a file of each coding, ours and pydicom's, one process, median of up to five files"
    rows = []
    names = {uid: name for name, uid in TRANSFER_SYNTAXES.items()}
    kinds = pd.Series(
        [names[pydicom.dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID] for file in files]
    )
    for name in [name for name in TRANSFER_SYNTAXES if (kinds == name).any()]:
        some = [files[number] for number in kinds.index[kinds == name][:5]]
        ours = statistics.median(_seconds(lambda file=file: _bare(str(file))) for file in some)
        theirs = statistics.median(_seconds(lambda file=file: pydicom.dcmread(file).pixel_array) for file in some)
        rows.append((name, int((kinds == name).sum()), 1000 * ours, 1000 * theirs, theirs / ours))
    return pd.DataFrame(rows, columns=["coding", "files", "covidxr, ms", "pydicom, ms", "ratio"]).round(1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--files", type=int, default=200)
    options.add_argument("--many", type=int, default=2000, help="0 to skip")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=Path, default=Path("runs/prepare-speed"))
    options.add_argument("--real", type=Path, help="a folder of real DICOM files of one frame")
    options = options.parse_args()
    options.out = options.out / ("real" if options.real else "simulated")
    options.out.mkdir(parents=True, exist_ok=True)
    files = _real(options.out, options.files, options.real) if options.real else _files(options.out, options.files)
    print(_codecs(files).to_string(index=False), flush=True)
    places = {name: options.out / name for name in ("covidxr", "draft", "recipe")}
    taken: dict[str, list[float]] = {"covidxr": [], "draft": [], "recipe": [], "bare": []}
    for _ in range(options.rounds):
        for place in places.values():
            shutil.rmtree(place, ignore_errors=True)
        places["recipe"].mkdir()
        tasks = [(str(file), str(places["recipe"] / f"{file.stem}.png")) for file in files]
        taken["covidxr"].append(_seconds(lambda: prepare(options.out / "files", places["covidxr"])))
        taken["draft"].append(_seconds(lambda: prepare(options.out / "files", places["draft"], draft=True)))
        taken["recipe"].append(_seconds(lambda tasks=tasks: list(parallel(_recipe, tasks, "recipe"))))
        taken["bare"].append(_seconds(lambda: list(parallel(_bare, [str(file) for file in files], "bare decoding"))))
    rate = {name: len(files) / statistics.median(times) for name, times in taken.items()}
    print(
        f"{len(files)} files on {cores()} cores, median of {options.rounds}: "
        + ", ".join(f"{name} {value:.2f} a second" for name, value in rate.items())
    )
    print(
        f"covidxr does {rate['covidxr'] / rate['recipe']:.2f} times the recipe's files, as a draft {rate['draft'] / rate['recipe']:.2f} times, and takes {rate['bare'] / rate['covidxr']:.2f} times the bare decoding's time"
    )
    print(
        f"{rate['covidxr'] / cores():.2f} files a second a core; 7,600 such files take {7600 / rate['covidxr'] / 60:.0f} minutes here"
    )
    print("grey levels of 255 from covidxr's pictures:")
    print(_distance(files, places["covidxr"], places["draft"]).to_string(index=False), flush=True)
    if options.many:
        many = options.out / "many"
        many.mkdir(exist_ok=True)
        for number in range(options.many):
            file = files[number % len(files)]
            if not (many / f"{number:05}.dcm").exists():
                os.link(file, many / f"{number:05}.dcm")
        sizes = {}
        for source in ("files", "many"):
            shutil.rmtree(options.out / "memory", ignore_errors=True)
            sizes[source] = _memory(options.out / source, options.out / "memory")
        print(
            f"largest memory of a process: {sizes['files']:.0f} MB for {len(files)} files, {sizes['many']:.0f} MB for {options.many}"
        )
    print(f"this process itself: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
