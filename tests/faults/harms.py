"""What may come to a file."""

import os


def largest(folder):
    return max((x for x in folder.rglob("*") if x.is_file()), key=lambda x: x.stat().st_size)


def flip(file, place=0.5, bit=0):
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    file.write_bytes(content)


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def empty(file):
    os.truncate(file, 0)


def remove(file):
    file.unlink()


HARMS = ("flip", "truncate", "empty", "remove")


def apply(harm, file, draw):
    """One of `HARMS`, at a place that `draw` chooses."""
    if harm == "flip":
        flip(file, draw.random(), draw.randrange(8))
    else:
        {"truncate": truncate, "empty": empty, "remove": remove}[harm](file)
