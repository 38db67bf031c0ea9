// The page of rtseg-cam: pictures or a video, state from server-sent events, commands by POST.

import { playVideo } from "./video.js";

const ACTIONS = ["pause", "snapshot", "record"];
const POINTS = 240; // of a curve: a minute
const RETRY_MS = [250, 500, 1000, 2000];
const NOTE_MS = 4000;
const STILL_MS = 3000;
const CHANGE_MS = 50; // between two values of a slider that is dragged

const find = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// --- Connection: one retry loop for whatever may break ------------------------------------------------------------

let controls = [];
let lastPictureAt = 0;
let connected = false;

function paused() {
  return controls.some((control) => control.name === "pause" && control.value);
}

function showStatus() {
  const still = performance.now() - lastPictureAt > STILL_MS;
  const [state, text] = !connected ? ["lost", "Not connected"]
    : paused() ? ["paused", "Paused"]
    : still ? ["waiting", "No new picture"]
    : ["live", "Live"];
  const status = find("status");
  status.dataset.state = state;
  setText(status, text);
  const veil = find("veil");
  veil.hidden = state === "live" || state === "paused";
  setText(veil, !connected ? "Not connected to rtseg-cam. Trying again."
    : lastPictureAt ? "No new picture for some seconds" : "Waiting for the first picture");
}

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

/** Runs `work(signal)` again and again while the page is visible; it is aborted when the page is hidden. */
async function keep(work) {
  for (let tries = 0; ; tries++) {
    await visible();
    const abort = new AbortController();
    const hide = () => document.hidden && abort.abort();
    document.addEventListener("visibilitychange", hide);
    const started = performance.now();
    try {
      await work(abort.signal);
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof DOMException || error instanceof Refused)) throw error;
      if (error instanceof Refused) showNote(error.message, true);
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    if (performance.now() - started > 5000) tries = 0;
    if (!document.hidden) await sleep(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
  }
}

class Refused extends Error {}

async function opened(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (!response.ok) throw new Refused((await response.text()).trim());
  return response;
}

// --- Pictures: the newest is drawn; what came meanwhile is thrown away ---------------------------------------------

/** Splits a multipart stream: give it bytes, it calls `take(headers, body)` for each part. */
class Parts {
  constructor(take) {
    this.take = take;
    this.head = "";
    this.body = null;
    this.filled = 0;
  }

  push(bytes) {
    let at = 0;
    while (at < bytes.length) {
      if (this.body === null) {
        this.head += String.fromCharCode(bytes[at++]);
        if (this.head.endsWith("\r\n\r\n")) this.begin();
        continue;
      }
      const some = bytes.subarray(at, at + this.body.length - this.filled);
      this.body.set(some, this.filled);
      this.filled += some.length;
      at += some.length;
      if (this.filled === this.body.length) {
        const [headers, body] = [this.headers, this.body];
        [this.head, this.body] = ["", null];
        this.take(headers, body);
      }
    }
  }

  begin() {
    this.headers = new Map();
    for (const line of this.head.split("\r\n")) {
      const colon = line.indexOf(":");
      if (colon > 0) this.headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
    }
    this.body = new Uint8Array(Number(this.headers.get("content-length")));
    this.filled = 0;
  }
}

const canvas = find("picture");
const context = canvas.getContext("2d", { alpha: false });
let newest = null;
let drawing = false;

async function draw() {
  if (drawing) return;
  drawing = true;
  while (newest !== null) {
    const [headers, body] = newest;
    newest = null;
    const bitmap = await createImageBitmap(new Blob([body], { type: "image/jpeg" }));
    await new Promise(requestAnimationFrame);
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    }
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    seen(canvas, headers.get("x-frame-index"), Number(headers.get("x-captured-at")));
  }
  drawing = false;
}

async function readPictures(signal) {
  const response = await opened("stream.mjpg", { signal });
  const parts = new Parts((headers, body) => {
    newest = [headers, body];
    draw();
  });
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    received += value.length;
    parts.push(value);
  }
}

// --- The form in which the picture comes: JPEG, or a video where this browser plays one ---------------------------

const FORMS = {
  jpeg: { name: "JPEG pictures", element: canvas, read: readPictures },
  video: { name: "Video (H.264)", element: find("video"), read: readVideo },
};
let form = location.hash === "#video" ? "video" : "jpeg"; // in the address, so that it can be a bookmark
let noVideo = ""; // why there is none
let leaveForm = () => {};
let lastIndex = "";
let received = 0; // bytes
const ages = [];

