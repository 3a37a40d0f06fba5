// The one product that costs time: rows of activations times a matrix of 8-bit weights, W x for many x at once.
//
// Two classes do the same: `PlainMatrix` is the product as one would write it, and `FastMatrix` has its inner loop in
// WebAssembly, where one instruction multiplies four numbers (SIMD). There is no file of WebAssembly: `program` below
// writes its bytes. The weights stay whole numbers of one byte, so a model takes as much memory as its file.

/**
 * Matrices with their product, from `{ whole, scale, rows, columns }` each: `whole`, an Int8Array, holds the weights
 * row after row, and `scale` one factor for each row. `wasm`: the fast ones, where they work. The numbers are copied.
 */
export function matrices(sources, wasm) {
  return wasm && simdWorks() ? fastMatrices(sources) : sources.map((source) => new PlainMatrix(source));
}

/** Can WebAssembly be used here? A page may forbid it, and old browsers have no SIMD. */
export function simdWorks() {
  try {
    return Boolean(new WebAssembly.Module(program()));
  } catch {
    return false;
  }
}

// In plain JavaScript ---------------------------------------------------------------------------

class PlainMatrix {
  constructor({ whole, scale, rows, columns }) {
    Object.assign(this, { whole: whole.slice(), scale: scale.slice(), rows, columns });
  }

  /** Row `number` of the matrix, written to `out` from `offset` on: how a token's embedding is looked up. */
  row(number, out, offset) {
    const { whole, scale, columns } = this;
    for (let i = 0; i < columns; i++) out[offset + i] = whole[number * columns + i] * scale[number];
  }

  /** `count` rows of activations, one after another, to `count` rows of W x. */
  times(x, count) {
    const { whole, scale, rows, columns } = this;
    const out = new Float32Array(count * rows);
    for (let n = 0; n < count; n++) {
      const input = x.subarray(n * columns, (n + 1) * columns);
      for (let row = 0; row < rows; row += 4) {
        // four rows of weights at a time share the reading of the input; behind the last row, that row comes again
        const [r, s] = [row, Math.min(row + 1, rows - 1)];
        const [t, u] = [Math.min(row + 2, rows - 1), Math.min(row + 3, rows - 1)];
        const [R, S, T, U] = [r * columns, s * columns, t * columns, u * columns];
        let [a, b, c, d] = [0, 0, 0, 0];
        for (let i = 0; i < columns; i++) {
          const value = input[i];
          a += whole[R + i] * value;
          b += whole[S + i] * value;
          c += whole[T + i] * value;
          d += whole[U + i] * value;
        }
        const place = n * rows;
        out[place + r] = a * scale[r];
        out[place + s] = b * scale[s];
        out[place + t] = c * scale[t];
        out[place + u] = d * scale[u];
      }
    }
    return out;
  }
}

// In WebAssembly --------------------------------------------------------------------------------

const WIDTH = 8; // weights that are read at a time; the columns of a matrix are filled up with zeros to a multiple
const BATCHES = [8, 4, 2, 1]; // rows of activations that share one reading of the weights: a function for each
const PAGE = 65536; // bytes; WebAssembly's memory comes in pages

/** The next multiple of `unit`. */
export const upTo = (number, unit) => Math.ceil(number / unit) * unit;

/** All matrices of a model in one WebAssembly memory: their weights, their scales, and room for one product. */
function fastMatrices(sources) {
  let free = 0;
  const take = (bytes) => (free += upTo(bytes, 16)) - upTo(bytes, 16);
  const places = sources.map(({ rows, columns }) => [take(rows * upTo(columns, WIDTH)), take(4 * rows)]);
  const widest = Math.max(...sources.map(({ columns }) => upTo(columns, WIDTH)));
  const tallest = Math.max(...sources.map(({ rows }) => rows));
  const room = [take(4 * BATCHES[0] * widest), take(4 * BATCHES[0] * tallest)];
  const memory = new WebAssembly.Memory({ initial: Math.ceil(free / PAGE) });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(program()), { js: { memory } });
  return sources.map((source, i) => new FastMatrix(source, memory.buffer, exports, ...places[i], ...room));
}

class FastMatrix {
  constructor({ whole, scale, rows, columns }, buffer, exports, weightsAt, scaleAt, inputAt, outputAt) {
    const width = upTo(columns, WIDTH);
    Object.assign(this, { exports, rows, columns, width, weightsAt, scaleAt, inputAt, outputAt });
    this.whole = new Int8Array(buffer, weightsAt, rows * width);
    for (let r = 0; r < rows; r++) this.whole.set(whole.subarray(r * columns, (r + 1) * columns), r * width);
    this.scale = new Float32Array(buffer, scaleAt, rows);
    this.scale.set(scale);
    this.input = new Float32Array(buffer, inputAt, BATCHES[0] * width);
    this.output = new Float32Array(buffer, outputAt, BATCHES[0] * rows);
  }

  row(number, out, offset) {
    const { whole, scale, columns, width } = this;
    for (let i = 0; i < columns; i++) out[offset + i] = whole[number * width + i] * scale[number];
  }

  times(x, count) {
    const { rows, columns, width, input, output } = this;
    const out = new Float32Array(count * rows);
    for (let done = 0, batch; done < count; done += batch) {
      batch = BATCHES.find((size) => size <= count - done);
      // Eight numbers of the first row, eight of the second, ...: so the program reads one address after another. What
      // fills up the last eight may be left from before: its weights are zero.
      for (let n = 0; n < batch; n++) {
        for (let i = 0, from = (done + n) * columns; i < columns; i++) {
          input[(Math.floor(i / WIDTH) * batch + n) * WIDTH + (i % WIDTH)] = x[from + i];
        }
      }
      this.exports[`times${batch}`](this.weightsAt, this.scaleAt, this.inputAt, this.outputAt, rows, width);
      out.set(output.subarray(0, batch * rows), done * rows);
    }
    return out;
  }
}

