"""Tables in Markdown show any text as it is."""

import pytest

from scoredistill.studies.harness.tables import Section, escaped, markdown, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", r"a \| b"),
        ("a\nb\r\nc\u2028d", "a b c d"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<!-- x", "&lt;!-- x"),
        ("&lt;b>", "&amp;lt;b>"),
        ("[x](javascript:alert(1))", r"[x\](javascript:alert(1))"),
        ("![x][y]", r"![x\][y]"),
        ("`a` *b*", r"\`a\` \*b\*"),
        (r"a\|b", r"a\\\|b"),  # a backslash does not make the next one mere text
        ("csd < one_view", "csd < one_view"),
        ("t in [.2, .9], R & D", "t in [.2, .9], R & D"),
    ],
)
def test_text_is_escaped(text, shown):
    assert escaped(text) == shown
    assert table([{text: text}]).splitlines() == [f"| {shown} |", "| --- |", f"| {shown} |"]


def test_commands_stay_code():
    results = {"command": "scoredistill image 'a`b' \n# x", "version": "<i>", "failed": {"a|b": "<img src=x>"}}
    text = markdown("T", results, "", [Section("S", "", [{"a": 1.0}])])
    assert "`` scoredistill image 'a`b'  # x ``, version &lt;i>" in text
    assert r"| a\|b | &lt;img src=x> |" in text
