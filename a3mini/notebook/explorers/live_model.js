// A model that runs in the page: get its weights once, when they are asked for, and ask it in a worker.
// Python puts `const ENGINE = "..."` before this text: a3mini/notebook/page as a script.
/* global ENGINE */

const MEGABYTE = 1e6;
const megabytes = (bytes) => (bytes / MEGABYTE).toFixed(1);

/** Where the site keeps its files, seen from this page. Sphinx says it; slides lie one folder deep. */
const root = () => document.documentElement.dataset.content_root ?? "../";

// The file --------------------------------------------------------------------------------------------

/**
 * The weights as an ArrayBuffer. `file`: `{ name, bytes, sha256 }`. `tell(done, bytes)` is called on the way. `kernel`:
 * anywidget's model where a kernel runs, else null.
 *
 * In a notebook the kernel sends them. On a site they lie in _static; the name has a part of the file's hash, so what
 * the browser has kept under this name is this file. On the disk a page may read no file beside it, but run a script:
 * the same bytes, written as text.
 */
export async function fetchWeights(file, kernel, tell) {
  if (kernel) return fromKernel(kernel, tell);
  if (location.protocol === "file:") return fromScript(file);
  try {
    return await checked(await download(file, "force-cache", tell), file);
  } catch (error) {
    if (!error.again) throw error;
    return checked(await download(file, "reload", tell), file); // what the browser had kept was damaged
  }
}

async function download(file, cache, tell) {
  let [done, parts] = [0, []];
  try {
    const response = await fetch(new URL(`${root()}_static/${file.name}`, location.href), { cache });
    if (!response.ok) throw new Error(`the server says ${response.status}`);
    const reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      done += part.value.byteLength;
      tell(done, file.bytes);
    }
  } catch (error) {
    const far = done ? `It broke off after ${megabytes(done)} of ${megabytes(file.bytes)} MB.` : "It did not begin.";
    throw new Error(`The download failed (${error.message}). ${far} Try again.`);
  }
  return new Blob(parts).arrayBuffer();
}

/** Is it the file that this page was made with? Its hash is only computed where the browser offers that. */
async function checked(buffer, file) {
  let same = buffer.byteLength === file.bytes;
  if (same && globalThis.crypto?.subtle) {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
    same = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("") === file.sha256;
  }
  if (same) return buffer;
  const error = new Error("What arrived is not the model that this page was made with. Load the page again.");
  throw Object.assign(error, { again: true });
}

async function fromScript(file) {
  const script = document.createElement("script");
  script.src = `${root()}_static/${file.name}.js`;
  await new Promise((done, failed) => {
    script.onload = done;
    script.onerror = () => failed(new Error("The file with the model is not beside this page: build the site again."));
    document.head.append(script);
  });
  const letters = atob(globalThis.a3CompactModel);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  return checked(bytes.buffer, file);
}

async function fromKernel(kernel, tell) {
  const arrived = () => kernel.get("weights")?.byteLength > 0;
  if (!arrived()) {
    tell(0, 0);
    await new Promise((done, failed) => {
      const late = setTimeout(() => failed(new Error("The kernel does not answer. Is it busy? Try again.")), 60000);
      kernel.on("change:weights", () => arrived() && (clearTimeout(late), done()));
      kernel.set("asked", kernel.get("asked") + 1);
      kernel.save_changes();
    });
  }
  const { buffer, byteOffset, byteLength } = kernel.get("weights");
  return buffer.slice(byteOffset, byteOffset + byteLength);
}

// The worker ------------------------------------------------------------------------------------------

/**
 * The desk of page/desk.js, in a worker, so that the page never stands still; in the page itself where there are no
 * workers. `ask(name, given)` promises the answer; `listen(name, given, hear)` hears each of many; `stop()` ends it.
 */
export async function startDesk(buffer) {
  const inWorker = startWorker();
  try {
    if (inWorker) return await connect(inWorker, buffer);
  } catch (error) {
    inWorker.stop();
    if (!error.noWorker) throw error;
  }
  return connect(await startHere(), buffer);
}

async function connect({ port, stop }, buffer) {
  const waiting = new Map();
  let last = 0;
  port.onmessage = ({ data: { id, result, part, error } }) => {
    const { done, failed, hear } = waiting.get(id) ?? {};
    if (part !== undefined) return hear?.(part);
    waiting.delete(id);
    return error === undefined ? done?.(result) : failed?.(new Error(error));
  };
  port.onerror = () => {
    const error = new Error("What computes here was stopped by the browser. Load the page again.");
    waiting.forEach(({ failed }) => failed(Object.assign(error, { noWorker: true })));
  };
  const listen = (name, given, hear) => {
    const id = ++last;
    return new Promise((done, failed) => {
      waiting.set(id, { done, failed, hear });
      port.postMessage({ id, name, given });
    });
  };
  const ask = (name, given) => listen(name, given, null);
  const about = await ask("open", { buffer });
  return { ask, listen, stop, about };
}

function startWorker() {
  try {
    const url = URL.createObjectURL(new Blob([`${ENGINE}\nserve(self);`], { type: "text/javascript" }));
    const made = new Worker(url);
    return { port: made, stop: () => (made.terminate(), URL.revokeObjectURL(url)) };
  } catch {
    return null; // no workers here, or none from such an address
  }
}

async function startHere() {
  const url = URL.createObjectURL(new Blob([`${ENGINE}\nexport { serve };`], { type: "text/javascript" }));
  const { serve } = await import(url);
  URL.revokeObjectURL(url);
  const { port1, port2 } = new MessageChannel();
  serve(port2);
  return { port: port1, stop: () => port1.close() };
}
