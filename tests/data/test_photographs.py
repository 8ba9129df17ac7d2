"""Folders of images and their labels: by name, code, number or list; never numbered in silence."""

import pytest

from convgate.data import label, outputs_of, read_classes
from convgate.errors import DataError

CLASSES = ("tench, Tinca tinca", "great white shark", "crane", "crane", "goldfish")
CODES = ("n1", "n2", "n3", "n4", "n5")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Great_White_Shark", "tench", "goldfish"], [1, 0, 4]),
        (["Tinca tinca"], [0]),
        (["n5", "n1"], [4, 0]),
        (["0003", "0"], [3, 0]),
    ],
)
def test_a_name_is_a_class_a_code_or_a_number(names, expected):
    assert list(outputs_of(names, 5, CLASSES, CODES).values()) == expected


def test_names_that_fit_nothing_are_refused_with_what_to_do():
    with pytest.raises(DataError, match=r"2 of 3 names .* \(cat, 7\).*--classes FILE.*--labels none"):
        outputs_of(["cat", "7", "tench"], 5, CLASSES)
    with pytest.raises(DataError, match=r"222 of 222 names of classes fit none of the network's 1000 outputs"):
        outputs_of([f"class{number}" for number in range(222)], 1000)
    with pytest.raises(DataError, match="'crane' outputs 2 and 3"):
        outputs_of(["crane", "tench"], 5, CLASSES)
    with pytest.raises(DataError, match="7 and 07 are the same class"):
        outputs_of(["7", "07"], 10)


def test_as_many_names_as_outputs_are_numbered_in_order():
    assert outputs_of(["b", "a"], 2) == {"a": 0, "b": 1}
    with pytest.raises(DataError):
        outputs_of(["b", "a"], 2, ("cat", "dog"))


@pytest.fixture
def root(tmp_path):
    for name in ("photos/1/a.png", "photos/0/b.png", "photos/1/c.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_folders_of_classes_are_labels(root):
    listing = label([root / "photos"], "auto", 2)
    assert [path.name for path in listing.paths] == ["b.png", "a.png", "c.png"]
    assert listing.labels == (0, 1, 1)
    assert not listing.numbered


def test_names_that_only_their_order_tells_are_said_to_be(root):
    (root / "photos" / "0").rename(root / "photos" / "cat")
    (root / "photos" / "1").rename(root / "photos" / "dog")
    listing = label([root / "photos"], "folders", 2)
    assert listing.numbered == ("cat", "dog")
    assert "in the order of their names" in listing.how
    assert not label([root / "photos"], "folders", 2, ("cat", "dog")).numbered


def test_flat_folders_have_no_labels(root):
    (root / "photos" / "d.png").touch()
    assert label([root / "photos"], "auto", 2).labels is None
    assert label([root / "photos"], "none", 2).labels is None
    with pytest.raises(DataError, match=r"d\.png does not lie in a folder"):
        label([root / "photos"], "folders", 2)


def test_a_table_names_the_class_of_each_file(root):
    table = root / "labels.csv"
    table.write_text("file,label,class\na.webp,1,dog\nb.png,0,cat\nc.png,1,dog\n")
    assert label([root / "photos"], str(table), 2).labels == (0, 1, 1)
    table.write_text("file,class\na.png,dog\nb.png,cat\n")
    with pytest.raises(DataError, match="no label for 1 of 3"):
        label([root / "photos"], str(table), 2)
    table.write_text("name,kind\na,b\n")
    with pytest.raises(DataError, match="columns name, kind"):
        label([root / "photos"], str(table), 2)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        label([root / "photos"], str(table), 2)
    with pytest.raises(DataError, match="no such file"):
        label([root / "photos"], "folder", 2)


def test_rows_of_a_table_are_paths_where_names_repeat(root):
    (root / "photos" / "0" / "b.png").rename(root / "photos" / "0" / "a.png")
    table = root / "labels.csv"
    table.write_text("file,label\n./0/a.png,0\n1/a.png,1\n1/c.png,1\n")
    assert label([root / "photos"], str(table), 2).labels == (0, 1, 1)
    table.write_text(f"file,label\n{root}/photos/0/a.png,0\n1/a.png,1\nc.jpg,1\n")
    assert label([root / "photos", root / "photos"], str(table), 2).labels == (0, 1, 1)
    for rows in ("a.png,0\nc.png,1", "a.jpg,0\nc.png,1", "x/a.png,0\ny/a.png,1\nc.png,1"):
        table.write_text(f"file,label\n{rows}\n")
        with pytest.raises(DataError, match=r"which label .*0/a\.png has"):
            label([root / "photos"], str(table), 2)
    # One row cannot be an image in each of two folders.
    table.write_text("file,label\na.png,0\nc.png,1\n")
    with pytest.raises(DataError, match="which label"):
        label([root / "photos" / "0", root / "photos" / "1"], str(table), 2)


def test_a_file_has_one_label(root):
    table = root / "labels.csv"
    table.write_text("file,label\na.png,0\nb.png,0\nc.png,1\na.png,1\n")
    with pytest.raises(DataError, match=r"two labels for a\.png, 0 and 1"):
        label([root / "photos"], str(table), 2)


def test_classes_are_a_line_each_or_a_list(tmp_path):
    lines, listed = tmp_path / "names.txt", tmp_path / "names.json"
    lines.write_text("cat\ndog\n")
    listed.write_text('["cat", "dog"]')
    assert read_classes(lines) == read_classes(listed) == ("cat", "dog")
    for text in ("", "cat\n\ndog\n"):
        lines.write_text(text)
        with pytest.raises(DataError):
            read_classes(lines)
    listed.write_text('{"a": 1}')
    with pytest.raises(DataError, match="not a list of classes"):
        read_classes(listed)
