// The A3 model: a3mini/model.py once more, for one text, in plain JavaScript. Only what the compact model needs.
//
// Every layer carries two streams. A content row starts from its token's embedding and sees its own group and all
// earlier ones. A query row predicts the token at its position, and sees earlier groups only. Keys and values come from
// the content stream alone; all other weights serve both.
//
// Content stands in the cache in the order of the groups: each token has a column there. So whatever a row may see is
// the beginning of the cache, and one number, `sees`, says how much of it. This is the whole mask::
//
//     columns       0 0 0 | 1 1 | 2 | 3 3        the group of each
//     content of group 1  sees  5  columns       its own group included
//     query   of group 1  sees  3                earlier groups only
//
// What a row sees never changes once its group is there, so keys and values in the cache are final. Each row is
// computed by itself, in the same order of sums whatever other rows there are; so with the cache and without it the
// results are the same to the last bit.
//
// A block of rows is one Float32Array, row after row. Letters as in model.py: D hidden size, E head size.
import { readFile } from "./weights.js";
import { matrices, upTo } from "./matmul.js";

const EXPECTED = { model_type: "a3", hidden_act: "silu", attention_bias: false, mlp_bias: false };
const ABSENT = { qkv_bias: false, qk_norm: false, no_rope_layers: null };
const PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

export const FROM_VECTOR = -1; // instead of a token: a query row that starts from w

