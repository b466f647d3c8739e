"""Image folders: the same files in the same order as torchvision, the split rules, and every refusal."""

from __future__ import annotations

import os
import shutil

import pytest
from PIL import Image

from packnet_deploy.data import open_dataset, open_split
from packnet_deploy.errors import EnvironmentFault, UsageError

PETS = {"cat": 20, "dog": 10}


def _names(split) -> list[str]:
    return [split.name(i) for i in range(len(split))]


def _pairs(split) -> list[tuple[str, int]]:
    return list(zip(_names(split), split.labels.tolist(), strict=True))


def test_order_is_that_of_torchvision(write_set):
    from torchvision.datasets import ImageFolder

    root = write_set(train={"Zebra": 2, "ant": 3, "été 猫": 2, "b-1": 1, "b": 2})
    deep = root / "train" / "ant" / "more" / "deep"
    deep.mkdir(parents=True)
    source = root / "train" / "ant" / "000.png"
    again = root / "train" / "ant" / "again"
    again.mkdir()
    for copy in (deep / "x.PNG", deep.parent / "y.png", again / "y.png", root / "train" / "ant" / "zz.png"):
        shutil.copy(source, copy)
    (root / "train" / "ant" / "notes.txt").write_text("no image")
    (root / "train" / "readme.md").write_text("no class")
    theirs = ImageFolder(str(root / "train"))
    classes, ours = open_split(root, "train")
    assert list(classes) == theirs.classes
    assert _pairs(ours) == theirs.samples


def test_class_names_may_be_any_text(write_set):
    names = sorted(["a b", "no\u00a0break", "a\u200cb", "👩\u200d🌾", "ünïcode", "'quoted'"])
    assert list(open_split(write_set(test=dict.fromkeys(names, 1)))[0]) == names


def test_hidden_files_and_folders_are_passed_over(write_set):
    root = write_set(train=PETS, test=PETS)
    for part in ("train", "test"):
        (root / part / ".cache").mkdir()
        shutil.copy(root / part / "cat" / "000.png", root / part / "cat" / "._000.png")
    data = open_dataset(root)
    assert data.classes == ("cat", "dog")
    assert not any("._" in name for name in _names(data.train))


def test_links_are_followed_and_a_loop_ends(write_set, tmp_path):
    root = write_set(train=PETS, test=PETS)
    linked = tmp_path / "linked"
    linked.mkdir()
    for part in ("train", "test"):
        (linked / part).symlink_to(root / part)
    (root / "train" / "cat" / "loop").symlink_to(root / "train" / "cat")
    assert len(open_split(linked, "train")[1]) == 30


def test_a_link_to_nowhere_is_an_image_that_cannot_be_read(write_set):
    root = write_set(test=PETS)
    (root / "test" / "cat" / "far.jpg").symlink_to("/nowhere/far.jpg")  # as data version control leaves behind
    split = open_split(root)[1]
    with pytest.raises(EnvironmentFault, match=r"cat/far\.jpg: expected a readable image, got: .*No such file"):
        split.image(_names(split).index(str(root / "test" / "cat" / "far.jpg")))


def test_train_val_and_test_are_used_as_they_are(write_set):
    data = open_dataset(write_set(train=PETS, val={"cat": 3, "dog": 4}, test={"cat": 1, "dog": 2}))
    assert (len(data.train), len(data.val), len(data.test)) == (30, 7, 3)
    assert (data.val_from, data.test_from, data.flip) == ("val/", "test/", True)


@pytest.mark.parametrize("final", ["val", "test"])
def test_with_one_other_part_selection_is_held_out_of_train(write_set, final):
    root = write_set(train=PETS, **{final: {"cat": 3, "dog": 4}})
    data = open_dataset(root, seed=5)
    assert data.test_from == f"{final}/"
    assert all(f"/{final}/" in name for name in _names(data.test))
    assert [sum(data.val.labels == label) for label in (0, 1)] == [2, 1]
    assert set(_names(data.val)).isdisjoint(_names(data.train))
    assert sorted(_names(data.val) + _names(data.train)) == _names(open_split(root, "train")[1])
    assert _names(open_dataset(root, seed=5).val) == _names(data.val)
    assert _names(open_dataset(root, seed=6).val) != _names(data.val)
    assert _names(open_dataset(root, seed=6).test) == _names(data.test)


