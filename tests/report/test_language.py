"""The catalogues: complete, alike, and used for all that a page says."""

import pickle
import re
import string
from pathlib import Path

import pytest

import optsweep
from optsweep.report.language import (
    CHINESE,
    ENGLISH,
    Text,
    language,
    listing,
    say,
    sentence_start,
    sentences,
)
from optsweep.report.statistics import PREDICTION_CONFIDENCE

MESSAGES = {name: language(name).messages for name in (ENGLISH, CHINESE)}
PACKAGE = Path(optsweep.__file__).parent
CJK = re.compile(r"[\u4e00-\u9fff]")


def fields_of(message) -> set[str]:
    text = message if isinstance(message, str) else "".join(message.values())
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_messages_tell_the_confidence_that_is_used():
    confidence = f"{100 * PREDICTION_CONFIDENCE:g} %"
    for messages in MESSAGES.values():
        assert confidence in messages["page.numbers_told"]
        assert confidence in messages["rule.near"]


def test_both_languages_have_the_same_messages():
    assert list(MESSAGES[ENGLISH]) == list(MESSAGES[CHINESE])


@pytest.mark.parametrize("key", MESSAGES[ENGLISH])
def test_a_message_is_filled_with_the_same_in_both(key):
    english, chinese = (MESSAGES[name][key] for name in (ENGLISH, CHINESE))
    assert fields_of(english) == fields_of(chinese)
    words = re.sub(r"\{[^}]*\}|µs|GFLOP/s|fANOVA", "", str(chinese))
    if re.search(r"[a-z]{4}", words) and not key.startswith(("page.lang", "page.font")):
        assert CJK.search(str(chinese))


def test_every_message_that_the_code_asks_for_is_there():
    asked = set()
    for path in [*PACKAGE.glob("report/*.py"), *PACKAGE.glob("report/templates/*.html")]:
        asked |= set(re.findall(r'\bsay\(\s*"([\w. ]+)"[,)]', path.read_text()))
    assert len(asked) > 100
    assert asked <= set(MESSAGES[ENGLISH])


def test_a_text_is_english_and_remembers_its_message():
    text = sentences([say("answer.more", n=3), "", say("count.seed", n=1)])
    assert text == "3 more 1 seed"
    assert language(CHINESE).tell(text) == "另外3种1个种子"
    sent = pickle.loads(pickle.dumps(text))  # as it comes from another process
    assert language(CHINESE).tell(sent) == "另外3种1个种子"


def test_lists_and_the_start_of_a_sentence():
    items = listing(["a", Text("b"), say("count.seed", n=2)])
    assert items == "a, b and 2 seeds"
    assert language(CHINESE).tell(items) == "a、b、2个种子"
    assert listing([]) == ""
    assert sentence_start(say("measure.test_loss")) == "Test loss"
    assert language(CHINESE).tell(sentence_start(say("measure.test_loss"))) == "测试损失"


def test_terms_are_told_wherever_they_stand():
    spoken = language(CHINESE).knowing({"r1_init": "三种初始化"})
    assert spoken.tell("completed") == "完成"
    told = say("answer.sibling_nothing", experiment="r1_init")
    assert (told, spoken.tell(told)) == ("r1_init has no result yet.", "三种初始化：还没有结果。")


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("sgd with momentum, batch size 256: test error", "带动量的SGD，批量大小256：测试误差"),
        ("betas (0.9, 0.999), lr 1e-3", "β=(0.9, 0.999)，学习率1e-3"),
        ("layernorm position second", "第二隐藏层的层规范化"),
        ("report cosine warmup low", "报告的带预热的余弦衰减（低）"),
        ("lit in 62.3% of images", "在62.3%的图像中亮"),
        ("measured (median)", "实测(中位数)"),
        ("learning rate 0.1 (edge of the grid)", "学习率0.1（网格边缘）"),
        ("sgd → adam : adam → lamb", "SGD → Adam : Adam → LAMB"),
        ("3 of 10 seeds diverged", "10个种子中3个发散"),
        ("20, 1 diverged, 3 collapsed", "20，1个发散，3个学习失败"),
        ("adamw, lr 1e-3, eps 1e-8, warmup steps 20", "AdamW，学习率1e-3，ε=1e-8，预热20步"),
        ("noise: two modes", "噪声：两种结局"),
        ("0.69 (0.61 … 0.76)", "0.69 (0.61 … 0.76)"),
        ("greater, any of three readings, all alike", "greater，三种解读之一，全部相同"),
        ("sharpest out, 3 × lr", "去掉最陡的方向，3 × 学习率"),
        ("my_option, lr 0.1", "my_option, lr 0.1"),  # of what has no term nothing is told
        ("adam-lr_0.001_1f2e", "adam-lr_0.001_1f2e"),
    ],
)
def test_labels_are_told_part_by_part(label, told):
    assert language(CHINESE).tell(label) == told


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("sgd with momentum, lr 0.1: test error", "SGD with momentum, lr 0.1: test error"),
        ("adamw, betas (0.9, 0.999), lr 1e-3", "AdamW, betas (0.9, 0.999), lr 1e-3"),
        ("sgd → adam : adam → lamb", "SGD → Adam : Adam → LAMB"),
        ("gaussian initialisation", "Gaussian initialisation"),
        ("rmsprop (lenet)", "RMSprop (LeNet)"),
        ("measured (median)", "measured (median)"),
        ("optimizer=adam", "optimizer=adam"),
        ("adam-lr_0.001_1f2e", "adam-lr_0.001_1f2e"),
    ],
)
def test_english_writes_names_as_their_authors_do(label, told):
    assert language(ENGLISH).tell(label) == told


def test_drawings_are_told_word_by_word():
    svg = '<text x="1">lr 0.1: train loss</text><text>a &lt; b</text><path d="M 1"/>'
    told = '<text x="1">学习率0.1：训练损失</text><text>a &lt; b</text><path d="M 1"/>'
    assert language(CHINESE).drawn(svg) == told
    assert language("en").drawn(svg) == svg


def test_there_is_no_other_language():
    with pytest.raises(ValueError, match="language fr: there are en, zh"):
        language("fr")
    with pytest.raises(KeyError):
        language(CHINESE).say("page.nothing")
