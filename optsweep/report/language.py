"""One home for what is said in each language: messages/en.yaml and messages/zh.yaml.

A `Text` is a string in English that remembers the message it was made of, and so can be told in
another language. Whatever has no message (names of settings, paths, numbers) is told as it is,
unless a language knows a term for it; in English these are the names that are not written like
their options, such as AdamW.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ENGLISH, CHINESE = "en", "zh"
LANGUAGES = (ENGLISH, CHINESE)
# Between the parts of a label, but not within a pair of brackets; and the text of a drawing.
_BETWEEN = re.compile(r"(, |(?<! ): )(?![^(]*\))")
_BRACKETED = re.compile(r"(.+?) \(([^()]*)\)")
_NUMBERS = re.compile(r"[-−+×≈<>±\d.,%e… ()]*\d[%)]*")
_DRAWN = re.compile(r"(<text[^>]*>)([^<]+)(</text>)")
_SENTENCES, _LISTING, _START = "_sentences", "_listing", "_start"


class Text(str):
    """English that can be told in another language.

    Attributes:
        key: Of its message.
        values: What its message is filled with; may be texts themselves.
    """

    __slots__ = ("key", "values")

    key: str
    values: Mapping[str, Any]

    def __new__(cls, text: str, key: str = "", values: Mapping[str, Any] | None = None) -> Text:
        """English, with the message that it was made of."""
        made = super().__new__(cls, text)
        made.key, made.values = key, values or {}
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """To other processes, message and all."""
        return Text, (str(self), self.key, self.values)


def say(key: str, /, **values: Any) -> Text:
    """A message of the catalogues, filled.

    >>> say("count.seed", n=3), say("count.seed", n=1)
    ('3 seeds', '1 seed')
    """
    return Text(_filled(_english(), key, values), key, values)


def listing(items: Iterable[str]) -> Text:
    """Items as a sentence has them.

    >>> listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    values = {"items": list(items)}
    return Text(_english().joined(_LISTING, values["items"]), _LISTING, values)


def sentence_start(text: str) -> Text:
    """A text as a sentence begins with it."""
    return Text(text[:1].upper() + text[1:], _START, {"text": text})


def sentences(items: Iterable[str]) -> Text:
    """One after the other, without those that are empty."""
    values = {"items": [each for each in items if each]}
    return Text(_english().joined(_SENTENCES, values["items"]), _SENTENCES, values)


@dataclass(frozen=True)
class Language:
    """How one language says the messages.

    Attributes:
        name: One of `LANGUAGES`.
        messages: By their keys; of one that counts, `one` and `other`.
        terms: For what has no message: the same in this language. One with `{}` in it stands for
            a word and its value, such as `batch size {}`.
    """

    name: str
    messages: Mapping[str, Any]
    terms: Mapping[str, str] = field(default_factory=dict)

    def knowing(self, terms: Mapping[str, str]) -> Language:
        """The same with further terms, such as those of a study."""
        return Language(self.name, self.messages, {**self.terms, **terms})

    def say(self, key: str, /, **values: Any) -> str:
        """A message in this language.

        Raises:
            KeyError: If it has none.
        """
        return _filled(self, key, values)

    def tell(self, text: Any) -> str:
        """A text in this language; anything else as it is, or by its term."""
        if isinstance(text, Text) and text.key in (_SENTENCES, _LISTING):
            return self.joined(text.key, text.values["items"])
        if isinstance(text, Text) and text.key == _START:
            told = self.tell(text.values["text"])
            return told[:1].upper() + told[1:]
        if isinstance(text, Text) and text.key:
            return _filled(self, text.key, text.values)
        return self.terms.get(str(text)) or self._label(str(text))

    def drawn(self, svg: str) -> str:
        """A drawing with its words in this language."""
        if not self.terms:
            return svg

        def told(found: re.Match[str]) -> str:
            text = html.escape(self.tell(html.unescape(found[2])), quote=False)
            return f"{found[1]}{text}{found[3]}"

        return _DRAWN.sub(told, svg)

    def _label(self, text: str) -> str:
        """Settings or a title, part by part; as it is if there is no term for one of them."""
        if not self.terms:
            return text
        parts = _BETWEEN.split(text)
        for place, part in enumerate(parts):
            told = self.terms.get(part, part) if place % 2 else self._part(part)
            if told is None:
                return text
            parts[place] = told
        return "".join(parts)

    def _part(self, text: str) -> str | None:
        """A word, a number, a word and its value, or one and another in brackets."""
        if text in self.terms:
            return self.terms[text]
        if _NUMBERS.fullmatch(text):
            return text
        for pattern, term in self._patterns:
            if (found := pattern.fullmatch(text)) and None not in (values := self._all(found)):
                return term.format(*values)
        if (found := _BRACKETED.fullmatch(text)) and None not in (values := self._all(found)):
            return self.say("join.brackets").format(*values)
        return text if self.name == ENGLISH else None

    def _all(self, found: re.Match[str]) -> list[str | None]:
        return [self._part(group) for group in found.groups()]

    @functools.cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        """Words with their values, the longest first."""
        words = sorted((key for key in self.terms if "{}" in key), key=len, reverse=True)
        places = ("(.+)".join(map(re.escape, word.split("{}"))) for word in words)
        return [(re.compile(p), self.terms[w]) for p, w in zip(places, words, strict=True)]

    def joined(self, how: str, items: Iterable[Any]) -> str:
        """Sentences one after the other, or items of a listing."""
        told = [self.tell(each) for each in items]
        if how == _SENTENCES:
            return self.say("join.sentences").join(told)
        *others, last = told or [""]
        return self.say("join.last").join(filter(None, (self.say("join.items").join(others), last)))


@functools.cache
def language(name: str) -> Language:
    """The language of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in LANGUAGES:
        raise ValueError(f"language {name}: there are {', '.join(LANGUAGES)}")
    path = Path(__file__).with_name("messages") / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Language(name, dict(_flat(content["messages"])), content.get("terms") or {})


def _english() -> Language:
    return language(ENGLISH)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Messages by their whole keys: `evidence.values`; one that counts stays a mapping."""
    for key, value in content.items():
        if isinstance(value, Mapping) and set(value) != {"one", "other"}:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _filled(spoken: Language, key: str, values: Mapping[str, Any]) -> str:
    message = spoken.messages[key]
    if isinstance(message, Mapping):
        message = message["one" if values["n"] == 1 else "other"]
    told = {
        name: spoken.tell(value) if isinstance(value, str) else value
        for name, value in values.items()
    }
    return message.format_map(told) if told else message
