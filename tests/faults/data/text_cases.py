"""Broken JSON, JSON Lines and CSV: files that are cut, garbled, or something else in disguise."""

import gzip
import io
import json
import pickle
import sqlite3
import zipfile
from pathlib import Path

from faults.data.making import (
    ALPACA,
    AUTO,
    OPENAI,
    SHAREGPT,
    Case,
    bad,
    file_error,
    lines,
    listed,
    nested,
    of_file,
    one,
)

GOOD = lines(ALPACA)
JAPANESE = {"instruction": "こんにちは", "input": "", "output": "さようなら"}
CHINESE = {"instruction": "你好", "input": "", "output": "再见"}


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("rows.jsonl", GOOD)
    return sink.getvalue()


def sqlite_file(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table rows (instruction text, output text)")
    connection.close()


def second(line: bytes) -> bytes:
    """A good row, and this line."""
    return GOOD + line


DISGUISED = {
    "a zip archive named .jsonl": Case(zipped(), file_error("is a zip archive")),
    "a zip archive named .json": Case(zipped(), file_error("is a zip archive"), "rows.json"),
    "a zip archive named .csv": Case(zipped(), file_error("is a zip archive"), "rows.csv"),
    "a zip archive named .parquet": Case(zipped(), file_error("is a zip archive"), "rows.parquet"),
    "gzip": Case(gzip.compress(GOOD), file_error("is a gzip archive")),
    "zstd": Case(b"\x28\xb5\x2f\xfd" + bytes(20), file_error("is a zstd archive")),
    "bzip2": Case(b"BZh91AY&SY" + bytes(20), file_error("is a bzip2 archive")),
    "a pickle of protocol 4": Case(pickle.dumps([ALPACA], 4), file_error("is a Python pickle")),
    "a pickle of protocol 5": Case(pickle.dumps([ALPACA], 5), file_error("is a Python pickle")),
    "a pickle of protocol 0": Case(pickle.dumps([ALPACA], 0), file_error("begins with '.*'")),
    "a pickle named .csv": Case(pickle.dumps([ALPACA], 4), file_error("is a Python pickle"), "rows.csv"),
    "Python source": Case(b"import os\nos.system('id')\n", file_error("begins with 'import os.*'")),
    "Python source named .csv": Case(
        b"import os\nos.system('id')\n",
        AUTO + r"rows\.csv:2 has the fields import os: .*",
        "rows.csv",
    ),
    "a shell script": Case(b"#!/bin/sh\nid\n", file_error("begins with '#!/bin/sh.*'")),
    "an ELF program": Case(b"\x7fELF\x02\x01\x01" + bytes(30), file_error(r"begins with '\\x7fELF.*'")),
    "HTML": Case(b"<!DOCTYPE html><title>Not found</title>", file_error("begins with '<!DOCTYPE.*'")),
    "XML": Case(b"<?xml version='1.0'?><rows/>", file_error("begins with '<.xml.*'")),
    "YAML": Case(b"- instruction: q\n  output: a\n", file_error("begins with '- instructio'")),
    "a pointer of Git LFS": Case(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", file_error("is a pointer of Git LFS.*")
    ),
    "an SQLite database": Case(sqlite_file, file_error("is an SQLite database"), "rows.json"),
    "an HDF5 file": Case(b"\x89HDF\r\n\x1a\n" + bytes(9), file_error("is an HDF5 file")),
    "an Arrow file": Case(b"ARROW1\0\0" + bytes(9), file_error("is an Arrow file")),
    "a NumPy file": Case(b"\x93NUMPY\x01\x00", file_error("is a NumPy file")),
    "a PDF": Case(b"%PDF-1.7\n", file_error("is a PDF")),
    "an image": Case(b"\x89PNG\r\n\x1a\n", file_error(r"begins with '\\x89PNG.*'")),
    "CSV named .json": Case(
        b"instruction,output\nq,a\n", file_error("begins with 'instruction,'"), "rows.json"
    ),
    "a JSON text": Case(b'"instruction"', file_error("begins with '\"instructi.*'")),
    "a JSON number": Case(b"42", file_error("begins with '42'")),
    "null": Case(b"null", file_error("begins with 'null'")),
    "single quotes": Case(
        b"['instruction']", of_file(r"rows\.json:1:2 \(byte 1\): broken JSON: Expecting value"), "rows.json"
    ),
    "zeros": Case(bytes(4096), file_error(r"begins with '\\x00.*'")),
    "random bytes": Case(bytes(range(250, 0, -1)), file_error(r"begins with '\\xfa.*'")),
}

ENCODINGS = {
    "UTF-16 with a byte order mark": Case(
        listed(CHINESE).decode().encode("utf-16"), file_error("is UTF-16 text")
    ),
    "UTF-16, big end first": Case(
        b"\xfe\xff" + listed(CHINESE).decode().encode("utf-16-be"), file_error("is UTF-16 text")
    ),
    "UTF-16 without a mark": Case(
        listed(CHINESE).decode().encode("utf-16-le"),
        of_file(r"rows\.json:1:\d+ \(byte \d+\): broken JSON: not valid UTF-8"),
        "rows.json",
    ),
    "UTF-32": Case(listed(CHINESE).decode().encode("utf-32"), file_error("is UTF-16 text")),
    "GBK lines": Case(GOOD + lines(CHINESE).decode().encode("gbk"), one("invalid UTF-8", "not valid UTF-8")),
    "a GBK list": Case(
        listed(ALPACA, CHINESE).decode().encode("gbk"),
        of_file(r"rows\.json:2:18 \(byte \d+\): broken JSON: not valid UTF-8"),
        "rows.json",
    ),
    "Shift-JIS lines": Case(
        GOOD + lines(JAPANESE).decode().encode("shift_jis"), one("invalid UTF-8", "not valid UTF-8")
    ),
    "Latin-1 lines": Case(
        second(b'{"instruction": "caf\xe9", "output": "a"}\n'), one("invalid UTF-8", "not valid UTF-8")
    ),
    "a cut character": Case(second(lines(CHINESE)[:-4]), one("invalid UTF-8", "not valid UTF-8")),
    "an overlong character": Case(
        second(b'{"instruction": "\xc0\xaf"}\n'), one("invalid UTF-8", "not valid UTF-8")
    ),
    "a surrogate in UTF-8": Case(
        second(b'{"instruction": "\xed\xa0\x80"}\n'), one("invalid UTF-8", "not valid UTF-8")
    ),
    "a character beyond Unicode": Case(
        second(b'{"instruction": "\xf4\x90\x80\x80"}\n'), one("invalid UTF-8", "not valid UTF-8")
    ),
    "a GBK header of CSV": Case(
        "提问,回答\n".encode("gbk"),
        of_file(r"rows\.csv:1: the names of the columns are not valid UTF-8"),
        "rows.csv",
    ),
    "a GBK cell of CSV": Case(
        "instruction,output\nq,a\n你好,a\n".encode("gbk"),
        bad(1, 2, "invalid UTF-8", r"rows\.csv:3", "instruction: not valid UTF-8"),
        "rows.csv",
    ),
    "a byte order mark amid the lines": Case(
        second(b"\xef\xbb\xbf" + GOOD), one("broken JSON", "broken JSON: a byte order mark before the row")
    ),
    "two byte order marks": Case(b"\xef\xbb\xbf" * 2 + GOOD, file_error("begins with '.*'")),
}

BROKEN_LISTS = {
    sentence: Case(content, of_file(r"rows\.json:" + error), "rows.json")
    for sentence, content, error in [
        (
            "a list cut in a text",
            listed(ALPACA)[:-3],
            r"1:\d+ \(byte \d+\): broken JSON: Unterminated string.*",
        ),
        ("a list cut in a key", b'[{"instr', r"1:3 \(byte 2\): broken JSON: Unterminated string.*"),
        ("a list cut after a row", listed(ALPACA)[:-1], r"1:\d+ \(byte \d+\): .*ends before the list does"),
        (
            "a list cut after a comma",
            listed(ALPACA)[:-1] + b",",
            r"1:\d+ \(byte \d+\): broken JSON: Expecting value.*",
        ),
        ("a list cut in an escape", b'[{"output": "\\u12', r"1:\d+ \(byte \d+\): broken JSON: .*"),
        ("a list cut in a number", b'[{"output": -', r"1:\d+ \(byte \d+\): broken JSON: Expecting value.*"),
        ("a list cut in a word", b'[{"output": tru', r"1:\d+ \(byte \d+\): broken JSON: Expecting value.*"),
        ("an opening bracket", b"[", r"1:2 \(byte 1\): broken JSON: Expecting value.*"),
        (
            "no comma between rows",
            listed(ALPACA)[:-1] + b"{}]",
            r"1:\d+ \(byte \d+\): broken JSON: expected ',' or ']'",
        ),
        ("two commas", b"[{},,{}]", r"1:5 \(byte 4\): broken JSON: Expecting value"),
        (
            "a comma before the end",
            b"[{},]",
            r"1:5 \(byte 4\): broken JSON: a comma before the end.*",
        ),
        ("a colon too many", b'[{"output":: 1}]', r"1:12 \(byte 11\): broken JSON: Expecting value"),
        (
            "a key without a value",
            b'[{"output"}]',
            r"1:\d+ \(byte \d+\): broken JSON: Expecting ':' delimiter",
        ),
        ("keys without quotes", b"[{output: 1}]", r"1:3 \(byte 2\): broken JSON: Expecting property name.*"),
        ("comments", b"[// rows\n{}]", r"1:2 \(byte 1\): broken JSON: Expecting value"),
        ("two lists", listed(ALPACA) * 2, r"1:\d+ \(byte \d+\): .*more after the end of the list"),
        (
            "a list and lines",
            listed(ALPACA) + b"\n" + GOOD,
            r"2:1 \(byte \d+\): .*more after the end of the list",
        ),
        (
            "a line end in a text",
            b'[{"output": "a\nb"}]',
            r"1:\d+ \(byte \d+\): broken JSON: Invalid control character.*",
        ),
        (
            "a zero byte in a text",
            b'[{"output": "a\0b"}]',
            r"1:\d+ \(byte \d+\): broken JSON: Invalid control character.*",
        ),
        ("a bad escape", rb'[{"output": "\x41"}]', r"1:\d+ \(byte \d+\): broken JSON: Invalid \\escape"),
        (
            "zeros at the end",
            listed(ALPACA) + bytes(512),
            r"1:\d+ \(byte \d+\): .*more after the end of the list",
        ),
        (
            "a list nested too deep",
            nested(100_000),
            r"1:2 \(byte 1\): broken JSON: the row is nested too deep",
        ),
        (
            "objects nested too deep",
            b"[" + nested(50_000, b'{"a":', b"}") + b"]",
            r"1:2 \(byte 1\): broken JSON: (the row is nested too deep|Expecting value.*)",
        ),
        ("an endless nesting", b"[" * 100_000, r"1:2 \(byte 1\): broken JSON: the row is nested too deep"),
        (
            "a number of 100,000 digits",
            b'[{"output": ' + b"9" * 100_000 + b"}]",
            r"1:2 \(byte 1\): broken JSON: a number has more digits than can be read",
        ),
    ]
}

BROKEN_LINES = {
    sentence: Case(second(line), one("broken JSON", error))
    for sentence, line, error in [
        ("a line cut in a text", GOOD[:-3], "broken JSON: Unterminated string.*"),
        ("a line cut in a key", b'{"instr\n', "broken JSON: Unterminated string.*"),
        ("a line cut after a colon", b'{"instruction":\n', "broken JSON: Expecting value.*"),
        ("a line cut before its end", b'{"instruction": "q"\n', "broken JSON: Expecting ',' delimiter.*"),
        ("two rows in a line", GOOD[:-1] + GOOD, "broken JSON: another row in the same line"),
        ("a comma after a row", GOOD[:-1] + b",\n", "broken JSON: a comma after the row"),
        ("a comma before the end of an object", b'{"instruction": "q",}\n', "broken JSON: .*"),
        ("single quotes in a line", b"{'instruction': 'q'}\n", "broken JSON: Expecting property name.*"),
        ("words of Python", b'{"instruction": None}\n', "broken JSON: Expecting value"),
        ("a bare word", b'{"instruction": hello}\n', "broken JSON: Expecting value"),
        ("a tab in a text", b'{"instruction": "a\tb"}\n', "broken JSON: Invalid control character"),
        ("zeros in a line", b"\0\0\0\n", "broken JSON: Expecting value"),
        ("a huge number", b'{"output": ' + b"1" * 5000 + b"}\n", "a number has more digits than can be read"),
        ("a field given twice", b'{"output": "a", "output": "b"}\n', "output: the field is given twice"),
        (
            "a field given twice with escapes",
            rb'{"output": "a", "outpu\u0074": "b"}' + b"\n",
            "output: the field is given twice",
        ),
        (
            "a field given twice in a turn",
            b'{"messages": [{"role": "user", "role": "system", "content": "q"}]}\n',
            r"messages\[0\]\.role: the field is given twice",
        ),
        ("a nameless field given twice", b'{"": 1, "": 2}\n', "'': the field is given twice"),
        (
            "many fields given twice",
            json.dumps({f"f{n}": n for n in range(20_000)}).encode()[:-1] + b', "f9": 1}\n',
            "f9: the field is given twice",
        ),
        ("text after the rows", b"-- end --\n", "broken JSON: Expecting value"),
        (
            "a list opened among lines",
            b"[\n",
            r"broken JSON: \[ alone in a line; each row must be one line, or .*",
        ),
    ]
} | {
    "a line nested too deep": Case(
        second(b'{"output": ' + nested(100_000) + b"}\n"),
        one("nested too deep", "the row is nested too deep"),
    ),
    "an object of several lines": Case(
        json.dumps(ALPACA, indent=1).encode(),
        bad(5, 5, "broken JSON", r"rows\.jsonl:1:2 \(byte 1\)", "broken JSON: .*"),
    ),
    "lines of lists": Case(second(b'["q", "a"]\n'), one("not an object", "the row is a list, not an object")),
    "lines of texts": Case(second(b'"q"\n'), one("not an object", "the row is a text, not an object")),
    "lines of numbers": Case(second(b"1\n"), one("not an object", "the row is a number, not an object")),
    "a line that is null": Case(second(b"null\n"), one("not an object", "the row is null, not an object")),
    "a line that is NaN": Case(second(b"NaN\n"), one("not an object", "the row is NaN, not an object")),
    "a line that is true": Case(
        second(b"true\n"), one("not an object", "the row is true or false, not an object")
    ),
}

CSV = {
    sentence: Case(content.encode(), error, "rows.csv")
    for sentence, content, error in [
        (
            "CSV with an open quote",
            'instruction,output\nq,"a\nq,a\n',
            of_file(r"rows\.csv:2: broken CSV: unexpected end of data"),
        ),
        (
            "CSV with text after a quote",
            'instruction,output\n"q"x,a\n',
            of_file(r"rows\.csv:2: broken CSV: ',' expected after '\"'"),
        ),
        (
            "CSV with two columns of a name",
            "output,output\na,b\n",
            of_file(r"rows\.csv: ?1: two columns are named output"),
        ),
        (
            "CSV with old line ends",
            "instruction,output\rq,a\r",
            of_file(r"rows\.csv:1: broken CSV: new-line character .*"),
        ),
        (
            "CSV with a cell too many",
            "instruction,output\nq,a\nq,a,b\n",
            bad(
                1,
                2,
                "wrong number of cells",
                r"rows\.csv:3",
                "the row has 3 cells, and the first line names 2",
            ),
        ),
        (
            "CSV with a cell too few",
            "instruction,output\nq,a\nq\n",
            bad(
                1,
                2,
                "wrong number of cells",
                r"rows\.csv:3",
                "the row has 1 cells, and the first line names 2",
            ),
        ),
        (
            "CSV with semicolons",
            "instruction;output\nq;a\n",
            r"datasets\[0\]: rows\.csv:1: the names of the columns are separated by ';', not by commas",
        ),
        (
            "CSV without a header",
            "hello,hi\nhow are you,fine\n",
            AUTO + r"rows\.csv:2 has the fields hello, hi: .*",
        ),
        (
            "CSV with a header alone",
            "instruction,output\n",
            r"datasets\[0\]: rows\.csv: the dataset is empty",
        ),
        (
            "CSV with an empty answer",
            "instruction,output\nq,a\nq,\n",
            bad(1, 2, "empty answer", r"rows\.csv:3", "output: the answer is empty"),
        ),
        (
            "CSV with a zero byte",
            "instruction,output\nq,a\nq,a\0b\n",
            bad(1, 2, "control character", r"rows\.csv:3", r"output: character 1 is U\+0000"),
        ),
        (
            "CSV with lists of Python",
            "messages\n\"[{'role': 'user'}]\"\n",
            bad(1, 1, "broken JSON", r"rows\.csv:2", "messages: the cell is a text, .*"),
        ),
        (
            "CSV with a nesting bomb in a cell",
            'instruction,output,history\nq,a,[]\nq,a,"' + "[" * 50_000 + '"\n',
            bad(1, 2, "broken JSON", r"rows\.csv:3", "history: the cell is a text, and not a list as JSON"),
        ),
        (
            "CSV with a bad record after one of three lines",
            'instruction,output\n"a\nb\nc",a\nq,\n',
            bad(1, 2, "empty answer", r"rows\.csv:5", "output: the answer is empty"),
        ),
    ]
}

EMPTY = {
    "no bytes": Case(b"", r"datasets\[0\]: rows\.jsonl: the dataset is empty"),
    "an empty list": Case(b"[]", r"datasets\[0\]: rows\.jsonl: the dataset is empty"),
    "white space": Case(b" \r\n\t\n", r"datasets\[0\]: rows\.jsonl: the dataset is empty"),
    "a byte order mark alone": Case(b"\xef\xbb\xbf", r"datasets\[0\]: rows\.jsonl: the dataset is empty"),
    "empty objects": Case(
        b"{}\n{}\n", r"datasets\[0\]\.format: auto can't tell .* has no fields: fits no format .*"
    ),
    "a list of empty lists": Case(
        b"[[], []]",
        bad(2, 2, "not an object", r"rows\.jsonl\[0\] \(line 1\)", "the row is a list, not an object.*"),
    ),
    "several empty files": Case(
        {"a.json": b"[]", "b.jsonl": b"\n"}, r"datasets\[0\]: a\.json, b\.jsonl: the dataset is empty"
    ),
    "a broken file among good ones": Case(
        {"a.json": listed(ALPACA), "b.json": b"[{]"}, of_file(r"b\.json:1:3 \(byte 2\): broken JSON: .*")
    ),
    "a file of another format among good ones, declared": Case(
        {"a.json": listed(OPENAI), "b.json": listed(SHAREGPT)},
        r"datasets\[0\]\.format: declared openai, but b\.json.* has .*"
        r" conversations: \[{from, value}\]: looks like sharegpt",
        fields={"format": "openai"},
    ),
}

TEXT_CASES = DISGUISED | ENCODINGS | BROKEN_LISTS | BROKEN_LINES | CSV | EMPTY
