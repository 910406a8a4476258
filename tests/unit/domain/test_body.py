"""Body templates: what is a placeholder, what a value may not break out of, what a content type is."""

import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.body import check_content_type, expand_body, parse_body
from presence.domain.events import subject_fault
from presence.domain.template import PLACEHOLDERS, TemplateError
from presence.domain.webhook import MAX_BODY_LENGTH, MAX_CONTENT_TYPE_LENGTH

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
VALUES = {"SubjectId": "S-1", "WebhookId": "w", "DeliveryId": "d", "Event": "ScanExecutionCompleted"}

JSON_TYPES = [
    JSON,
    "Application/JSON",
    "application/json;charset=utf-8",
    'application/json ; charset="utf-8"; x=y',
    "application/problem+json",
    "application/vnd.corp.ticket+JSON; v=2",
]
OTHER_TYPES = [None, "text/plain", "application/jsonp", "text/x-json-like", "application/xml", "json/plain"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ('{"patch_id": "{SubjectId}"}', '{"patch_id": "S-1"}'),
        ('{"a": {"b": ["{Event}", "{SubjectId}/{SubjectId}"]}}', '{"a": {"b": ["ScanExecutionCompleted", "S-1/S-1"]}}'),
        ('{"{WebhookId}": "{DeliveryId}"}', '{"w": "d"}'),
        ('{"{subjectid}": "{Subject}{{SubjectId}}{}{+SubjectId}"}', '{"{subjectid}": "{Subject}{S-1}{}{+SubjectId}"}'),
        ('"\\\\{SubjectId}"', '"\\\\S-1"'),
        ("{}", "{}"),
        ("", ""),
        ("[1.5e400, -0, 12345678901234567890]", "[1.5e400, -0, 12345678901234567890]"),
    ],
)
@pytest.mark.parametrize("content_type", JSON_TYPES)
def test_exact_placeholders_are_replaced_and_other_braces_kept(text: str, expanded: str, content_type: str) -> None:
    parse_body(text, content_type)
    assert expand_body(text, content_type, VALUES) == expanded


@pytest.mark.parametrize("content_type", OTHER_TYPES)
def test_other_types_take_any_text_and_any_value(content_type: str | None) -> None:
    text = '{SubjectId} {{SubjectId}} } { {x} "{Event}'
    parse_body(text, content_type)
    value = 'a"b\\c é&=<'
    assert expand_body(text, content_type, {**VALUES, "SubjectId": value}) == (
        f'{value} {{{value}}} }} {{ {{x}} "ScanExecutionCompleted'
    )