export class Model {
  /** `file`: an ArrayBuffer, or what `readFile` made of it. The model keeps copies of the matrices, not the file. */
  constructor(file, { wasm = true } = {}) {
    const { config, tensors } = file instanceof ArrayBuffer ? readFile(file) : file;
    checkConfig(config);
    this.config = config;
    this.size = config.hidden_size;
    this.headSize = config.head_dim;
    this.heads = config.num_attention_heads;
    this.length = config.max_position_embeddings;
    this.shared = this.heads / config.num_key_value_heads; // query heads that a key head serves
    const found = (name) => {
      if (!tensors.has(name)) throw new Error(`the file is damaged: it has no ${name}; get it again`);
      return tensors.get(name);
    };
    const names = Array.from({ length: config.num_hidden_layers }, (_, layer) =>
      PROJECTIONS.map((name, i) => `model.layers.${layer}.${i < 4 ? "self_attn" : "mlp"}.${name}.weight`),
    ).flat();
    names.push("model.embed_tokens.weight");
    if (!config.tie_word_embeddings) names.push("lm_head.weight");
    const made = matrices(names.map(found), wasm);
    const matrix = (name) => made[names.indexOf(name)];
    this.embedding = matrix("model.embed_tokens.weight");
    this.head = config.tie_word_embeddings ? this.embedding : matrix("lm_head.weight");
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, layer) => ({
      ...Object.fromEntries(PROJECTIONS.map((name, i) => [name, made[layer * PROJECTIONS.length + i]])),
      before: found(`model.layers.${layer}.input_layernorm.weight`).slice(), // of the attention
      between: found(`model.layers.${layer}.post_attention_layernorm.weight`).slice(),
    }));
    this.norm = found("model.norm.weight").slice();
    this.start = found("model.query_embedding").slice(); // w: what a query row starts from
    // the angle of a pair of numbers at position 1; as float32, as the package has it
    const { rope_theta: theta } = config.rope_parameters;
    const pairs = { length: this.headSize / 2 };
    this.angles = Float32Array.from(pairs, (_, pair) => 1 / theta ** ((2 * pair) / this.headSize));
  }

  /**
   * Run both streams: put the content rows into the cache and return the last hidden states of the query rows, normed.
   *
   * cache: a `Cache`.
   * content: `{ tokens, positions, sees }`, lists; in the order of their groups.
   * query: `{ tokens, positions, sees }`: the tokens from whose embeddings the rows start, FROM_VECTOR where from w;
   *     and the rotary positions. See `queryRows` in steps.js.
   * watch: null, or `{ layer, head }`; then `watch.content` and `watch.query` become the attention of the rows, each
   *     over the columns that it sees, and `watch.columns` the positions of all columns.
   */
  run(cache, content, query, watch = null) {
    const { size } = this;
    const [nContent, nQuery] = [content.tokens.length, query.tokens.length];
    const positions = [...content.positions, ...query.positions];
    const sees = [...content.sees, ...query.sees];
    let hidden = new Float32Array((nContent + nQuery) * size);
    [...content.tokens, ...query.tokens].forEach((token, row) => {
      if (token === FROM_VECTOR) hidden.set(this.start, row * size);
      else this.embedding.row(token, hidden, row * size);
    });
    const from = cache.add(content.positions);
    this.layers.forEach((layer, number) => {
      const normed = this.rmsNorm(hidden, layer.before);
      // after the last layer nobody reads content rows: they give their keys and values, and that is all
      const first = number === this.layers.length - 1 && watch === null ? nContent : 0;
      const key = this.rotate(layer.k_proj.times(normed, nContent), content.positions);
      cache.keys[number].set(key, from * cache.width);
      cache.values[number].set(layer.v_proj.times(normed, nContent), from * cache.width);
      const rows = nContent + nQuery - first;
      const queries = this.rotate(layer.q_proj.times(normed.subarray(first * size), rows), positions.slice(first));
      const weights = number === watch?.layer ? [] : null;
      const [keys, values] = [cache.keys[number], cache.values[number]];
      const attended = this.attend(queries, keys, values, sees.slice(first), weights, watch?.head);
      if (weights) {
        const [ofContent, ofQuery] = [weights.slice(0, nContent), weights.slice(nContent)];
        Object.assign(watch, { content: ofContent, query: ofQuery, columns: [...cache.positions] });
      }
      hidden = plus(hidden.subarray(first * size), layer.o_proj.times(attended, rows));
      const inside = this.rmsNorm(hidden, layer.between);
      const gate = layer.gate_proj.times(inside, rows);
      const up = layer.up_proj.times(inside, rows);
      for (let i = 0; i < up.length; i++) up[i] *= gate[i] / (1 + Math.exp(-gate[i])); // SwiGLU
      hidden = plus(hidden, layer.down_proj.times(up, rows));
    });
    return this.rmsNorm(hidden.subarray(hidden.length - nQuery * size), this.norm);
  }

  /** Logits of `count` rows of last hidden states: a list of Float32Arrays. */
  logits(hidden, count) {
    const found = this.head.times(hidden, count);
    return Array.from({ length: count }, (_, n) => found.subarray(n * this.head.rows, (n + 1) * this.head.rows));
  }

  /** x / sqrt(mean(x^2) + eps) * weight, row by row. */
  rmsNorm(x, weight) {
    const out = new Float32Array(x.length);
    for (let row = 0; row < x.length; row += this.size) {
      let sum = 0;
      for (let i = 0; i < this.size; i++) sum += x[row + i] ** 2;
      const factor = 1 / Math.sqrt(sum / this.size + this.config.rms_norm_eps);
      for (let i = 0; i < this.size; i++) out[row + i] = x[row + i] * factor * weight[i];
    }
    return out;
  }

  /** Rotary embedding, in place: turn each pair (x_i, x_{i+E/2}) of each head by its row's position times angle i. */
  rotate(x, positions) {
    const half = this.headSize / 2;
    const width = x.length / positions.length || 0; // of a row: all its heads
    positions.forEach((position, row) => {
      for (let i = 0; i < half; i++) {
        const angle = Math.fround(position * this.angles[i]);
        const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
        for (let at = row * width + i; at < (row + 1) * width; at += this.headSize) {
          const [first, second] = [x[at], x[at + half]];
          x[at] = first * cos - second * sin;
          x[at + half] = second * cos + first * sin;
        }
      }
    });
    return x;
  }

  /**
   * softmax(q k / sqrt(E)) v over the columns that each row sees; zero where it sees none.
   *
   * Four columns at a time share the reading of q, and then of the output: three times as fast. The last four may hold
   * columns that the row does not see; these get the weight 0.
   */
  attend(queries, keys, values, sees, weights, watched) {
    const { heads, headSize, shared } = this;
    const column = (heads / shared) * headSize; // numbers of one column: the heads of keys and values may be fewer
    const out = new Float32Array(queries.length);
    const scores = new Float32Array(upTo(Math.max(0, ...sees), COLUMNS));
    for (let row = 0; row < sees.length; row++) {
      for (let head = 0; head < heads; head++) {
        const at = (row * heads + head) * headSize;
        const query = queries.subarray(at, at + headSize);
        const result = out.subarray(at, at + headSize);
        const inside = Math.floor(head / shared) * headSize; // where in a column the head's numbers stand
        for (let c = 0; c < sees[row]; c += COLUMNS) {
          const k = c * column + inside;
          const [l, m, n] = [k + column, k + 2 * column, k + 3 * column];
          let [first, second, third, fourth] = [0, 0, 0, 0];
          for (let i = 0; i < headSize; i++) {
            const value = query[i];
            first += value * keys[k + i];
            second += value * keys[l + i];
            third += value * keys[m + i];
            fourth += value * keys[n + i];
          }
          scores[c] = first;
          scores[c + 1] = second;
          scores[c + 2] = third;
          scores[c + 3] = fourth;
        }
        softmax(scores, sees[row], 1 / Math.sqrt(headSize));
        for (let c = 0; c < sees[row]; c += COLUMNS) {
          const k = c * column + inside;
          const [l, m, n] = [k + column, k + 2 * column, k + 3 * column];
          const [first, second, third, fourth] = [scores[c], scores[c + 1], scores[c + 2], scores[c + 3]];
          for (let i = 0; i < headSize; i++) {
            const pair = first * values[k + i] + second * values[l + i];
            result[i] += pair + third * values[m + i] + fourth * values[n + i];
          }
        }
        if (weights && head === watched) weights.push(scores.slice(0, sees[row]));
      }
    }
    return out;
  }
}