def test_uri_and_path_open_the_same_folder(write_set):
    root = write_set(train=PETS, test=PETS)
    assert _names(open_dataset(f"imagefolder:{root}").train) == _names(open_dataset(root).train)


def test_a_home_folder_may_be_abbreviated(write_set, monkeypatch):
    root = write_set(train=PETS, test=PETS)
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(open_dataset("~/set").train) == 27


def test_summary_names_every_part(write_set):
    root = write_set(train=PETS, test={"cat": 1, "dog": 2})
    assert open_dataset(root, seed=1).summary() == (
        f"{root}: 2 classes; 27 images to train, 3 to select (held out of train/, seed 1), "
        "3 for the final figure (test/)"
    )


def test_evaluation_finds_test_then_val_then_the_folder_itself(write_set):
    both = write_set("both", val={"cat": 1, "dog": 1}, test={"cat": 2, "dog": 2})
    assert len(open_split(both)[1]) == 4
    only_val = write_set("only_val", train=PETS, val={"cat": 1, "dog": 1})
    assert len(open_split(only_val)[1]) == 2
    assert open_split(both / "test")[0] == ("cat", "dog")
    with pytest.raises(EnvironmentFault, match=r"expected test/CLASS/\*.jpg, got the folders 'train'"):
        open_split(write_set("only_train", train=PETS))
    with pytest.raises(EnvironmentFault, match=r"expected val/CLASS"):
        open_split(both / "test", "val")


def test_evaluation_may_lack_classes_of_the_task_but_not_bring_others(write_set):
    root = write_set(test={"cat": 2, "owl": 1})
    classes, split = open_split(root, classes=("ape", "cat", "dog", "owl"))
    assert classes == ("ape", "cat", "dog", "owl")
    assert split.labels.tolist() == [1, 1, 3]
    with pytest.raises(EnvironmentFault, match="got also 'owl'"):
        open_split(root, classes=("cat", "dog"))


