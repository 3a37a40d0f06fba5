"""The playground: the model itself runs in the page, and fills what a reader leaves open, in any order."""

import base64
import hashlib
import re
import tempfile
from functools import cache
from pathlib import Path

import traitlets

from a3mini import decode, eight_bit, pretrained
from a3mini.model import A3ForCausalLM
from a3mini.notebook import page
from a3mini.notebook.explorers.base import Explorer, bundle, stylesheet
from a3mini.train.data import start_token
from a3mini.train.tokens import encode_behind, split

GAP, HIDDEN = re.compile(r"( *)(_{3,})"), re.compile(r"\[([^\[\]]+)\]")
ORDERS = ("left_to_right", "random", "strided", "confidence", "entropy", "bounded", "drafts", "mine")
OPTIONS = {"order": ORDERS, "colour": ("when", "probability")}
ROOM, RUNNERS_UP = 24, 5  # positions of a gap that the model ends; likeliest others of a token
INTRO = (
    "Blank some words, choose an order, and watch the model fill them. Each token comes with its probability, and with "
    "what the model might have said instead."
)
OPENING = (
    "Once upon a time there was a little [girl named] Lily. She [loved to play] in the garden. One day, she saw a [big "
    "red] flower. She [wanted to] show it to her [mom]."
)
EXAMPLES = {
    "words of a story": OPENING,
    "the right side decides": "Ben was very [sad] because he lost his toy. He cried.",
    "another right side": "Ben was very [sad] because he got a new toy for his birthday.",
    "a long blank": "Once upon a time there was a little girl named Lily. [She loved to play with her toys. One day "
    "she went to the park with her mom.] She was very happy.",
    "one word is odd": "Mom made a cake. Tim ate a big window of the cake. It was yummy.",
    "a sentence is missing": "Lily had a cat named Snow. ____ Lily looked for her everywhere. At last she found her "
    "asleep in a basket.",
    "the beginning is missing": "____ So she took an umbrella with her. When she came home, she was dry.",
    "how does it go on?": "Once upon a time there was a little mouse who lived under the floor of a bakery. ____",
}  # fmt: skip


class Playground(Explorer):
    """A model of 8 bits that runs in the page: type a text, blank words, choose an order, watch it fill.

    On the site the page fetches the file of the compact model when it is asked to. Where a kernel runs, the kernel
    sends the model, and that may be any small A3 model, such as one that you have just trained.

    Args:
        model, tokenizer: an A3 model and its tokenizer; default: the compact model. The page computes with 8-bit
            weights (``eight_bit``).
        text: what stands there at first. Words in [brackets] are blanks of their own length, ____ is a gap, and nobody
            says how long it is.
        examples: other texts to choose from, by name; default: the compact model's, and for another model none.
        source: which model it is.
        filled: fill the blanks now, the likeliest token each time, where the model is surest; so the figure shows
            something before its reader has loaded anything. Not with gaps.

    Attributes:
        text: as above; it may be set.
        written: the text as it stands in the page, with "_" where something is open.
        order: "left_to_right", "random", "strided", "confidence", "entropy", "bounded" or "mine"; follows what the
            reader does, as all below, and may be set.
        size: tokens at a time; ``temperature``: 0 is the likeliest; ``seed``; ``gap``: positions of a gap, where the
            model does not end it.
        colour: "when" or "probability".

    Raises:
        TypeError: the model is not A3, or has no tokenizer.
        ValueError: a text that is empty or too long, or has gaps and should be filled; or a model that the page cannot
            compute.
    """

    _esm = bundle("playground", "../page/marked", "live_model", "filled_text", "second_looks", ENGINE=page.script())
    _css = stylesheet("playground")
    summary = "An interactive figure: the language model runs in the page and fills blanks in any order."
    # as high as on a wide page, and the higher the narrower it is; a padding's percentages are of the width
    room = "box-sizing: border-box; min-height: 757px; padding-bottom: calc(1730px - 145%)"
    intro = traitlets.Unicode(INTRO).tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    written = traitlets.Unicode().tag(sync=True)
    examples = traitlets.List(traitlets.Dict()).tag(sync=True)
    opening = traitlets.Dict(help="What is filled before the model is there.").tag(sync=True)
    file = traitlets.Dict(help="Name, bytes and sha256 of the weights; no name, not on the site.").tag(sync=True)
    asked = traitlets.Int(help="How often the page has asked the kernel for the weights.").tag(sync=True)
    weights = traitlets.Bytes(b"").tag(sync=True)
    order = traitlets.Enum(ORDERS, "left_to_right").tag(sync=True)
    size = traitlets.Int(1, min=1, max=8).tag(sync=True)
    temperature = traitlets.Float(0.7, min=0.0, max=1.5).tag(sync=True)
    seed = traitlets.Int(1, min=1).tag(sync=True)
    gap = traitlets.Int(8, min=1, max=ROOM).tag(sync=True)
    colour = traitlets.Enum(OPTIONS["colour"], "when").tag(sync=True)

    def __init__(
        self,
        model: A3ForCausalLM | None = None,
        tokenizer=None,
        text: str = OPENING,
        *,
        examples: dict[str, str] | None = None,
        source: str | None = None,
        filled: bool = False,
        **options,
    ):
        if (model is None) != (tokenizer is None):
            raise TypeError("a model needs its own tokenizer: give both, or none for the compact model")
        name = ""
        if model is None:
            model, tokenizer, called = pretrained.compact_model()
            self._bytes = compact_file().read_bytes()
            name, source = site_name(), source or f"{called}. It runs in your browser; nothing is sent anywhere."
        else:
            page.check(model.config, tokenizer)
            self._bytes = _in_bytes(model, tokenizer)
        if examples is None:
            examples = EXAMPLES if name else {}
        words = read(tokenizer, text)
        start, end = start_token(tokenizer), model.config.empty_token_id
        length = 1 + sum(ROOM if word["kind"] == "gap" else len(word["ids"]) for word in words)
        if not words:
            raise ValueError("text is empty; write something, or a gap, ____")
        if length > model.config.max_position_embeddings:
            limit = model.config.max_position_embeddings
            raise ValueError(f"text has {length} tokens, gaps included, but the model takes {limit}; shorten it")
        for word in words:
            word["letters"] = [tokenizer.decode([token]) for token in word["ids"]]
        turns, passes = _filled(model, tokenizer, words) if filled else ([], 0)
        super().__init__(
            text=text,
            examples=[
                {"name": key, "text": value} for key, value in (EXAMPLES if examples is None else examples).items()
            ],
            file={"name": name, "bytes": len(self._bytes), "sha256": hashlib.sha256(self._bytes).hexdigest()},
            opening={
                "words": words,
                "turns": turns,
                "closed": [],
                "passes": passes,
                "start": start,
                "ends": end is not None,
                "known_order": model.config.known_order,
            },
            source=source or "Your model. It runs in your browser.",
            **options,
        )

    @classmethod
    def example(cls) -> "Playground":
        """The compact model, and a text that it has filled where it was surest: the likeliest token each time."""
        return cls(order="confidence", temperature=0.0, filled=True)

    def state(self) -> dict:
        """What the page holds; the weights stay in their file."""
        return {name: value for name, value in super().state().items() if name != "weights"}

    @traitlets.observe("asked")
    def _hand_over(self, _change) -> None:
        self.weights = self._bytes


