// A whole model from one file, as a3mini/eight_bit.py writes it: the config, the tokenizer, and weights of 8 bits.
//
// The file is safetensors: the length of the header in eight bytes, the header in JSON, then the numbers as they are.
// A matrix is `whole`, an Int8Array, and `scale`, one factor for each row: the weight is their product.

const FORMAT = "a3mini, 8 bits, 1";
const AGAIN = "get it again";

/**
 * What an ArrayBuffer holds: `{ config, tokenizer, special, tensors }`, all objects. A tensor is a Float32Array, or for
 * a matrix `{ whole, scale, rows, columns }`. They are views of the buffer, not copies.
 */
export function readFile(buffer) {
  const { header, start } = readHeader(buffer);
  const { __metadata__: texts = {}, ...places } = header;
  if (texts.format !== FORMAT) {
    throw new Error(`this is no model that the page can read: its format is ${texts.format}, and should be ${FORMAT}`);
  }
  const numbers = new Map(Object.entries(places).map(([name, place]) => [name, view(buffer, start, name, place)]));
  const tensors = new Map();
  for (const [name, values] of numbers) {
    if (values instanceof Float32Array) {
      if (!name.endsWith(".scale")) tensors.set(name, values);
      continue;
    }
    const [[rows, columns], scale] = [places[name].shape, numbers.get(`${name}.scale`)];
    if (scale?.length !== rows) throw new Error(`the file is damaged: ${name} has no scale for each row; ${AGAIN}`);
    tensors.set(name, { whole: values, scale, rows, columns });
  }
  const [config, tokenizer, special] = ["config", "tokenizer", "special_tokens"].map((name) => parsed(texts, name));
  return { config, tokenizer, special, tensors };
}

function readHeader(buffer) {
  if (buffer.byteLength < 8) throw new Error(`the file has ${buffer.byteLength} bytes and no header; ${AGAIN}`);
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const start = 8 + size;
  if (start > buffer.byteLength) {
    throw new Error(`the file is cut short, or no safetensors file: it ends within its header; ${AGAIN}`);
  }
  try {
    return { header: JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size))), start };
  } catch {
    throw new Error(`this is no safetensors file: its header cannot be read; ${AGAIN}`);
  }
}

/** The numbers of one tensor. */
function view(buffer, start, name, { dtype, shape, data_offsets: [from, to] }) {
  const kind = { I8: Int8Array, F32: Float32Array }[dtype];
  if (!kind) throw new Error(`${name} is of the kind ${dtype}; a model of 8 bits has I8 and F32`);
  if (start + to > buffer.byteLength) {
    const size = `${buffer.byteLength} bytes, and ${name} ends at ${start + to}`;
    throw new Error(`the file is cut short: it has ${size}; ${AGAIN}`);
  }
  const count = shape.reduce((product, size) => product * size, 1);
  if (to - from !== count * kind.BYTES_PER_ELEMENT || (start + from) % kind.BYTES_PER_ELEMENT) {
    throw new Error(`the file is damaged: ${name} has another size than its header says; ${AGAIN}`);
  }
  return new kind(buffer, start + from, count);
}

function parsed(texts, name) {
  try {
    return JSON.parse(texts[name]);
  } catch {
    throw new Error(`the file is damaged: its header has no valid ${name}; ${AGAIN}`);
  }
}
