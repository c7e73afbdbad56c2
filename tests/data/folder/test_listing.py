"""Which pictures are taken, with what, into which split; folders that are refused."""

import hashlib
import os
import shutil
import unicodedata

import numpy as np
import pytest

from mmdiffusion_jax.data.folder import listing
from tests.data.folder.pictures import options, photos, prepare, save


def lists(tmp_path, **changes):
    return listing.list_folder(options(tmp_path / "photos", **changes), tmp_path / "out")


def names(listed):
    return {entry.picture for entries in listed.splits.values() for entry in entries}


def by_picture(listed):
    return {entry.picture: entry for entries in listed.splits.values() for entry in entries}


def touch(tmp_path, *paths):
    for path in paths:
        file = tmp_path / "photos" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def test_the_split_is_by_the_hash_that_is_stated(tmp_path):
    """SHA-256 by hashlib, here with hexadecimal digits; nothing else in the folder matters."""
    paths = [f"ein Ordner/ä {index}.jpg" for index in range(200)]
    touch(tmp_path, *paths)
    listed = lists(tmp_path, test_share=0.25)
    want = {
        path
        for path in paths
        if int(hashlib.sha256(path[:-4].encode()).hexdigest()[:16], 16) / 16**16 < 0.25
    }
    assert {entry.picture for entry in listed.splits["test"]} == want
    assert 25 < len(want) < 75
    touch(tmp_path, *(f"more/{index}.png" for index in range(50)))
    more = lists(tmp_path, test_share=0.25)
    assert want == {e.picture for e in more.splits["test"] if not e.picture.startswith("more")}


def test_the_order_mixes_classes(tmp_path):
    """The first examples of a split are of all classes, as figures are made of the first."""
    touch(tmp_path, *(f"{name}/{index}.jpg" for name in "abcd" for index in range(100)))
    listed = lists(tmp_path, labels="by_folder")
    counts = np.bincount([entry.label for entry in listed.splits["train"][:100]], minlength=4)
    assert counts.min() >= 10


def test_two_ways_to_write_a_letter_are_one_split_and_one_name(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "dömö") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for share in np.linspace(0.05, 0.95, 10):
        assert listing.split_of(f"{composed}.jpg", share) == listing.split_of(
            f"{decomposed}.png", share
        )
    touch(tmp_path, f"{composed}.jpg", f"{decomposed}.jpg")
    with pytest.raises(ValueError, match=r"`folder`: got .*expected one file of a name"):
        lists(tmp_path)


def test_names_with_spaces_of_other_alphabets_and_of_no_text(tmp_path):
    pixels = photos(tmp_path / "photos", ["mit Leer zeichen", "日本/写真", "ελληνικά", "😀'\""])
    odd = os.fsdecode(b"latin-\xe4")
    save(pixels["ελληνικά"], tmp_path / "photos" / f"{odd}.png")
    photos(tmp_path / "photos", range(8))
    _, rows = prepare(tmp_path / "photos", tmp_path / "out")
    for name, drawn in pixels.items():
        np.testing.assert_array_equal(rows[name]["image"], drawn)
    np.testing.assert_array_equal(rows["latin-\\xe4"]["image"], pixels["ελληνικά"])


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "a/1.jpg", "2.jpg")
    touch(tmp_path, *(f"{index}.png" for index in range(10, 30)))
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "3.jpg").write_bytes(b"")
    root = tmp_path / "photos"
    (root / "linked").symlink_to(elsewhere)
    (root / "4.jpg").symlink_to(elsewhere / "deep" / "3.jpg")
    (root / "a" / "up").symlink_to(root)
    (elsewhere / "deep" / "round").symlink_to(elsewhere)
    rest = {f"{index}.png" for index in range(10, 30)}
    assert names(lists(tmp_path)) - rest == {"a/1.jpg", "2.jpg", "linked/deep/3.jpg", "4.jpg"}


def test_what_is_left_alone(tmp_path):
    touch(tmp_path, *(f"{index}.png" for index in range(20)))
    touch(tmp_path, ".hidden.jpg", ".folder/x.jpg", "a.heic", "b.HEIC", "README", "masks/1.png")
    shutil.copytree(tmp_path / "photos" / "masks", tmp_path / "photos" / "out")
    listed = listing.list_folder(
        options(tmp_path / "photos", masks=str(tmp_path / "photos" / "masks")),
        tmp_path / "photos" / "out",
    )
    assert names(listed) == {f"{index}.png" for index in range(20)}
    assert listed.others == {".heic": 2, "without an ending": 1}
    assert by_picture(listed)["1.png"].mask == "1.png"


def test_labels_by_folder_and_by_file_are_the_same(tmp_path):
    paths = [
        f"{name}/{sub}{index}.jpg"
        for name in ("owl", "cat")
        for sub in ("", "x/")
        for index in range(9)
    ]
    touch(tmp_path, *paths)
    by_folder = lists(tmp_path, labels="by_folder")
    rows = [f'"{path}";{path[:3]}' for path in paths]
    (tmp_path / "labels.csv").write_text("\n".join(["\ufefffile;label", *rows, "", ""]), "utf-8")
    by_file = lists(tmp_path, labels=str(tmp_path / "labels.csv"))
    assert by_folder.class_names == ("cat", "owl")
    assert by_folder.splits == by_file.splits
    assert {e.picture: e.label for e in by_picture(by_file).values()} == {
        path: int(path.startswith("owl")) for path in paths
    }