def compact_file() -> Path:
    """The compact model's file."""
    return pretrained.COMPACT_MODEL / eight_bit.FILE


@cache
def site_name() -> str:
    """What that file is called on the site: with a part of its hash, so that another model is another file."""
    return f"compact-{hashlib.sha256(compact_file().read_bytes()).hexdigest()[:12]}.safetensors"


def put_beside(static: Path) -> None:
    """Put the compact model into a site's folder, for its pages to fetch.

    Twice: as it is, and as a script with the same bytes, for a page from the disk may read no other file.
    """
    weights = compact_file().read_bytes()
    static.mkdir(parents=True, exist_ok=True)
    (static / site_name()).write_bytes(weights)
    script = f'globalThis.a3CompactModel = "{base64.b64encode(weights).decode()}";\n'
    (static / f"{site_name()}.js").write_text(script, encoding="ascii")


def _in_bytes(model: A3ForCausalLM, tokenizer) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return eight_bit.save(model, tokenizer, Path(folder) / eight_bit.FILE).read_bytes()


def _filled(model: A3ForCausalLM, tokenizer, words: list[dict]) -> tuple[list[list[dict]], int]:
    """The turns that fill the blanks, as the page's desk has them, and how many passes they took."""
    if any(word["kind"] == "gap" for word in words):
        raise ValueError("filled=True is for blanks of a known length: write [words] and no gap, ____")
    text, lengths, truth = as_blanks(words)
    if not lengths:
        return [], 0
    how = {"order": "confidence", "temperature": 0, "runners_up": RUNNERS_UP + 1}
    trace = decode.infill(model, tokenizer, text, tokens_per_blank=lengths, **how).trace

    def one(token: int, log_prob: float) -> dict:
        return {"id": token, "letters": tokenizer.decode([token]), "logProb": round(log_prob, 4)}

    def turn(step) -> list[dict]:
        rows = zip(step.positions, step.tokens, step.log_probs, step.runners_up, strict=True)
        return [
            {
                "position": at,
                **one(token, log_prob),
                "runnersUp": [one(*pair) for pair in others if pair[0] != token][:RUNNERS_UP],
                "truth": next((one(*pair) for pair in [(token, log_prob), *others] if pair[0] == truth[at]), None),
            }
            for at, token, log_prob, others in rows
        ]

    return [turn(step) for step in trace.steps[0]], trace.passes[0]


# A text as a reader writes it: page/marked.js once more


def read(tokenizer, text: str) -> list[dict]:
    """A text as words, each with its kind ("given", "hidden", "gap"), its letters, and its token ids."""
    words, since = [], 0
    for gap in GAP.finditer(text):
        words += _between(tokenizer, text[since : gap.start()])
        words.append({"kind": "gap", "text": gap.group(), "ids": []})
        since = gap.end()
    return words + _between(tokenizer, text[since:])


def _between(tokenizer, text: str) -> list[dict]:
    plain, hidden, since = "", [], 0
    for mark in HIDDEN.finditer(text):
        plain += text[since : mark.start()]
        hidden.append((len(plain), len(plain) + len(mark[1])))
        plain += mark[1]
        since = mark.end()
    plain += text[since:]
    words, end = [], 0
    for word in split(tokenizer, plain):
        start, end = end, end + len(word)
        letters = end - len(word.lstrip()) if word.strip() else start
        inside = any(low < end and letters < high for low, high in hidden)
        words.append({"kind": "hidden" if inside else "given", "text": word, "ids": encode_behind(tokenizer, word)})
    return words


def as_blanks(words: list[dict]) -> tuple[str, list[int], list[int | None]]:
    """Words without gaps as ``decode.infill`` takes them: a text with blanks, their lengths, and what they hide."""
    text, lengths, truth = "", [], [None]
    for before, word in zip([{"kind": "given"}, *words], words, strict=False):
        if word["kind"] == "given":
            text += word["text"]
        elif before["kind"] == "given":
            text += " ____"
            lengths.append(len(word["ids"]))
        else:
            lengths[-1] += len(word["ids"])
        truth += word["ids"] if word["kind"] == "hidden" else [None] * len(word["ids"])
    return text, lengths, truth
