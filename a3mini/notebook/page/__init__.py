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

They import each other and nothing else, fetch nothing, and run in a page, in a worker, and in Node. The tests hold them
to the package, number by number.
"""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("weights", "tokenizer", "matmul", "sampling", "model", "steps", "orders", "decoding", "drafts", "opinions")


def module() -> str:
    """All files as the text of one ES module, for a page that can import nothing that lies beside it."""
    texts = [(HERE / f"{name}.js").read_text(encoding="utf-8") for name in FILES]
    return "\n".join(re.sub(r'^import \{[^}]*\} from "\./\w+\.js";\n', "", text, flags=re.MULTILINE) for text in texts)


def script() -> str:
    """The same as a plain script, for a worker: a page on the disk can start no worker that is a module."""
    return re.sub(r"^export (?=\w)", "", module(), flags=re.MULTILINE)
