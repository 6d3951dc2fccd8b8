"""Parallel text gives the same pairs in every format, and an unusable text is reported in one line."""

import csv
import gzip
import json
import lzma
import os
import re
import socket

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.data import corpus
from transformer.data.corpus import load_parallel
from transformer.data.running_text import read_text
from transformer.data.sentences import read_sentences
from transformer.data.slices import split_slice
from transformer.data.text import CorpusError

PAIRS = [("a", "b"), (" NA ", "null"), ('1.50 "x", y', "ä\u2028ö\rü"), ("", "leer")]
WRITERS = {"": lambda data: data, ".gz": gzip.compress, ".xz": lzma.compress}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for each test, and no network: looking for one is an error."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def write_plain(path, pairs, archives=("", "")):
    for side, (language, archive) in enumerate(zip(("en", "de"), archives, strict=True)):
        text = "".join(pair[side] + "\n" for pair in pairs)
        path.with_name(f"{path.name}.{language}{archive}").write_bytes(WRITERS[archive](text.encode()))
    return str(path)


def write_table(path, rows):
    """Write rows of columns in the format given by the ending of the name."""
    if ".csv" in path.name:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif ".tsv" in path.name:
        path.write_text("".join("\t".join(row) + "\n" for row in [rows[0], *map(dict.values, rows)]))
    elif ".parquet" in path.name:
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif ".jsonl" in path.name:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    archive = path.suffix if path.suffix in (".gz", ".xz") else ""
    path.write_bytes(WRITERS[archive](path.read_bytes()))
    return str(path)


def pairs_of(table):
    assert table.column_names == ["source", "target"]
    return list(zip(table["source"], table["target"], strict=True))


@pytest.mark.parametrize("archives", [("", ""), (".gz", ".xz"), ("", ".gz")])
def test_plain_files_are_read_faithfully(tmp_path, archives):
    name = write_plain(tmp_path / "train", PAIRS, archives)
    assert pairs_of(load_parallel(name, "en", "de")) == PAIRS
    assert pairs_of(load_parallel(name, "de", "en")) == [(target, source) for source, target in PAIRS]


def test_a_relative_path_and_a_dot_in_the_name_are_fine(tmp_path):
    (tmp_path / "folder").mkdir()
    write_plain(tmp_path / "folder" / "europarl.v7", PAIRS)
    assert pairs_of(load_parallel("folder/europarl.v7", "en", "de")) == PAIRS


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet", ".jsonl.gz", ".json.xz"])
def test_a_translation_column_is_read_faithfully(tmp_path, ending):
    rows = [{"id": 1, "translation": {"de": target, "en": source}} for source, target in PAIRS]
    name = write_table(tmp_path / f"train{ending}", rows)
    assert pairs_of(load_parallel(name, "en", "de")) == PAIRS


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.xz"])
@pytest.mark.parametrize("columns", [("en", "de"), ("source", "target")])
def test_two_columns_are_read_faithfully(tmp_path, ending, columns):
    rows = [{"other": "-", columns[1]: target, columns[0]: source} for source, target in PAIRS]
    name = write_table(tmp_path / f"train{ending}", rows)
    assert pairs_of(load_parallel(name, "en", "de")) == PAIRS


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("[:1]", PAIRS[:1]),
        ("[:99]", PAIRS),
        ("[1:3]", PAIRS[1:3]),
        ("[2:]", PAIRS[2:]),
        ("[:]", PAIRS),
        ("[:90%]", PAIRS[:3]),
        ("[90%:]", PAIRS[3:]),
        ("[25%:2]", PAIRS[1:2]),
    ],
)
def test_a_slice_of_any_text(tmp_path, part, expected):
    rows = [{"en": source, "de": target} for source, target in PAIRS]
    names = [write_plain(tmp_path / "plain", PAIRS)]
    names += [
        write_table(tmp_path / f"table{ending}", rows) for ending in (".jsonl", ".csv", ".tsv.gz", ".parquet")
    ]
    for name in names:
        assert pairs_of(load_parallel(f"{name}{part}", "en", "de")) == expected
    lines = tmp_path / "lines"
    lines.write_text("".join(f"{source}\n" for source, _ in PAIRS))
    found = read_sentences(f"{lines}{part}", None)
    assert [sentence.text for sentence in found] == [source for source, _ in expected]
    lines.write_text("abc")  # `read_text` adds the final line break
    assert read_text(f"{lines}{part}") == "".join(
        char for char, pair in zip("abc\n", PAIRS, strict=True) if pair in expected
    )


