/* The arithmetic of the page: nothing here knows of the document. The tests compare each with NumPy. */

/* The numbers that Python wrote as base64 of little-endian float32. */
export function floats(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

/* The same for float16, which a page holds where many numbers are needed and three digits are enough. */
export function halves(base64) {
  const words = new Uint16Array(bytesOf(base64).buffer);
  return Float32Array.from(words, half);
}

function half(word) {
  const [sign, exponent, fraction] = [word >> 15 ? -1 : 1, (word >> 10) & 31, word & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24; // too small for a leading 1
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

export const dot = (a, b) => a.reduce((total, value, i) => total + value * b[i], 0);
export const length = (vector) => Math.sqrt(dot(vector, vector));

/* The ids from the largest logit to the smallest; ties go by id.

   The bits of a float32, taken as a whole number, stand in the order of the floats once those of negative
   numbers are turned over. With the id behind them they make one number below 2⁵², which a double holds
   exactly: so the browser's own sort of numbers does it, ten times as fast as one that asks a function. */
export function ranking(logits) {
  const [values, keys, order] = [logits.slice(), new Float64Array(logits.length), new Uint32Array(logits.length)];
  for (let id = 0; id < values.length; id++) values[id] += 0; // −0 becomes 0
  const bits = new Uint32Array(values.buffer);
  for (let id = 0; id < bits.length; id++) {
    const ascending = bits[id] >>> 31 ? ~bits[id] >>> 0 : (bits[id] ^ 0x80000000) >>> 0;
    keys[id] = (0xffffffff - ascending) * 2 ** 20 + id;
  }
  keys.sort();
  for (let place = 0; place < keys.length; place++) order[place] = keys[place] % 2 ** 20;
  return order;
}

/* Softmax of logits / temperature, in double precision, written into `p`. `order` begins with the largest. */
export function softmax(logits, order, temperature, p) {
  if (temperature === 0) {
    p.fill(0)[order[0]] = 1; // the limit: all of it on the largest logit
    return p;
  }
  const largest = logits[order[0]];
  let total = 0;
  for (let i = 0; i < p.length; i++) total += p[i] = Math.exp((logits[i] - largest) / temperature);
  for (let i = 0; i < p.length; i++) p[i] /= total;
  return p;
}

export function entropyOf(p) {
  let entropy = 0;
  for (let i = 0; i < p.length; i++) if (p[i] > 0) entropy -= p[i] * Math.log2(p[i]);
  return entropy;
}

/* How many tokens of the order the cuts leave, and how much of the probability these have.

   They follow each other as in sampling.py: top-k (equals of the last stay), then top-p on what top-k left,
   then min-p against the likeliest. */
export function cuts({ logits, order, probabilities: p }, { topK, topP, minP }) {
  const size = order.length;
  let kept = size;
  if (topK > 0 && topK < size) {
    for (kept = topK; kept < size && logits[order[kept]] === logits[order[topK - 1]];) kept++;
  }
  if (topP < 1) {
    let total = 0;
    for (let r = 0; r < kept; r++) total += p[order[r]];
    for (let tail = p[order[kept - 1]]; kept > 1 && tail <= (1 - topP) * total;) tail += p[order[--kept - 1]];
  }
  while (minP > 0 && kept > 1 && p[order[kept - 1]] < minP * p[order[0]]) kept--;
  let keptMass = 0;
  for (let r = 0; r < kept; r++) keptMass += p[order[r]];
  return { kept, keptMass };
}

/* The place in the order of the token that a number from 0 to 1 falls on, when the bars of the kept tokens
   lie end to end, and where its bar begins and ends. */
export function drawn({ order, probabilities: p }, { kept, keptMass }, dice) {
  let [end, place] = [0, 0];
  for (; place < kept; place++) {
    const start = end;
    end += p[order[place]] / keptMass;
    if (dice < end || place === kept - 1) return { place, start, end: Math.min(end, 1) };
  }
  throw new RangeError("nothing is kept");
}

/* Numbers from 0 to 1 that a seed determines: mulberry32, 32 bits of state. */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  };
}
