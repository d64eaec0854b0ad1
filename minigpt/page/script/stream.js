/* All blocks: how the residual stream grows, who adds how much, and the attention of every head. */
import { path, picture, shade } from "./charts.js";
import { weightsOf } from "./contexts.js";
import { chooseHead, current, position, state, view } from "./store.js";
import { $, canvasOf, clamp, colourOf, draw, fixed, later, make, range, say } from "./tools.js";
import { t } from "./words.js";

/* Lengths by depth: the stream as a line, and what each attention and each MLP added as bars. */
function showGrowth() {
  const context = current();
  const { stream, attention, mlp } = context.growth;
  const { size, model } = context;
  const layers = model.n_layer;
  const row = position() - context.first;
  const at = (values, depth) => values[depth * size + row];
  const lengths = range(layers + 1).map((depth) => at(stream, depth));
  const most = Math.max(...lengths, ...range(layers).flatMap((i) => [at(attention, i), at(mlp, i)]));
  const height = 220;
  const label = t("stream.label", { start: fixed(lengths[0], 1), end: fixed(lengths[layers], 1) });
  const { svg, width } = picture($("growth"), height, label);
  const [left, right, top, bottom] = [44, width - 12, 14, height - 26];
  const step = (right - left) / (layers + 0.4);
  const x = (depth) => left + step * depth;
  const y = (value) => bottom - ((bottom - top) * value) / most;
  for (const value of [0, most / 2, most]) {
    svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { class: "axis end", x: left - 8, y: y(value) + 4 }, value < 10 ? fixed(value, value ? 1 : 0) : fixed(value, 0)));
  }
  const every = Math.ceil((layers * 30) / (right - left));
  for (const i of range(layers)) {
    const [width2, middle] = [Math.min(step * 0.28, 14), x(i) + step / 2];
    const bars = [["attention", at(attention, i), middle - width2 - 1], ["mlp", at(mlp, i), middle + 1]];
    for (const [name, value, start] of bars) {
      const named = draw("title", {}, t(`stream.${name}`, { layer: i, length: fixed(value) }));
      svg.append(draw("rect", { class: `added of-${name}`, x: start, y: y(value), width: width2, height: bottom - y(value) }, named));
    }
    if (i === state.layer) svg.append(draw("line", { class: "here", x1: x(i) + 3, x2: x(i + 1) - 3, y1: bottom + 3, y2: bottom + 3 }));
    if (i % every === 0 || i === layers - 1)
      svg.append(draw("text", { class: "axis middle", x: middle, y: height - 6 }, `h.${i}`));
  }
  svg.append(draw("path", { class: "line main", d: path(lengths.map((value, depth) => [x(depth), y(value)])) }));
  lengths.forEach((value, depth) => svg.append(draw("circle", { class: "knot", cx: x(depth), cy: y(value), r: 3 }, draw("title", {}, fixed(value)))));
}

/* Every head as a small picture: its weights, drawn as pixels and enlarged. */
function drawHeads() {
  const context = current();
  const { n_layer: layers, n_head: heads } = context.model;
  const n = context.size;
  const width = $("heads").parentNode.clientWidth;
  const [cell, box] = [width / heads, Math.min(width / heads, 52)];
  const pen = canvasOf($("heads"), width, Math.ceil(box * layers));
  const [red, green, blue] = colourOf("--accent-rgb").split(" ").map(Number);
  const small = make("canvas", { width: n, height: n });
  const ink = small.getContext("2d");
  const pixels = new ImageData(n, n);
  pen.imageSmoothingEnabled = n > 12;
  pen.fillStyle = colourOf("--well");
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < n; i++) {
        const row = weightsOf(context, layer, head, i);
        for (let j = 0; j <= i; j++) pixels.data.set([red, green, blue, 255 * shade(row[1 + j])], 4 * (i * n + j));
      }
      ink.putImageData(pixels, 0, 0);
      const place = [head * cell + 1.5, layer * box + 1.5, cell - 3, box - 3];
      pen.fillRect(...place);
      pen.drawImage(small, ...place);
    }
  }
  frameHead();
}

/* Marks the head that is shown with a frame, which lies over the pictures. */
function frameHead() {
  const { n_layer: layers, n_head: heads } = current().model;
  const frame = $("heads-frame").style;
  frame.width = `${100 / heads}%`;
  frame.height = `${100 / layers}%`;
  frame.left = `${(100 * state.head) / heads}%`;
  frame.top = `${(100 * state.layer) / layers}%`;
  $("heads-words").textContent = t("stream.chosen", { layer: state.layer, head: state.head });
}

export function connectStream() {
  $("heads").addEventListener("click", (event) => {
    const { n_layer: layers, n_head: heads } = current().model;
    const box = $("heads").getBoundingClientRect();
    const at = (offset, length, n) => clamp(Math.floor((offset / length) * n), 0, n - 1);
    chooseHead(at(event.clientY - box.top, box.height, layers), at(event.clientX - box.left, box.width, heads));
    later(() => say($("looks-words").textContent));
  });
}

view(["context", "position", "head"], showGrowth, "blocks");
view(["context"], drawHeads, "blocks");
view(["head"], frameHead, "blocks");
