// What is drawn, as numbers: the same for WebGL and for the flat canvas.

import type { Bundle, Level } from "./bundles";
import type { Camera } from "./camera";
import type { Tree } from "./tree";
import { rankOf } from "./verdicts";

/** x, y, width, height; kind, rank of what is in it or -1, opacity, emphasis. */
export const BOX = 8;
/** x1, y1, x2, y2; control x, y, length, 0; rank, width in pixels, opacity, emphasis. */
export const LINE = 12;
const [OPACITY, EMPHASIS] = [10, 11];
export const FRAME = 0;
export const CARD = 1;

/** Colours as 0..1: the statuses in order of attention, then these. */
export const PARTS = ["--card", "--line", "--line-strong", "--accent", "--page", "--ink"] as const;
export type Palette = readonly (readonly [number, number, number, number])[];

export interface Drawing {
  frames: Float32Array;
  lines: Float32Array;
  cards: Float32Array;
  /** Per line, in the order of `lines`. */
  bundles: readonly Bundle[];
  /** Boxes that can be pointed at: inner ones last. */
  shown: readonly number[];
}

export interface Painter {
  kind: "webgl" | "flat";
  put: (drawing: Drawing) => void;
  colour: (palette: Palette) => void;
  paint: (camera: Camera, width: number, height: number) => void;
  close: () => void;
}

export interface Focus {
  /** Boxes that are looked at; lines that touch them stand out. */
  box: number;
  /** `source destination` of a line that is looked at. */
  line: string;
  /** Only what the draft changes stands out. */
  isOfChanges: boolean;
}

export const lineKey = (one: Pick<Bundle, "source" | "destination">): string => `${one.source} ${one.destination}`;

const [UNHELD, BLOCKED, ALLOWED] = [rankOf("unheld"), rankOf("blocked"), rankOf("allowed")];
const BEND = 0.14;
const FAINT = 0.1;
const [MOST_THROUGH, THROUGH] = [400, 0.3];

/** Boxes open down to `level`, the lines between them, and what stands out. `has`: the box has a group of the answer. */
export function draw(tree: Tree, rects: Float32Array, level: Level, depth: number, has: Uint8Array, focus: Focus): Drawing {
  const shown = tree.boxes.flatMap((box, at) => (box.depth <= depth ? [at] : []));
  const isOpen = (at: number): boolean => (tree.boxes[at]?.depth ?? 0) < depth && (tree.boxes[at]?.children.length ?? 0) > 0;
  const near = neighbours(level, focus);
  const worst = worstOf(level);
  const one = (at: number): number[] => {
    const isLit = focus.box === at || near.has(at);
    const opacity = !has[at] ? 0.3 : near.size > 0 && !isLit && !isOpen(at) ? 0.45 : 1;
    return [...rects.subarray(at * 4, at * 4 + 4), isOpen(at) ? FRAME : CARD, worst.get(at) ?? -1, opacity, focus.box === at ? 1 : 0];
  };
  // The last drawn is on top: what is unprotected is drawn last.
  const bundles = level.lines.toReversed();
  const crowd = Math.min(1, 20 / Math.sqrt(bundles.length + 1));
  const busiest = Math.log1p(bundles.reduce((most, each) => Math.max(most, each.connections), 1));
  const values = new Float32Array(bundles.length * LINE);
  bundles.forEach((bundle, at) => values.set(lineOf(bundle, rects, focus, near.size > 0, crowd, busiest), at * LINE));
  return {
    frames: new Float32Array(shown.filter(isOpen).flatMap(one)),
    cards: new Float32Array(shown.filter((at) => !isOpen(at)).flatMap(one)),
    lines: values, bundles, shown,
  };
}

function neighbours(level: Level, focus: Focus): Set<number> {
  const near = new Set<number>();
  for (const one of level.lines) if (isLit(one, focus)) near.add(one.source).add(one.destination);
  if (focus.box >= 0) near.add(focus.box);
  return near;
}

const isLit = (one: Bundle, focus: Focus): boolean =>
  focus.line !== "" ? lineKey(one) === focus.line : focus.box >= 0 ? one.source === focus.box || one.destination === focus.box : focus.isOfChanges && one.isChanged;

function worstOf(level: Level): Map<number, number> {
  const worst = new Map<number, number>();
  for (const one of [...level.lines, ...level.inner.values()]) {
    const rank = worst.get(one.destination);
    if (rank === undefined || one.rank < rank) worst.set(one.destination, one.rank);
  }
  return worst;
}

