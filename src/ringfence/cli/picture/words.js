// Words, numbers and elements: everything a person reads goes through here, always as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Statuses from mildest to worst: a thing made of several has the worst. */
const STATUSES = ["allowed", "no-policy", "would-block", "blocked"];

/** The order to read them in: unprotected first. */
const ATTENTION = ["would-block", "no-policy", "blocked", "allowed"];

const STATUS = new Map([
  ["allowed", { word: "Allowed", mark: "✓", help: "A rule allows it." }],
  ["no-policy", { word: "No policy", mark: "?", help: "Nothing of ours can hold it, or it was not judged." }],
  ["would-block", { word: "Would block", mark: "!", help: "It passes today and stops once its end enforces." }],
  ["blocked", { word: "Blocked", mark: "✕", help: "Policy stops it." }],
]);

/** An HTML element: attributes, then children; a string child is text. */
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element, likewise. */
function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text without what turns the writing direction or hides: a label must not disguise itself. */
function printable(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, "\ufffd");
}

const wholeNumber = new Intl.NumberFormat("en");
const shortNumber = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const count = (n) => wholeNumber.format(n);
const brief = (n) => shortNumber.format(n);

/** `1 edge`, `2 edges`. */
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

/** `1.4 MB`: powers of 1000. */
function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let amount = bytes;
  let unit = 0;
  while (amount >= 999.5 && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${unit === 0 || amount >= 9.95 ? Math.round(amount) : amount.toFixed(1)} ${units[unit]}`;
}

/** `2026-03-01 12:00` of an RFC 3339 UTC time. */
const moment = (text) => (text ? text.slice(0, 16).replace("T", " ") : "–");

/** The text cut in the middle so that it fits: both ends of a long name tell it from its neighbours. */
function shorten(text, width, measure) {
  if (measure(text) <= width) return text;
  const chars = Array.from(text);
  let keep = chars.length - 1;
  while (keep > 2) {
    const head = Math.ceil(keep * 0.6);
    const short = chars.slice(0, head).join("") + "…" + chars.slice(chars.length - (keep - head)).join("");
    if (measure(short) <= width) return short;
    keep -= 1;
  }
  return "…";
}

const canvas = document.createElement("canvas").getContext("2d");
const widths = new Map();

/** Width in pixels of a text in the page's font. */
function textWidth(text, weight, sizePx) {
  const key = `${weight} ${sizePx} ${text}`;
  if (!widths.has(key)) {
    canvas.font = `${weight} ${sizePx}px ${getComputedStyle(document.body).fontFamily}`;
    widths.set(key, canvas.measureText(text).width);
  }
  return widths.get(key);
}

/** Copy to the clipboard; a page from `file://` may not be allowed the modern way. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