ONE_CLASS_FOLDER_EACH = "expected one folder of images per class, got "
REFUSALS = {  # what is written (a name ending in / is an empty folder), and words of the message
    "missing": ("", "does not exist"),
    "empty": ("/", "expected train/CLASS/*.jpg beside val/CLASS/*.jpg or test/CLASS/*.jpg, got an empty folder"),
    "train only": ("train/a/1.jpg", "got the folders 'train'"),
    "no train": ("val/a/1.jpg x.txt", "got the folders 'val' and 1 file"),
    "other names": ("learn/a/1.jpg check/a/1.jpg", "got the folders 'check', 'learn'"),
    "no class folders": ("train/1.jpg train/2.jpg test/a/1.jpg", f"train: {ONE_CLASS_FOLDER_EACH}2 files"),
    "empty train": ("train/ test/", f"train: {ONE_CLASS_FOLDER_EACH}an empty folder"),
    "one class": (
        "train/a/1.jpg test/a/1.jpg",
        "train: expected one folder for each of two or more classes, got only 'a'",
    ),
    "empty class": ("train/a/1.jpg train/b/ test/a/1.jpg", "train/b: expected images (.jpg"),
    "class of other files": ("train/a/1.jpg train/b/1.heic test/a/1.jpg", "train/b: expected images (.jpg"),
    "class missing": (
        "train/a/1.jpg train/b/1.jpg test/a/1.jpg",
        "expected the same classes in train/ and test/, got: test/ lacks 'b'",
    ),
    "class added": ("train/a/1.jpg train/b/1.jpg val/a/1.jpg val/b/1.jpg val/c/1.jpg", "got: only val/ has 'c'"),
    "class renamed": ("train/a/1.jpg train/b/1.jpg val/a/1.jpg val/B/1.jpg", "val/ lacks 'b'; only val/ has 'B'"),
    "nothing to hold out": (
        "train/a/1.jpg train/b/1.jpg test/a/1.jpg test/b/1.jpg",
        "expected two images or more in some class to hold out",
    ),
    "unprintable class": (
        "train/a\x1bb/1.jpg train/c/1.jpg test/c/1.jpg",
        r"train: expected class names of printable UTF-8, got the folder 'a\x1bb'",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line_naming_the_folder(tmp_path, case):
    written, words = REFUSALS[case]
    root = tmp_path / "set"
    for name in written.split(" ") if written else ():
        path = root / name.lstrip("/")
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"")
    with pytest.raises(EnvironmentFault) as caught:
        open_dataset(root)
    message = str(caught.value)
    assert message.startswith(str(root))
    assert words in message
    assert "\n" not in message
    assert caught.value.exit_code == 3


def test_a_file_is_no_data_set(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"")
    with pytest.raises(EnvironmentFault, match=r"set\.zip: expected train/CLASS/.*, got a file"):
        open_dataset(tmp_path / "set.zip")


def test_a_class_name_that_is_no_utf8_is_refused(tmp_path):
    root = os.fsencode(tmp_path / "set")
    for part in (b"train/\xff", b"train/a", b"test/a"):
        os.makedirs(os.path.join(root, part))
        with open(os.path.join(root, part, b"1.jpg"), "wb"):
            pass
    with pytest.raises(EnvironmentFault, match="class names of printable UTF-8") as caught:
        open_dataset(tmp_path / "set")
    str(caught.value).encode("utf-8")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_locked_folder_is_named(write_set):
    root = write_set(train=PETS, test=PETS)
    (root / "train" / "cat").chmod(0)
    try:
        with pytest.raises(EnvironmentFault, match="train/cat: expected a readable folder"):
            open_dataset(root)
    finally:
        (root / "train" / "cat").chmod(0o755)


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match="'digits', 'letters', 'textures', got 'faces'"):
        open_dataset("builtin:faces")
    with pytest.raises(UsageError, match="expected one of train, val, test, got 'final'"):
        open_split(tmp_path, "final")


def test_nothing_is_held_out_where_that_is_asked_for(tmp_path):
    """All images train, also where a class has one alone; and the same of a built-in set."""
    for part, count in (("train", 1), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (4, 4)).save(tmp_path / part / name / f"{i}.png")
    data = open_dataset(tmp_path, val_fraction=0)
    assert (len(data.train), len(data.val), len(data.test), data.val_from) == (2, 0, 4, "none held out")
    whole, usual = (open_dataset("builtin:digits", val_fraction=fraction) for fraction in (0, None))
    assert (len(whole.train), len(whole.val)) == (len(usual.train) + len(usual.val), 0)


@pytest.mark.parametrize("valid", ["valid", "Valid", "validation"])
def test_parts_under_their_other_names_are_found_and_said(write_set, valid):
    root = write_set(**{"Train": PETS, valid: {"cat": 3, "dog": 4}})
    data = open_dataset(root)
    assert (len(data.train) + len(data.val), len(data.test)) == (30, 7)
    assert data.notes == (f"{root / valid} was taken for val/",)
    assert open_split(root, "test")[1].notes == (f"{root / valid} was taken for test/",)
    (root / "val").mkdir()
    (root / "val/cat").mkdir()
    shutil.copy(root / valid / "cat/000.png", root / "val/cat")
    assert open_split(root, "val")[1].notes == (), "its own name comes first"


def test_files_of_other_suffixes_are_counted(write_set):
    root = write_set(train=PETS, test=PETS)
    for name in ("a.HEIC", "b.heic", "notes.txt", "README", ".hidden"):
        (root / "test/cat" / name).write_bytes(b"")
    note = f"{root / 'test'}: 4 files left out, of no suffix read here (2 .heic, 1 .txt, 1 without)"
    assert open_split(root)[1].notes == (note,)
    assert open_dataset(root).notes == (note,)