function lineOf(one: Bundle, rects: Float32Array, focus: Focus, isFocused: boolean, crowd: number, busiest: number): number[] {
  const [from, to] = [centre(rects, one.source), centre(rects, one.destination)];
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const control = { x: from.x + dx / 2 - dy * BEND, y: from.y + dy / 2 + dx * BEND };
  const [start, end] = [border(rects, one.source, from, control), border(rects, one.destination, to, control)];
  const chord = Math.hypot(end.x - start.x, end.y - start.y);
  const around = Math.hypot(control.x - start.x, control.y - start.y) + Math.hypot(end.x - control.x, end.y - control.y);
  const lit = isLit(one, focus);
  const usual = one.rank === ALLOWED ? 0.6 * crowd : one.rank === BLOCKED ? 0.75 * crowd : Math.max(0.3, crowd);
  const opacity = lit ? 1 : isFocused || one.isFar ? FAINT : Math.max(0.12, usual);
  const width = (1.1 + 1.5 * (Math.log1p(one.connections) / busiest)) * (0.6 + 0.4 * crowd) + (lit ? 1 : 0) + (one.rank === UNHELD ? 1.2 : 0);
  return [start.x, start.y, end.x, end.y, control.x, control.y, (2 * chord + around) / 3, 0, one.rank, width, opacity, one.isChanged ? 1 : 0];
}

interface Point {
  x: number;
  y: number;
}

const centre = (rects: Float32Array, box: number): Point => ({ x: (rects[box * 4] ?? 0) + (rects[box * 4 + 2] ?? 0) / 2, y: (rects[box * 4 + 1] ?? 0) + (rects[box * 4 + 3] ?? 0) / 2 });

/** Where the way from the middle of a box towards a point leaves the box. */
function border(rects: Float32Array, box: number, middle: Point, towards: Point): Point {
  const [dx, dy] = [towards.x - middle.x, towards.y - middle.y];
  const [halfWide, halfHigh] = [(rects[box * 4 + 2] ?? 0) / 2, (rects[box * 4 + 3] ?? 0) / 2];
  const share = Math.min(dx ? halfWide / Math.abs(dx) : Infinity, dy ? halfHigh / Math.abs(dy) : Infinity, 1);
  return { x: middle.x + dx * share, y: middle.y + dy * share };
}

/** The lines again, faint, for above the cards: one that passes behind a card it is not of is seen to go on. Not where they are too many to be followed. */
export function through({ lines }: Drawing): Float32Array {
  if (lines.length > MOST_THROUGH * LINE) return new Float32Array(0);
  return lines.map((value, at) => (at % LINE === OPACITY ? value * THROUGH : at % LINE === EMPHASIS ? 0 : value));
}

/** The line nearest to a point, within `reach` of the world; the topmost of equals. */
export function lineAt(drawing: Drawing, x: number, y: number, reach: number): Bundle | null {
  let [best, found] = [reach, null as Bundle | null];
  drawing.bundles.forEach((bundle, at) => {
    const v = drawing.lines.subarray(at * LINE, at * LINE + LINE);
    const [x1, y1, x2, y2, cx, cy] = [v[0] ?? 0, v[1] ?? 0, v[2] ?? 0, v[3] ?? 0, v[4] ?? 0, v[5] ?? 0];
    if (x < Math.min(x1, x2, cx) - reach || x > Math.max(x1, x2, cx) + reach || y < Math.min(y1, y2, cy) - reach || y > Math.max(y1, y2, cy) + reach) return;
    if ((v[10] ?? 1) <= FAINT) return;
    for (let step = 0; step <= 24; step++) {
      const t = step / 24;
      const [a, b, c] = [(1 - t) * (1 - t), 2 * t * (1 - t), t * t];
      const far = Math.hypot(a * x1 + b * cx + c * x2 - x, a * y1 + b * cy + c * y2 - y) - Math.hypot(x2 - x1, y2 - y1) / 48;
      if (far <= best) [best, found] = [Math.max(far, 0), bundle];
    }
  });
  return found;
}

/** The innermost box at a point. */
export function boxAt(drawing: Drawing, rects: Float32Array, x: number, y: number): number {
  for (let at = drawing.shown.length - 1; at >= 0; at--) {
    const box = drawing.shown[at] ?? 0;
    const [left, top] = [rects[box * 4] ?? 0, rects[box * 4 + 1] ?? 0];
    if (x >= left && y >= top && x <= left + (rects[box * 4 + 2] ?? 0) && y <= top + (rects[box * 4 + 3] ?? 0)) return box;
  }
  return -1;
}