@pytest.mark.parametrize("content_type", JSON_TYPES)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{SubjectId}", "at line 1, column 1: {SubjectId} stands outside of a string; put it in quotes"),
        ('{"a": {SubjectId}}', "at line 1, column 7: {SubjectId} stands outside of a string"),
        ('{\n "a": 1,\n {Event}: 2}', "at line 3, column 2: {Event} stands outside"),
        ('{"a": true{SubjectId}}', "at line 1, column 11: {SubjectId} stands outside"),
        ('{"a": 1{SubjectId}}', "{SubjectId} stands outside"),
        ('{"a": -{SubjectId}}', "at line 1, column 7: Expecting value"),
        ('{"a": "b"{SubjectId}}', "{SubjectId} stands outside"),
        ('{SubjectId}"a"', "{SubjectId} stands outside"),
        ('"a"{SubjectId}', "{SubjectId} stands outside"),
        ('"\\{SubjectId}"', "at line 1, column 2: Invalid \\escape"),
        ('"\\u{SubjectId}"', "Invalid \\uXXXX escape"),
        ('"\\u00{SubjectId}"', "Invalid \\uXXXX escape"),
        ('{"a": "b"', "at line 1, column 10: "),
        ("{'a': 1}", "at line 1, column 2"),
        ('{"a": "\n"}', "Invalid control character"),
        ('"{SubjectId}', "Unterminated string"),
        ("\ufeff{}", "BOM"),
        ("[NaN]", "NaN is none of its numbers"),
        ("[-Infinity]", "-Infinity is none"),
        ("[" * 8000, "nested too deeply"),
        ('{"a":' * 1600, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_json_is_refused(text: str, says: str, content_type: str) -> None:
    for use in (lambda: parse_body(text, content_type), lambda: expand_body(text, content_type, VALUES)):
        with pytest.raises(TemplateError) as refused:
            use()
        assert says in str(refused.value)


@pytest.mark.parametrize("content_type", JSON_TYPES)
@pytest.mark.parametrize("value", ['"', '","admin":"', "\\", 'a\\"', "\\u0022"])
def test_a_value_that_would_end_a_json_string_is_refused(value: str, content_type: str) -> None:
    with pytest.raises(TemplateError, match=r"\{SubjectId\} contains a quote or a backslash"):
        expand_body('{"a": "{SubjectId}"}', content_type, {**VALUES, "SubjectId": value})


@pytest.mark.parametrize("value", ["&admin=1", "a=b", "a+b", "a%26", "a b", "é", "a/b"])
def test_a_value_that_would_end_a_forms_field_is_refused(value: str) -> None:
    assert expand_body("id={SubjectId}&e={Event}", FORM, VALUES) == "id=S-1&e=ScanExecutionCompleted"
    for content_type in (FORM, FORM.upper(), f"{FORM}; charset=utf-8"):
        with pytest.raises(TemplateError, match="other characters than letters, digits"):
            expand_body("id={SubjectId}", content_type, {**VALUES, "SubjectId": value})


@pytest.mark.parametrize("content_type", [None, "text/plain", JSON, FORM])
@pytest.mark.parametrize("value", ["", ".", "..", "a\r\nb", "\x00", "\x85", "\ud800", "x" * 257])
def test_what_cannot_be_a_subject_is_refused_in_every_body(value: str, content_type: str | None) -> None:
    with pytest.raises(TemplateError, match=r"the value for \{Event\} cannot be used"):
        expand_body('"{Event}"', content_type, {"Event": value})
    with pytest.raises(TemplateError, match=r"no value for the placeholder \{Event\}"):
        expand_body('"{Event}"', content_type, {"SubjectId": value})
    assert expand_body('"{Event}"', content_type, {"Event": "e", "SubjectId": value}) == '"e"'


def test_a_body_has_a_longest_length_and_no_lone_surrogates() -> None:
    parse_body("x" * MAX_BODY_LENGTH, None)
    with pytest.raises(TemplateError, match=f"has {MAX_BODY_LENGTH + 1} characters; at most {MAX_BODY_LENGTH}"):
        parse_body("x" * (MAX_BODY_LENGTH + 1), None)
    with pytest.raises(TemplateError, match=r"lone surrogate U\+DC00 at position 3"):
        parse_body("ab\udc00", "text/plain")


@pytest.mark.parametrize(
    "text",
    [
        *("text/plain", "a/b", "application/vnd.api+json", "TEXT/HTML;charset=UTF-8"),
        'multipart/form-data; boundary="a b"',
        *('text/plain; a="\\"\\\\"; b=c', "x-!#$%&'*+.^_`|~/0", "a/b;a=b;c=d   ;   e=f"),
        "a/" + "b" * (MAX_CONTENT_TYPE_LENGTH - 2),
    ],
)
def test_a_content_type(text: str) -> None:
    check_content_type(text)
    parse_body("1", text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "text", "text/", "/plain", "text/plain/x", "text /plain", "text/ plain", " text/plain", "text/plain "),
        *("text/plain;", "text/plain; charset", "text/plain; charset=", "text/plain; =utf-8", "text/plain charset=a"),
        *("text/plain; a = b", 'text/plain; a="', 'text/plain; a="\\"', 'text/plain; a="b"c', "text/plain, text/html"),
        *("text/plain\r\nX-Evil: 1", "text/plain\n", "text/plain;\ta=b", "text/plain\x00"),
        *('a/b; c="\x7f"', 'a/b; c="\r"'),
        *("text/plän", 'a/b; c="é"', "\uff54ext/plain", "a/b; c=\u2028", "a/" + "b" * (MAX_CONTENT_TYPE_LENGTH - 1)),
    ],
)
def test_no_content_type(text: str) -> None:
    for use in (lambda: check_content_type(text), lambda: parse_body("", text), lambda: expand_body("x", text, VALUES)):
        with pytest.raises(TemplateError, match="not a media type of at most 256 ASCII characters"):
            use()


fragments = st.sampled_from([*(f"{{{name}}}" for name in PLACEHOLDERS), "a", '"', "\\", "é", "{", "}"])
bodies = st.recursive(
    st.lists(fragments, max_size=5).map("".join),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
subjects = st.text(min_size=1, max_size=40) | st.text(st.sampled_from('"\\{}:,[]us0nA&=%+ é'), min_size=1, max_size=10)


@given(bodies, subjects, st.sampled_from(JSON_TYPES))
def test_an_expanded_json_body_has_the_templates_shape(body: object, subject: str, content_type: str) -> None:
    template = json.dumps(body, ensure_ascii=False)
    try:
        expanded = expand_body(template, content_type, {**VALUES, "SubjectId": subject})
    except TemplateError:
        assert subject_fault(subject) or json.dumps(subject, ensure_ascii=False)[1:-1] != subject
        return
    assert json.loads(expanded) == _replaced(body, subject)


def _replaced(body: object, subject: str) -> object:
    match body:
        case str():
            for name, value in {**VALUES, "SubjectId": "\x00"}.items():  # which no value contains
                body = body.replace(f"{{{name}}}", value)
            return body.replace("\x00", subject)
        case list():
            return [_replaced(item, subject) for item in body]
        case dict():
            return {key: _replaced(item, subject) for key, item in body.items()}
        case _:
            raise AssertionError(body)


@given(subjects)
def test_an_expanded_form_has_the_templates_fields(subject: str) -> None:
    try:
        expanded = expand_body("a={SubjectId}&b={Event}", FORM, {**VALUES, "SubjectId": subject})
    except TemplateError:
        return
    assert parse_qsl(expanded, strict_parsing=True) == [("a", subject), ("b", "ScanExecutionCompleted")]


@given(
    st.text(max_size=60) | st.text(st.sampled_from('{}[]":,\\u01 SubjectId'), max_size=60), st.sampled_from(JSON_TYPES)
)
def test_any_text_is_a_body_or_a_template_error(text: str, content_type: str) -> None:
    try:
        parse_body(text, content_type)
    except TemplateError:
        return
    if text:
        json.loads(expand_body(text, content_type, VALUES))
