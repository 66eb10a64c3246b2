"use strict";
// Classifies texts with an exported student. No document is needed, so node runs it too.

const DECODERS = { F64: Float64Array, F32: Float32Array, I8: Int8Array };

function decodeArray(entry) {
  const bytes = Uint8Array.from(atob(entry.data), (character) => character.charCodeAt(0));
  if (entry.dtype === "F16") return Float32Array.from(new Uint16Array(bytes.buffer), halfToFloat);
  return new DECODERS[entry.dtype](bytes.buffer);
}

function halfToFloat(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function toUnitLength(row) {
  let sum = 0;
  for (const value of row) sum += value * value;
  const norm = Math.max(Math.sqrt(sum), 1e-12);
  return row.map((value) => value / norm);
}

// MurmurHash3 (32 bits, seed 0) of bytes[start..end), as a signed integer.
function murmur3(bytes, start, end) {
  let hash = 0, at = start;
  const mix = (word) => {
    word = Math.imul(word, 0xcc9e2d51);
    return Math.imul((word << 15) | (word >>> 17), 0x1b873593);
  };
  for (; at + 4 <= end; at += 4) {
    hash ^= mix(bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24));
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  let tail = 0;
  for (let i = end - 1; i >= at; i--) tail = (tail << 8) | bytes[i];
  hash ^= mix(tail) ^ (end - start);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) | 0;
}

// Python's str.split() splits at these characters.
const SPACES = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;

function makeHashing(dim) {
  const encoder = new TextEncoder(), half = Math.floor(dim / 2);
  return (text) => {
    const lower = text.toLowerCase();
    const words = new Float64Array(half), characters = new Float64Array(dim - half);
    const count = (row, string) => {
      const bytes = encoder.encode(string), hash = murmur3(bytes, 0, bytes.length);
      row[Math.abs(hash) % row.length] += hash >= 0 ? 1 : -1;
    };
    const tokens = lower.match(/[\p{L}\p{N}_]+/gu) || [];
    tokens.forEach((token, i) => {
      count(words, token);
      if (i) count(words, tokens[i - 1] + " " + token);
    });
    for (const word of lower.split(SPACES)) {
      if (!word) continue;
      const padded = Array.from(" " + word + " ");
      for (const n of [3, 4, 5]) {
        for (let i = 0; i + n <= padded.length; i++) count(characters, padded.slice(i, i + n).join(""));
      }
    }
    return toUnitLength(Float64Array.from([...toUnitLength(words), ...toUnitLength(characters)]));
  };
}

