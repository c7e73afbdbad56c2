"""Tiny files in the formats of the small data sets, with known contents."""

import gzip
import zipfile

import numpy as np

FRAMES = {"train": [b"0001TP_0", b"0006R0_1"], "val": [b"0016E5_0"], "test": []}
FRAMES["test"] = [b"0001TP_1", b"Seq05VD_0", b"Seq05VD_1"]
DIGITS = {"train": 12, "test": 6}


def write_members(file, arrays):
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as members:
        for name, array in arrays.items():
            with members.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def write_idx(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    head = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
    file.write_bytes(gzip.compress(head + array.tobytes(), 1))


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def camvid():
    arrays = {}
    for seed, (split, names) in enumerate(FRAMES.items()):
        arrays[f"{split}_image"] = pixels(seed, len(names), 96, 128, 3)
        arrays[f"{split}_mask"] = pixels(seed + 10, len(names), 96, 128) % 12
        arrays[f"{split}_name"] = np.array(names, "S24")
    return arrays


def mnist():
    arrays = {}
    for seed, (split, count) in enumerate(DIGITS.items()):
        arrays[f"{split}_image"] = pixels(seed, count, 28, 28)
        arrays[f"{split}_label"] = np.arange(count, dtype=np.uint8) % 3
    return arrays


def fsdd():
    arrays = {"speaker_names": np.array([b"a", b"b"])}
    for seed, split in enumerate(DIGITS):
        arrays[f"{split}_audio"] = (
            np.random.default_rng(seed).normal(size=(3, 8000)) * 1000
        ).astype(np.int16)
        arrays[f"{split}_digit"] = np.array([2, 1, 0], np.uint8)
        arrays[f"{split}_speaker"] = np.array([5, 0, 1], np.uint8)
        arrays[f"{split}_mnist_pair"] = np.array([5, 1, 3], np.int32)
    return arrays


def fashion_mnist():
    arrays = {}
    for seed, (stem, count) in enumerate({"train": 7, "t10k": 4}.items()):
        arrays[f"{stem}-images-idx3-ubyte.gz"] = pixels(seed, count, 28, 28)
        arrays[f"{stem}-labels-idx1-ubyte.gz"] = np.arange(count, dtype=np.uint8)
    return arrays


def cifar10():
    parts = [*(f"train_{part}" for part in range(4)), "test"]
    return {
        part: {"image": pixels(seed, 2, 32, 32, 3), "label": np.array([seed, 9], np.uint8)}
        for seed, part in enumerate(parts)
    }


def write_all(folder):
    write_members(folder / "camvid" / "camvid_128x96.npz", camvid())
    write_members(folder / "mnist" / "mnist.npz", mnist())
    write_members(folder / "fsdd" / "fsdd_8k.npz", fsdd())
    for name, array in fashion_mnist().items():
        write_idx(folder / "fashion_mnist" / name, array)
    for part, arrays in cifar10().items():
        write_members(folder / "cifar10" / f"cifar10_{part}.npz", arrays)