def test_labels_that_some_lack(tmp_path):
    touch(tmp_path, *(f"{index}.jpg" for index in range(20)))
    (tmp_path / "l.csv").write_text("file,other,label\n1,x,10\n2.jpg,x,9\n./3.jpg,x,10\n4.jpg,x,\n")
    listed = lists(tmp_path, labels=str(tmp_path / "l.csv"))
    # Numbers in their order, not in that of their digits.
    assert listed.class_names == ("9", "10")
    labels = {path: entry.label for path, entry in by_picture(listed).items() if entry.label >= 0}
    assert labels == {"1.jpg": 1, "2.jpg": 0, "3.jpg": 1}


def test_labels_and_captions_arrive(tmp_path):
    photos(tmp_path / "photos")
    rows = [f"{index}.png,{'ab'[index % 2]}" for index in range(9)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    (tmp_path / "captions.csv").write_text('file,caption\n3.png,"Zwei, drei\n Bären"\n')
    summary, stored = prepare(
        *(tmp_path / "photos", tmp_path / "out"),
        labels=str(tmp_path / "labels.csv"),
        captions=str(tmp_path / "captions.csv"),
    )
    assert summary.class_names == ("a", "b")
    assert summary.missing == {"label": 3}
    for index in range(12):
        row = stored[str(index)]
        assert bool(row["label_present"]) == (index < 9)
        assert row["label"] == (index % 2 if index < 9 else 0)
        assert row["caption"] == ("Zwei, drei Bären" if index == 3 else "")


@pytest.mark.parametrize(
    ("paths", "changes", "words"),
    [
        ([], {}, "`folder`: got .* with no files"),
        (["a.tif", "b.heic", "c.heic"], {}, "2 .heic, 1 .tif, expected JPEG, PNG or WebP"),
        (["a.jpg", "a.png"], {}, "`folder`: got 'a.jpg' and 'a.png'.*one file of a name"),
        (["a/1.jpg", "1.jpg"], {"labels": "by_folder"}, "'1.jpg' outside any class folder"),
        (["a/1.jpg"], {"labels": "by_folder"}, "the classes 'a', expected two"),
        (["train/1.jpg", "test/1.jpg"], {"labels": "by_folder"}, "which are no splits"),
        (["a.jpg"], {"test_share": 0.001}, "leaves none of 1 pictures to test.*raise it"),
        (["a.jpg"], {"test_share": 0.999}, "to train.*lower it"),
    ],
)
def test_folders_that_are_refused(tmp_path, paths, changes, words):
    (tmp_path / "photos").mkdir()
    touch(tmp_path, *paths)
    with pytest.raises(ValueError, match=words):
        lists(tmp_path, **changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "file,label\n1.jpg,a\n77.jpg,b\n",
            "a label without a picture: '77.jpg', expected the rel",
        ),
        ("file,label\n1.jpg,a\n1.jpg,b\n", "'1.jpg' twice, again in line 3"),
        ("1.jpg,a\n", "the header '1.jpg,a', expected a CSV file with the header file,label"),
        ("file,label\n1.jpg,a,b\n", "line 2, with 3 values, expected 2"),
        ("file,label\n1.jpg,a\n", "the classes 'a', expected two"),
        ("file,label\n", "no class"),
        ("", "the header ''"),
        (b"file,label\n\xff\xfe,a\n", "no UTF-8"),
        (None, "No such file"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, words):
    touch(tmp_path, *(f"{index}.jpg" for index in range(20)))
    if text is not None:
        (tmp_path / "l.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"`labels`: got .*{words}"):
        lists(tmp_path, labels=str(tmp_path / "l.csv"))


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (["77.png", "78.png"], "a mask without a picture: '77.png', '78.png', expected"),
        (["1.jpg"], "with '1.jpg', expected PNG files"),
        ([], "no PNG files"),
        (["1.png", "1.PNG"], "one file of a name"),
    ],
)
def test_folders_of_masks_that_are_refused(tmp_path, masks, words):
    touch(tmp_path, *(f"{index}.jpg" for index in range(20)))
    (tmp_path / "masks").mkdir()
    for name in masks:
        (tmp_path / "masks" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"`masks`: got .*{words}"):
        lists(tmp_path, masks=str(tmp_path / "masks"))
    with pytest.raises(ValueError, match=r"`masks`: got .*the pictures' own"):
        lists(tmp_path, masks=str(tmp_path / "photos"))


def test_places_that_are_no_folders(tmp_path):
    with pytest.raises(ValueError, match=r"`folder`: got .*where there is nothing"):
        lists(tmp_path)
    (tmp_path / "photos").write_bytes(b"")
    with pytest.raises(ValueError, match=r"`folder`: got .*which is a file"):
        lists(tmp_path)
    with pytest.raises(ValueError, match=r"URLs are not supported"):
        listing.list_folder(options("gs://bucket/photos"), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": (0, 8)}, "`size`: got 0"),
        ({"crop": "center"}, "`crop`: got 'center'.*did you mean 'centre'"),
        ({"test_share": 1.0}, "`test_share`: got 1"),
        ({"test_share": 0.0}, "`test_share`: got 0"),
        ({"max_pixels": 0}, "`max_pixels`: got 0"),
        ({"grey": True, "masks": "m"}, "`grey`: got masks too"),
        ({"palette": ((0, 0, 0), (1, 1, 1))}, "`palette`: got one without masks"),
        ({"palette": ((0, 0, 0),) * 2, "masks": "m"}, "2 colours, 1 of them different"),
        ({"palette": ((0, 0, 0), (0, 0, 256)), "masks": "m"}, "`palette`: got 256"),
    ],
)
def test_options_that_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        options("photos", **changes)


def test_unreadable_folders_are_listed(tmp_path, monkeypatch):
    """As the system says; a superuser may read all, so the refusal is made."""
    touch(tmp_path, *(f"{index}.jpg" for index in range(20)), "locked/1.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert lists(tmp_path).unreadable == [("locked", "Permission denied")]
