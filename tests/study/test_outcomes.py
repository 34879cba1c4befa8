"""What is said of verdicts: complete in both languages, and chosen by the verdict."""

import dataclasses
import re

import pytest

from optsweep.report.answers import by_verdicts
from optsweep.report.claims import judge
from optsweep.report.findings import NOT_TESTED, UNDECIDED, VERDICTS
from optsweep.report.language import CHINESE, ENGLISH, language
from optsweep.report.page import balance
from optsweep.report.rules import RULES
from optsweep.study.content import outline, outlines

OUTLINES = {name: outline(name) for name in (ENGLISH, CHINESE)}
CLAIMS = {name: {claim.id: claim for claim in one.claims} for name, one in OUTLINES.items()}
ANSWERED = [question for question in OUTLINES[ENGLISH].questions if question.answer]
CJK = re.compile(r"[\u4e00-\u9fff]")
END = {ENGLISH: ".", CHINESE: "。"}


def test_every_question_with_claims_is_answered_by_two_of_them():
    asked = {claim.question for claim in OUTLINES[ENGLISH].claims}
    assert {question.id for question in ANSWERED} == asked
    for question in ANSWERED:
        assert len(question.answer) == 2
        assert set(question.answer) <= set(CLAIMS[ENGLISH])


@pytest.mark.parametrize("name", OUTLINES)
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("question", ANSWERED, ids=lambda question: question.id)
def test_an_answer_is_two_sentences_whatever_the_verdicts(question, verdict, name):
    judgements = [Judged(CLAIMS[ENGLISH][claim], verdict) for claim in question.answer]
    told = by_verdicts(question, judgements, CLAIMS[name])
    assert len(told) == 2
    for sentence in told:
        assert sentence.endswith(END[name])
        assert not re.search(r"[.。](?!\d)", sentence[:-1])
        assert sentence[0].isupper() or CJK.match(sentence[0]) or name == CHINESE
        assert len(sentence) < 200


class Judged:
    """A claim with a verdict."""

    def __init__(self, claim, verdict):
        self.claim, self.verdict = claim, verdict


def test_every_cause_that_the_report_gives_has_a_sentence_for_each_verdict():
    for claim in OUTLINES[ENGLISH].claims:
        assert claim.outcomes or not claim.cause
        assert set(claim.outcomes) in (set(), set(VERDICTS))


def test_what_is_not_known_is_said_to_be_so():
    for claim in OUTLINES[ENGLISH].claims:
        if claim.outcomes:
            assert claim.outcomes[UNDECIDED].startswith("The runs do not decide whether ")
            assert claim.outcomes[NOT_TESTED].endswith(" has not been tested here.")
            assert len(set(claim.outcomes.values())) >= 4, claim.id


def test_the_verdict_chooses_the_sentence(planned):
    question = next(one for one in ANSWERED if one.id == "r3_batch_size")
    judgements = judge(outline().claims, planned)
    for verdict in VERDICTS:
        changed = [dataclasses.replace(each, verdict=verdict) for each in judgements]
        told = by_verdicts(question, changed, CLAIMS[CHINESE])
        assert told == [CLAIMS[CHINESE][name].outcomes[verdict] for name in question.answer]
    assert by_verdicts(question, [], CLAIMS[CHINESE]) == []


def test_the_chinese_outline_says_all_that_the_english_does():
    english, chinese = OUTLINES[ENGLISH], OUTLINES[CHINESE]
    assert [each.id for each in chinese.claims] == [each.id for each in english.claims]
    assert [each.id for each in chinese.questions] == [each.id for each in english.questions]
    for one, other in zip(english.claims, chinese.claims, strict=True):
        for field in ("claim", "test", "cause", "not_tested", "margin_reason"):
            said, translated = getattr(one, field), getattr(other, field)
            assert bool(said) == bool(translated), (one.id, field)
            assert not said or CJK.search(translated), (one.id, field, translated)
            assert not re.search(r"(?<![A-Za-z])[a-z]+ [a-z]+ [a-z]+", translated), translated
        assert bool(one.outcomes) == bool(other.outcomes)
        assert one.quotes == other.quotes  # the report's own words, on both pages
        if re.search("[a-z]{2}", one.reported):
            assert CJK.search(other.reported), other.reported
    for one, other in zip(english.questions, chinese.questions, strict=True):
        assert CJK.search(other.question)
        assert other.title != one.title or one.title == "AMSGrad"
        assert bool(one.part) == bool(other.part)
        assert not one.part or CJK.search(other.part)
    for one, other in zip(english.figures, chinese.figures, strict=True):
        assert CJK.search(other.what)
        assert (one.value, one.cell) == (other.value, other.cell)
    readings = {name for claim in english.claims for name in claim.readings} - {"SGD"}
    assert readings <= set(chinese.terms)


def test_every_experiment_has_a_name_in_both_languages(planned):
    for one in OUTLINES.values():
        assert set(planned.experiments) == set(one.terms) & set(planned.experiments)
        names = [one.terms[name] for name in planned.experiments]
        assert len(set(names)) == len(names)


def test_languages_of_the_pages():
    assert [one.language for one in outlines()] == [ENGLISH, CHINESE]
    assert [one.language for one in outlines("zh")] == [CHINESE]
    assert [one.language for one in outlines("en")] == [ENGLISH]


def test_the_balance_counts_every_claim(planned):
    judgements = [
        dataclasses.replace(each, verdict="holds") for each in judge(outline().claims, planned)
    ]
    causes = sum(bool(claim.cause) for claim in outline().claims)
    figures, observations, tests = balance(judgements)
    assert tests == f"Of {causes} tests of causes, {causes} hold."
    total = sum(int(line.split()[1]) for line in (figures, observations, tests))
    assert total == len(outline().claims)


def test_every_rule_is_told():
    for name in OUTLINES:
        assert {f"rule.{rule}" for rule in RULES} <= set(language(name).messages)