@pytest.mark.parametrize("part", ["[:0]", "[4:]", "[3:1]", "[50%:10%]", "[100%:]"])
def test_a_slice_that_holds_nothing_is_refused(tmp_path, part):
    write_plain(tmp_path / "plain", PAIRS)
    assert refused(f"plain{part}") == f"plain{part}: there are no pairs in it"
    assert re.match(r"toyland:test\[.*: there are no pairs in it$", refused("toyland:test[1000:]"))


READERS = {
    "parallel": lambda name: load_parallel(name, "en", "de"),
    "sentences": lambda name: read_sentences(name, None),
    "running text": read_text,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("part", ["[5]", "[-5:]", "[:x]", "[1:2:3]", "[:0.9]", "[]"])
def test_brackets_that_are_not_a_slice_are_refused(tmp_path, part, read):
    with pytest.raises(CorpusError, match=r"the brackets at the end are not a valid slice; write \[:1000\]"):
        read(f"{tmp_path}/text{part}")
    with pytest.raises(CorpusError, match="900% is more than the whole text"):
        read(f"{tmp_path}/text[:900%]")


def test_brackets_may_belong_to_the_name_of_a_file(tmp_path):
    (tmp_path / "text[5]").write_text("abc\n")
    assert read_text(f"{tmp_path}/text[5]") == "abc\n"
    assert read_text(f"{tmp_path}/text[5][:2]") == "ab"


@given(length=st.integers(0, 2000), percent=st.integers(0, 100), places=st.integers(0, 2000))
def test_slices_that_meet_share_nothing_and_leave_nothing_out(length, percent, places):
    for cut in (f"{percent}%", str(places)):
        first, second = (split_slice(f"x[{written}]")[1].of(length) for written in (f":{cut}", f"{cut}:"))
        assert [*first, *second] == list(range(length))


def test_toyland_continues_beyond_its_usual_size(monkeypatch):
    monkeypatch.setattr(corpus, "TOYLAND_SIZES", {"train": 30, "valid": 10, "test": 10})
    more = load_parallel("toyland:train[:40]", "en", "de")[:]
    for part, expected in (("[35:40]", slice(35, 40)), ("[90%:]", slice(27, 30)), ("[:50%]", slice(15))):
        found = load_parallel(f"toyland:train{part}", "en", "de")[:]
        assert found == {column: values[expected] for column, values in more.items()}


@pytest.mark.parametrize("archive", WRITERS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", 'en,de\r\n"a, ""b""","c\r\nd"\r\n\r\ne,f\rg\r\n'.replace("f\rg", '"f\rg"')),
        ("x.tsv", 'en\tde\r\na, "b"\tc\r\n'),
        ("x.jsonl", '{"en": "a", "de": "b"}\r\n\r\n{"en": "c", "de": "d\\r\\n"}\r\n'),
        ("x.json", '[\r\n{"en": "a", "de": "b"},\r\n{"en": "c", "de": "d"}\r\n]'),
    ],
)
def test_marks_and_windows_line_endings_are_no_part_of_a_table(tmp_path, archive, name, content):
    (tmp_path / f"{name}{archive}").write_bytes(WRITERS[archive](content.replace("\r\n", "\n").encode()))
    plain = pairs_of(load_parallel(f"{name}{archive}", "en", "de"))
    (tmp_path / f"windows-{name}{archive}").write_bytes(WRITERS[archive](("\ufeff" + content).encode()))
    assert pairs_of(load_parallel(f"windows-{name}{archive}", "en", "de")) == plain
    assert plain[0][0].startswith("a")


def test_marks_and_windows_line_endings_are_no_part_of_plain_files(tmp_path):
    write_plain(tmp_path / "train", PAIRS)
    for side in ("en", "de"):
        path = tmp_path / f"train.{side}"
        path.write_bytes("\ufeff".encode() + path.read_bytes().replace(b"\n", b"\r\n"))
    assert pairs_of(load_parallel("train", "en", "de")) == PAIRS


def test_a_tsv_without_a_header_has_source_and_target_first(tmp_path):
    (tmp_path / "x.tsv").write_text('Go.\tGeh.\tCC-BY 2.0 "A"\n"Hi.\tHallo, "du"\n\t\n')
    expected = [("Go.", "Geh."), ('"Hi.', 'Hallo, "du"'), ("", "")]
    assert pairs_of(load_parallel("x.tsv", "en", "de")) == expected
    assert pairs_of(load_parallel("x.tsv", "de", "en")) == expected


def test_a_name_is_no_pattern(tmp_path):
    for name in ("x[1].parquet", "x*.csv", "a?.jsonl"):
        path = write_table(tmp_path / name, [{"en": "a", "de": "b"}])
        assert pairs_of(load_parallel(path, "en", "de")) == [("a", "b")]


def test_an_edited_parquet_file_is_read_anew(tmp_path):
    for pair in (("a", "b"), ("c", "d")):
        name = write_table(tmp_path / "x.parquet", [{"en": pair[0], "de": pair[1]}])
        os.utime(name, ns=(ord(pair[0]) * 10**9,) * 2)
        assert pairs_of(load_parallel(name, "en", "de")) == [pair]


def test_nul_in_a_parquet_file_is_refused(tmp_path):
    write_table(tmp_path / "x.parquet", [{"en": "a", "de": "b"}, {"en": "a", "de": "b\0"}])
    assert refused("x.parquet") == "x.parquet, row 2: NUL in column de, which is not text"


def test_a_long_field_is_no_error(tmp_path):
    long = "a" * 300_000
    (tmp_path / "x.csv").write_text(f"en,de\n{long},{long}\n")
    assert pairs_of(load_parallel("x.csv", "en", "de")) == [(long, long)]


def test_equal_languages_need_columns_with_two_names(tmp_path):
    write_plain(tmp_path / "train", PAIRS)
    assert re.match("data.source and data.target are both en, so train.en", refused("train", "en", "en"))
    (tmp_path / "x.csv").write_text("en,de\na,b\n")
    assert re.match(
        r"x\.csv has the columns en, de; --data\.source and --data\.target are both",
        refused("x.csv", "en", "en"),
    )
    write_table(tmp_path / "y.csv", [{"source": source, "target": target} for source, target in PAIRS])
    assert pairs_of(load_parallel("y.csv", "en", "en")) == PAIRS


@pytest.mark.parametrize("ending", ["", ".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_local_texts_look_up_no_host(tmp_path, monkeypatch, ending):
    """`datasets` contacts a server for usage statistics unless it is in offline mode."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    rows = [{"en": source, "de": target} for source, target in PAIRS]
    name = write_table(tmp_path / f"x{ending}", rows) if ending else write_plain(tmp_path / "x", PAIRS)
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *host, **_: asked.append(host))
    assert pairs_of(load_parallel(name, "en", "de")) == PAIRS
    assert not asked


@pytest.mark.parametrize("name", ["plain", "x.csv", "x.parquet"])
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, name):
    write_plain(tmp_path / "plain", PAIRS)
    for ending in (".csv", ".parquet"):
        write_table(tmp_path / f"x{ending}", [{"en": "a", "de": "b"}])
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    assert re.match(
        r"the cache of `datasets`, .*file/cache, cannot be written \(Not a directory\); set HF_HOME or HF",
        refused(name),
    )


