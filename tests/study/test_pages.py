"""Both pages of a report: linked, the same but for their words, with no id in what is read."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from optsweep.config.checks import InputError
from optsweep.report.claims import judge
from optsweep.report.collection import collect_runs
from optsweep.report.evidence import in_short
from optsweep.report.language import CHINESE, language
from optsweep.report.report import write_report
from optsweep.study.aggregate import asked
from optsweep.study.content import outline, outlines

CJK = re.compile(r"[\u4e00-\u9fff]")
QUIET = ("script", "style", "svg", "q", "table", "title", "dt")  # no prose of ours
UNREAD = ("code", "contents", "switch", "warnings", "note fallback")


class Prose(HTMLParser):
    """The text of paragraphs, captions, headings and claims, and of figures; ids and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.said, self.ids, self.links, self.drawn = [], [], [], [], []
        self.language = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.language = attributes["lang"] if tag == "html" else self.language
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes and tag == "a" else []
        if tag not in ("meta", "input", "br", "link"):
            quiet = tag in QUIET or attributes.get("class") in UNREAD
            self.open.append((tag, quiet))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if data.strip() and not any(quiet for _, quiet in self.open):
            self.said.append(data.strip())
        if self.open and self.open[-1][0] == "text":
            self.drawn.append(data)


@pytest.fixture(scope="module")
def pages(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("pages")
    write_report(tree, out, outline(), pages=outlines())
    return {name: Prose((out / name).read_text()) for name in ("index.html", "index.zh.html")}


def test_the_pages_are_linked_and_have_the_same_parts(pages):
    english, chinese = pages.values()
    assert (english.language, chinese.language) == ("en", "zh-Hans")
    assert "index.zh.html" in english.links
    assert "index.html" in chinese.links
    assert english.ids == chinese.ids


def test_no_id_of_an_experiment_or_a_claim_is_in_the_prose(pages):
    for page in pages.values():
        assert len(page.said) > 500
        for text in page.said:
            assert not re.search(r"\b[rb]\d_\w+|lr_grid", text), text


def test_the_chinese_page_is_in_chinese(pages):
    """What a file's reader says of damage aside, and the glossary, no English words are left."""
    for text in pages["index.zh.html"].said:
        if "result.json" not in text and not text.startswith("lr 学习率"):
            assert not re.search(r"\b[a-z]{2,}( [a-z]{2,}){4}", text), text


def test_an_answer_says_how_sure_it_is(pages, tree):
    judged = {each.claim.id: each for each in judge(outline().claims, collect_runs(tree))}
    english, chinese = pages.values()
    (question,) = [each for each in outline().questions if each.id == "r1_init"]
    known = [judged[name] for name in question.answer if judged[name].finding.effect.n]
    assert known
    for each in known:
        line = in_short(each.claim, each.finding)
        assert line in english.said
        assert language(CHINESE).tell(line) in chinese.said
        assert english.links.count(f"#claim-{each.claim.id}") >= 1


def test_figures_and_settings_speak_the_language_of_their_page(pages):
    english, chinese = pages.values()
    assert len(english.drawn) == len(chinese.drawn) > 20
    assert "epoch" in english.drawn
    assert "迭代周期" in chinese.drawn
    assert not any(CJK.search(text) for text in english.drawn)
    for text in chinese.drawn:
        assert not re.search(r"\b[a-z]{3,}", text), text


def test_one_page_alone_is_the_index(tree, tmp_path):
    page = write_report(tree, tmp_path, outline(), pages=outlines("zh")).page
    assert page.name == "index.html"
    assert '<html lang="zh-Hans">' in page.read_text()
    assert not (tmp_path / "index.zh.html").exists()


def test_the_language_is_asked_for_beside_the_folder():
    assert asked([]) == (Path("multirun"), "both")
    assert asked(["runs", "report.language=zh"]) == (Path("runs"), "zh")
    assert asked(["report.language=en"]) == (Path("multirun"), "en")
    for arguments, told in (
        (["report.language=fr"], "report.language=fr: give one of both, en, zh"),
        (["report.colour=red"], "report.colour: the report has no such setting; it has report"),
        (["a", "b"], "b: the report is of one folder, here a"),
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            asked(arguments)


def test_evidence_is_told_in_chinese_with_the_names_of_experiments(tree):
    spoken = language(CHINESE).knowing(outline(CHINESE).terms)
    judgements = judge(outline().claims, collect_runs(tree))
    told = [spoken.tell(each.evidence) for each in judgements if not each.claim.not_tested]
    assert "没有" in "".join(told)
    for text in told:
        assert CJK.search(text)
        assert not re.search(r"\b[rb]\d_\w+", text), text


def test_a_diagnosed_network_has_its_name_in_chinese():
    spoken = language(CHINESE).knowing(outline(CHINESE).terms)
    named = {
        english.network: chinese.network
        for english, chinese in zip(outline().questions, outline(CHINESE).questions, strict=True)
        if english.network
    }
    assert named
    for english, chinese in named.items():
        assert CJK.search(chinese)
        assert spoken.tell(english) == chinese
