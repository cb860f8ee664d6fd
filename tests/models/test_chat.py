"""The chat turn token by token: SlideChat's template beside the tokenizer's own, what is supervised, where tiles go."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutput

from slidesieve.datasets.questions import Question, prompt
from slidesieve.models.chat import ChatFormat, pack
from slidesieve.models.prefix_lm import Prefix, text_logits

OWN = (  # as Qwen2.5 does: a system turn that nobody asked for
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ASKED = Question("q", "s", "grading", "Diagnosis", "Which grade {text}?", ("low", "B. high", "none"), 1)
BODY = "Which grade {text}?\nA. low\nB. B. high\nC. none"


def build(marks: list[str], chat_template: str | None = OWN, eos: str | None = "<|endoftext|>"):
    """One token a character; `marks` are single tokens too."""
    pieces = [*marks, *(chr(c) for c in [10, *range(32, 127)])]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(marks)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, chat_template=chat_template)


def spell(chat: ChatFormat, ids: list[int]) -> str:
    return "".join(chat.tokenizer.convert_ids_to_tokens(ids))


def test_slidechats_turn_has_no_system_and_its_own_end():
    chat = ChatFormat(build(MARKS), "chatml")
    turn = chat.turn(prompt(ASKED), ["B", "none"])
    assert spell(chat, chat.head) == "<|im_start|>user\n"
    assert chat.head == [1, *(3 + 1 + ord(c) - 32 for c in "user"), 3]
    assert spell(chat, turn.prompt) == f"\n{BODY}<|im_end|>\n<|im_start|>assistant\n"
    assert turn.prompt.count(2) == 1 and turn.prompt.count(1) == 1  # the marks are one token each
    assert [spell(chat, answer) for answer in turn.answers] == ["B<|im_end|>", "none<|im_end|>"]
    assert (chat.end, chat.stops) == (2, {0, 2})


def test_the_tokenizers_own_template_stays_as_it_was():
    chat = ChatFormat(build(MARKS))
    assert spell(chat, chat.head) == "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\n"
    turn = chat.turn(prompt(ASKED), ["B"])
    assert spell(chat, turn.prompt) == f"\n{BODY}<|im_end|>\n<|im_start|>assistant\n"
    assert turn.answers == [[chat.tokenizer.convert_tokens_to_ids("B"), 0]]
    assert (chat.end, chat.stops) == (0, {0})


def test_without_the_marks_the_end_of_text_ends_a_turn():
    chat = ChatFormat(build(["<end>"], eos="<end>"), "chatml")
    assert spell(chat, chat.head) == "<|im_start|>user\n" and len(chat.head) == len("<|im_start|>user\n")
    assert (chat.end, chat.stops) == (0, {0})
    assert ChatFormat(build(["<|im_end|>"], eos=None), "chatml").stops == {0}
    with pytest.raises(ValueError, match="no end-of-turn token"):
        ChatFormat(build(["<|im_end|>"], eos=None))
    with pytest.raises(ValueError, match=r"got 'qwen'; expected one of \('own', 'chatml'\)"):
        ChatFormat(build(MARKS), "qwen")


def test_without_a_template_the_turn_is_chatml_only_where_its_marks_are_tokens():
    chat = ChatFormat(build(MARKS, None))
    assert spell(chat, chat.head) == "<|im_start|>user\n" and chat.head[0] == 1
    chat = ChatFormat(build(["<end>"], None, "<end>"))
    turn = chat.turn(prompt(ASKED), ["B", "none"])
    assert chat.head == [] and spell(chat, turn.prompt) == f"\n{BODY}\nAnswer:"
    assert [spell(chat, answer) for answer in turn.answers] == [" B<end>", " none<end>"]


@pytest.mark.parametrize("template", ["own", "chatml"])
@pytest.mark.parametrize("marks", [MARKS, ["<end>"]])
def test_the_words_of_a_prompt_are_those_that_are_read(template, marks):
    chat = ChatFormat(build(marks, eos=marks[0]), template)
    read = spell(chat, chat.head) + "<visual>" + spell(chat, chat.turn(prompt(ASKED), []).prompt)
    assert chat.words(prompt(ASKED)) == read


def begun(tokenizer, first: str = "<bos>"):
    """A tokenizer that puts a token in front of any text, as Gemma's and Llama's do."""
    template = processors.TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.convert_tokens_to_ids(first))]
    )
    tokenizer.backend_tokenizer.post_processor = template
    return tokenizer


def test_what_the_tokenizer_puts_in_front_of_a_text_stands_in_front_once():
    marks = ["<end>", "<bos>"]
    for template, text in ((None, ""), ("<bos>{{ messages[0].content }}", ""), ("U:{{ messages[0].content }}", "U:")):
        chat = ChatFormat(begun(build(marks, template, "<end>")))
        assert chat.lead == [1] and spell(chat, chat.head) == f"<bos>{text}"
        assert 1 not in chat.turn(prompt(ASKED), ["B"]).prompt
        assert chat.words("Why?").startswith(f"<bos>{text}<visual>")
    assert ChatFormat(begun(build(marks, None, "<end>")), "chatml").head[0] == 1
    assert ChatFormat(build(marks, None, "<end>")).lead == []


@pytest.mark.parametrize("date", ["{{ date_string }}", "{{ strftime_now('%d %b %Y') }}"])
def test_a_template_that_prints_today_is_rendered_the_same_on_every_day(date):
    dated = f"{date}: {{{{ messages[0].content }}}}"
    chat = ChatFormat(build(["<end>"], dated, "<end>"))
    assert spell(chat, chat.head) == "26 Jul 2024: "
    later = ChatFormat(build(["<end>"], "another day: {{ messages[0].content }}", "<end>"), rendered=chat.rendered)
    assert (later.head, later.rendered) == (chat.head, chat.rendered)
    assert later.turn("Why?", ["so"]) == chat.turn("Why?", ["so"])


@pytest.mark.parametrize("template", ["own", "chatml"])
def test_supervised_are_the_answers_and_their_end_tokens_alone(template):  # I45
    chat = ChatFormat(build(MARKS), template)
    answers = [["high"], ["none", "B"]]
    texts = pack([[chat.turn("Grade?", answers[0])], [chat.turn("Which?", answers[1]), chat.turn("Why?", ["so"])]])
    end = chat.tokenizer.convert_ids_to_tokens(chat.end)
    for row, said in zip(range(2), (["high"], ["none", "B", "so"]), strict=True):
        supervised = texts.ids[row, texts.answer[row] >= 0].tolist()
        assert spell(chat, supervised) == "".join(answer + end for answer in said)
    assert int((texts.answer >= 0).sum()) == sum(len(a) + 1 for a in ("high", "none", "B", "so"))


class Recorder(nn.Module):
    """A language model that keeps what it was given."""

    def __init__(self, size: int):
        super().__init__()
        self.table = nn.Embedding(size, 6)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table

    def forward(self, inputs_embeds, position_ids, **_) -> CausalLMOutput:
        self.embeds, self.positions = inputs_embeds, position_ids
        return CausalLMOutput(logits=inputs_embeds)


def test_the_image_stands_once_as_exactly_n_positions():  # I46
    n = 75
    chat = ChatFormat(build(MARKS), "chatml")
    lm = Recorder(len(chat.tokenizer))
    tiles = torch.randn(1, n, 6, generator=torch.Generator().manual_seed(0))
    prefix = Prefix(tiles, torch.ones(1, n, dtype=torch.bool), torch.arange(n)[None], torch.tensor([n]))
    turn = chat.turn(prompt(ASKED), ["B"])
    text_logits(lm, chat.head, prefix, pack([[turn]]))
    whole = f"<|im_start|>user\n<image>\n{BODY}<|im_end|>\n<|im_start|>assistant\nB<|im_end|>"
    before, after = (chat.tokenizer(part)["input_ids"] for part in whole.split("<image>"))
    assert lm.positions.tolist() == [list(range(len(before) + n + len(after)))]
    assert torch.equal(lm.embeds[0, : len(before)], lm.table(torch.tensor(before)))
    assert torch.equal(lm.embeds[0, len(before) : len(before) + n], tiles[0])
    assert torch.equal(lm.embeds[0, len(before) + n :], lm.table(torch.tensor(after)))
