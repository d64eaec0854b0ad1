/* The script of the page that `minigpt PROMPT --html FILE` writes.

It reads the numbers from the JSON in #data, draws every view, and computes softmax over the whole
vocabulary in double precision whenever a slider moves. Text reaches the page as text nodes only, so a
prompt or a token that looks like markup stays text. Styles are set through the object model, because
the page's Content-Security-Policy forbids style attributes.

For a console, a notebook or a test, `window.minigpt` offers:
  contexts                 [{ prompt, tokens, logits: Float32Array }]
  settings                 { temperature, topK, topP, minP }, a copy
  set({ temperature: 0.5 }) changes settings as the sliders do; a RangeError if one is out of range
  probabilities(context=0) Float64Array by token id: after temperature, before any cut
  kept(context=0)          Float64Array by token id: after top-k, top-p and min-p, adding up to 1
*/
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { model, vocabulary } = data;

  /* ------------------------------------------------------------------------------------- small tools */

  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en-US");
  const minus = (text) => text.replace("-", "−");
  const fixed = (value, digits = 2) => minus(value.toFixed(digits));
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null) node.setAttribute(name, value);
    }
    node.append(...children); // strings become text nodes, never markup
    return node;
  }
  const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const draw = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  function floats(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new Float32Array(bytes.buffer);
  }

  /* Puts `nodes` into `parent` without touching those already in place: a moved node loses the focus. */
  function arrange(parent, nodes) {
    const wanted = new Set(nodes);
    for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
    nodes.forEach((node, i) => {
      if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
    });
  }

  /* One tab stop for a whole group of buttons; the arrow keys move inside it, `columns` to a row. */
  function rove(container, columns = () => 1) {
    const buttons = () => [...container.querySelectorAll("button")];
    const choose = (chosen) => buttons().forEach((button) => (button.tabIndex = button === chosen ? 0 : -1));
    container.addEventListener("focusin", (event) => {
      if (event.target.matches("button")) choose(event.target);
    });
    container.addEventListener("keydown", (event) => {
      const all = buttons();
      const at = all.indexOf(event.target);
      const steps = {
        ArrowLeft: -1,
        ArrowRight: 1,
        ArrowUp: -columns(),
        ArrowDown: columns(),
        Home: -at,
        End: all.length - 1 - at,
      };
      if (at < 0 || !(event.key in steps)) return;
      event.preventDefault();
      all[at + steps[event.key]]?.focus();
    });
    return () => {
      const all = buttons();
      if (!all.some((button) => button.tabIndex === 0)) choose(all[0]);
      else choose(all.find((button) => button === document.activeElement) ?? all.find((b) => b.tabIndex === 0));
    };
  }

  /* ------------------------------------------------------------------------------------ text of tokens */

  // As in the terminal: spaces are drawn, and what has no shape of its own is escaped already.
  const plain = (id) => vocabulary[id];

  function token(id) {
    const text = plain(id);
    const node = make("span", { class: "token", translate: "no" });
    for (const part of text.split(/(␣+)/).filter(Boolean)) {
      if (part[0] !== "␣") node.append(part);
      else node.append(make("span", { class: "space", role: "img", "aria-label": "space" }, part));
    }
    return node;
  }

  const power = (exponent) => "10⁻" + [...String(-exponent)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
  function percent(p) {
    if (p === 0 || p === 1) return p ? "100%" : "0%";
    if (p >= 0.9995) return "> 99.9%";
    if (p >= 0.00001) return (100 * p).toFixed(p >= 0.01 ? 1 : p >= 0.001 ? 2 : 3) + "%";
    const [digit, exponent] = p.toExponential(0).split("e"); // rounds 9.7e-6 to 1e-5
    return `${digit}·${power(exponent)}`;
  }
  const wholePercent = (p) => (p < 0.0995 ? percent(p) : `${(100 * p).toFixed(0)}%`);

  /* ------------------------------------------------------------------------- the numbers of each context */

  const contexts = data.contexts.map((context) => {
    const logits = floats(context.logits);
    // Sorted once: temperature stretches the scores but never changes their order. Ties go by id.
    const order = Uint32Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
    const rank = new Uint32Array(logits.length);
    order.forEach((id, i) => (rank[id] = i + 1));
    return {
      ...context,
      logits,
      order,
      rank,
      probabilities: new Float64Array(logits.length),
      size: context.tokens.length - context.first, // tokens that the views show; earlier ones are summed up
      wte: floats(context.wte),
      wpe: floats(context.wpe),
      attention: floats(context.attention),
      lens: {
        tokens: context.lens.tokens,
        probabilities: floats(context.lens.probabilities),
        watched: new Map(context.lens.watched.map((id, i) => [id, i])),
        logprobs: floats(context.lens.logprobs),
      },
    };
  });
  const size = model.vocab_size;

  const initial = Object.freeze({ ...data.settings });
  const settings = { ...initial };
  const state = {
    context: 0,
    positions: contexts.map((context) => context.tokens.length - 1),
    layer: 0,
    head: 0,
    rows: data.rows,
    pins: [...data.pins],
  };
  const current = () => contexts[state.context];

  /* The distribution of one context under the settings: fills `probabilities`, returns what is said of it. */
  function shape(context) {
    const { logits, order, probabilities: p } = context;
    const { temperature, topK, topP, minP } = settings;
    const largest = logits[order[0]];
    if (temperature === 0)
      p.fill(0)[order[0]] = 1; // the limit: all of it on the largest logit
    else {
      let total = 0;
      for (let i = 0; i < size; i++) total += p[i] = Math.exp((logits[i] - largest) / temperature);
      for (let i = 0; i < size; i++) p[i] /= total;
    }
    let entropy = 0;
    for (let i = 0; i < size; i++) if (p[i] > 0) entropy -= p[i] * Math.log2(p[i]);

    // Every cut keeps the first so many tokens of the order. They follow each other as in sampling.py:
    // top-k (equals of the last stay), then top-p on what top-k left, then min-p against the likeliest.
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
    return { entropy, kept, keptMass };
  }
  const isCut = () => (settings.topK > 0 && settings.topK < size) || settings.topP < 1 || settings.minP > 0;

  /* ------------------------------------------------------------------------------- code behind each view */

  function showFunctions() {
    for (const host of document.querySelectorAll("[data-functions]")) {
      for (const { name, where, source } of data.functions[host.dataset.functions]) {
        const title = [make("code", { class: "function" }, name), make("span", { class: "where" }, where)];
        if (!source) host.append(make("p", { class: "code-name" }, ...title));
        else {
          host.append(
            make(
              "details",
              {},
              make("summary", {}, ...title),
              make("pre", { tabindex: "0", "aria-label": `Source of ${name}` }, make("code", {}, source)),
            ),
          );
        }
      }
    }
  }

  /* ---------------------------------------------------------------------- following words by their colour */

  // Six colours; the words after them have another line and mark, so that eighteen can be told apart.
  function colour(id) {
    const at = state.pins.indexOf(id);
    return `pin-${at % 6} lap-${Math.floor(at / 6) % 3}`;
  }

  function follow(id) {
    const at = state.pins.indexOf(id);
    if (at < 0) state.pins.push(id);
    else state.pins.splice(at, 1);
    showPins();
    say(`${at < 0 ? "Following" : "No longer following"} ${plain(id)}`);
  }

  /* A button that follows a token, or stops; every one of them shows the same state. */
  function followButton(id, ...extra) {
    const button = make(
      "button",
      { type: "button", class: "follows" },
      make("span", { class: "dot" }),
      token(id),
      ...extra,
    );
    button.addEventListener("click", () => follow(id));
    button.refresh = () => {
      const pinned = state.pins.includes(id);
      button.setAttribute("aria-pressed", pinned);
      button.title = `${pinned ? "Stop following" : "Follow"} token ${id}`;
      button.className = pinned ? `follows ${colour(id)}` : "follows";
    };
    button.refresh();
    return button;
  }

  const pinButtons = new Map();
  let tidyPins, tidyFound;

  function showPins() {
    const hadFocus = $("pins").contains(document.activeElement);
    for (const id of pinButtons.keys()) if (!state.pins.includes(id)) pinButtons.delete(id);
    for (const id of state.pins) {
      if (!pinButtons.has(id)) {
        pinButtons.set(id, followButton(id, make("span", { class: "cross", "aria-hidden": "true" }, "×")));
      }
    }
    arrange(
      $("pins"),
      state.pins.map((id) => pinButtons.get(id)),
    );
    tidyPins();
    if (hadFocus && !$("pins").contains(document.activeElement)) {
      ($("pins").querySelector("button[tabindex='0']") ?? $("search")).focus();
    }
    for (const button of document.querySelectorAll("button.follows")) button.refresh();
    showLensChart();
    showHistogram();
    showMoves();
    showDistributions();
  }

  function showFound() {
    const query = $("search").value.replace(/ /g, "␣");
    const { rank } = current();
    const found = [];
    if (query) {
      for (let id = 0; id < size; id++) {
        const text = vocabulary[id];
        const bare = text.startsWith("␣") && !query.startsWith("␣") ? text.slice(1) : text;
        if (bare.startsWith(query)) found.push([bare === query ? 0 : 1, rank[id], id]);
      }
    }
    found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const buttons = found.slice(0, 8).map(([, , id]) => followButton(id));
    $("found").replaceChildren(...(query && !buttons.length ? ["No token starts like this."] : buttons));
    tidyFound();
  }

  /* --------------------------------------------------------------------------------- the head of the page */

  function title(context, length = 140) {
    const characters = [...context.prompt];
    if (!characters.length) return plain(context.tokens[0]); // what the model starts from
    if (characters.length <= length) return context.prompt;
    // Its end is what the model goes on from; it begins with a whole word if one is near.
    return (
      "…" +
      characters
        .slice(-length)
        .join("")
        .replace(/^\S{0,12}\s+(?=\S)/u, "")
    );
  }
  const short = (context) => title(context, 24).replace(/\n/g, "⏎");

  // How many characters the contexts have in common before they differ.
  const shared = Math.min(
    ...contexts.slice(1).map(({ prompt }) => {
      let n = 0;
      while (n < prompt.length && prompt[n] === contexts[0].prompt[n]) n++;
      return n;
    }),
  );

  /* A context where there is room for a word or two: from the word on in which the contexts begin to differ. */
  function brief(context) {
    if (contexts.length < 2 || !context.prompt) return short(context);
    const start = shared > 10 ? context.prompt.lastIndexOf(" ", shared - 1) + 1 : 0;
    const characters = [...context.prompt.slice(start)];
    const end = characters.length > 24 ? "…" : "";
    return ((start ? "…" : "") + characters.slice(0, 24).join("") + end).replace(/\n/g, "⏎");
  }

  const openings = contexts.map((context) => {
    const list = make("ol", { class: "likeliest" });
    const length = Math.min([...context.prompt].length, 141);
    const prompt = make(
      "p",
      { class: length > 90 ? "prompt long" : length > 34 ? "prompt middle" : "prompt" },
      make("span", { class: "written", translate: "no" }, title(context)),
      make("span", { class: "blank", "aria-hidden": "true" }, "\u00a0"),
    );
    const items = [...context.order.slice(0, 5)].map((id) => {
      const bar = make("span", { class: "bar", "aria-hidden": "true" });
      const value = make("span", { class: "value" });
      list.append(make("li", {}, token(id), bar, value));
      return { id, bar, value };
    });
    return { node: make("div", { class: "opening" }, prompt, list), items, context };
  });

  function showHead() {
    $("model").textContent =
      `${model.name} · ${number.format(model.n_parameters)} parameters · ${model.n_layer} layers × ${model.n_head} heads`;
    $("title").textContent =
      "How the model goes on from " + contexts.map((context) => `“${short(context)}”`).join(" and from ");
    $("openings").append(...openings.map(({ node }) => node));
    $("openings").classList.toggle("several", contexts.length > 1);
    $("vocabulary-size").textContent = $("softmax-size").textContent = number.format(size);
    $("width").textContent = number.format(model.n_embd);
    $("pins-note").textContent = data.notes.join(" ");
    $("colophon").textContent = `Made by minigpt ${data.version} with ${model.source}.`;
    if (contexts.length < 2) return;
    contexts.forEach((context, i) => {
      const radio = make("input", { type: "radio", name: "context", value: i, checked: i === 0 });
      radio.addEventListener("change", () => {
        state.context = i;
        showContext();
      });
      $("contexts").append(make("label", {}, radio, make("span", { translate: "no" }, brief(context))));
    });
    $("contexts").hidden = false;
  }

  /* -------------------------------------------------------------------------- 1 tokens and 2 embeddings */

  function showTokens() {
    const { prompt, tokens, first } = current();
    const list = make("div", { class: "tokens", role: "radiogroup", "aria-label": "Token to look at" });
    if (!prompt)
      $("tokens-note").textContent =
        `The prompt is empty: the model starts from ${plain(tokens[0])}, the sign between texts.`;
    if (first) {
      $("tokens-note").textContent =
        `This context has ${number.format(tokens.length)} tokens. The views below show the last ${tokens.length - first}; the others stand before them in the box.`;
      list.append(
        make("span", { class: "earlier" }, ...tokens.slice(0, first).flatMap((id) => [token(id), make("wbr")])),
      );
    }
    $("tokens-note").hidden = prompt !== "" && !first;
    tokens.slice(first).forEach((id, i) => {
      const position = first + i;
      const radio = make("input", {
        type: "radio",
        name: "token",
        value: position,
        checked: position === state.positions[state.context],
      });
      radio.addEventListener("change", () => choosePosition(position));
      list.append(make("label", { class: "piece" }, radio, token(id), make("span", { class: "id" }, String(id))));
    });
    $("token-list").replaceChildren(list);
    // A long text scrolls in a box of its own, from its end, where the model goes on.
    list.scrollTop = list.scrollHeight;
  }

  function choosePosition(position) {
    state.positions[state.context] = position;
    const radio = document.querySelector(`input[name="token"][value="${position}"]`);
    if (radio) radio.checked = true;
    showStrips();
    showMapSelection();
  }

  const strips = ["wte", "wpe", "sum"].map((name) => ({
    name,
    label: make("p", { class: "strip-label" }),
    canvas: make("canvas", { role: "img" }),
    numbers: make("p", { class: "strip-numbers" }),
  }));

  function showStrips() {
    const { tokens, first, wte, wpe } = current();
    const position = state.positions[state.context];
    const width = model.n_embd;
    const row = (table) => table.subarray((position - first) * width, (position - first + 1) * width);
    const [what, where] = [row(wte), row(wpe)];
    const vectors = { wte: what, wpe: where, sum: what.map((value, i) => value + where[i]) };
    const name = plain(tokens[position]);
    const labels = {
      wte: ["wte", `[${tokens[position]}]`, `what it is: ${name}`],
      wpe: ["wpe", `[${position}]`, `where it stands: position ${position}`],
      sum: ["x", "", "what enters the first block"],
    };
    // Heights grow with the square root, so that one very large number does not flatten all others.
    const largest = Math.max(...Object.values(vectors).map((vector) => Math.max(...vector.map(Math.abs))));
    for (const strip of strips) {
      const vector = vectors[strip.name];
      const [table, index, words] = labels[strip.name];
      const length = Math.sqrt(sum([...vector].map((value) => value * value)));
      strip.label.replaceChildren(
        make("code", {}, table + index),
        ` ${words}`,
        make("span", { class: "length" }, `length ${length.toFixed(2)}`),
      );
      strip.canvas.setAttribute(
        "aria-label",
        `${width} numbers, the largest by size ${fixed(Math.max(...vector.map(Math.abs)))}`,
      );
      strip.numbers.replaceChildren(
        make("span", {}, ...[...vector.slice(0, 6)].flatMap((value) => [make("span", {}, fixed(value, 3)), " "])),
        "…",
      );
      drawStrip(strip.canvas, vector, largest);
    }
  }

  function canvasOf(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    return pen;
  }
  const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function drawStrip(canvas, vector, largest) {
    const [width, height] = [$("strips").clientWidth, 54];
    const pen = canvasOf(canvas, width, height);
    const step = width / vector.length;
    const middle = height / 2;
    pen.fillStyle = colourOf("--line");
    pen.fillRect(0, middle - 0.5, width, 1);
    vector.forEach((value, i) => {
      const reach = Math.sqrt(Math.abs(value) / largest) * (middle - 1);
      pen.fillStyle = colours[value > 0 ? 0 : 1];
      pen.fillRect(i * step, value > 0 ? middle - reach : middle, Math.max(step * 0.8, 0.6), reach);
    });
  }
  let colours; // of what is above and below zero
  let flip; // the shade from which text on it changes its colour

  /* ---------------------------------------------------------------------------------------- 3 attention */

  const headSize = (n) => (n * (n + 3)) / 2; // row i: the sum over earlier tokens, then keys 0 to i
  function rowOf(context, layer, head, query) {
    const start = (layer * model.n_head + head) * headSize(context.size) + headSize(query);
    return context.attention.subarray(start, start + query + 2);
  }
  const shade = (weight) => Math.sqrt(weight); // so that a weight of 1 % can still be seen; see the scale
  const swatches = () =>
    [0, 0.01, 0.1, 0.5, 1].map((weight) => {
      const swatch = make("span", { class: shade(weight) > flip ? "swatch strong" : "swatch" }, `${100 * weight}%`);
      swatch.style.setProperty("--shade", shade(weight));
      return swatch;
    });

  let map = null; // the table that is shown: { context, hidden, rows: [{ node, button, cells }] }

  function showMap() {
    const context = current();
    const width = $("map").clientWidth;
    const longest = Math.max(...context.tokens.slice(context.first).map((id) => plain(id).length));
    const label = Math.min(longest * 8 + 14, 110, width * 0.26);
    const fits = Math.max(1, Math.floor((width - label) / 15) - 1);
    const shown = Math.min(context.size, fits);
    const hidden = context.size - shown; // of the tokens in the file, those that this screen has no room for
    const before = context.first + hidden;
    const columns = shown + (before ? 1 : 0);
    const cell = Math.min(52, Math.floor((width - label) / columns));
    const ids = context.tokens.slice(before);
    const heads = [
      before ? make("th", { scope: "col" }, make("span", {}, "earlier")) : null,
      ...ids.map((id) => make("th", { scope: "col" }, make("span", {}, token(id)))),
    ].filter(Boolean);
    const rows = ids.map((id, i) => {
      const button = make("button", { type: "button", class: "query" }, token(id));
      button.addEventListener("click", () => choosePosition(before + i));
      const cells = range(columns).map((j) => make("td", { class: j <= i + (before ? 1 : 0) ? "weight" : "none" }));
      return { node: make("tr", {}, make("th", { scope: "row" }, button), ...cells), button, cells, query: hidden + i };
    });
    const caption = make(
      "caption",
      { class: "unseen" },
      "Attention weights: each row is a token that looks, each column one that is looked at.",
    );
    const table = make(
      "table",
      { class: cell < 28 ? "heat small" : "heat" },
      caption,
      make("thead", {}, make("tr", {}, make("td"), ...heads)),
      make("tbody", {}, ...rows.map(({ node }) => node)),
    );
    table.style.setProperty("--cell", `${cell}px`);
    table.style.setProperty("--label", `${Math.floor(label)}px`);
    const tidy = rove(table);
    $("map").replaceChildren(table);
    tidy();
    map = { context, hidden, before, rows };
    $("attention-note").hidden = !before;
    $("attention-note").textContent = before
      ? `The map shows the last ${shown} of ${number.format(context.tokens.length)} tokens; what they give to all earlier ones stands summed up in the column “earlier”.`
      : "";
    drawHeads();
    showWeights();
  }

  function showWeights() {
    const { context, hidden, before, rows } = map;
    for (const { cells, query } of rows) {
      const row = rowOf(context, state.layer, state.head, query);
      const weights = [...row.subarray(1 + hidden)];
      if (before) weights.unshift(sum(row.subarray(0, 1 + hidden)));
      weights.forEach((weight, j) => {
        cells[j].style.setProperty("--shade", shade(weight));
        cells[j].classList.toggle("strong", shade(weight) > flip);
        cells[j].textContent = weight < 0.005 ? "0" : (100 * weight).toFixed(0);
      });
    }
    showMapSelection();
    frameHead();
    $("layer").value = state.layer;
    $("head").value = state.head;
    $("layer-value").textContent = `${state.layer} of 0–${model.n_layer - 1}`;
    $("head-value").textContent = `${state.head} of 0–${model.n_head - 1}`;
    paintSlider($("layer"));
    paintSlider($("head"));
  }

  /* The token that looks, and where its attention goes, as a line of text shaded by weight. */
  function showMapSelection() {
    const { context, rows } = map;
    const position = state.positions[state.context];
    const query = position - context.first;
    for (const row of rows) {
      const chosen = row.query === query;
      row.node.classList.toggle("chosen", chosen);
      row.button.setAttribute("aria-pressed", chosen);
      row.button.tabIndex = chosen ? 0 : -1;
    }
    if (!rows.some((row) => row.query === query)) rows[0].button.tabIndex = 0;
    const row = rowOf(context, state.layer, state.head, query);
    const seen = [...row.subarray(1)].map((weight, j) => ({ weight, id: context.tokens[context.first + j] }));
    const line = make("p", { class: "looks" });
    if (context.first) line.append(make("span", { class: "looked earlier" }, "earlier"));
    for (const { id } of seen) line.append(make("span", { class: "looked" }, token(id)));
    [...(context.first ? row : row.subarray(1))].forEach((weight, j) => {
      line.children[j].style.setProperty("--shade", shade(weight));
      line.children[j].classList.toggle("strong", shade(weight) > flip);
    });
    line.lastChild.classList.add("self");
    $("looks").replaceChildren(line);
    const most = seen.sort((a, b) => b.weight - a.weight).slice(0, 3);
    $("looks-words").replaceChildren(
      `Layer ${state.layer}, head ${state.head}: `,
      token(context.tokens[position]),
      " takes most from ",
      ...most.flatMap(({ weight, id }, i) => [i ? ", " : "", token(id), ` ${percent(weight)}`]),
      context.first ? `; ${percent(row[0])} from the ${number.format(context.first)} tokens before these.` : ".",
    );
  }

  /* Every head as a small picture: its weights, drawn as pixels and enlarged. */
  function drawHeads() {
    const context = current();
    const { n_layer: layers, n_head: heads } = model;
    const n = context.size;
    const width = $("heads").parentNode.clientWidth;
    const [cell, box] = [width / heads, Math.min(width / heads, 34)];
    const pen = canvasOf($("heads"), width, Math.ceil(box * layers));
    const [red, green, blue] = colourOf("--accent-rgb").split(" ").map(Number);
    const picture = make("canvas", { width: n, height: n });
    const ink = picture.getContext("2d");
    const pixels = new ImageData(n, n);
    pen.imageSmoothingEnabled = n > 12;
    pen.fillStyle = colourOf("--well");
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < heads; head++) {
        for (let i = 0; i < n; i++) {
          const row = rowOf(context, layer, head, i);
          for (let j = 0; j <= i; j++) pixels.data.set([red, green, blue, 255 * shade(row[1 + j])], 4 * (i * n + j));
        }
        ink.putImageData(pixels, 0, 0);
        const place = [head * cell + 1.5, layer * box + 1.5, cell - 3, box - 3];
        pen.fillRect(...place);
        pen.drawImage(picture, ...place);
      }
    }
  }

  /* Marks the head that is shown with a frame, which lies over the pictures. */
  function frameHead() {
    const frame = $("heads-frame").style;
    frame.width = `${100 / model.n_head}%`;
    frame.height = `${100 / model.n_layer}%`;
    frame.left = `${(100 * state.head) / model.n_head}%`;
    frame.top = `${(100 * state.layer) / model.n_layer}%`;
  }

  /* The head in which the last token looks most sharply at one that is neither itself nor the first, or,
     of two tokens, at the first. */
  function sharpest() {
    const context = current();
    let best = -1;
    for (let layer = 0; layer < model.n_layer; layer++) {
      for (let head = 0; head < model.n_head; head++) {
        const row = rowOf(context, layer, head, context.size - 1); // begins with the sum over earlier tokens
        const weight = Math.max(...(context.size > 2 ? row.subarray(2, context.size) : row.subarray(1, 2)));
        if (weight > best) [best, state.layer, state.head] = [weight, layer, head];
      }
    }
  }

  function chooseHead(layer, head) {
    state.layer = layer;
    state.head = head;
    showWeights();
    later(() => say($("looks-words").textContent));
  }

  /* --------------------------------------------------------------------------------------- 4 logit lens */

  const layerName = (row) => (row === 0 ? "embedding" : `h.${row - 1}`);

  function showLens() {
    const context = current();
    const width = $("lens-table").clientWidth;
    const label = 92;
    const shown = Math.min(context.size, Math.max(2, Math.floor((width - label) / 104)));
    const hidden = context.size - shown;
    const ids = context.tokens.slice(context.first + hidden);
    const rows = context.lens.tokens.map((likeliest, layer) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, make("code", {}, layerName(layer))),
        ...likeliest.slice(hidden).map((id, j) => {
          const p = context.lens.probabilities[layer * context.size + hidden + j];
          const button = followButton(id, " ", make("span", { class: "p" }, wholePercent(p)));
          const node = make("td", { class: shade(p) > flip ? "weight strong" : "weight" }, button);
          node.style.setProperty("--shade", shade(p));
          return node;
        }),
      ),
    );
    const table = make(
      "table",
      { class: "lens" },
      make("caption", { class: "unseen" }, "The likeliest next token after each layer, at each position."),
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          make("td", {}, "after"),
          ...ids.map((id) =>
            make("th", { scope: "col" }, token(id), " ", make("span", { "aria-hidden": "true" }, "→")),
          ),
        ),
      ),
      make("tbody", {}, ...rows),
    );
    const tidy = rove(table, () => shown);
    $("lens-table").replaceChildren(table);
    tidy();
    $("lens-caption").textContent =
      (context.first + hidden
        ? `The last ${shown} of ${number.format(context.tokens.length)} positions fit here. `
        : "") + "The number and the shade are the probability of the token. Press one to follow it.";
    showLensChart();
  }

  // Widths are read once, not while sliders move: each reading after a change makes the browser lay out the page.
  const widths = new Map();
  function widthOf(host) {
    if (!widths.has(host)) widths.set(host, Math.max(host.clientWidth, 200));
    return widths.get(host);
  }

  /* A drawing with a label for those who cannot see it; its units are CSS pixels. */
  function picture(host, height, label) {
    const width = widthOf(host);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
    host.replaceChildren(svg);
    return { svg, width };
  }
  const powerName = (exponent) =>
    ({ 0: "100%", "-1": "10%", "-2": "1%", "-3": "0.1%", "-4": "0.01%" })[exponent] ?? power(exponent);
  /* A point of a followed word: a disc; a square or a diamond where its colour is used again. */
  function mark(id, cx, cy, r, ...children) {
    const look = colour(id);
    const point = { class: `point ${look}` };
    if (look.endsWith("lap-0")) return draw("circle", { ...point, cx, cy, r }, ...children);
    const side = 1.75 * r;
    const turn = look.endsWith("lap-2") && `rotate(45 ${cx} ${cy})`;
    const place = { x: cx - side / 2, y: cy - side / 2, width: side, height: side, transform: turn };
    return draw("rect", { ...point, ...place }, ...children);
  }
  const path = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");

  /* Moves labels apart, downwards and then back up, so that none covers another. */
  function spread(labels, gap, low, high) {
    labels.sort((a, b) => a.y - b.y);
    labels.forEach((label, i) => (label.y = Math.max(label.y, i ? labels[i - 1].y + gap : low)));
    for (let i = labels.length - 1, limit = high; i >= 0; i--, limit = labels[i + 1].y - gap)
      labels[i].y = Math.min(labels[i].y, limit);
  }

  function showLensChart() {
    const context = current();
    const { watched, logprobs } = context.lens;
    const layers = model.n_layer + 1;
    const followed = state.pins.filter((id) => watched.has(id));
    const missing = state.pins.filter((id) => !watched.has(id));
    const height = 250;
    const { svg, width } = picture(
      $("lens-chart"),
      height,
      followed.length
        ? `Probability after each layer of ${followed.map(plain).join(", ")}. ` +
            followed
              .map(
                (id) =>
                  `${plain(id)} ends at ${percent(Math.exp(logprobs[(layers - 1) * watched.size + watched.get(id)]))}`,
              )
              .join(", ")
        : "Probability after each layer: no line is drawn.",
    );
    const [left, right, top, bottom] = [62, width - 104, 14, height - 30];
    const paths = followed.map((id) =>
      range(layers).map((layer) => logprobs[layer * watched.size + watched.get(id)] / Math.LN10),
    );
    const floor = clamp(Math.floor(Math.min(-3, ...paths.flat())), -9, -3);
    const x = (layer) => left + ((right - left) * layer) / (layers - 1);
    const y = (exponent) => top + ((bottom - top) * clamp(exponent, floor, 0)) / floor;
    for (let exponent = 0; exponent >= floor; exponent--) {
      svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: y(exponent), y2: y(exponent) }));
      if (exponent % 2 === 0)
        svg.append(draw("text", { class: "axis end", x: left - 8, y: y(exponent) + 4 }, powerName(exponent)));
    }
    const every = Math.ceil((layers * 26) / (right - left));
    range(layers).forEach((layer) => {
      const name = layer === 0 ? "emb." : `h.${layer - 1}`;
      if (layer % every === 0 || layer === layers - 1)
        svg.append(draw("text", { class: "axis middle", x: x(layer), y: height - 8 }, name));
    });
    const labels = followed.map((id, i) => {
      const points = paths[i].map((exponent, layer) => [x(layer), y(exponent)]);
      svg.append(draw("path", { class: `line ${colour(id)}`, d: path(points) }));
      svg.append(...points.map(([cx, cy]) => mark(id, cx, cy, 2.5)));
      return { id, y: points[layers - 1][1] };
    });
    spread(labels, 17, top, bottom);
    for (const { id, y: at } of labels) {
      svg.append(mark(id, right + 15, at, 3.5));
      svg.append(draw("text", { class: `name ${colour(id)}`, x: right + 23, y: at + 4 }, plain(id)));
    }
    $("lens-missing").replaceChildren(
      ...(missing.length
        ? [
            "Not drawn: ",
            ...missing.flatMap((id, i) => [i ? ", " : "", token(id)]),
            "; only the likeliest words are recorded at every layer.",
          ]
        : []),
    );
  }

  /* ------------------------------------------------------------------------------------------- 5 logits */

  function showHistogram() {
    const lows = contexts.map(({ logits, order }) => logits[order[size - 1]]);
    const highs = contexts.map(({ logits, order }) => logits[order[0]]);
    const [low, high] = [Math.min(...lows), Math.max(...highs)];
    const pad = (high - low || 1) * 0.02;
    const room = widthOf($("histogram")) - 12;
    const x = (value) => 6 + (room * (value - low + pad)) / (high - low + 2 * pad);
    // Labels end at their line and stand the higher the further right, so that no line crosses a label.
    const labels = [];
    for (const id of [...state.pins].sort((a, b) => contexts[0].logits[a] - contexts[0].logits[b])) {
      const at = x(contexts[0].logits[id]);
      const start = at - plain(id).length * 8 - 14;
      labels.push({
        id,
        at,
        lane: Math.max(-1, ...labels.filter((other) => other.at > start).map((other) => other.lane)) + 1,
      });
    }
    const lanes = Math.max(0, ...labels.map((label) => label.lane + 1));
    const [above, each, below] = [8 + lanes * 17, 116, 34];
    const { svg, width } = picture(
      $("histogram"),
      above + each * contexts.length + below,
      contexts
        .map(
          (context, i) =>
            `${short(context)}: ${number.format(size)} logits from ${fixed(lows[i])} to ${fixed(highs[i])}`,
        )
        .join("; "),
    );
    const base = (i) => above + each * (i + 1) - 14;
    const bins = Math.min(160, Math.floor(width / 4));
    contexts.forEach((context, i) => {
      const counts = new Uint32Array(bins);
      for (const value of context.logits)
        counts[Math.min(bins - 1, Math.floor(((x(value) - 6) / (width - 12)) * bins))]++;
      const most = Math.max(...counts);
      const bar = (width - 12) / bins;
      const d = range(bins)
        .filter((b) => counts[b])
        .map(
          (b) =>
            `M${(6 + b * bar).toFixed(1)} ${base(i)}v${(-Math.max(1, (each - 46) * Math.sqrt(counts[b] / most))).toFixed(1)}h${(bar * 0.8).toFixed(1)}V${base(i)}Z`,
        )
        .join("");
      svg.append(draw("path", { class: i === state.context ? "bars" : "bars aside", d }));
      svg.append(draw("line", { class: "base", x1: 0, x2: width, y1: base(i), y2: base(i) }));
      if (contexts.length > 1)
        svg.append(draw("text", { class: "row-name", x: 0, y: base(i) - each + 36 }, short(context)));
    });
    for (const { id, at, lane } of labels) {
      const points = contexts.map(({ logits }, i) => [x(logits[id]), base(i)]);
      const y = above - 6 - lane * 17;
      svg.append(draw("path", { class: `lead ${colour(id)}`, d: path([[at, y - 9], ...points]) }));
      svg.append(
        draw("text", { class: `name end ${colour(id)}`, x: Math.max(at - 6, plain(id).length * 8), y }, plain(id)),
      );
      points.forEach(([cx, cy], i) =>
        svg.append(
          mark(
            id,
            cx,
            cy,
            4.5,
            draw("title", {}, `${plain(id)} after ${short(contexts[i])}: ${fixed(contexts[i].logits[id])}`),
          ),
        ),
      );
    }
    const step =
      [0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 1e4, 1e6].find((s) => ((high - low) / s) * 44 < width) ?? high - low;
    for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
      const y = base(contexts.length - 1);
      svg.append(draw("line", { class: "tick", x1: x(value), x2: x(value), y1: y, y2: y + 5 }));
      svg.append(
        draw(
          "text",
          { class: "axis middle", x: clamp(x(value), 14, width - 14), y: y + 19 },
          minus(String(Number(value.toFixed(2)))),
        ),
      );
    }
    const mean = current().logits.reduce((total, value) => total + value, 0) / size;
    $("histogram-caption").textContent =
      `How many tokens get which score (heights grow with the square root). ` +
      (contexts.length > 1 ? `Lines show where the words you follow move when the context changes. ` : "") +
      `After “${short(current())}” their mean is ${fixed(mean)}; the largest, ${fixed(highs[state.context])}, belongs to `;
    $("histogram-caption").append(token(current().order[0]), ".");
  }

  function showMoves() {
    if (!state.pins.length) {
      $("moves").replaceChildren(
        make("p", { class: "caption" }, "Find a token above, or press one in any table, to follow it."),
      );
      return;
    }
    const two = contexts.length === 2;
    const heads = contexts.map((context) => make("th", { scope: "col", translate: "no" }, brief(context)));
    const rows = state.pins.map((id) => {
      const cells = contexts.map(({ logits, rank }) =>
        make("td", {}, fixed(logits[id]), " ", make("span", { class: "rank" }, `#${number.format(rank[id])}`)),
      );
      const change = two ? contexts[1].logits[id] - contexts[0].logits[id] : 0;
      if (two) cells.push(make("td", { class: "change" }, (change > 0 ? "+" : "") + fixed(change)));
      return make(
        "tr",
        {},
        make("th", { scope: "row" }, make("span", { class: `dot ${colour(id)}` }), token(id)),
        ...cells,
      );
    });
    $("moves").replaceChildren(
      make(
        "table",
        { class: "moves" },
        make("caption", { class: "unseen" }, "Logit and rank of each word you follow, in each context"),
        make(
          "thead",
          {},
          make("tr", {}, make("td"), ...heads, ...(two ? [make("th", { scope: "col" }, "change")] : [])),
        ),
        make("tbody", {}, ...rows),
      ),
    );
  }

  /* ------------------------------------------------------------------------------------------ 6 softmax */

  const views = contexts.map((context) => {
    const stats = make("p", { class: "stats" });
    const mass = make("div", { class: "mass", "aria-hidden": "true" });
    const body = make("tbody");
    const scale = make("span", { "aria-hidden": "true" });
    const table = make(
      "table",
      { class: "next" },
      make("caption", { class: "unseen" }, `Likeliest tokens after ${short(context)}`),
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          make("th", { scope: "col" }, "token"),
          make("th", { scope: "col", class: "logit" }, "logit"),
          make("th", { scope: "col", class: "probability" }, make("div", {}, scale, make("span", {}, "probability"))),
          make("th", { scope: "col", class: "after" }, "kept"),
        ),
      ),
      body,
    );
    const restName = make("th", { scope: "row", colspan: 2 });
    const rest = make(
      "tr",
      { class: "rest" },
      restName,
      make("td", { class: "probability" }),
      make("td", { class: "after" }),
    );
    const tidy = rove(body);
    const node = make(
      "article",
      { class: "distribution" },
      make(
        "h3",
        { translate: "no" },
        title(context, 60),
        make("span", { class: "blank", "aria-hidden": "true" }, "\u00a0"),
      ),
      mass,
      stats,
      table,
    );
    return { context, node, stats, mass, body, scale, table, rest, restName, tidy, rows: new Map() };
  });

  function rowFor(view, id) {
    if (!view.rows.has(id)) {
      const { logits, rank } = view.context;
      const bar = make("span", { class: "bar", "aria-hidden": "true" });
      const value = make("span", { class: "value" });
      const after = make("td", { class: "after" });
      const button = followButton(id, make("span", { class: "rank" }, `#${number.format(rank[id])}`));
      const node = make(
        "tr",
        { "data-token": id },
        make("th", { scope: "row" }, button),
        make("td", { class: "logit" }, fixed(logits[id])),
        make("td", { class: "probability" }, make("div", {}, bar, value)),
        after,
      );
      view.rows.set(id, { id, node, bar, value, after });
    }
    return view.rows.get(id);
  }

  function bar(node, share) {
    node.style.setProperty("--share", clamp(share, 0, 1));
  }

  let shapes = [];

  function showDistributions() {
    shapes = contexts.map(shape);
    const cut = isCut();
    const largest = Math.max(...contexts.map(({ probabilities, order }) => probabilities[order[0]]));
    const full = [0.1, 0.25, 0.5].find((limit) => largest <= limit) ?? 1; // the same scale for all, so bars compare
    openings.forEach(({ items, context }) =>
      items.forEach(({ id, bar: node, value }) => {
        bar(node, context.probabilities[id] / full);
        value.textContent = percent(context.probabilities[id]);
      }),
    );
    views.forEach((view, i) => showDistribution(view, shapes[i], cut, full));
    showCurve();
    showControls();
  }

  function showDistribution(view, { entropy, kept, keptMass }, cut, full) {
    const { context, body, rest, restName } = view;
    const { order, rank, probabilities: p } = context;
    const first = [...order.slice(0, state.rows)];
    const shown = [...first, ...state.pins.filter((id) => rank[id] > state.rows).sort((a, b) => rank[a] - rank[b])];
    const rows = shown.map((id) => rowFor(view, id));
    for (const { id, node, bar: fillBar, value, after } of rows) {
      const stays = rank[id] <= kept;
      bar(fillBar, p[id] / full);
      value.textContent = percent(p[id]);
      after.textContent = stays ? percent(p[id] / keptMass) : "cut";
      node.classList.toggle("cut", !stays);
      node.classList.toggle("far", rank[id] > state.rows);
    }
    const restMass = Math.max(0, 1 - sum(shown.map((id) => p[id])));
    const keptShown = sum(shown.filter((id) => rank[id] <= kept).map((id) => p[id]));
    restName.textContent = `the other ${number.format(size - shown.length)}`;
    rest.children[1].textContent = percent(restMass < 1e-12 ? 0 : restMass);
    rest.children[2].textContent = percent(
      Math.max(0, keptMass - keptShown) / keptMass < 1e-12 ? 0 : (keptMass - keptShown) / keptMass,
    );
    arrange(body, [...rows.map(({ node }) => node), rest]);
    view.tidy();
    view.table.classList.toggle("uncut", !cut);
    view.scale.textContent = `0–${100 * full}%`; // how far the bars reach
    showStats(view, entropy, kept, keptMass, cut);
    showMass(view, first, kept);
  }

  function showStats(view, entropy, kept, keptMass, cut) {
    const choices = 2 ** entropy;
    view.stats.replaceChildren(
      make("strong", {}, `${entropy.toFixed(2)} bits`),
      " of entropy: as open as a fair draw from ",
      make("strong", {}, choices < 9.95 ? choices.toFixed(1) : number.format(Math.round(choices))),
      choices < 1.05 ? " token." : " tokens.",
      ...(cut
        ? [
            " The cuts keep ",
            make("strong", {}, number.format(kept)),
            kept === 1 ? " token with " : " tokens with ",
            percent(keptMass),
            " of the mass.",
          ]
        : []),
    );
  }

  /* All of the probability as one bar: the tokens of the table one by one, then everything else. */
  function showMass(view, ids, kept) {
    const { rank, probabilities: p } = view.context;
    if (!view.mass.children.length) view.mass.append(make("span", { class: "others" }));
    while (view.mass.children.length <= ids.length) view.mass.prepend(make("span"));
    ids.forEach((id, i) => {
      const part = view.mass.children[i];
      part.style.setProperty("--share", p[id]);
      part.className = rank[id] <= kept ? "" : "cut";
      const text = p[id] > 0.09 ? plain(id) : "";
      if (part.textContent !== text) part.textContent = text;
    });
    const others = 1 - sum(ids.map((id) => p[id]));
    view.mass.lastChild.textContent = others > 0.3 ? `all others ${percent(others)}` : "";
  }

  /* Rank against probability, all tokens, both axes logarithmic: the whole distribution as one line. */
  function showCurve() {
    const height = 270;
    const { kept } = shapes[state.context];
    const { svg, width } = picture(
      $("curve"),
      height,
      `Probability of every token of ${short(current())} by rank, on logarithmic scales: the likeliest has ` +
        `${percent(current().probabilities[current().order[0]])}, rank 100 has ${percent(current().probabilities[current().order[Math.min(99, size - 1)]])}.`,
    );
    const [left, right, top, bottom] = [62, width - 10, 12, height - 40];
    const [floor, last] = [-9, Math.log10(size)];
    const x = (rank) => left + ((right - left) * Math.log10(rank)) / last;
    const y = (p) => top + ((bottom - top) * clamp(p > 0 ? Math.log10(p) : -Infinity, floor, 0)) / floor;
    for (let exponent = 0; exponent >= floor; exponent--) {
      const at = y(10 ** exponent);
      svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
      if (exponent % 2 === 0)
        svg.append(draw("text", { class: "axis end", x: left - 8, y: at + 4 }, powerName(exponent)));
    }
    for (let rank = 1; rank <= size; rank *= 10) {
      svg.append(draw("line", { class: "tick", x1: x(rank), x2: x(rank), y1: bottom, y2: bottom + 5 }));
      svg.append(draw("text", { class: "axis middle", x: x(rank), y: bottom + 19 }, number.format(rank)));
    }
    svg.append(draw("text", { class: "axis end", x: right, y: height - 4 }, "rank"));
    const ranks = [...new Set(range(161).map((i) => Math.round(size ** (i / 160))))];
    const line = ({ order, probabilities: p }) => {
      const drawn = ranks.findIndex((rank) => p[order[rank - 1]] < 10 ** floor); // below the axis nothing is drawn
      return ranks.slice(0, drawn < 0 ? size : drawn + 1).map((rank) => [x(rank), y(p[order[rank - 1]])]);
    };
    const points = line(current());
    const cutAt = x(Math.max(kept, 1.06));
    const inside = points.filter(([at]) => at <= cutAt);
    if (inside.length > 1) svg.append(draw("path", { class: "area", d: `${path(inside)}V${bottom}H${left}Z` }));
    contexts.forEach((context, i) => {
      if (i !== state.context) svg.append(draw("path", { class: "line other", d: path(line(context)) }));
    });
    svg.append(draw("path", { class: "line main", d: path(points) }));
    if (isCut()) {
      svg.append(draw("line", { class: "cut-line", x1: cutAt, x2: cutAt, y1: top, y2: bottom }));
      const near = cutAt > right - 90;
      svg.append(
        draw(
          "text",
          { class: near ? "axis end" : "axis", x: cutAt + (near ? -6 : 6), y: top + 10 },
          `${number.format(kept)} kept`,
        ),
      );
    }
    for (const id of state.pins) {
      const [cx, cy] = [x(current().rank[id]), y(current().probabilities[id])];
      svg.append(
        mark(id, cx, cy, 5, draw("title", {}, `${plain(id)} ${percent(current().probabilities[id])}`)),
      );
    }
    $("curve-caption").textContent =
      `Every token of “${short(current())}” by rank: probability against rank, both on logarithmic scales.` +
      (contexts.length > 1 ? " Dashed: the other contexts." : "");
  }

  /* ----------------------------------------------------------------------------------------- the sliders */

  // Top-k walks through round numbers: a slider over 50,257 equal steps could not be set to 40.
  const STOPS = [
    ...new Set([
      ...[
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 400, 500, 700, 1000,
        2000, 3000, 5000, 10000, 20000, 50000,
      ].filter((k) => k < size),
      ...(initial.topK > 0 && initial.topK < size ? [initial.topK] : []),
    ]),
  ].sort((a, b) => a - b);

  /* A share between 0 and 1, with as many digits as it takes. */
  function shareText(p) {
    if (p < 0.01) return minus(String(Number(p.toPrecision(2))));
    const digits = [2, 3, 4].find((n) => Number(p.toFixed(n)) === p) ?? 4;
    return p < 1 && Number(p.toFixed(digits)) === 1 ? "> 0.9999" : p.toFixed(digits);
  }

  const SLIDERS = {
    temperature: {
      id: "temperature",
      range: "0 or more",
      valid: (t) => t >= 0,
      text: (t) => (t === 0 ? "0 · argmax" : t < 0.01 || t >= 1e4 ? t.toExponential(0) : t.toFixed(2)),
    },
    topK: {
      id: "top-k",
      range: "a whole number, 0 or more",
      valid: (k) => Number.isInteger(k) && k >= 0,
      text: (k) => (k === 0 || k >= size ? "off" : number.format(k)),
      toValue: (k) => (k === 0 || k >= size ? STOPS.length : STOPS.findIndex((stop) => stop >= k)),
      fromValue: (value) => STOPS[value] ?? 0,
    },
    topP: {
      id: "top-p",
      range: "above 0, and at most 1",
      valid: (p) => p > 0 && p <= 1,
      text: (p) => (p === 1 ? "off" : shareText(p)),
    },
    minP: {
      id: "min-p",
      range: "between 0 and 1",
      valid: (p) => p >= 0 && p <= 1,
      text: (p) => (p === 0 ? "off" : shareText(p)),
    },
  };

  function paintSlider(input) {
    const share = (input.value - input.min) / (input.max - input.min || 1);
    input.style.setProperty("--share", share);
  }

  function showControls() {
    for (const [name, { id, text, toValue = Number }] of Object.entries(SLIDERS)) {
      const input = $(id);
      const value = toValue(settings[name]);
      // Only when it differs: a slider being dragged must not be written to.
      if (Number(input.value) !== value) input.value = value;
      input.setAttribute("aria-valuetext", text(settings[name]));
      $(`${id}-value`).textContent = text(settings[name]);
      input.parentNode.classList.toggle("off", text(settings[name]) === "off");
      paintSlider(input);
    }
    const t = settings.temperature;
    $("remark").textContent =
      t === 0
        ? "At temperature 0 only the largest logit is left: argmax, or greedy decoding."
        : t < 0.3
          ? "Close to 0 nearly everything goes to the largest logit. At 0 it is argmax."
          : t < 0.995
            ? "Below 1 the differences between scores grow: the likely becomes likelier."
            : t < 1.005
              ? "At 1 the probabilities are those the model was trained to give."
              : "Above 1 the differences shrink: the unlikely gets its chance.";
  }

  let frame = 0;
  function set(changes) {
    for (const [name, value] of Object.entries(changes)) {
      if (!Object.hasOwn(SLIDERS, name)) throw new RangeError(`no setting is called ${name}`);
      if (!Number.isFinite(value) || !SLIDERS[name].valid(value))
        throw new RangeError(`${name} is ${value}; it must be ${SLIDERS[name].range}`);
    }
    Object.assign(settings, changes);
    frame = frame || requestAnimationFrame(() => {
      frame = 0;
      showDistributions();
    });
    later(() => {
      const { context: i } = state;
      const best = current().order[0];
      say(
        `Temperature ${SLIDERS.temperature.text(settings.temperature)}. ${plain(best)} ${percent(current().probabilities[best])}. ` +
          `Entropy ${shapes[i].entropy.toFixed(1)} bits.` +
          (isCut() ? ` ${number.format(shapes[i].kept)} tokens kept.` : ""),
      );
    });
  }

  // Screen readers hear the result once the slider has come to rest, not at every step on the way.
  let timer = 0;
  function later(action) {
    clearTimeout(timer);
    timer = setTimeout(action, 600);
  }
  const say = (text) => ($("live").textContent = text);

  /* ---------------------------------------------------------------------------------------- everything */

  function showContext() {
    showTokens();
    showStrips();
    showMap();
    showLens();
    showHistogram();
    showFound();
    showCurve();
    views.forEach(({ node, context }) => node.classList.toggle("current", context === current()));
  }

  function showAll() {
    colours = [colourOf("--accent"), colourOf("--counter")];
    flip = Number(colourOf("--flip"));
    widths.clear();
    // On a narrow screen the contexts stick to the top, and the sliders stop below them.
    const bar = getComputedStyle($("contexts")).position === "sticky" ? $("contexts").offsetHeight : 0;
    document.documentElement.style.setProperty("--bar", `${bar}px`);
    for (const scale of document.querySelectorAll(".scale")) scale.replaceChildren(...swatches());
    showContext();
  }

  function connect() {
    $("temperature").max = Math.max(2, initial.temperature);
    $("marks").hidden = initial.temperature > 2;
    $("top-k").max = STOPS.length;
    for (const [name, { id, fromValue = Number }] of Object.entries(SLIDERS)) {
      $(id).addEventListener("input", (event) => set({ [name]: fromValue(Number(event.target.value)) }));
    }
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    $("controls").addEventListener("reset", (event) => {
      event.preventDefault();
      set(initial);
    });
    $("layer").max = model.n_layer - 1;
    $("head").max = model.n_head - 1;
    $("layer").addEventListener("input", (event) => chooseHead(Number(event.target.value), state.head));
    $("head").addEventListener("input", (event) => chooseHead(state.layer, Number(event.target.value)));
    $("heads").addEventListener("click", (event) => {
      const box = $("heads").getBoundingClientRect();
      const at = (offset, length, n) => clamp(Math.floor((offset / length) * n), 0, n - 1);
      chooseHead(
        at(event.clientY - box.top, box.height, model.n_layer),
        at(event.clientX - box.left, box.width, model.n_head),
      );
    });
    $("search").addEventListener("input", showFound);
    $("search").addEventListener("keydown", (event) => {
      if (event.key === "Enter") $("found").querySelector("button")?.click();
    });
    $("more").addEventListener("click", () => {
      state.rows = Math.min(state.rows * 2, size, 320);
      showDistributions();
      $("more").disabled = state.rows >= Math.min(size, 320);
    });
    for (const { label, canvas, numbers } of strips)
      $("strips").append(make("div", { class: "strip" }, label, canvas, numbers));
    tidyPins = rove($("pins"));
    tidyFound = rove($("found"));
    $("distributions").append(...views.map(({ node }) => node));
    $("distributions").classList.toggle("several", contexts.length > 1);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showAll);
    let width = document.documentElement.clientWidth;
    addEventListener("resize", () => {
      if (width === document.documentElement.clientWidth) return; // a phone's address bar changes the height only
      width = document.documentElement.clientWidth;
      requestAnimationFrame(() => {
        showAll();
        showCurve();
      });
    });
    // The step that is being read is marked in the list of steps.
    const steps = new Map([...document.querySelectorAll(".steps a")].map((link) => [link.hash.slice(1), link]));
    const observer = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          if (isIntersecting) {
            for (const link of steps.values()) link.removeAttribute("aria-current");
            steps.get(target.id).setAttribute("aria-current", "step");
          }
        }
      },
      { rootMargin: "-30% 0px -65% 0px" },
    );
    for (const id of steps.keys()) observer.observe($(id));
  }

  showHead();
  showFunctions();
  connect();
  shapes = contexts.map(shape);
  sharpest();
  showAll();
  showPins();

  window.minigpt = Object.freeze({
    contexts: contexts.map(({ prompt, tokens, logits }) => ({ prompt, tokens, logits })),
    get settings() {
      return { ...settings };
    },
    set,
    probabilities(i = 0) {
      shape(contexts[i]);
      return contexts[i].probabilities.slice();
    },
    kept(i = 0) {
      const { kept, keptMass } = shape(contexts[i]);
      const { rank, probabilities } = contexts[i];
      return probabilities.map((p, id) => (rank[id] <= kept ? p / keptMass : 0));
    },
  });
})();
