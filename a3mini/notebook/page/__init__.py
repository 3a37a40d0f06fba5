"""The compact model in plain JavaScript: it runs in the page itself, where there is no kernel and no server.

In reading order, each beside the file of the package that it repeats: ``weights.js`` (``eight_bit``), ``tokenizer.js``
(the tokenizer of ``train.data``), ``matmul.js`` (the product with 8-bit weights, in WebAssembly or plain), ``sampling.js``
(``decode.sampling``), ``model.js`` (``model``), ``steps.js`` (``objective`` and ``decode.steps``), ``orders.js`` (``groups``,
``decode.limits``, ``decode.blanks``), ``decoding.js`` (``decode.infilling``). The tests compare both, number by number.

They import each other and nothing else, fetch nothing, and run in a page, a worker, or Node.
"""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("weights", "tokenizer", "matmul", "sampling", "model", "steps", "orders", "decoding")


def module() -> str:
    """All files as the text of one ES module: a worker made from a text can import nothing that lies beside it."""
    texts = [(HERE / f"{name}.js").read_text(encoding="utf-8") for name in FILES]
    return "\n".join(re.sub(r'^import \{[^}]*\} from "\./\w+\.js";\n', "", text, flags=re.MULTILINE) for text in texts)
