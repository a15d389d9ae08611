// Where boxes go: leaves of one size in rows, rows in boxes, places in a column at the left.
//
// INVARIANT: the same tree has the same layout. It is pure and runs in a worker.

export interface Plan {
  /** Per box its parent, before it in order; -1: none. */
  parent: Int32Array;
  isPlace: Uint8Array;
}

export const LEAF = { width: 152, height: 46 };
const TITLE = 30;
const PAD = 12;
const LEAST_GAP = 24;
/** More boxes than this are never in one row. */
const MOST_ACROSS = 80;
/** Places are as high as this share of the map, whatever its size. */
const PLACE_SHARE = 0.075;
/** The shape that containers strive for: wider than high. */
const ASPECT = 1.7;

interface Size {
  width: number;
  height: number;
}

/** x, y, width, height per box. The deepest boxes have `LEAF` size at scale 1. */
export function layout(plan: Plan): Float32Array {
  const count = plan.parent.length;
  const children: number[][] = Array.from({ length: count }, () => []);
  const roots: number[] = [];
  plan.parent.forEach((parent, box) => (parent < 0 ? roots : (children[parent] ?? roots)).push(box));
  const rects = new Float32Array(count * 4);
  for (let box = count - 1; box >= 0; box--) {
    const under = children[box] ?? [];
    const inner = under.length ? pack(under, rects, gapOf(under, rects), ASPECT) : { width: LEAF.width, height: LEAF.height };
    const isHolder = under.length > 0;
    rects[box * 4 + 2] = isHolder ? Math.max(inner.width + 2 * PAD, LEAF.width) : inner.width;
    rects[box * 4 + 3] = isHolder ? inner.height + TITLE + PAD : inner.height;
  }
  const places = roots.filter((box) => plan.isPlace[box]);
  const groups = roots.filter((box) => !plan.isPlace[box]);
  const top = gapOf(groups, rects);
  const main = pack(groups, rects, top, ASPECT);
  const larger = Math.max(1, (main.height * PLACE_SHARE) / LEAF.height);
  for (const box of places.filter((one) => !children[one]?.length)) [rects[box * 4 + 2], rects[box * 4 + 3]] = [LEAF.width * larger, LEAF.height * larger];
  const column = stack(places, rects, Math.max(main.height, 6 * LEAF.height), LEAST_GAP * larger);
  places.forEach((box) => (rects[box * 4] = (rects[box * 4] ?? 0) - column.width - Math.max(60, top)));
  for (let box = 0; box < count; box++) {
    const parent = plan.parent[box] ?? -1;
    if (parent < 0) continue;
    rects[box * 4] = (rects[box * 4] ?? 0) + (rects[parent * 4] ?? 0) + PAD;
    rects[box * 4 + 1] = (rects[box * 4 + 1] ?? 0) + (rects[parent * 4 + 1] ?? 0) + TITLE;
  }
  return rects;
}

/** Room for lines between boxes: more, the larger they are. */
function gapOf(boxes: readonly number[], rects: Float32Array): number {
  const sides = boxes.map((box) => Math.min(rects[box * 4 + 2] ?? 0, rects[box * 4 + 3] ?? 0)).sort((a, b) => a - b);
  return LEAST_GAP + 0.16 * Math.max(0, (sides[sides.length >> 1] ?? 0) - LEAF.height);
}

/** Rows of boxes, as wide as gives the shape; positions are relative. */
function pack(boxes: readonly number[], rects: Float32Array, gap: number, aspect: number): Size {
  const widths = boxes.map((box) => rects[box * 4 + 2] ?? 0);
  const widest = widths.reduce((most, width) => Math.max(most, width), 0);
  let [least, room, sum] = [Infinity, widest, 0];
  for (const width of widths.slice(0, MOST_ACROSS)) {
    sum += width + gap;
    const size = place(boxes, rects, gap, Math.max(widest, sum - gap));
    const misses = Math.abs(Math.log(size.width / Math.max(1, size.height) / aspect)) + 0.6 * Math.log(size.width * size.height + 1);
    if (misses < least - 1e-6) [least, room] = [misses, Math.max(widest, sum - gap)];
  }
  return place(boxes, rects, gap, room);
}

function place(boxes: readonly number[], rects: Float32Array, gap: number, room: number): Size {
  let [x, y, row, width] = [0, 0, 0, 0];
  for (const box of boxes) {
    const [own, high] = [rects[box * 4 + 2] ?? 0, rects[box * 4 + 3] ?? 0];
    if (x > 0 && x + own > room + 0.5) [x, y, row] = [0, y + row + gap, 0];
    rects[box * 4] = x;
    rects[box * 4 + 1] = y;
    x += own + gap;
    row = Math.max(row, high);
    width = Math.max(width, x - gap);
  }
  return { width, height: y + row };
}

/** Columns from the top; positions are relative. */
function stack(boxes: readonly number[], rects: Float32Array, room: number, gap: number): Size {
  let [x, y, column] = [0, 0, 0];
  for (const box of boxes) {
    const [own, high] = [rects[box * 4 + 2] ?? 0, rects[box * 4 + 3] ?? 0];
    if (y > 0 && y + high > room) [x, y, column] = [x + column + gap, 0, 0];
    rects[box * 4] = x;
    rects[box * 4 + 1] = y;
    y += high + gap;
    column = Math.max(column, own);
  }
  return { width: x + column, height: room };
}