function makeWordPiece(config) {
  const ids = new Map(config.tokens.map((token, i) => [token, i])), cache = new Map();
  const ideograph = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2fa1f}]/u;

  function words(text) {
    let clean = "";
    for (const c of text) {
      if (/[\t\n\r\p{Z}]/u.test(c)) clean += " ";
      else if (c !== "\ufffd" && !/\p{C}/u.test(c)) clean += ideograph.test(c) ? ` ${c} ` : c;
    }
    if (config.strip) clean = clean.normalize("NFD").replace(/\p{Mn}/gu, "");
    if (config.lowercase) clean = Array.from(clean, (c) => c.toLowerCase()).join("");
    return clean.replace(/[\p{P}$+<=>^`|~]/gu, " $& ").split(/\s+/u).filter(Boolean);
  }

  function pieces(word) {
    const found = [], letters = Array.from(word);
    let start = 0;
    while (start < letters.length && letters.length <= config.longest) {
      let end = letters.length, id;
      for (; end > start; end--) {
        id = ids.get((start ? config.prefix : "") + letters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (end === start) return [config.unknown];
      found.push(id);
      start = end;
    }
    return found.length ? found : [config.unknown];
  }

  return (text) => {
    if (cache.size > 1e5) cache.clear();
    return words(text).flatMap((word) => {
      if (!cache.has(word)) cache.set(word, pieces(word));
      return cache.get(word);
    });
  };
}

function makeStatic(config, arrays) {
  const tokenize = makeWordPiece(config), table = arrays[config.table], scale = arrays[config.scale];
  const dim = table.length / config.tokens.length;
  return (text) => {
    const row = new Float64Array(dim);
    for (const id of tokenize(text)) {
      const factor = scale ? scale[id] : 1;
      for (let i = 0; i < dim; i++) row[i] += table[id * dim + i] * factor;
    }
    return toUnitLength(row);
  };
}

function makeEncoder(parts, arrays) {
  const encoders = parts.map((part) => (part.kind === "hashing" ? makeHashing(part.dim) : makeStatic(part, arrays)));
  return (text) => Float64Array.from(encoders.flatMap((encode) => Array.from(encode(text))));
}

// A row vector times a matrix in row-major order.
function multiply(row, matrix, offset) {
  const width = matrix.length / row.length, out = new Float64Array(width);
  if (offset) out.set(offset);
  for (let i = 0; i < row.length; i++) {
    if (row[i] !== 0) for (let j = 0; j < width; j++) out[j] += row[i] * matrix[i * width + j];
  }
  return out;
}

function makeContraction(core, arrays) {
  const products = (z, inputs, sizes) => {
    let row = [1];
    inputs.forEach((input, n) => {
      const features = [1];
      for (let f = 1; 2 * f < sizes[n]; f++) features.push(Math.cos(f * z[input]), Math.sin(f * z[input]));
      const next = new Float64Array(row.length * features.length);
      for (let i = 0, at = 0; i < row.length; i++) for (const feature of features) next[at++] = row[i] * feature;
      row = next;
    });
    return row;
  };
  const half = (row, matrix) => {
    const ranks = matrix.length / row.length, out = new Float64Array(ranks);
    for (let r = 0; r < ranks; r++) for (let i = 0; i < row.length; i++) out[r] += matrix[r * row.length + i] * row[i];
    return out;
  };
  return (z) => core.observables.map(([inputs, sizes, split], k) => {
    const left = half(products(z, inputs.slice(0, split), sizes.slice(0, split)), arrays[`left.${k}`]);
    const right = half(products(z, inputs.slice(split), sizes.slice(split)), arrays[`right.${k}`]);
    return left.reduce((sum, value, r) => sum + value * right[r], 0);
  });
}

// Runs a list of gates on |0...0>; the result is [real, imaginary] amplitudes.
function makeStatevector(core, arrays) {
  const n = core.qubits, matrices = arrays.matrices, slopes = arrays.slopes, offsets = arrays.offsets;
  return (z) => {
    const re = new Float64Array(1 << n), im = new Float64Array(1 << n);
    re[0] = 1;
    for (const [qubits, number] of core.gates) {
      if (number < 0) {
        const column = -1 - number, width = offsets.length;
        let angle = offsets[column];
        for (let i = 0; i < z.length; i++) angle += z[i] * slopes[i * width + column];
        const c = Math.cos(angle / 2), s = Math.sin(angle / 2), bit = 1 << qubits[0];
        for (let i = 0; i < re.length; i++) {
          const sign = i & bit ? s : -s, real = re[i];
          re[i] = real * c - im[i] * sign;
          im[i] = im[i] * c + real * sign;
        }
        continue;
      }
      applyMatrix(re, im, qubits, matrices, number * 32);
    }
    return [re, im];
  };
}

function applyMatrix(re, im, qubits, matrices, start) {
  const size = 1 << qubits.length, bits = qubits.map((qubit) => 1 << qubit), mask = bits.reduce((a, b) => a | b, 0);
  const at = new Int32Array(size), a = new Float64Array(size), b = new Float64Array(size);
  for (let i = 0; i < re.length; i++) {
    if (i & mask) continue;
    for (let j = 0; j < size; j++) {
      at[j] = i | (j & 1 ? bits[0] : 0) | (j & 2 ? bits[1] : 0);
      a[j] = re[at[j]];
      b[j] = im[at[j]];
    }
    for (let j = 0; j < size; j++) {
      let real = 0, imaginary = 0;
      for (let k = 0; k < size; k++) {
        const x = matrices[start + j * 4 + k], y = matrices[start + 16 + j * 4 + k];
        real += x * a[k] - y * b[k];
        imaginary += x * b[k] + y * a[k];
      }
      re[at[j]] = real;
      im[at[j]] = imaginary;
    }
  }
}

// The expectation value of a Pauli string, given by the bits of X or Y and of Z or Y.
function pauliValue([re, im], flips, signs) {
  let ys = 0;
  for (let bits = flips & signs; bits; bits &= bits - 1) ys++;
  let value = 0;
  for (let i = 0; i < re.length; i++) {
    const j = i ^ flips;
    let sign = 1;
    for (let bits = i & signs; bits; bits &= bits - 1) sign = -sign;
    const real = re[j] * re[i] + im[j] * im[i], imaginary = re[j] * im[i] - im[j] * re[i];
    value += sign * [real, -imaginary, -real, imaginary][ys % 4];
  }
  return value;
}

function makeCore(core, arrays) {
  if (core.kind === "contraction") return makeContraction(core, arrays);
  if (core.kind === "gates") {
    const run = makeStatevector(core, arrays);
    return (z) => {
      const state = run(z);
      return core.observables.map((terms) => terms.reduce((sum, [c, x, s]) => sum + c * pauliValue(state, x, s), 0));
    };
  }
  if (core.kind === "mlp") {
    return (z) => {
      const x = z.map((value) => value / Math.PI);
      const out = multiply(multiply(x, arrays.hidden, arrays.hidden_bias).map(Math.tanh), arrays.out);
      return x.map((value, i) => value + out[i]);
    };
  }
  return (z) => z;
}

// Returns a function from a text to {probabilities, label, angles, values}.
function makeClassifier(model, encode) {
  const arrays = Object.fromEntries(Object.entries(model.arrays).map(([name, entry]) => [name, decodeArray(entry)]));
  const core = makeCore(model.core, arrays);
  encode = encode || makeEncoder(model.encoder, arrays);
  const classify = (text) => {
    let angles = multiply(encode(text), arrays.weight, arrays.bias);
    if (model.angle_map === "tanh") angles = angles.map((value) => Math.PI * Math.tanh(value));
    if (model.angle_map === "minmax") {
      const low = Math.min(...angles), span = Math.max(...angles) - low + 1e-9;
      angles = angles.map((value) => (10 * (value - low)) / span);
    }
    const values = Float64Array.from(core(angles));
    const logits = multiply(values, arrays.head, arrays.head_bias), top = Math.max(...logits);
    const weights = logits.map((value) => Math.exp(value - top)), total = weights.reduce((a, b) => a + b, 0);
    const probabilities = weights.map((weight) => weight / total);
    return { probabilities, label: probabilities.indexOf(Math.max(...probabilities)), angles, values };
  };
  return { classify, encode, arrays };
}