def test_an_unchanged_file_comes_from_the_cache_and_an_edited_one_is_read_anew(tmp_path):
    plain = write_plain(tmp_path / "plain", PAIRS)
    table = write_table(tmp_path / "table.jsonl", [{"en": "a", "de": "b"}])
    first = load_parallel(plain, "en", "de").cache_files
    assert load_parallel(plain, "en", "de").cache_files == first
    load_parallel(table, "en", "de")
    edited = [("x", "y"), *PAIRS[1:]]  # the same size in bytes
    write_plain(tmp_path / "plain", edited)
    write_table(tmp_path / "table.jsonl", [{"en": "x", "de": "y"}])
    for path in tmp_path.glob("*.*"):
        os.utime(path, ns=(1, 1))
    assert pairs_of(load_parallel(plain, "en", "de")) == edited
    assert pairs_of(load_parallel(table, "en", "de")) == [("x", "y")]


def test_loading_is_silent(tmp_path, capfd):
    name = write_plain(tmp_path / "train", PAIRS)
    load_parallel(name, "en", "de")
    (tmp_path / "bad.jsonl").write_text('{"en": ')
    with pytest.raises(CorpusError):
        load_parallel("bad.jsonl", "en", "de")
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_toyland_has_its_sizes_and_phenomena(monkeypatch):
    monkeypatch.setattr(corpus, "TOYLAND_SIZES", {"train": 30, "valid": 10, "test": 10})
    table = load_parallel("toyland:train", "en", "de")
    assert table.column_names == ["source", "target", "phenomena"]
    assert len(table) == 30
    assert all(isinstance(name, str) for names in table["phenomena"] for name in names)
    assert load_parallel("toyland:train[:7]", "en", "de")[:] == table[:7]


