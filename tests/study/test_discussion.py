"""The discussion: complete, and true to the verdicts."""

import dataclasses

import pytest

from optsweep.report.claims import judge
from optsweep.report.findings import NEGLIGIBLE, REVERSED, VERDICTS
from optsweep.study.content import outline, topics
from optsweep.study.discussion import balance, discuss

ENTRIES = [words for topic in topics() for words in topic["claims"]]


def with_verdict(judgement, verdict):
    return dataclasses.replace(judgement, verdict=verdict)


def test_every_cause_that_the_report_gives_is_discussed_once():
    discussed = [words["claim"] for words in ENTRIES]
    assert len(set(discussed)) == len(discussed)
    assert set(discussed) <= {claim.id for claim in outline().claims}
    assert {claim.id for claim in outline().claims if claim.cause} <= set(discussed)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_sentences_agree_with_the_verdicts(planned, verdict):
    judgements = [with_verdict(each, verdict) for each in judge(outline().claims, planned)]
    points = [point for topic in discuss(judgements) for point in topic.points]
    claims = {claim.id: claim.claim for claim in outline().claims}
    evidence = {each.claim.id: each.evidence for each in judgements}
    for words, point in zip(ENTRIES, points, strict=True):
        assert point.verdict == verdict
        assert point.evidence == evidence[words["claim"]]
        if verdict in words or verdict == NEGLIGIBLE:
            assert point.sentence == words.get(verdict, words[REVERSED])
        else:
            assert claims[words["claim"]] in point.sentence


def test_the_balance_counts_every_claim(planned):
    judgements = [with_verdict(each, "holds") for each in judge(outline().claims, planned)]
    causes = sum(bool(claim.cause) for claim in outline().claims)
    figures, observations, tests = balance(judgements)
    assert tests == f"Of {causes} tests of causes, {causes} hold."
    total = sum(int(line.split()[1]) for line in (figures, observations, tests))
    assert total == len(outline().claims)
