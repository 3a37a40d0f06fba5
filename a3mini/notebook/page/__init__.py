"""The compact model in plain JavaScript: it runs in the page itself, where there is no kernel and no server.

In reading order, each beside what it repeats of the package::

    weights.js      one file of 8 bits                              eight_bit
    tokenizer.js    text to tokens and back                         the tokenizer of train.data
    matmul.js       the product with 8-bit weights                  attention.A3Linear
    sampling.js     logits to a token                               decode.sampling
    model.js        the two streams                                 model, attention
    steps.js        one pass over a text, or step by step           objective, decode.steps, decode.cache
    orders.js       who is predicted when                           groups, decode.limits, decode.blanks
    decoding.js     the blanks of a text                            decode.infilling
    drafts.js       the same in fewer passes                        decode.speculative
    opinions.js     how well a text's words fit                     objective, decode.revision
    marked.js       a text as a reader writes it                    explorers.playground
    desk.js         all that a page asks, and the answers

They import each other and nothing else, fetch nothing, and run in a page, in a worker, and in Node. The tests hold them
to the package, number by number.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = (
    "weights",
    "tokenizer",
    "matmul",
    "sampling",
    "model",
    "steps",
    "orders",
    "decoding",
    "drafts",
    "opinions",
    "marked",
    "desk",
)


def without_comments(script: str) -> str:
    """The same without lines that are comments: they are for who reads the file, and each page carries its text."""
    return re.sub(r"^ *(//.*|/\*\*([^*]|\*(?!/))*\*/)\n", "", script, flags=re.MULTILINE)


def module() -> str:
    """All files as the text of one ES module, for a page that can import nothing that lies beside it."""
    texts = [without_comments((HERE / f"{name}.js").read_text(encoding="utf-8")) for name in FILES]
    return "\n".join(re.sub(r'^import \{[^}]*\} from "\./\w+\.js";\n', "", text, flags=re.MULTILINE) for text in texts)


def script() -> str:
    """The same as a plain script, for a worker: a page on the disk can start no worker that is a module."""
    return re.sub(r"^export (?=\w)", "", module(), flags=re.MULTILINE)


COMPUTES = {  # what the page's model computes: the values that its config must have, those of a plain Llama
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "qkv_bias": False,
    "qk_norm": False,
    "no_rope_layers": None,
}


def check(config, tokenizer) -> None:
    """Raises ValueError for a model that the page would compute otherwise than the package; its code checks it too."""
    found = {name: getattr(config, name, value) for name, value in COMPUTES.items()}
    for name, value in found.items():
        if value != COMPUTES[name]:
            raise ValueError(
                f"the page runs plain Llamas only; this model has {name}={value!r}, not {COMPUTES[name]!r}"
            )
    kind = config.rope_parameters["rope_type"]
    if kind != "default":
        raise ValueError(f"the page runs plain rotary embeddings only; this model has rope_type={kind!r}")
    if not plain_bytes(tokenizer):
        raise ValueError(
            "the page reads byte-level BPE as data.train_tokenizer makes it; this tokenizer is another kind"
        )


def plain_bytes(tokenizer) -> bool:
    """What tokenizer.js can read."""
    found = json.loads(tokenizer.backend_tokenizer.to_str())
    model, cut = found["model"], found["pre_tokenizer"] or {}
    bytes_only = model["type"] == "BPE" and not model.get("ignore_merges") and not model.get("byte_fallback")
    by_words = cut.get("type") == "ByteLevel" and not cut["add_prefix_space"] and cut["use_regex"]
    return bytes_only and by_words and not found["normalizer"] and all(one["special"] for one in found["added_tokens"])
