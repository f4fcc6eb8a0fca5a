"""OpenAI's client against a server with the tasks `story` (free text), `topics` (labels) and `pair` (free text of two
fields).

    python completions.py URL VERSION_OF_STORY
"""

from __future__ import annotations

import sys

import openai

URL, VERSION = sys.argv[1:]
CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)


def create(**settings: object) -> object:
    return CLIENT.completions.create(model="story", **settings)


def whole() -> None:
    answer = create(prompt="once upon a time", max_tokens=8)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-"), answer
    assert (answer.model, answer.system_fingerprint) == ("story", VERSION), answer
    assert [choice.index for choice in answer.choices] == [0]
    assert answer.choices[0].finish_reason in ("stop", "length"), answer
    assert answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert create(prompt="once upon a time", max_tokens=8).choices == answer.choices, "greedy is the default"
    # more than the task allows is what it allows
    assert create(prompt="x", max_tokens=100_000, seed=1).usage.completion_tokens <= 200


def many() -> None:
    alone = [create(prompt=prompt, max_tokens=6).choices[0].text for prompt in ("one cat", "two dogs")]
    answer = create(prompt=["one cat", "two dogs"], max_tokens=6)
    assert [choice.text for choice in answer.choices] == alone, answer
    drawn = create(prompt=["one cat", "two dogs"], max_tokens=10, n=3, temperature=1.5, seed=-4, top_p=0.99)
    assert [choice.index for choice in drawn.choices] == list(range(6))
    assert len({choice.text for choice in drawn.choices[:3]}) > 1, drawn
    again = create(prompt="two dogs", max_tokens=10, n=2, temperature=1.5, seed=-4, top_p=0.99)
    assert [choice.text for choice in again.choices] == [choice.text for choice in drawn.choices[3:5]]


def streams() -> None:
    settings = {"prompt": ["one cat", "two dogs"], "max_tokens": 10, "n": 2, "temperature": 1.0, "seed": 9}
    want = create(**settings)
    texts, reasons, usage = [""] * 4, [None] * 4, None
    for chunk in create(**settings, stream=True, stream_options={"include_usage": True}):
        assert chunk.system_fingerprint == VERSION
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert reasons[choice.index] is None, "nothing follows the end of a text"
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in want.choices], texts
    assert reasons == [choice.finish_reason for choice in want.choices], reasons
    assert usage == want.usage


def stops() -> None:
    drawn = {"prompt": "one cat", "max_tokens": 40, "temperature": 1.0, "seed": 5}
    text = create(**drawn).choices[0].text
    words = text.split()
    assert len(words) > 4, text
    stop = words[3]
    answer = create(**drawn, stop=[stop, "never said"])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].text == text[: text.index(stop)]
    streamed = "".join(chunk.choices[0].text for chunk in create(**drawn, stop=stop, stream=True))
    assert streamed == answer.choices[0].text, streamed


def errors() -> None:
    def fails(kind: type[openai.APIStatusError], param: str | None, **settings: object) -> None:
        try:
            CLIENT.completions.create(**{"model": "story", "prompt": "x", **settings})
        except openai.APIStatusError as error:
            assert isinstance(error, kind), error
            assert error.param == param, (error.param, settings)
            assert error.code and error.type and error.body["message"], error.body
        else:
            raise AssertionError(f"{settings} was answered")

    fails(openai.NotFoundError, "model", model="nothing")
    fails(openai.BadRequestError, "model", model="topics")
    fails(openai.BadRequestError, "model", model="pair")
    fails(openai.BadRequestError, "n", n=2)
    fails(openai.BadRequestError, "n", n=99, temperature=1)
    fails(openai.BadRequestError, "max_tokens", max_tokens=0)
    fails(openai.BadRequestError, "stop", stop=[""])
    fails(openai.BadRequestError, "prompt", prompt=[])
    fails(openai.BadRequestError, "prompt", prompt=[[1, 2]])
    fails(openai.BadRequestError, "logprobs", logprobs=3)
    fails(openai.BadRequestError, "echo", echo=True)
    fails(openai.BadRequestError, "made_up", extra_body={"made_up": 1})
    fails(openai.BadRequestError, None, temperature=3)
    fails(openai.UnprocessableEntityError, None, prompt="word " * 300)
    assert create(prompt="word " * 300, max_tokens=2, extra_body={"truncate": True}).choices
    assert create(prompt="x", max_tokens=2, echo=False, frequency_penalty=0, best_of=1, user="me").choices


for part in (whole, many, streams, stops, errors):
    part()
    print(f"{part.__name__}: ok")