const COLUMNS = 4;

/** The first `count` scores, times `factor`, become weights that sum to 1; those behind become 0. */
function softmax(scores, count, factor) {
  let largest = -Infinity;
  for (let c = 0; c < count; c++) largest = Math.max(largest, scores[c]);
  let total = 0;
  for (let c = 0; c < count; c++) total += scores[c] = Math.exp((scores[c] - largest) * factor);
  for (let c = 0; c < count; c++) scores[c] /= total;
  scores.fill(0, count);
}

/** Keys and values of the content so far: one column for each token, in the order of the groups. */
export class Cache {
  constructor(model) {
    this.width = model.config.num_key_value_heads * model.headSize;
    const buffers = () => model.layers.map(() => new Float32Array(upTo(model.length, COLUMNS) * this.width));
    [this.keys, this.values] = [buffers(), buffers()];
    this.positions = []; // of each column
  }

  /** Room for more columns; returns where they begin. */
  add(positions) {
    return this.positions.push(...positions) - positions.length;
  }

  /** Forget all but the first `count` columns. */
  keep(count) {
    this.positions.length = count;
  }
}

const plus = (one, other) => one.map((value, i) => value + other[i]);

function checkConfig(config) {
  for (const [name, value] of Object.entries({ ...EXPECTED, ...ABSENT })) {
    const here = name in ABSENT ? (config[name] ?? value) : config[name];
    if (here !== value) throw new Error(`the page cannot run a model whose ${name} is ${JSON.stringify(here)}`);
  }
  const { rope_type: type } = config.rope_parameters;
  if (type !== "default") throw new Error(`the page cannot run a model whose rope_type is ${type}`);
}
