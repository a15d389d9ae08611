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
  const heights = new Int32Array(count);
  for (let box = count - 1; box >= 0; box--) {
    const under = children[box] ?? [];
    heights[box] = under.reduce((most, child) => Math.max(most, (heights[child] ?? 0) + 1), 0);
    const inner = under.length ? pack(under, rects, gapOf(heights[box] ?? 0), ASPECT) : { width: LEAF.width, height: LEAF.height };
    const isHolder = under.length > 0;
    rects[box * 4 + 2] = isHolder ? Math.max(inner.width + 2 * PAD, LEAF.width) : inner.width;
    rects[box * 4 + 3] = isHolder ? inner.height + TITLE + PAD : inner.height;
  }
  const places = roots.filter((box) => plan.isPlace[box]);
  const groups = roots.filter((box) => !plan.isPlace[box]);
  const top = gapOf(groups.reduce((most, box) => Math.max(most, (heights[box] ?? 0) + 1), 0));
  const main = pack(groups, rects, top, ASPECT);
  const column = stack(places, rects, Math.max(main.height, 6 * LEAF.height));
  places.forEach((box) => (rects[box * 4] = (rects[box * 4] ?? 0) - column.width - top * 1.6));
  for (let box = 0; box < count; box++) {
    const parent = plan.parent[box] ?? -1;
    if (parent < 0) continue;
    rects[box * 4] = (rects[box * 4] ?? 0) + (rects[parent * 4] ?? 0) + PAD;
    rects[box * 4 + 1] = (rects[box * 4 + 1] ?? 0) + (rects[parent * 4 + 1] ?? 0) + TITLE;
  }
  return rects;
}

/** Room for lines between boxes: more, the more they hold. */
const gapOf = (height: number): number => 16 + 14 * Math.max(0, height - 1);

/** Rows of boxes, as wide as gives the shape; positions are relative. */
function pack(boxes: readonly number[], rects: Float32Array, gap: number, aspect: number): Size {
  const widths = boxes.map((box) => rects[box * 4 + 2] ?? 0);
  const total = widths.reduce((sum, width) => sum + width + gap, 0);
  let best: Size = { width: 0, height: 0 };
  let least = Infinity;
  let room = total;
  for (let rows = 1; rows <= Math.min(boxes.length, 40); rows++) {
    const wanted = Math.max(...widths, total / rows);
    const size = place(boxes, rects, gap, wanted);
    const misses = Math.abs(Math.log(size.width / Math.max(1, size.height) / aspect)) + Math.log(size.width * size.height + 1) * 0.6;
    if (misses < least - 1e-9) [least, best, room] = [misses, size, wanted];
  }
  if (boxes.length) best = place(boxes, rects, gap, room);
  return best;
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
function stack(boxes: readonly number[], rects: Float32Array, room: number): Size {
  let [x, y, column] = [0, 0, 0];
  for (const box of boxes) {
    const [own, high] = [rects[box * 4 + 2] ?? 0, rects[box * 4 + 3] ?? 0];
    if (y > 0 && y + high > room) [x, y, column] = [x + column + 16, 0, 0];
    rects[box * 4] = x;
    rects[box * 4 + 1] = y;
    y += high + 16;
    column = Math.max(column, own);
  }
  return { width: x + column, height: room };
}
