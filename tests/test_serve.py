"""`transformer serve`, as its clients see it: real processes on free ports, and a real client."""

import html
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from fork_server import python

from transformer.cli import main
from transformer.cli.serve import names_of
from transformer.decoding.alignment import pharaoh
from transformer.decoding.translator import Translator
from transformer.toyland import obviously_outside

ROOT = Path(__file__).parents[1]
OTHER_RUN = ROOT / "tests/data/run_v1"
LINES = ["The old man gives the child a red apple.", "", "The dog sleeps.", "The woman."]
SMALL = "--max-lines 2 --max-characters 20 --max-beam-size 3 --max-bytes 400 --timeout 50 --max-waiting 2"


class Reply(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class Server:
    """A process that serves, and its client."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        self.process = process
        self.banner = process.stderr.readline()
        found = re.search(r"at http://127\.0\.0\.1:(\d+) ", self.banner)
        assert found, self.banner + process.stderr.read()
        self.port = int(found[1])

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if body is not None else {})
            response = connection.getresponse()
            text, headers = response.read(), {name.lower(): value for name, value in response.getheaders()}
            is_json = headers["content-type"] == "application/json"
            return Reply(response.status, json.loads(text) if is_json else text.decode(), headers)
        finally:
            connection.close()

    def translate(self, lines: list[str], **options: Any) -> Reply:
        return self.ask("POST", "/translate", json.dumps({"lines": lines, **options}).encode())

    def health(self) -> dict[str, Any]:
        return self.ask("GET", "/health").body

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """The exit code, and what was written to standard error after the first line."""
        assert self.process.stderr is not None
        self.process.send_signal(number)
        code = self.process.wait(120)
        return code, self.process.stderr.read()


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [python(), "-m", "transformer", "serve", "--port", "0", "--device", "cpu", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture(scope="module")
def server(tiny_run) -> Iterator[Server]:
    with serving("--run", str(tiny_run), str(OTHER_RUN)) as started:
        yield started


@pytest.fixture(scope="module")
def small(tiny_run) -> Iterator[Server]:
    with serving("--run", str(tiny_run), *SMALL.split()) as started:
        yield started


@pytest.fixture(scope="module")
def translator(tiny_run) -> Translator:
    return Translator.from_pretrained(tiny_run, device="cpu")


# Translations


@pytest.mark.parametrize(
    "options", [{}, {"n_best": 2}, {"n_best": 3, "beam_size": 5, "alpha": 1.5, "alignment": True}], ids=str
)
def test_the_answer_is_that_of_the_translator(options, server, translator):
    reply = server.translate(LINES, **options)
    assert (reply.status, reply.body["model"], reply.body["warnings"]) == (200, "tiny", [])
    is_aligned = options.get("alignment", False)
    search = {"n_best": 1, **{name: value for name, value in options.items() if name != "alignment"}}
    expected = translator.translate_n_best(LINES, **search)
    for line, outputs, right in zip(LINES, reply.body["results"], expected, strict=True):
        alignments = (
            map(pharaoh, translator.align([line] * len(right), right)) if is_aligned else [None] * len(right)
        )
        assert outputs == [
            {
                "translation": each.text,
                "score": None if each.score == -math.inf else pytest.approx(each.score, rel=1e-4),
                "alignment": alignment,
            }
            for each, alignment in zip(right, alignments, strict=True)
        ]


def test_each_run_has_a_name_and_the_first_is_the_default(server, tiny_run):
    models = {model["name"]: model for model in server.health()["models"]}
    assert list(models) == ["tiny", "run_v1"]
    assert models["tiny"]["checkpoint"] == (tiny_run / "best").read_text().strip()
    assert (models["tiny"]["source"], models["tiny"]["target"], models["tiny"]["beam_size"]) == (
        "en",
        "de",
        2,
    )
    other = Translator.from_pretrained(OTHER_RUN, device="cpu").translate(LINES)
    reply = server.translate(LINES, model="run_v1").body
    assert reply["model"] == "run_v1"
    assert [outputs[0]["translation"] for outputs in reply["results"]] == other


def test_runs_of_the_same_name_are_called_by_their_paths():
    assert names_of(["runs/a/", "x/b"]) == {"a": "runs/a/", "b": "x/b"}
    assert names_of(["r/a", "r/b", "s/a"]) == {"r/a": "r/a", "b": "r/b", "s/a": "s/a"}
    with pytest.raises(ValueError, match=r"^--run names r/a twice"):
        names_of(["r/a", "r/a"])


def test_a_line_that_is_cut_is_a_warning_in_the_answer(server):
    reply = server.translate(["the dog", "clock " * 90])
    assert reply.status == 200
    assert re.fullmatch(r"line 2 has \d+ tokens; only its first 64 are translated", reply.body["warnings"][0])


def test_a_run_of_toyland_says_which_words_it_does_not_know(server):
    reply = server.translate(["The dog sleeps.", "", "Hello world"])
    assert reply.status == 200
    (warning,) = reply.body["warnings"]
    assert warning == "line 3 is outside toyland: unknown word world"


def test_20_clients_at_once_get_their_own_answers_and_share_batches(server, translator):
    expected = dict(zip(LINES, translator.translate(LINES), strict=True))
    before = server.health()

    def ask(number: int) -> bool:
        line = LINES[number % len(LINES)]
        reply = server.translate([line])
        return reply.status == 200 and reply.body["results"][0][0]["translation"] == expected[line]

    with ThreadPoolExecutor(20) as clients:
        assert all(clients.map(ask, range(100)))
    after = server.health()
    assert after["translated_lines"] - before["translated_lines"] == 100
    assert after["batches"] - before["batches"] < 100
    assert after["waiting_lines"] == 0


# Bad requests


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b'{"lines": ["a"], "n_best": "3"}', 422, r"n_best: input should be a valid integer, found '3'"),
        (b'{"lines": ["a"], "n_best": 0}', 422, r"n_best: input should be greater than or .* 1, found 0"),
        (b'{"lines": ["a"], "n_best": 3}', 422, r"n_best is 3; it must be between 1 and beam_size, 2"),
        (b'{"lines": ["a"], "n_best": true}', 422, r"n_best: input should be a valid integer, found True"),
        (b'{"lines": ["a"], "beam_size": 17}', 413, r"beam_size is 17; at most 16 is allowed"),
        (b'{"lines": ["a"], "alpha": 11}', 422, r"decoding.alpha is 11.0; it must be at most 10"),
        (b'{"lines": ["a"], "alpha": NaN}', 422, r"alpha: input should be a finite number, found nan"),
        (b'{"lines": ["a"], "beem_size": 3}', 422, r"unknown field 'beem_size'; did you mean beam_size\?"),
        (b'{"lines": ["a"], "model": "tinny"}', 422, r"there is no model 'tinny'; did you mean tiny\?"),
        (b'{"line": ["a"]}', 422, r'lines is missing; send a JSON object such as {"lines": '),
        (b'{"lines": "a"}', 422, r"lines: input should be a valid list, found 'a'"),
        (b'{"lines": ["a", 3]}', 422, r"line 2: input should be a valid string, found 3"),
        (b'{"lines": ["a", "\\ud800"]}', 422, r"line 2: expected a string, found U\+D800, half of"),
        (b'{"lines": ["\\u0000"]}', 422, r"line 1: expected a string, found NUL"),
        (b'["a"]', 422, r"the body is not a JSON object, or is not sent as Content-Type: application/json"),
        (b'{"lines": ["a"', 422, r"the body is not JSON: Expecting ',' delimiter at character 15"),
        (b"", 422, r"the body is missing; send a JSON object"),
        (b'{"lines": ["\xff"]}', 400, r"the body cannot be read as JSON: it is not UTF-8"),
        (b"[" * 100_000, 400, r"the body cannot be read as JSON"),
        (b'{"lines": ["' + b"x" * 2001 + b'"]}', 413, r"line 1 has 2,001 characters; at most 2,000 are"),
        (json.dumps({"lines": ["a"] * 101}).encode(), 413, r"there are 101 lines; send at most 100 at once"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else "",
)  # fmt: skip
def test_a_bad_request_gets_one_line_that_says_what_is_wrong(body, status, error, server):
    reply = server.ask("POST", "/translate", body)
    assert reply.status == status
    assert reply.body.keys() == {"error"}
    assert re.match(error, reply.body["error"])
    assert "\n" not in reply.body["error"]
    assert len(reply.body["error"]) < 200
    assert server.translate(["the dog"]).status == 200


def test_other_paths_methods_and_kinds_of_text_are_refused_in_the_same_form(server):
    assert server.ask("GET", "/nowhere")[:2] == (
        404,
        {"error": "/nowhere does not exist; /docs lists the paths"},
    )
    status, body, headers = server.ask("GET", "/translate")
    assert (status, body) == (405, {"error": "/translate does not support GET; /docs lists the methods"})
    assert headers["allow"] == "POST"
    status, body, _ = server.ask("POST", "/translate", b'{"lines": ["a"]}', "text/plain")
    assert (status, body["error"].endswith("not sent as Content-Type: application/json")) == (422, True)


# Limits


def test_each_limit_can_be_set_and_says_what_it_is(small):
    assert small.translate(["a", "b"], beam_size=3).status == 200
    for request, message in (
        ({"lines": ["a"] * 3}, "there are 3 lines; send at most 2 at once"),
        ({"lines": ["a", "b" * 21]}, "line 2 has 21 characters; at most 20 are allowed"),
        ({"lines": ["a"], "beam_size": 4}, "beam_size is 4; at most 3 is allowed"),
        ({"lines": ["a" * 2_000_000]}, "the body has 2,000,015 bytes; at most 400 are allowed"),
    ):
        assert small.translate(**request)[:2] == (413, {"error": message})
    documented = small.ask("GET", "/openapi.json").body["info"]["description"]
    assert "up to 2 lines of 20 characters" in documented
    assert "a body of 400 bytes, and a beam of 3; after 50 seconds" in documented


def test_a_runs_own_beam_size_is_allowed_even_above_the_limit(tiny_run):
    with serving("--run", str(tiny_run), "--max-beam-size", "1") as server:
        assert server.translate(["a"]).body == server.translate(["a"], beam_size=2).body  # the run's own is 2
        error = {"error": "beam_size is 3; at most 2 is allowed"}
        assert server.translate(["a"], beam_size=3)[:2] == (413, error)


def test_a_body_that_does_not_arrive_is_not_waited_for(tiny_run):
    with serving("--run", str(tiny_run), "--timeout", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
            connection.sendall(
                b"POST /translate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
            )
            answer = b""
            while part := connection.recv(4096):
                answer += part
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'{"error":"no answer within 1 seconds; send fewer lines, or try again later"}' in answer
        assert 200 in (server.translate(["a"]).status for _ in range(60))  # a slow machine needs a few tries


def test_too_many_waiting_lines_are_refused_at_once(small):
    with ThreadPoolExecutor(12) as clients:
        replies = list(clients.map(lambda _: small.translate(["the dog"] * 2), range(60)))
    refused = [reply for reply in replies if reply.status != 200]
    assert len(refused) < len(replies)
    for reply in refused:
        assert reply.status == 503
        assert re.fullmatch(
            r"\d lines are waiting, and this server allows 2; try again later", reply.body["error"]
        )
        assert reply.headers["retry-after"] == "1"
    assert small.translate(["a"]).status == 200


# The end


def test_sigterm_lets_requests_finish_and_ends_with_0(tiny_run):
    with serving("--run", str(tiny_run)) as server, ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(server.translate, ["the dog sleeps"] * 100, beam_size=16) for _ in range(4)]
        while (now := server.health())["waiting_lines"] + now["translated_lines"] < 300:
            assert not all(each.done() for each in asked)
            time.sleep(0.001)  # until all have arrived: one is being translated, and the others wait
        code, written = server.stop(signal.SIGTERM)
        assert [each.result(60).status for each in asked] == [200] * 4
    assert (code, written) == (0, "")


def test_ctrl_c_is_one_line_and_130(tiny_run):
    with serving("--run", str(tiny_run)) as server:
        assert server.translate(["the dog"]).status == 200
        assert server.banner == f"serving tiny at http://127.0.0.1:{server.port} (Ctrl-C ends)\n"
        assert server.stop(signal.SIGINT) == (130, "transformer serve: interrupted\n")


def test_a_port_in_use_and_other_mistakes_are_one_line(tiny_run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--run", str(tiny_run), "--port", port]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"transformer serve: error: cannot listen on port {port} of 127.0.0.1: Address already"
    )
    assert error.count("\n") == 1
    for options, message in (
        (["--port", "65536"], "--port is 65536; it must be between 0 and 65535"),
        (["--max-lines", "0"], "--max-lines is 0; it must be greater than 0"),
        (["--engine", "ctranslate2", "--build", "a:b"], "--build and --precision need --engine torch"),
        (["--timeout", "0"], "--timeout is 0.0; it must be greater than 0"),
        (["--host", "192.0.2.1", "--port", "0"], "cannot listen on port 0 of 192.0.2.1: "),
    ):
        assert main(["serve", "--run", str(tiny_run), *options]) == 2
        assert f"transformer serve: error: {message}" in capsys.readouterr().err
    assert main(["serve", "--run", "nowhere", "--port", "0"]) == 2
    assert "nowhere: neither a run's folder with a checkpoint" in capsys.readouterr().err


def test_a_warning_about_many_unknown_words_is_short():
    app = pytest.importorskip("transformer.serving.app")
    served = app.ServedModel(Mock(spec=Translator), Mock(spec=app.ModelInfo), obviously_outside)
    (warning,) = app.outside(served, ["The dog sleeps.", "x1 " * 600])
    assert warning.startswith("line 2 is outside toyland: unknown words x1, x1")
    assert len(warning) < 300


def test_a_server_with_another_engine_need_not_import_torch():
    pytest.importorskip("transformer.serving.app")
    program = (
        "import sys, transformer.cli.serve, transformer.serving.server; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_the_extra_one_line_says_how_to_install_it(tiny_run, capsys, monkeypatch):
    for name in ("fastapi", "transformer.serving.limits", "transformer.serving.server"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["serve", "--run", str(tiny_run)]) == 2
    assert "; install the extra in the project's folder: pip install -c constraints.txt -e '.[serve]'" in (
        capsys.readouterr().err
    )


# Pages


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_need_no_network(path, server):
    status, page, headers = server.ask("GET", path)
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in headers["content-security-policy"]
    links = set(re.findall(r'\b(?:src|href|action)="([^"#][^"]*)"', page))
    assert links <= {"data:,", "docs", "openapi.json", "."}
    assert not re.search(r"url\(|@import|\bimport\b", page)
    assert "color-scheme: light dark" in page


def test_the_page_to_type_into_names_the_models(server, small):
    page = server.ask("GET", "/").body
    assert '<option value="tiny">tiny: en → de</option>' in page
    assert '<option value="run_v1">' in page
    assert "<option" not in small.ask("GET", "/").body


def test_the_documentation_shows_every_path_and_field(server):
    api, page = server.ask("GET", "/openapi.json").body, html.unescape(server.ask("GET", "/docs").body)
    assert {"/translate", "/health"} == set(api["paths"])
    for path in api["paths"]:
        assert path in page
    for name, schema in api["components"]["schemas"].items():
        assert f'<h2 id="{name}">' in page
        for field, part in schema["properties"].items():
            assert f"<th>{field}</th>" in page
            assert part.get("description", "") in page
    answers = api["paths"]["/translate"]["post"]["responses"]
    assert answers.keys() == {"200", "413", "422", "503"}
    assert answers["422"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