/** What was drawn is shown; how old it is tells nothing where it was drawn again during a pause. */
function seen(element, index, capturedAt) {
  for (const { element: other } of Object.values(FORMS)) other.hidden = other !== element;
  lastPictureAt = performance.now();
  const age = clock.now() - 1000 * capturedAt;
  if (String(index) !== lastIndex && clock.known && !paused()) {
    ages.push(age);
    if (ages.length > 90) ages.shift();
    element.dataset.ageMs = age.toFixed(1);
  }
  element.dataset.frame = lastIndex = String(index);
}

async function readVideo(signal) {
  const video = find("video");
  video.hidden = false; // a hidden one shows nothing; the last JPEG picture lies above it
  try {
    await playVideo(video, signal, ({ frame, captured_at }) => seen(video, frame, captured_at),
      (bytes) => { received += bytes; });
  } catch (error) {
    if (!connected) return; // everything is gone: try again
    [form, noVideo] = ["jpeg", error.message];
    find("form").value = form;
    showNote(`No video: ${noVideo}. JPEG pictures are shown instead.`, true);
  }
}

async function readForm(signal) {
  ages.length = 0; // those of another form, or from before the page was hidden
  const leave = new AbortController();
  leaveForm = () => leave.abort();
  signal.addEventListener("abort", leaveForm);
  await FORMS[form].read(leave.signal);
}

function makeForms() {
  const select = find("form");
  select.append(...Object.entries(FORMS).map(([value, { name }]) => make("option", { value, textContent: name })));
  select.value = form;
  select.addEventListener("change", () => {
    [form, noVideo] = [select.value, ""];
    history.replaceState(null, "", form === "video" ? "#video" : location.pathname);
    leaveForm();
  });
}

const totals = []; // [time in ms, bytes received by then] of the last seconds

function formFact() {
  totals.push([performance.now(), received]);
  if (totals.length > 12) totals.shift();
  const [[start, before], [end, now]] = [totals[0], totals.at(-1)];
  const rate = end > start ? `, ${((8e-3 * (now - before)) / (end - start)).toFixed(1)} Mbit/s` : "";
  return `${FORMS[form].name}${rate}${noVideo && `; no video: ${noVideo}`}`;
}

// --- The server's clock: what the capture times are told in -------------------------------------------------------

const clock = {
  offset: 0,
  known: false,
  now: () => performance.now() + clock.offset,
};

/** Of several answers, the one that took the least time says best what the server's clock shows. */
async function readClock(signal) {
  let best = Infinity;
  for (let count = 0; count < 5; count++) {
    const before = performance.now();
    const { now } = await (await opened("clock", { signal })).json();
    const took = performance.now() - before;
    if (took < best) {
      best = took;
      clock.offset = 1000 * now - (before + took / 2);
    }
  }
  clock.known = true;
  await sleep(20000);
}

// --- Curves -------------------------------------------------------------------------------------------------------

const charts = new Map();

function makeChart(about) {
  const value = make("span", { className: "value" }); // no <output>: a screen reader would read every change
  const curve = make("canvas");
  curve.setAttribute("aria-hidden", "true");
  const top = make("span");
  const scale = make("div", { className: "scale" }, make("span", { textContent: "a minute ago" }), top);
  scale.setAttribute("aria-hidden", "true");
  const caption = make("figcaption", { textContent: about.label });
  find("charts").append(make("figure", { className: "chart" }, caption, value, curve, scale));
  const chart = { value, curve, top, points: [] };
  charts.set(about.name, chart);
  return chart;
}

function addPoint(about) {
  const chart = charts.get(about.name) ?? makeChart(about);
  chart.points.push(about.value);
  if (chart.points.length > POINTS) chart.points.shift();
  const digits = about.value !== null && about.value < 10 ? 1 : 0;
  chart.value.replaceChildren(
    about.value === null ? "–" : about.value.toFixed(digits), " ", make("small", { textContent: about.unit }));
  const most = niceTop(Math.max(...chart.points.map((point) => point ?? 0)));
  setText(chart.top, `0 to ${most} ${about.unit}`);
  drawCurve(chart, most);
}

/** The next of 1, 2, 5, 10, 20, 50, … */
function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= value);
}

function drawCurve({ curve, points }, most) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(curve.clientWidth * ratio), Math.round(curve.clientHeight * ratio)];
  if (curve.width !== width || curve.height !== height) [curve.width, curve.height] = [width, height];
  const pen = curve.getContext("2d");
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = getComputedStyle(curve).color;
  pen.lineWidth = 1.75 * ratio;
  pen.lineJoin = "round";
  pen.beginPath();
  let down = false;
  points.forEach((point, place) => {
    const x = ((place + POINTS - points.length) / (POINTS - 1)) * width;
    const y = height - (Math.min(point ?? 0, most) / most) * (height - 2 * ratio) - ratio;
    if (point === null) down = false;
    else if (down) pen.lineTo(x, y);
    else { pen.moveTo(x, y); down = true; }
  });
  pen.stroke();
}

