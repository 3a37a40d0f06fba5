"""Where the page's JavaScript runs in tests: Node, one process for all that a module asks; and Chromium.

An engine is called with the text of a JavaScript function and its argument, and returns the result; both are JSON. The
function finds all that the page's module exports in ``p``, and a model by the name of its file, ``model(name, wasm)``.
"""

import base64
import json
import shutil
import subprocess
from pathlib import Path

from a3mini.notebook import page

PRELUDE = """
const [files, made] = [{}, {}];
globalThis.p = await import(MODULE);
globalThis.put = ({ name, bytes }) => void (files[name] = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0)).buffer);
globalThis.file = (name) => files[name];
globalThis.model = (name, wasm = true) => (made[[name, wasm]] ??= new p.Model(files[name], { wasm }));
"""
SERVER = """
import { createInterface } from "node:readline";
for await (const line of createInterface({ input: process.stdin })) {
  const { code, argument } = JSON.parse(line);
  let answer;
  try {
    answer = { value: await (0, eval)(code)(argument) };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\\n");
}
"""


class JavaScriptError(Exception):
    """What the JavaScript threw."""


class Engine:
    def put(self, name: str, file: Path | bytes) -> None:
        """Give a file to ``model`` and ``file``."""
        content = file if isinstance(file, bytes) else file.read_bytes()
        self("put", {"name": name, "bytes": base64.b64encode(content).decode()})


class Node(Engine):
    def __init__(self, folder: Path):
        (folder / "page.mjs").write_text(page.module(), encoding="utf-8")
        (folder / "server.mjs").write_text(PRELUDE.replace("MODULE", '"./page.mjs"') + SERVER, encoding="utf-8")
        command = [shutil.which("node"), str(folder / "server.mjs")]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")

    def __call__(self, code: str, argument=None):
        self.process.stdin.write(json.dumps({"code": code, "argument": argument}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise JavaScriptError(answer["error"])
        return answer.get("value")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Chromium(Engine):
    """The module stands in the page as a blob, as it will in the book."""

    def __init__(self, browser):
        self.context = browser.new_context()
        self.page = self.context.new_page()
        blob = 'URL.createObjectURL(new Blob([code], { type: "text/javascript" }))'
        self.page.evaluate(f"async (code) => {{ {PRELUDE.replace('MODULE', blob)} }}", page.module())

    def __call__(self, code: str, argument=None):
        answer = self.page.evaluate(
            """async ([code, argument]) => {
                 try {
                   return { value: JSON.parse(JSON.stringify((await eval(code)(argument)) ?? null)) };
                 } catch (error) {
                   return { error: String(error) };
                 }
               }""",
            [code, argument],
        )
        if "error" in answer:
            raise JavaScriptError(answer["error"])
        return answer["value"]

    def close(self) -> None:
        self.context.close()
