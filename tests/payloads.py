"""What runs code where it is loaded without care: each leaves a mark, a folder, where it does.

`LYING` are names in a working folder by which libraries look for such files.
"""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from covidxr.runs.profiles import FULL, QUICK

YOLOS = {plan.arch for profile in (QUICK, FULL) for plan in profile.models if plan.arch.startswith("yolo")}
DETECTORS = sorted(YOLOS)  # whose plans are YAML files


class Harm:
    "Leaves its mark where it is unpickled"

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.mark,)


def python_code(mark: Path) -> str:
    return f"__import__('os').mkdir({str(mark)!r})"


def network_plan(mark: Path) -> bytes:
    "A network's plan as Ultralytics reads it, with code as its activation and among the arguments of layers"
    code = json.dumps(python_code(mark))
    layers = f"[[-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [{code}, 3, 2]]]"
    head = "nc: 1\nscales: {n: [1, 1, 1024], s: [1, 1, 1024]}"
    return f"{head}\nactivation: {code}\nbackbone: {layers}\nhead: []\n".encode()


def pickled_object(mark: Path) -> bytes:
    return pickle.dumps(Harm(mark))


def torch_saved(content: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def checkpoint(mark: Path) -> bytes:
    "As Ultralytics publishes weights, with an object in it"
    return torch_saved({"model": Harm(mark), "train_args": {}})


def old_checkpoint(mark: Path) -> bytes:
    return torch_saved({"model": Harm(mark)}, _use_new_zipfile_serialization=False)


def object_among_tensors(mark: Path) -> bytes:
    "A state of tensors, one of which is none"
    return torch_saved({"model.0.conv.weight": torch.zeros(16, 1, 3, 3), "model.1.conv.weight": Harm(mark)})


def by_hand(*names: str) -> Callable[[Path], bytes]:
    "A checkpoint whose pickle, written by hand, calls a function by one of the names that PyTorch may look up"

    def make(mark: Path) -> bytes:
        text = str(mark).encode()
        called = "c" + "\n".join(names) + "\n("
        # protocol 4 takes names with dots in them; X is a text with its length before it
        code = b"\x80\x04" + called.encode() + b"X" + len(text).to_bytes(4, "little") + text + b"tR."
        found = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(torch_saved({}))) as empty, zipfile.ZipFile(found, "w") as archive:
            for entry in empty.namelist():
                archive.writestr(entry, code if entry.endswith("data.pkl") else empty.read(entry))
        return found.getvalue()

    return make


def object_array(mark: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Harm(mark)], object), allow_pickle=True)
    return file.getvalue()


def object_arrays(mark: Path) -> bytes:
    file = io.BytesIO()
    np.savez(file, image=np.array([Harm(mark)], object), arr_0=np.array([Harm(mark)], object))
    return file.getvalue()


def parquet(mark: Path) -> bytes:
    "A column of a type that older releases of Arrow unpickled (CVE-2023-47248)"
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickled_object(mark)}
    fields = [pa.field("image_id", pa.string(), metadata=facts), pa.field("file", pa.string())]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["a.npy"])], schema=pa.schema(fields)), file)
    return file.getvalue()


def postscript(mark: Path) -> bytes:
    "A picture that Pillow gives to another program, Ghostscript"
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"


PLANS = [f"{stem}.yaml" for name in DETECTORS for stem in (name, name[:-1])]
FOLDERS = ["", "11", "v8", "models", "cfg", "cfg/models/11", "cfg/models/v8", "ultralytics/cfg/models/11", "weights"]
LYING = {  # what lies in the working folder
    **{str(Path(folder, name)): network_plan for folder in FOLDERS for name in dict.fromkeys(PLANS)},
    **{
        name: network_plan
        for name in ("tables.yaml", "default.yaml", "args.yaml", "coco8.yaml", "settings.yaml", "hyp.yaml")
    },
    **{
        f"{name}.{ending}": checkpoint
        for name in (*DETECTORS, "best", "last")
        for ending in ("pt", "pth", "bin", "ckpt")
    },
    **{str(Path(folder, "yolo11n.pt")): checkpoint for folder in ("weights", "runs/detect/train/weights", "models")},
    **{
        name: checkpoint
        for name in ("test_resnet.pth", "resnet34.pth", "model.pth", "models/model.pth", "pytorch_model.bin")
    },
    **{
        name: pickled_object
        for name in ("export.pkl", "model.pkl", "labels.cache", "train.cache", "val.cache", "test_resnet")
    },
    **{name: object_array for name in ("train.npy", "val.npy", "i0.npy", "train/i0.npy", "images.npy")},
    **{name: pickled_object for name in ("model.safetensors", "yolo11n.safetensors", "test_resnet.safetensors")},
}


def lay(folder: Path, mark: Path, lying: dict[str, Callable[[Path], bytes]] = LYING) -> None:
    "Write files into a folder, whose payloads will make the mark"
    for name, make in lying.items():
        if not (folder / name).is_dir():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(make(mark))