function percentile(values, share) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

// --- State --------------------------------------------------------------------------------------------------------

function readEvents(signal) {
  return new Promise((resolve) => {
    const events = new EventSource("events");
    const end = () => {
      events.close();
      connected = false;
      showStatus();
      resolve();
    };
    signal.addEventListener("abort", end);
    events.onerror = end;
    events.onopen = () => { connected = true; showStatus(); };
    events.addEventListener("figures", (event) => showFigures(JSON.parse(event.data)));
    events.addEventListener("controls", (event) => showControls(JSON.parse(event.data)));
    events.addEventListener("note", (event) => takeNote(JSON.parse(event.data)));
  });
}

function showFigures({ charts: found, facts }) {
  found.forEach(addPoint);
  addPoint({ name: "page", label: "Capture to this page", unit: "ms", value: percentile(ages, 0.5) });
  const rows = Object.entries(facts).flatMap(([name, text]) => [
    make("dt", { textContent: name }), make("dd", { textContent: text })]);
  rows.push(make("dt", { textContent: "Picture" }), make("dd", { textContent: formFact() }));
  const late = percentile(ages, 0.95);
  if (late !== null) {
    rows.push(make("dt", { textContent: "On this page" }),
      make("dd", { textContent: `95 of 100 pictures within ${late.toFixed(0)} ms of their capture` }));
  }
  find("facts").replaceChildren(...rows);
  setText(find("running"), facts.Network ?? "");
  for (const { element } of Object.values(FORMS)) {
    element.setAttribute("aria-label", `The labelled picture, from ${facts.Source}`);
  }
  showStatus();
}

let noteNumber = null;
let noteTimer = 0;

function takeNote({ number, text, is_error }) {
  if (noteNumber !== null && number !== noteNumber && text) showNote(text, is_error);
  noteNumber = number;
}

function showNote(text, isError) {
  clearTimeout(noteTimer);
  const [shown, other] = isError ? [find("alert"), find("note")] : [find("note"), find("alert")];
  other.hidden = true;
  shown.hidden = false;
  shown.textContent = text;
  noteTimer = setTimeout(() => { shown.hidden = true; }, isError ? 2 * NOTE_MS : NOTE_MS);
}

// --- Controls -----------------------------------------------------------------------------------------------------

async function ask(command) {
  try {
    const response = await fetch("control", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(command),
    });
    if (response.status === 400) return; // the events tell it to everybody
    if (!response.ok) showNote((await response.text()).trim(), true);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    showNote("Not connected to rtseg-cam", true);
  }
}

const waiting = new Map(); // control -> the newest value that was not sent yet; one request at a time

async function change(name, value) {
  const busy = waiting.has(name);
  waiting.set(name, { value });
  if (busy) return;
  for (let next = waiting.get(name); next; next = waiting.get(name)) {
    waiting.set(name, null);
    await ask({ name, value: next.value });
    await sleep(CHANGE_MS);
  }
  waiting.delete(name);
  show(name); // what was told meanwhile, also where the change was refused
}

function show(name) {
  const about = controls.find((control) => control.name === name);
  if (about && !waiting.has(name)) made.get(name).update(about, loading !== "");
}