def refused(name, source="en", target="de"):
    with pytest.raises(CorpusError) as caught:
        load_parallel(name, source, target)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_toyland_knows_one_direction_and_its_splits():
    assert re.match("toyland has no split 'dev'; choose one of train, valid, test", refused("toyland:dev"))
    assert re.match(
        "toyland goes from en to de or parse, not from de to en", refused("toyland:train", "de", "en")
    )


@pytest.mark.parametrize("extra", [1, 3])
def test_sides_of_different_length_are_refused(tmp_path, extra):
    write_plain(tmp_path / "train", PAIRS)
    with (tmp_path / "train.en").open("a") as stream:
        stream.write("more\n" * extra)
    total = len(PAIRS) + extra
    assert re.search(
        rf"train\.en has {total} lines, \S*train\.de has 4: line 5 has no translation$", refused("train")
    )
    assert re.search(
        rf"train\.en has {total} lines, \S*train\.de has 4: line 5", refused("train", "de", "en")
    )


def test_a_missing_side_and_an_empty_corpus_are_refused(tmp_path):
    (tmp_path / "train.en").touch()
    expected = r"train\.en has no counterpart: there is no train\.de \(or \.gz, \.xz\)$"
    assert re.match(expected, refused("train"))
    (tmp_path / "train.de").touch()
    assert re.match(r"train\.en and train\.de are empty$", refused("train"))