// The program -----------------------------------------------------------------------------------
//
// WebAssembly is a machine with a stack: `get(x), get(y), add` leaves x + y on it. Behind each instruction stands its
// name in the specification, webassembly.github.io/spec/core. Code is written here as nested lists of bytes, which
// `sized` makes flat. Counts and places take seven bits a byte, lowest first; the highest bit says that more follow.

const count = (n) => (n < 128 ? [n] : [(n & 127) | 128, count(n >>> 7)]);
const list = (items) => [count(items.length), items];
const text = (word) => list([...word].map((letter) => letter.charCodeAt(0)));
const sized = (code) => list(code.flat(Infinity)); // with its number of bytes before it
const section = (kind, items) => [kind, sized(list(items))];

const [WHOLE, FOUR] = [0x7f, 0x7b]; // i32, v128: kinds of values, a whole number and four real ones at once
const get = (local) => [0x20, count(local)]; // local.get
const set = (local) => [0x21, count(local)]; // local.set
const constant = (n) => [0x41, n < 64 || n > 127 ? count(n) : [n | 128, 0]]; // i32.const: a last byte of 64 is a minus
const [add, subtract, multiply, above] = [0x6a, 0x6b, 0x6c, 0x4a]; // i32.add, i32.sub, i32.mul, i32.gt_s
const [addReal, multiplyReal] = [0x92, 0x94]; // f32.add, f32.mul
const [loadReal, storeReal] = [[0x2a, 2, 0], [0x38, 2, 0]]; // f32.load, f32.store
const simd = (code, ...more) => [0xfd, count(code), ...more];
const loadEight = simd(0x01, 0, 0); // v128.load8x8_s: eight bytes become numbers of 16 bits
const [low, high] = [simd(0xa7), simd(0xa8)]; // i32x4.extend_low_i16x8_s, _high_: four of them become 32 bits
const toReal = simd(0xfa); // f32x4.convert_i32x4_s
const loadFour = (offset) => simd(0x00, 0, count(offset)); // v128.load
const [addFour, multiplyFour] = [simd(0xe4), simd(0xe6)]; // f32x4.add, f32x4.mul
const zeros = simd(0x0c, ...Array(16).fill(0)); // v128.const
const lane = (n) => simd(0x1f, n); // f32x4.extract_lane: one of the four
const raise = (local, by) => [get(local), by, add, set(local)];
/** Code that is run again as long as the local `left`, made less by `step` each time, is above 0: loop, br_if. */
const loop = (left, step, code) => [
  [0x03, 0x40],
  code,
  [get(left), constant(step), subtract, set(left), get(left), constant(0), above],
  [0x0d, 0, 0x0b],
];

/** The product of a matrix with `batch` rows of activations; what `times` above calls. */
function product(batch) {
  // six arguments: where weights, scales, input and output begin, how many rows, how long each is; and locals
  const [weights, scale, input, output, rows, width, place, left, stride, first, second] = Array(11).keys();
  const sum = (n) => 11 + n; // of row n of the input: four numbers, which are added up at the end
  const each = (code) => Array.from({ length: batch }, (_, n) => code(n));
  const eightMore = [
    // eight weights, as two times four real numbers; times eight numbers of each row of the input
    [get(weights), loadEight, low, toReal, set(first)],
    [get(weights), loadEight, high, toReal, set(second)],
    each((n) => [
      [get(sum(n)), get(first), get(place), loadFour(32 * n), multiplyFour, addFour],
      [get(second), get(place), loadFour(32 * n + 16), multiplyFour, addFour, set(sum(n))],
    ]),
    raise(weights, constant(WIDTH)),
    raise(place, constant(32 * batch)),
  ];
  const oneRow = [
    each((n) => [zeros, set(sum(n))]),
    [get(input), set(place), get(width), set(left)],
    loop(left, WIDTH, eightMore),
    [get(output), set(place)],
    each((n) => [
      get(place),
      [get(sum(n)), lane(0), get(sum(n)), lane(1), addReal],
      [get(sum(n)), lane(2), get(sum(n)), lane(3), addReal, addReal],
      [get(scale), loadReal, multiplyReal, storeReal],
      raise(place, get(stride)),
    ]),
    raise(output, constant(4)),
    raise(scale, constant(4)),
  ];
  const locals = list([
    [3, WHOLE], // place, left, stride
    [2 + batch, FOUR], // first, second, and the sums
  ]);
  const start = [get(rows), constant(4), multiply, set(stride)]; // bytes from one row of the output to the next
  return sized([locals, start, loop(rows, 1, oneRow), 0x0b]);
}

/** The module: it is given a memory, and has times8, times4, times2 and times1. */
function program() {
  const code = [
    [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "asm", version 1
    section(1, [[0x60, list(Array(6).fill(WHOLE)), list([])]]), // one kind of function: six whole numbers, no result
    section(2, [[text("js"), text("memory"), 2, 0, 1]]), // the memory
    section(3, BATCHES.map(() => 0)), // functions, all of that kind
    section(7, BATCHES.map((batch, n) => [text(`times${batch}`), 0, n])), // their names
    section(10, BATCHES.map(product)), // and their code
  ];
  return Uint8Array.from(code.flat(Infinity));
}