/** kind -> (about) -> { element, update(about) }; a new kind of control is one entry. */
const KINDS = {
  button: (about) => {
    const element = make("button", { type: "button", textContent: about.label });
    element.addEventListener("click", () => change(about.name, null));
    return { element, update: () => {} };
  },

  switch: (about) => {
    if (ACTIONS.includes(about.name)) {
      const element = make("button", { type: "button", textContent: about.label });
      element.addEventListener("click", () => change(about.name, element.getAttribute("aria-pressed") !== "true"));
      return { element, update: (now) => element.setAttribute("aria-pressed", String(now.value)) };
    }
    const input = make("input", { type: "checkbox" });
    input.setAttribute("role", "switch");
    input.addEventListener("change", () => change(about.name, input.checked));
    const element = make("label", { className: "row" }, make("span", { textContent: about.label }), input);
    return { element, update: (now) => { input.checked = now.value; } };
  },

  slider: (about) => {
    const input = make("input", { type: "range", min: about.low, max: about.high, step: about.step / 2 });
    const number = make("span", { className: "value" });
    const tell = (value) => setText(number, String(Number(value.toFixed(2))));
    input.setAttribute("aria-label", about.label);
    input.addEventListener("input", () => {
      tell(input.valueAsNumber);
      change(about.name, input.valueAsNumber);
    });
    const element = make("label", { className: "row slider" }, make("span", { textContent: about.label }), number, input);
    return { element, update: (now) => { input.value = now.value; tell(now.value); } };
  },

  choice: (about) => {
    const select = make("select", {}, ...about.options.map((name) => make("option", { value: name, textContent: name })));
    select.addEventListener("change", () => change(about.name, select.value));
    const element = make("label", { className: "row" }, make("span", { textContent: about.label }), select);
    return {
      element,
      update: (now, loading) => {
        select.value = now.value;
        select.disabled = loading;
      },
    };
  },

  selection: (about) => {
    const names = Object.keys(about.options);
    const boxes = names.map((name) => make("input", { type: "checkbox", value: name }));
    const send = () => change(about.name, boxes.filter((box) => box.checked).map((box) => box.value));
    const list = make("div", { className: "list" }, ...boxes.map((box) => make("label", {}, box,
      swatch(about.options[box.value]), make("span", { textContent: box.value }))));
    list.addEventListener("change", send);
    const both = ["All", "None"].map((text) => {
      const button = make("button", { type: "button", className: "small", textContent: text });
      button.setAttribute("aria-label", `${text}: ${about.label}`);
      button.addEventListener("click", () => {
        boxes.forEach((box) => { box.checked = text === "All"; });
        send();
      });
      return button;
    });
    const element = make("fieldset", {}, make("legend", { textContent: about.label }),
      make("div", { className: "both" }, ...both), list);
    return { element, update: (now) => boxes.forEach((box) => { box.checked = now.value.includes(box.value); }) };
  },
};

function swatch(colour) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, value] of [["width", "100%"], ["height", "100%"], ["fill", colour]]) square.setAttribute(name, value);
  svg.append(square);
  return svg;
}

let loading = "";
let shape = "";
let made = new Map();

function showControls(state) {
  ({ controls, loading } = state);
  const now = JSON.stringify(controls.map(({ value, ...rest }) => rest));
  if (now !== shape) buildControls();
  shape = now;
  setText(find("loading"), loading ? `Loading ${loading} …` : "");
  controls.forEach(({ name }) => show(name));
  document.title = `${state.recording ? "● " : ""}rtseg`;
  showStatus();
}

function buildControls() {
  made = new Map(controls.map((about) => [about.name, KINDS[about.kind](about)]));
  for (const about of controls) {
    const element = made.get(about.name).element;
    element.dataset.name = about.name;
    if (element.tagName === "BUTTON" && about.keys.length) element.setAttribute("aria-keyshortcuts", about.keys.join(" "));
  }
  const place = (inActions) => controls.filter(({ name }) => ACTIONS.includes(name) === inActions)
    .map(({ name }) => made.get(name).element);
  find("actions").replaceChildren(...place(true), fullscreenButton());
  find("settings").replaceChildren(...place(false));
  const keys = controls.filter(({ keys }) => keys.length).flatMap(({ keys, label }) => [
    make("dt", {}, ...keys.flatMap((key) => [make("kbd", { textContent: key }), " "])), make("dd", { textContent: label })]);
  find("keys").replaceChildren(...keys, make("dt", {}, make("kbd", { textContent: "h" })),
    make("dd", { textContent: "These keys" }));
}

function fullscreenButton() {
  const button = make("button", { type: "button", id: "fullscreen", textContent: "Full screen" });
  button.hidden = !document.fullscreenEnabled;
  button.addEventListener("click", () => find("stage").requestFullscreen());
  return button;
}

// --- Keys ---------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (!find("use-keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key === " " ? "space" : event.key === "=" ? "+" : event.key.toLowerCase();
  const known = controls.some(({ keys }) => keys.includes(key));
  const wantsItself = event.target.matches("select") || (key === "space" && event.target.matches("button, summary, input"));
  if (wantsItself || !(known || key === "h")) return;
  event.preventDefault();
  if (key === "h") find("help").open = !find("help").open;
  else ask({ key });
});

if (location.search) history.replaceState(null, "", location.pathname + location.hash); // the cookie knows the token now
find("settings").addEventListener("submit", (event) => event.preventDefault());
keep(readClock);
makeForms();
keep(readForm);
keep(readEvents);
setInterval(showStatus, 1000);