def test_invalid_utf8_is_named_by_line(tmp_path):
    write_plain(tmp_path / "train", PAIRS)
    (tmp_path / "train.de").write_bytes(b"a\nb\nc\xffd\ne\n")
    assert re.match(r"train\.de, line 3: invalid UTF-8 at byte 2 \(0xff\)", refused("train"))
    (tmp_path / "bad.csv").write_bytes(b"en,de\na,\xff\n")
    assert re.match(r"bad\.csv, line 2: invalid UTF-8 at byte 3", refused("bad.csv"))
    (tmp_path / "bad.jsonl").write_bytes(b'{"en": "a", "de": "b"}\n{"en": "a", "de": "\xff"}\n')
    assert re.match(r"bad\.jsonl, line 2: invalid UTF-8 at byte 20 \(0xff\)", refused("bad.jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", '{"en": "a", "de": "b"}\n{"en":\n', r"bad\.jsonl, line 2 is not JSON: Expecting value"),
        ("bad.jsonl", '{"en": "a", "de": "b"}\n\n["a"]\n', r"bad\.jsonl, line 3 is not a JSON object$"),
        ("bad.jsonl", '{"en": "a", "de": NaN}\n', r"bad\.jsonl, line 1 is not JSON: NaN is not JSON$"),
        ("bad.json", '\n[{"en": "a",\n"de": }]', r"bad\.json is not JSON: Expecting value at line 3, char"),
        ("bad.json", '[{"en": "a", "de": "b"}, 3]', r"bad\.json, item 2 is not a JSON object$"),
        ("deep.jsonl", "[" * 200_000, r"deep\.jsonl is not JSON: it is nested too deeply"),
        (
            "deep.jsonl",
            '{"en": ' + "[" * 200_000,
            r"deep\.jsonl, line 1 is not JSON: it is nested too deeply",
        ),
        ("bad.csv", 'en,de\na,b\n\n"open\nx\n', r"bad\.csv, line 4: not valid csv: unexpected end of data$"),
        ("bad.csv", 'en,de\n"a"b,c\n', r"bad\.csv, line 2: not valid csv: ',' expected after"),
        ("bad.csv", "en,de\na,b,c\n", r"bad\.csv, line 2 has 3 fields, but the header names 2 columns$"),
        ("bad.csv", "en,de\na\n", r"bad\.csv, line 2: column de holds nothing, not text$"),
        (
            "bad.tsv",
            "a\tb\n\nc\n",
            r"bad\.tsv, line 3 has no tab; without a header, lines are SOURCE<TAB>TAR",
        ),
        ("bad.tsv", "en\tde\nc\n", r"bad\.tsv, line 2: column de holds nothing, not text$"),
        ("bad.tsv", "17\ta\t18\tb\n", r"bad\.tsv, line 1 begins with a number; add a header line that names"),
        ("bad.parquet", "x", r"bad\.parquet: Parquet file size is 1 bytes"),
        ("empty.jsonl", "", r"empty\.jsonl: the file is empty$"),
        ("empty.csv", "", r"empty\.csv: the file is empty$"),
        ("empty.tsv", "\n", r"empty\.tsv: the file is empty$"),
        ("header.csv", "en,de\n", r"header\.csv: the file is empty$"),
        (
            "x.csv",
            "en,fr\na,b\n",
            r"x\.csv has the columns en, fr; --data\.source and --data\.target name en and de: name",
        ),
        (
            "x.json",
            '[{"translation": {"en": "a", "fr": "b"}}]',
            r"x\.json has the columns translation\.en, tr",
        ),
        (
            "x.jsonl",
            '{"en": "a", "de": "b"}\n{"en": "a"}\n',
            r"x\.jsonl, line 2: column de holds nothing, not",
        ),
        ("x.jsonl", '{"en": "a", "de": 1}\n', r"x\.jsonl, line 1: column de holds a number, not text$"),
        (
            "x.jsonl",
            '{"en": "\\ud800", "de": "b"}\n',
            r"x\.jsonl, line 1: column en holds U\+D800, half of a",
        ),
        ("x.jsonl", '{"en": "a\\u0000", "de": "b"}\n', r"x\.jsonl, line 1: column en holds NUL, not text$"),
        (
            "x.en.txt",
            "a\n",
            r"'x\.en\.txt' is one file of no known format, or one side of a corpus; name a path",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    assert re.match(message, refused(name))


def test_a_damaged_archive_is_refused(tmp_path):
    for name in ("train.en.gz", "train.de.gz", "x.jsonl.gz"):
        (tmp_path / name).write_bytes(b"not an archive")
    assert re.match(r"train\.en\.gz: the archive is damaged", refused("train"))
    assert re.match(r"x\.jsonl\.gz: ", refused("x.jsonl.gz"))


@pytest.mark.parametrize("name", ["nothing", "no/thing", "no.csv", "toylnd:train"])
def test_a_name_without_a_text_says_what_was_looked_for(name):
    message = refused(name)
    assert message.startswith(
        f"no corpus at {name!r}: looked for {name}.en and {name}.de (also .gz, .xz); name"
    )
    assert message.endswith("HUB/ID:SPLIT, HUB/ID:SUBSET:SPLIT or toyland:SPLIT")


@pytest.mark.parametrize("name", ["owner/name:train", "owner/name:de-en:train"])
def test_an_unreachable_hub_is_one_line(name):
    assert re.match(
        f"there is no file {name!r}, and it cannot be loaded from the Hub: .*owner/name", refused(name)
    )


def test_a_hub_name_has_an_id_a_subset_and_a_split(monkeypatch):
    """`datasets` is called with all three parts; a local path of the same name takes precedence."""
    asked = []

    def load_dataset(name, subset, *, split):
        asked.append((name, subset, split))
        languages = datasets.Features(translation=datasets.Translation(["de", "en"]))
        return datasets.Dataset.from_list([{"translation": {"de": "b", "en": "a"}}] * 3, features=languages)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert pairs_of(load_parallel("wmt/wmt14:de-en:train[:2]", "en", "de")) == [("a", "b")] * 2
    assert pairs_of(load_parallel("owner/na-me.x:test", "de", "en")) == [("b", "a")] * 3
    assert asked == [("wmt/wmt14", "de-en", "train"), ("owner/na-me.x", None, "test")]


def test_a_local_path_wins_over_the_hub(tmp_path):
    (tmp_path / "owner").mkdir()
    name = write_plain(tmp_path / "owner" / "name:train", PAIRS)
    assert pairs_of(load_parallel(name.removeprefix(f"{tmp_path}/"), "en", "de")) == PAIRS
