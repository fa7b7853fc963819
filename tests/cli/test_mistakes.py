"""Mistakes end with one sentence that says what to do, before any work; the page about them is up to date."""

import pytest

from mistakes import MISTAKES, PAGE, all_said, page

LINES = [line for mistakes in MISTAKES.values() for line in mistakes.values()]
ADVICE = (
    "use ", "did you mean", "give ", "add --", "leave ", "put ", "say what", "check ", "needs ", "see scoredistill",
    "must be", "save it again", "save or download",
)  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return all_said(tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize("line", LINES)
def test_a_mistake_is_one_sentence_with_advice(answers, line):
    code, text = answers[line]
    assert code == 2
    assert text.startswith("scoredistill: ")
    assert text.count("\n") == 1
    assert any(words in text for words in ADVICE), text
    assert "Traceback" not in text


def test_there_are_twenty():
    assert len(set(LINES)) >= 20


def test_the_page_is_what_the_commands_say(answers):
    assert PAGE.read_text(encoding="utf-8") == page({line: text.strip() for line, (_, text) in answers.items()})
