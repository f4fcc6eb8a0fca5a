"""Triton's HTTP client against a server with the tasks `topics` (labels, fields title and text) and `story` (free
text).

    python inference_protocol.py URL VERSION_OF_TOPICS
"""

from __future__ import annotations

import sys

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

URL, VERSION = sys.argv[1:]
CLIENT = InferenceServerClient(URL.removeprefix("http://"))
TITLES = ["Cup final", "Élection", "Märkte 📈"]
TEXTS = ["two goals in the last minute", "the votes are counted", "shares fell"]


def bytes_input(name: str, texts: list[str], shape: list[int] | None = None, binary: bool = True) -> InferInput:
    tensor = InferInput(name, shape or [len(texts)], "BYTES")
    array = np.array([text.encode() for text in texts], dtype=np.object_).reshape(shape or [len(texts)])
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def topics(**settings: object) -> object:
    return CLIENT.infer("topics", [bytes_input("title", TITLES), bytes_input("text", TEXTS)], **settings)


def metadata() -> None:
    assert CLIENT.is_server_live() and CLIENT.is_server_ready()
    assert "binary_tensor_data" in CLIENT.get_server_metadata()["extensions"]
    assert CLIENT.is_model_ready("topics") and CLIENT.is_model_ready("topics", VERSION)
    assert not CLIENT.is_model_ready("topics", "0" * 16) and not CLIENT.is_model_ready("nothing")
    model = CLIENT.get_model_metadata("topics")
    assert model == CLIENT.get_model_metadata("topics", VERSION)
    assert model["versions"] == [VERSION]
    assert [(tensor["name"], tensor["datatype"]) for tensor in model["inputs"]] == [("title", "BYTES"), ("text", "BYTES")]
    shapes = {tensor["name"]: tensor["shape"] for tensor in model["outputs"]}
    assert shapes == {"label": [-1], "score": [-1], "scores": [-1, 3], "truncated": [-1]}, shapes


def labels() -> None:
    answer = topics(request_id="seven")
    response = answer.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("seven", "topics", VERSION)
    assert response["parameters"]["prompt_tokens"] == 12, response
    scores, score = answer.as_numpy("scores"), answer.as_numpy("score")
    assert scores.shape == (3, 3) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(scores.max(1), score)
    names = [b"business", b"sport", b"world"]
    assert answer.as_numpy("label").tolist() == [names[i] for i in scores.argmax(1)]
    assert answer.as_numpy("truncated").tolist() == [False] * 3

    # the same in JSON, column by column, by version, and only what is wanted
    inputs = [bytes_input("text", TEXTS, [3, 1], binary=False), bytes_input("title", TITLES, [3, 1], binary=False)]
    wanted = [InferRequestedOutput("scores", binary_data=False), InferRequestedOutput("label", binary_data=True)]
    mixed = CLIENT.infer("topics", inputs, model_version=VERSION, outputs=wanted)
    assert [output["name"] for output in mixed.get_response()["outputs"]] == ["scores", "label"]
    np.testing.assert_allclose(mixed.as_numpy("scores"), scores, atol=1e-4)
    assert mixed.as_numpy("label").tolist() == answer.as_numpy("label").tolist()
    assert topics(parameters={"abstain_below": 1.0}).as_numpy("label").tolist() == [b""] * 3


def texts() -> None:
    settings = {"max_new_tokens": 6, "temperature": 1.0, "seed": 3}
    answer = CLIENT.infer("story", [bytes_input("text", ["once upon a time", "x"])], parameters=settings)
    assert answer.get_response()["parameters"]["seed"] == 3
    assert all(text.decode() for text in answer.as_numpy("text"))
    assert set(answer.as_numpy("finish_reason")) <= {b"stop", b"length"}
    long = [bytes_input("text", ["word " * 300])]
    cut = CLIENT.infer("story", long, parameters={"truncate": True, "max_new_tokens": 1})
    assert cut.as_numpy("truncated").tolist() == [True]


def errors() -> None:
    def fails(words: str, status: str, call: object) -> None:
        try:
            call()
        except InferenceServerException as error:
            assert words in error.message() and error.status() == status, error
        else:
            raise AssertionError(f"{words}: was answered")

    title, text = bytes_input("title", TITLES), bytes_input("text", TEXTS)
    fails("no task", "404", lambda: CLIENT.infer("nothing", [title]))
    fails("is at version", "409", lambda: topics(model_version="0" * 16))
    fails('"text" is missing', "400", lambda: CLIENT.infer("topics", [title]))
    fails('no input "body"', "400", lambda: CLIENT.infer("topics", [title, text, bytes_input("body", TEXTS)]))
    fails("has 1 texts", "400", lambda: CLIENT.infer("topics", [title, bytes_input("text", ["x"])]))
    fails('no output "logits"', "400", lambda: topics(outputs=[InferRequestedOutput("logits")]))
    fails("not supported", "400", lambda: topics(outputs=[InferRequestedOutput("scores", class_count=2)]))
    fails("`beams`", "400", lambda: topics(parameters={"beams": 2}))
    fails("top_k", "400", lambda: topics(parameters={"top_k": 2}))
    fails("input 1", "422", lambda: CLIENT.infer("story", [bytes_input("text", ["x", "word " * 300])]))
    numbers = InferInput("text", [1], "INT32")
    numbers.set_data_from_numpy(np.array([1], dtype=np.int32))
    fails("texts are BYTES", "400", lambda: CLIENT.infer("story", [numbers]))


for part in (metadata, labels, texts, errors):
    part()
    print(f"{part.__name__}: ok")
