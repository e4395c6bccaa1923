"""A YAML file is read as kubectl would read it; what can't be read is told with file and line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builders import document, resource
from lorafinetune.api.crd import crd
from lorafinetune.cli.document import MAX_BYTES, TOO_LARGE, DocumentError, read_resource
from lorafinetune.cli.kubeyaml import dump, parse, plain
from searching import examples

Write = Callable[[str | bytes], Path]

HEAD = """\
apiVersion: lorafinetune.dev/v1alpha1
kind: LoRAFineTune
metadata: {name: tune}
"""
SPEC = """\
spec:
  model: {source: hf://owner/model}
  datasets:
    - source: s3://data/a.json
    - source: s3://data/b.json
      format: alpaca
  training:
    epochs: "3"
  storage: {uri: s3://bucket/runs}
"""
GOOD = HEAD + SPEC
LAUGHS = "l0: &l0 [lol]\n" + "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "m0: &m0 {a: b}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)
MEND = "(mend what stands there, or a bracket, quote or indentation above it)"
DEEP = "d0: &d0 " + "[" * 90 + "]" * 90 + "\nd1: " + "[" * 90 + "*d0" + "]" * 90 + "\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes `tune.yaml` into the current directory."""
    monkeypatch.chdir(tmp_path)

    def call(content: str | bytes) -> Path:
        path = Path("tune.yaml")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return call


def problems(path: Path) -> list[str]:
    with pytest.raises(DocumentError) as refused:
        read_resource(path)
    return [str(fault) for fault in refused.value.faults]


SPELLINGS = {
    "block style": GOOD,
    "flow style": yaml.safe_dump(yaml.safe_load(GOOD), default_flow_style=True),
    "Windows line ends": GOOD.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + GOOD,
    "a comment and a document start before it": f"# a file\n---\n{GOOD}",
    "a document end and an empty document after it": f"{GOOD}...\n---\n# nothing\n",
    "an alias": HEAD
    + SPEC.replace("hf://owner/model", "&a hf://owner/model").replace("s3://data/a.json", "*a"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_it_reads(spelling: str, write: Write) -> None:
    expected = ("hf://owner/model", "alpaca")
    spec = read_resource(write(SPELLINGS[spelling])).spec
    assert (spec.model.source, spec.datasets[1].format) == expected


EXPECTED = "a LoRAFineTune is expected. `lorafinetune init` writes one."
REFUSALS: dict[str, tuple[str | bytes, list[str]]] = {
    "nothing": ("", [f"tune.yaml: is empty; {EXPECTED}"]),
    "nothing but comments": ("# later\n---\n", [f"tune.yaml: is empty; {EXPECTED}"]),
    "a list": ("\n- a\n", [f"tune.yaml:2: holds a list; {EXPECTED}"]),
    "a word": ("hello\n", [f'tune.yaml:1: holds "hello"; {EXPECTED}']),
    "two documents": (
        f"{GOOD}---\n{GOOD}",
        ["tune.yaml:14: holds 2 documents; one is expected. Put each into a file of its own."],
    ),
    "another kind": (
        "apiVersion: batch/v1\nkind: Job\nspec: {template: {}}\n",
        [
            "tune.yaml:1: apiVersion: must be lorafinetune.dev/v1alpha1, not batch/v1",
            "tune.yaml:2: kind: must be LoRAFineTune, not Job",
        ],
    ),
    "no kind": (
        "model_name_or_path: glm\n",
        [
            "tune.yaml:1: apiVersion: is required (apiVersion: lorafinetune.dev/v1alpha1)",
            "tune.yaml:1: kind: is required (kind: LoRAFineTune)",
        ],
    ),
    "bytes of another encoding": (
        HEAD.encode() + b"spec: caf\xe9\n",
        ["tune.yaml: is not UTF-8 text (byte 89). Save it as UTF-8."],
    ),
    "UTF-16": (GOOD.encode("utf-16"), ["tune.yaml: is not UTF-8 text (byte 0). Save it as UTF-8."]),
    "a control character": (f"{HEAD}spec: a\x1bb\n", ["tune.yaml:4:8: the character U+001B is not allowed"]),
    "half a surrogate pair": (
        rf'{HEAD}spec: "\ud800"',
        [
            f"tune.yaml:4:10: not valid YAML: found invalid Unicode character escape code {MEND}"
        ],
    ),
    "a bracket that is not closed": (
        f"{HEAD}spec: {{model: {{\n\n  x: y\n",
        ["tune.yaml:7:1: not valid YAML: did not find expected ',' or '}' while parsing a flow mapping that "
         f"begins on line 4 {MEND}"],
    ),
    "a quote that is not closed": (
        f'{HEAD}spec: "model\n',
        ["tune.yaml:5:1: not valid YAML: found unexpected end of stream while scanning a quoted scalar that "
         f"begins on line 4 {MEND}"],
    ),
    "a colon too many": (
        f"{HEAD}spec: model: hf\n",
        [f"tune.yaml:4:12: not valid YAML: mapping values are not allowed in this context {MEND}"],
    ),
    "a tab for indentation": (
        f"{HEAD}spec:\n\tmodel: x\n",
        ["tune.yaml:5:1: not valid YAML: a tab can't indent; use spaces"],
    ),
    "a tab for deeper indentation": (
        f"{HEAD}spec:\n  model:\n  \tsource: x\n",
        ["tune.yaml:6:3: not valid YAML: a tab can't indent; use spaces"],
    ),
    "an alias of nothing": (f"{HEAD}spec: *spec\n", ["tune.yaml:4:7: not valid YAML: found undefined alias"]),
    "an anchor that is used twice": (
        f"{HEAD}a: &a 1\nb: &a 2\n",
        ["tune.yaml:5:4: not valid YAML: an anchor is defined twice, first on line 4"],
    ),
    "an alias of what it is part of": (
        f"{HEAD}spec: &a {{model: [*a]}}\n",
        ["tune.yaml:4:7: an alias refers to what it is part of"],
    ),
    "a merge of what it is part of": (
        f"{HEAD}spec: &a {{<<: *a}}\n",
        ["tune.yaml:4:7: an alias refers to what it is part of"],
    ),
    "a billion laughs": (
        LAUGHS,
        ["tune.yaml:1:10: holds more than 1500000 characters once its aliases are followed"],
    ),
    "a billion merges": (
        MERGES,
        ["tune.yaml:1:13: holds more than 1500000 characters once its aliases are followed"],
    ),
    "aliases that nest": (DEEP, ["tune.yaml:1:18: is nested more than 100 levels deep"]),
    "brackets that nest": (
        "[" * 100_000,
        [f"tune.yaml:1:1001: not valid YAML: exceeded maximum nesting depth {MEND}"],
    ),
    "a merge of a number": (
        f"{HEAD}spec: {{<<: 3}}\n",
        ["tune.yaml:4:12: << needs a mapping, or a list of mappings"],
    ),
    "a merge of numbers": (
        f"{HEAD}spec: {{<<: [3]}}\n",
        ["tune.yaml:4:13: << needs a mapping, or a list of mappings"],
    ),
    "a list as the name of a field": (
        f"{HEAD}? [a]\n: b\n",
        ["tune.yaml:4:3: a field's name must be a string"],
    ),
    "null as the name of a field": (f"{HEAD}~: b\n", ["tune.yaml:4:1: a field's name must be a string"]),
    "a number as the name of a field": (
        GOOD + "1: x\n",
        ["tune.yaml:13: 1: unknown field (known: apiVersion, kind, metadata, spec, status)"],
    ),
    "a tag": (
        GOOD.replace("alpaca", "!!python/object:os.system alpaca"),
        ["tune.yaml:9: spec.datasets[1].format: the tag !!python/object:os.system is not supported"],
    ),
    "a field that is given twice": (
        GOOD.replace('epochs: "3"', 'epochs: "3"\n    seed: 1\n    epochs: "4"'),
        ["tune.yaml:13: spec.training.epochs: is given twice, on lines 11 and 13 (keep one of them)"],
    ),
    "a field that is given twice, and more": (
        GOOD.replace("alpaca", "alpacca\n      format: auto").replace("bucket", "Bucket"),
        [
            "tune.yaml:10: spec.datasets[1].format: is given twice, on lines 9 and 10 (keep one of them)",
            'tune.yaml:13: spec.storage.uri: must be s3://BUCKET/PREFIX or file://PATH, not "s3://Bucket/runs"'
            " (a bucket's name has 3 to 63 lowercase letters, digits, dots and hyphens)",
        ],
    ),
    "numbers without quotes": (
        GOOD.replace('"3"', "10\n    learningRate: 1e-4\n    warmupRatio: .1"),
        [
            'tune.yaml:11: spec.training.epochs: must be a string, not 10 (quote it: "10")',
            'tune.yaml:12: spec.training.learningRate: must be a string, not 0.0001 (quote it: "0.0001")',
            'tune.yaml:13: spec.training.warmupRatio: must be a string, not 0.1 (quote it: "0.1")',
        ],
    ),
    "infinity": (
        GOOD.replace('"3"', "-.inf"),
        ['tune.yaml:11: spec.training.epochs: must be a string, not -Infinity (quote it: "-Infinity")'],
    ),
    "a whole number of more digits than any": (
        GOOD.replace('"3"', f'"3"\n    seed: {"9" * 5000}'),
        [f'tune.yaml:12: spec.training.seed: must be a whole number, not "{"9" * 60}…"'],
    ),
    "a word that YAML takes for a boolean": (
        GOOD.replace("alpaca", "alpaca\n      system: y"),
        ['tune.yaml:10: spec.datasets[1].system: must be a string, not true (quote it: "true")'],
    ),
    "mistakes in nested lists, in the order of the file": (
        GOOD.replace("s3://data/a.json", "data/a.json").replace(
            "alpaca", "alpaca\n      clean:\n        remove:\n        - x\n        -\n        - 5"
        ),
        [
            "tune.yaml:7: spec.datasets[0].source: must be s3://BUCKET/KEY, s3://BUCKET/PREFIX/, "
            "hf://OWNER/NAME[/FILE], modelscope://OWNER/NAME[/FILE], https://HOST/FILE without user, query "
            'or fragment, or file://PATH, not "data/a.json"',
            "tune.yaml:13: spec.datasets[1].clean.remove[1]: must be a string, not null",
            'tune.yaml:14: spec.datasets[1].clean.remove[2]: must be a string, not 5 (quote it: "5")',
        ],
    ),
    "a mistake in what a merge brings": (
        f"{HEAD}spec:\n  <<: {{suspend: 1}}\n" + SPEC.removeprefix("spec:\n"),
        ["tune.yaml:5: spec.suspend: must be true or false, not 1"],
    ),
    "a field that is missing": (
        GOOD.replace("    - source: s3://data/b.json\n      format", "    - format"),
        [
            "tune.yaml:8: spec.datasets[1].source: is required (`s3://BUCKET/KEY` (a file, or a prefix that "
            "ends in `/`), `hf://OWNER/NAME[/FILE]`, `modelscope://OWNER/NAME[/FILE]`, `https://HOST/FILE` "
            "where the installation allows the host, or, in local runs only, `file://PATH`. A hub's "
            "FILE may be a pattern: `*` stands for any characters but `/`.)"
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("content", REFUSALS)
def test_it_refuses(content: str, write: Write) -> None:
    text, expected = REFUSALS[content]
    assert problems(write(text)) == expected


def test_it_refuses_a_file_that_is_not_there(write: Write) -> None:
    assert problems(Path("none.yaml")) == [
        "none.yaml: no such file or directory. Give a YAML file that can be read, or - for standard input."
    ]


def test_it_refuses_a_directory(tmp_path: Path) -> None:
    assert problems(tmp_path) == [
        f"{tmp_path}: is a directory. Give a YAML file that can be read, or - for standard input."
    ]


def test_it_refuses_a_file_that_is_too_large(write: Write) -> None:
    assert problems(write(GOOD + "#" * MAX_BYTES)) == [
        f"tune.yaml: is larger than {MAX_BYTES} bytes. {TOO_LARGE}"
    ]


def test_it_refuses_a_file_without_end() -> None:
    assert problems(Path("/dev/zero")) == [f"/dev/zero: is larger than {MAX_BYTES} bytes. {TOO_LARGE}"]


def test_it_reads_the_largest_file_in_bounded_time(write: Write) -> None:
    path = write(GOOD + "".join(f"k{n}: [a, b]\n" for n in range(15_000)))
    assert problems(path)[0] == (
        "tune.yaml:13: k0: unknown field (known: apiVersion, kind, metadata, spec, status)"
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((word, True) for word in ("y", "Y", "yes", "Yes", "YES", "true", "True", "on", "ON")),
        *((word, False) for word in ("n", "N", "no", "No", "NO", "false", "FALSE", "off", "Off")),
        *((word, None) for word in ("~", "null", "Null", "NULL")),
        *((word, word) for word in ("yEs", "nULL", "oN", "=", "1:30", "2001-01-01", "1e", "0x", "0o8", "_1")),
        *(
            (word, word)
            for word in ("1e400", "0x1FFFFFFFFFFFFFFFF", "._5", "-a", "1.2.3", "inf", "NaN", "9" * 400)
        ),
        *(("10", 10), ("+5", 5), ("-5", -5), ("1_000", 1000), ("0777", 511), ("0o17", 15), ("0x1F", 31)),
        *(("0b11", 3), ("-0b11", -3), ("00", 0), ("18446744073709551615", 2**64 - 1)),
        *(("1e-4", 0.0001), ("1e4", 1e4), (".5", 0.5), ("1.", 1.0), ("08", 8.0), ("1_0.5", 10.5)),
        *(
            ("18446744073709551616", 2.0**64),
            ("-.5e3", -500.0),
            (".inf", float("inf")),
            ("-.INF", float("-inf")),
        ),
    ],
)
def test_plain_scalar_is_what_kubectl_takes_it_for(written: str, value: object) -> None:
    (found,) = parse(f"a: {written}\n")
    assert found.value == {"a": value}
    assert type(found.value["a"]) is type(value)


STRUCTURES: dict[str, tuple[str, object]] = {
    "names of other types": (
        "{1: a, true: b, 1.5: c, 1e3: d}",
        {"1": "a", "true": "b", "1.5": "c", "1000": "d"},
    ),
    "what follows a merge": ("x: &x {a: 1, b: 2}\nv: {<<: *x, b: 3}", {"a": 1, "b": 3}),
    "a merge of what stands before it": ("x: &x {a: 1, b: 2}\nv: {b: 3, <<: *x}", {"a": 1, "b": 2}),
    "a merge of several": ("x: &x {a: 1}\nz: &z {a: 2, b: 2}\nv: {<<: [*x, *z]}", {"a": 1, "b": 2}),
    "a quoted merge": ('{"<<": {a: 1}}', {"<<": {"a": 1}}),
    "quoted scalars": ("""{a: "10", b: 'yes', c: !!str 5}""", {"a": "10", "b": "yes", "c": "5"}),
}


@pytest.mark.parametrize(("text", "value"), STRUCTURES.values(), ids=STRUCTURES.keys())
def test_structure_is_what_kubectl_takes_it_for(text: str, value: object) -> None:
    (found,) = parse(text)
    assert found.value.get("v", found.value) == value


@pytest.mark.parametrize("value", [crd(), document()], ids=["the CRD", "a resource"])
def test_what_is_written_is_read_back(value: Any) -> None:
    (found,) = parse(dump(value))
    assert (found.value, found.problems) == (value, [])


@pytest.mark.parametrize("text", ["1e-4", "y", "no", "08", ".5", "~", "", "1_0", "0o7", "10", "null", ".inf"])
def test_text_that_kubectl_would_misread_is_quoted(text: str) -> None:
    assert dump({"a": text}) == f'a: "{text}"\n'
    assert not isinstance(plain(text), str)


def outcome(path: Path) -> str:
    """Whether a file holds a resource, or is refused: anything else is an error of the program."""
    try:
        read_resource(path)
    except DocumentError as refused:
        return "refused" if refused.faults else "silent"
    return "read"


LINES = st.lists(
    st.sampled_from([*GOOD.splitlines(), "\t", "- ", "? ", "<<: *a", "a: &a", "*a", "{", "]", "---", "!!x"])
)


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
@given(content=st.binary() | st.text().map(str.encode) | LINES.map("\n".join).map(str.encode))
@example(content=b"a: {b: !<tag:yaml.org,2002:map> c}")
@example(content=b"? {a: b}\n: c")
@example(content=b"%YAML 9.9\n---\na")
@example(content=b"\xef\xbb\xbf\xef\xbb\xbf")
def test_it_reads_or_refuses_whatever_a_file_holds(content: bytes, write: Write) -> None:
    assert outcome(write(content)) in ("read", "refused")


@settings(max_examples=examples(25), suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, len(GOOD)), length=st.integers(0, 20), slip=st.text(max_size=5))
def test_it_reads_or_refuses_a_file_with_a_slip(at: int, length: int, slip: str, write: Write) -> None:
    content = GOOD[:at] + slip + GOOD[at + length :]
    assert outcome(write(content.encode())) in ("read", "refused")


def test_a_written_resource_is_read_as_it_was(write: Write) -> None:
    assert read_resource(write(dump(document()))) == resource()
